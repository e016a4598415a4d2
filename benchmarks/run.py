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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import orjson
import uvloop

from benchmarks.load import Sample, ServerError, Target, load, percentile, post
from benchmarks.meter import Meter, antiphon, cores_are_shared, upstream
from benchmarks.upstream import PLAIN_ANSWER

Figures: TypeAlias = dict[str, float]

_QUESTION: Final = "Say hello."
#: Goals of design §7: requests a second at 64 at once, milliseconds that one alone may take longer.
_LEAST_RATE: Final = 3300.0
_ADDED_P50: Final = 0.5


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
    background: bool = False
    #: µs of CPU per unit: the goal of design §7, and what this release must keep.
    goal: float | None = None
    limit: float | None = None

    @property
    def unit(self) -> str:
        """What CPU is counted per."""
        return "token" if self.tokens else "request"

    def served(self, port: int) -> Target:
        """The request to Antiphon."""
        fields = {"model": self.model, "input": _QUESTION, "store": self.store}
        fields["background"] = self.background
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
    many, streams, paced = scale.together, scale.streams, scale.paced
    return [
        Work("plain, stored, 64 at once", "plain", 64, many, goal=300, limit=1000),
        Work("plain, stored, alone", "plain", 1, scale.alone),
        Work("plain, not stored, 64 at once", "plain", 64, many, store=False, goal=300, limit=1000),
        Work("plain, not stored, alone", "plain", 1, scale.alone, store=False),
        Work(
            f"burst, {streams} streams × 200", "burst-200", streams, streams, 200, goal=10, limit=25
        ),
        Work("burst, alone", "burst-200", 1, 1, 200),
        Work(f"paced, {paced} streams × 100", "paced-100-20", paced, paced, 100, goal=70),
        *(
            Work(f"background {kind}", model, at_once, at_once, tokens, background=True, goal=goal)
            for kind, model, at_once, tokens, goal in (
                (f"burst, {streams} streams × 200", "burst-200", streams, 200, 25),
                (f"paced, {paced} streams × 100", "paced-100-20", paced, 100, None),
                ("burst, alone", "burst-200", 1, 200, None),
            )
        ),
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
    """A line of the table; bounds are upper ones, but those of a rate."""

    what: str
    unit: str
    value: float
    direct: float | None = None
    goal: float | None = None
    #: What this release must keep.
    limit: float | None = None

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
        at_least = self.unit == "/s"
        met = self.value >= bound if at_least else self.value <= bound
        return f"{'≥' if at_least else '≤'} {_number(bound)}{'' if met else ' **missed**'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rows(scale: Scale, results: Results) -> list[Row]:
    """The figures with the goals of design §7 and the limits of this release beside them."""
    table = []
    for work in works(scale):
        served, direct = results.served[work.name], results.direct[work.name]
        shown = [("cpu", f"CPU per {work.unit}", "µs", work.goal, work.limit)]
        if work.tokens and work.at_once > 1:
            shown.append(("rate", "tokens a second", "/s", None, None))
        if work.tokens and work.at_once == 1:
            shown = [("p50", "time to the end", "ms", None, None)]
        if work.at_once == 64:
            shown.append(("rate", "requests a second", "/s", _LEAST_RATE, None))
        if work.tokens == 0:
            added_goal = _ADDED_P50 if work.at_once == 1 else None
            shown.append(("p50", "added p50", "ms", added_goal, None))
        if work.model.startswith("paced"):
            shown += [(name, name, "ms", None, None) for name in ("transit p50", "transit p99")]
        for figure, what, unit, goal, limit in shown:
            value = served[figure] - (direct[figure] if what == "added p50" else 0)
            name = f"{work.name}: {what}"
            table.append(Row(name, unit, value, direct[figure], goal, limit))
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
    try:
        with upstream() as model, antiphon(model.port) as server:
            results = uvloop.run(
                measure_all(scale, server, model, lambda what: print(what, file=sys.stderr))
            )
    except ServerError as error:
        sys.exit(f"scripts/bench: {error}")
    text = report(scale, results)
    print(text, end="")
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
