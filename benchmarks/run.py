"""Antiphon's cost beside the goals of its design: ``scripts/bench``.

Rules
1. Real processes over loopback: generator → server → upstream. The baseline, generator → upstream,
   is taken in the same run, since absolutes drift with the machine.
2. Every figure is the median of the repeats.
3. Every answer is checked; a bad one ends the run without a table.
"""

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import orjson
import uvloop

from benchmarks.load import BadAnswerError, Sample, Target, load, percentile, post
from benchmarks.meter import Meter, StartError, antiphon, cores_are_shared, upstream
from benchmarks.upstream import PLAIN_ANSWER

Figures: TypeAlias = dict[str, float]

_QUESTION: Final = "Say hello."


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    repeats: int
    alone: int
    together: int
    streams: int
    paced: int
    growth: int


FULL: Final = Scale(repeats=5, alone=300, together=2000, streams=200, paced=50, growth=10_000)
QUICK: Final = Scale(repeats=1, alone=100, together=600, streams=50, paced=20, growth=1000)


@dataclass(frozen=True)
class Work:
    """One kind of traffic: what Antiphon is asked and what the upstream would be asked directly."""

    name: str
    model: str
    at_once: int
    requests: int
    #: Tokens of one answer; 0: the figure is per request.
    tokens: int = 0
    store: bool = True

    @property
    def unit(self) -> str:
        """What CPU is counted per."""
        return "token" if self.tokens else "request"

    def served(self, port: int) -> Target:
        """The request to Antiphon."""
        fields = {"model": self.model, "input": _QUESTION, "store": self.store}
        stream = self.tokens > 0
        request = post(port, "/v1/responses", orjson.dumps({**fields, "stream": stream}))
        if not stream:
            text = b'"output_text":"%b"' % "".join(PLAIN_ANSWER).encode()
            return Target(port, request, (b'"status":"completed"', text))
        return Target(
            port,
            request,
            (b"event: response.completed\n",),
            b"event: response.output_text.delta\n",
            self.tokens,
            stamped=self.model.startswith("paced"),
        )

    def direct(self, port: int) -> Target:
        """The request that Antiphon makes of it."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": _QUESTION}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return Target(
            port,
            post(port, "/v1/chat/completions", orjson.dumps(body)),
            (b"data: [DONE]\n",),
            b'"delta":{"content"',
            self.tokens or len(PLAIN_ANSWER),
            stamped=self.model.startswith("paced"),
        )


def works(scale: Scale) -> list[Work]:
    """All that is measured; names are those of the design's table."""
    return [
        Work("plain, stored, 64 at once", "plain", 64, scale.together),
        Work("plain, stored, alone", "plain", 1, scale.alone),
        Work("plain, not stored, 64 at once", "plain", 64, scale.together, store=False),
        Work("plain, not stored, alone", "plain", 1, scale.alone, store=False),
        Work(
            f"burst, {scale.streams} streams × 200", "burst-200", scale.streams, scale.streams, 200
        ),
        Work(f"paced, {scale.paced} streams × 100", "paced-100-20", scale.paced, scale.paced, 100),
    ]


async def measure(work: Work, target: Target, meter: Meter) -> Figures:
    """One run: CPU in µs per unit, rate per second, latency and transit in ms."""
    before = meter.cpu()
    sample: Sample = await load(target, work.requests, work.at_once)
    units = work.requests * (work.tokens or 1)
    return {
        "cpu": (meter.cpu() - before) * 1e6 / units,
        "rate": units / sample.wall,
        "p50": percentile(sample.latencies, 50) * 1e3,
        "transit p50": percentile(sample.transits, 50) * 1e3,
        "transit p99": percentile(sample.transits, 99) * 1e3,
    }


def _median(runs: list[Figures]) -> Figures:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


@dataclass
class Results:
    """Medians by name of the work, and the memory of the server in megabytes."""

    served: dict[str, Figures] = field(default_factory=dict)
    direct: dict[str, Figures] = field(default_factory=dict)
    memory: Figures = field(default_factory=dict)


