"""The section of a page that the benchmark writes, and its pictures.

Rules
1. Only what stands between the two marks is replaced; a page without them is refused.
2. A picture shows what the table says, and nothing else.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks import plots
from benchmarks.measuring import IDLE_ROW
from benchmarks.table import PLAIN, Bench, Row, burst, kept, number, room, table
from benchmarks.works import CONCURRENCY, QUICK, plain

_BEGIN: Final = "<!-- scripts/bench writes from here -->\n"
_END: Final = "<!-- to here -->\n"


def rewritten(page: Path, text: str) -> str:
    """The page with another section; ends the program where there is none."""
    whole = page.read_text(encoding="utf-8") if page.exists() else ""
    before, begin, rest = whole.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        sys.exit(f"{page} has no section between {_BEGIN.strip()} and {_END.strip()}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def section(bench: Bench, machine: str) -> str:
    """All of it, as Markdown."""
    first, last = bench.loop
    speed = (
        f"A loop of a million additions in Python took {number(first)} ms before and "
        f"{number(last)} ms after; the upstream alone takes "
        f"{number(bench.alone.figures[PLAIN]['cpu'])} µs of CPU a request."
    )
    quick = (
        "a quick run, once"
        if bench.scale is QUICK
        else f"medians of {bench.scale.repeats}, fewer for slow servers"
    )
    busy = f"the load average before it was {bench.load:.1f}"
    parts = [
        f"Measured {machine}; {quick}; {busy}. {speed} {room(bench)}",
        table(bench).rstrip(),
    ]
    if bench.peers:
        shown = (f"![{name.removesuffix('.svg')}](benchmarks/{name})" for name in pictures(bench))
        parts += [kept(bench).rstrip(), *shown]
    return "\n\n".join(parts) + "\n"


def pictures(bench: Bench) -> dict[str, str]:
    """File names and SVG."""
    return dict(_pictures(bench))


def _pictures(bench: Bench) -> Iterator[tuple[str, str]]:
    scale = bench.scale
    for name, title, row in (
        (
            "cpu-per-request.svg",
            "CPU per plain request, 64 at once, µs",
            Row(PLAIN, "cpu", "", "µs"),
        ),
        ("cpu-per-token.svg", "CPU per token of a burst, µs", Row(burst(scale), "cpu", "", "µs")),
        (
            "first-token.svg",
            "Added time to the first token of a stream, alone, ms",
            Row("a short stream, alone", "token p50", "", "ms", added=True),
        ),
        (
            "idle-stream.svg",
            "Memory of an open stream that says nothing, kB",
            Row(IDLE_ROW, "kB", "", "kB"),
        ),
    ):
        values = {lane.name: bench.value(lane, row) for lane in bench.lanes[1:]}
        shown = {name: value for name, value in values.items() if value is not None and value > 0}
        if shown:
            yield name, plots.dots(title, "less is better; logarithmic", shown)
    yield "throughput.svg", _throughput(bench)


def _throughput(bench: Bench) -> str:
    series = {
        lane.name: {
            float(at_once): lane.figures[plain(at_once)]["rate"]
            for at_once in CONCURRENCY
            if plain(at_once) in lane.figures
        }
        for lane in bench.lanes[1:]
    }
    subtitle = "over requests at once; each server has one core; logarithmic"
    return plots.lines("Plain requests a second", subtitle, [float(c) for c in CONCURRENCY], series)