async def measure_all(
    scale: Scale, server: Meter, model: Meter, say: Callable[[str], None]
) -> Results:
    """Warm up, then every kind of work, served and direct in turns."""
    results = Results(memory={"at start": server.rss()})
    kinds = works(scale)
    for work in kinds:
        await load(work.served(server.port), min(work.requests, 64), work.at_once)
    for work in kinds:
        served, direct = [], []
        for repeat in range(scale.repeats):
            say(f"{work.name}: {repeat + 1} of {scale.repeats}")
            served.append(await measure(work, work.served(server.port), server))
            direct.append(await measure(work, work.direct(model.port), model))
        results.served[work.name] = _median(served)
        results.direct[work.name] = _median(direct)
    results.memory["after"] = server.rss()
    say(f"memory over {scale.growth} requests")
    await load(kinds[0].served(server.port), scale.growth, 64)
    results.memory["growth"] = server.rss() - results.memory["after"]
    return results


@dataclass(frozen=True)
class Row:
    """A line of the table; goals are upper bounds unless `at_least`."""

    what: str
    unit: str
    value: float
    direct: float | None = None
    goal: float | None = None
    #: What this release must keep.
    limit: float | None = None
    at_least: bool = False

    def cells(self) -> Iterator[str]:
        """The cells of the table."""
        yield self.what
        yield f"{_number(self.value)} {self.unit}"
        yield "" if self.direct is None else _number(self.direct)
        yield self._bound(self.goal)
        yield self._bound(self.limit)

    def _bound(self, bound: float | None) -> str:
        if bound is None:
            return ""
        met = self.value >= bound if self.at_least else self.value <= bound
        return f"{'≥' if self.at_least else '≤'} {_number(bound)}{'' if met else ' **missed**'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rows(scale: Scale, results: Results) -> list[Row]:
    """The figures with the goals of design §7 and the limits of this release beside them."""
    table = []
    #: (name, part of the work's name) → goal, limit
    cpu_bounds = {"64": (300.0, 1000.0), "burst": (10.0, 25.0), "paced": (70.0, None)}
    for work in works(scale):
        served, direct = results.served[work.name], results.direct[work.name]
        key = "64" if work.at_once == 64 else work.name.split(",")[0]
        goal, limit = cpu_bounds.get(key, (None, None))
        what = f"{work.name}: CPU per {work.unit}"
        table.append(Row(what, "µs", served["cpu"], direct["cpu"], goal, limit))
        if work.at_once == 64:
            least = 3300.0
            what = f"{work.name}: requests a second"
            table.append(Row(what, "/s", served["rate"], direct["rate"], least, at_least=True))
        if work.model == "plain":
            added = served["p50"] - direct["p50"]
            goal = 0.5 if work.at_once == 1 else None
            table.append(Row(f"{work.name}: added p50", "ms", added, direct["p50"], goal))
        if work.model.startswith("paced"):
            table += [
                Row(f"{work.name}: {name}", "ms", served[name], direct[name])
                for name in ("transit p50", "transit p99")
            ]
    memory = results.memory
    table.append(Row("resident memory at start", "MB", memory["at start"], None, 90.0))
    table.append(Row("resident memory after all of it", "MB", memory["after"]))
    table.append(Row(f"growth over {scale.growth:,} stored requests", "MB", memory["growth"]))
    return table


def report(scale: Scale, results: Results) -> str:
    """The Markdown that is printed and written."""
    cores = "one core for all" if cores_are_shared() else "one for the server, one for the rest"
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    head = ("", "Antiphon", "upstream called directly", "goal", "this release")
    lines = [
        f"{machine} ({cores}); median of {scale.repeats}.",
        "",
        "| " + " | ".join(head) + " |",
        "|---|---|---|---|---|",
        *("| " + " | ".join(row.cells()) + " |" for row in rows(scale, results)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less of everything, once")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table to FILE too")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    with ExitStack() as stack:
        try:
            model = stack.enter_context(upstream())
            server = stack.enter_context(antiphon(model.port))
            results = uvloop.run(
                measure_all(scale, server, model, lambda what: print(what, file=sys.stderr))
            )
        except (StartError, BadAnswerError) as error:
            sys.exit(f"{type(error).__name__}: {error}")
    text = report(scale, results)
    print(text, end="")
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
