"""From figures to Markdown: one table of medians with ratios, and what was promised.

Rules
1. A peer's cell has its figure and how many times Antiphon's it is; where more is better, how many
   times more Antiphon does. So a ratio above 1 is in Antiphon's favour, everywhere.
2. A cell without a figure has a number, and below the table that number has its reason.
3. A promise is shown with what was measured, and whether it is met.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.measuring import GROWTH_ROW, IDLE_ROW, Figures, Lane
from benchmarks.works import CONCURRENCY, Scale, plain, works

#: The row that stands for a plain request.
PLAIN: Final = plain(64)


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure of a work, and its goal."""

    work: str
    figure: str
    what: str
    unit: str
    goal: float | None = None
    #: The goal is the least, not the most.
    more: bool = False
    #: Less what the upstream alone takes.
    added: bool = False
    #: Whether servers are compared by it.
    compared: bool = True


@dataclass
class Bench:
    """All that a run has found."""

    scale: Scale
    #: The upstream alone, Antiphon, and peers.
    lanes: list[Lane]
    #: Peers that are not in `lanes`: names and reasons.
    absent: dict[str, str] = field(default_factory=dict)
    #: Milliseconds of a fixed loop of Python, at the beginning and at the end.
    loop: tuple[float, float] = (0.0, 0.0)
    #: What else ran on the machine: the load average of the minute before.
    load: float = 0.0

    @property
    def alone(self) -> Lane:
        """The upstream."""
        return self.lanes[0]

    @property
    def antiphon(self) -> Lane:
        """Us."""
        return self.lanes[1]

    @property
    def peers(self) -> list[Lane]:
        """The others."""
        return self.lanes[2:]

    def value(self, lane: Lane, row: Row) -> float | None:
        """What a row shows for a server."""
        figures = lane.figures.get(row.work)
        if figures is None:
            return None
        alone: Figures = self.alone.figures.get(row.work, {}) if row.added else {}
        return figures[row.figure] - alone.get(row.figure, 0.0)

    def ratio(self, lane: Lane, row: Row) -> float | None:
        """How many times better Antiphon is."""
        ours, its = self.value(self.antiphon, row), self.value(lane, row)
        if ours is None or its is None or not row.compared or ours <= 0 or its <= 0:
            return None
        return ours / its if row.more else its / ours


def burst(scale: Scale) -> str:
    """The row that stands for a token."""
    return f"burst, {scale.streams} streams × 200"


#: Goals of design §7: µs of CPU, requests a second, ms, MB.
_GOALS: Final = {"plain": 300.0, "rate": 3300.0, "added": 0.5, "rss": 90.0}


def rows(scale: Scale) -> Iterator[Row]:
    """The lines of the table."""
    for work in works(scale):
        is_plain = work.model == "plain" and not work.stream and work.turns == 1
        many = is_plain and work.at_once == 64
        goal = _GOALS["plain"] if many else None
        if work.name.startswith(("burst,", "background burst")) and work.at_once > 1:
            goal = 25.0 if work.needs else 10.0
        if work.name.startswith("paced"):
            goal = 70.0
        if not (work.stream and work.tokens == 0) and work.name != "burst, alone":
            yield Row(work.name, "cpu", f"CPU per {work.unit}", "µs", goal)
        if work.at_once > 1 and (is_plain or work.tokens) and not work.model.startswith("paced"):
            rate = _GOALS["rate"] if many else None
            yield Row(work.name, "rate", f"{work.unit}s a second", "/s", rate, more=True)
        if is_plain and work.store:
            alone = _GOALS["added"] if work.at_once == 1 else None
            yield Row(work.name, "p50", "added p50", "ms", alone, added=True)
        if work.stream and work.tokens == 0:
            yield Row(work.name, "first p50", "added time to first event", "ms", added=True)
            yield Row(work.name, "token p50", "added time to first token", "ms", added=True)
        if work.name == "burst, alone" or work.needs == "tools":
            yield Row(work.name, "p50", "time to the end, p50", "ms")
        if work.model.startswith("paced"):
            for name in ("transit p50", "transit p99"):
                yield Row(work.name, name, name, "ms")
    yield Row("memory", "at start", "resident, at start", "MB", _GOALS["rss"])
    yield Row("memory", "warm", "resident, after the first requests", "MB")
    yield Row("memory", "after", "resident, after all of it", "MB")
    yield Row(IDLE_ROW, "kB", "each", "kB")
    yield Row(GROWTH_ROW, "growth", f"over {scale.growth:,} requests", "MB", compared=False)
    for figure, what in (
        ("share", "server's share of its core"),
        ("load share", "generator's and upstream's share of theirs"),
    ):
        yield Row(PLAIN, figure, what, "%", compared=False)


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class _Notes:
    """Reasons, numbered as they come."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def mark(self, why: str) -> str:
        """The number of a reason."""
        return f"<sup>{self.known.setdefault(why, len(self.known) + 1)}</sup>"


def _own(bench: Bench, row: Row) -> str:
    value = bench.value(bench.antiphon, row)
    if value is None:
        return ""
    missed = ""
    if row.goal is not None:
        met = value >= row.goal if row.more else value <= row.goal
        missed = "" if met else " **missed**"
    goal = "" if row.goal is None else f" ({'≥' if row.more else '≤'} {number(row.goal)}{missed})"
    return f"**{number(value)} {row.unit}**{goal}"


def _cell(bench: Bench, lane: Lane, row: Row, notes: _Notes) -> str:
    value = bench.value(lane, row)
    if value is None:
        why = lane.reasons.get(row.work, "not measured")
        return f"– {notes.mark(f'{lane.name}: {why}')}"
    ratio = bench.ratio(lane, row)
    few = lane.figures[row.work].get("requests", 0)
    in_few = f" in {few:,.0f}" if row.work == GROWTH_ROW and few < bench.scale.growth else ""
    return number(value) + in_few + ("" if ratio is None else f" ({number(ratio)} ×)")


def table(bench: Bench) -> str:
    """The table and its notes."""
    notes = _Notes()
    head = ["", "Antiphon (goal)", "upstream alone", *(lane.name for lane in bench.peers)]
    stores = ["*stores in*", "SQLite, before the answer", ""]
    stores += [lane.peer.stores for lane in bench.peers if lane.peer]
    lines = [head, ["---"] * len(head), stores]
    for row in rows(bench.scale):
        alone = bench.value(bench.alone, row)
        shown = "" if alone is None or row.added or row.work == GROWTH_ROW else number(alone)
        cells = [_cell(bench, lane, row, notes) for lane in bench.peers]
        lines.append([f"{row.work}: {row.what}", _own(bench, row), shown, *cells])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    below = [f"{at}. {why}" for why, at in notes.known.items()]
    below += [f"- **{name} was not measured**: {why}" for name, why in bench.absent.items()]
    return text + "\n\n" + "\n".join(below) + "\n" * bool(below)


@dataclass(frozen=True)
class Promise:
    """At least so many times less CPU than a peer."""

    peer: str
    times: float
    row: Row


def promises(scale: Scale) -> list[Promise]:
    """What Antiphon says of itself beside others."""
    request = Row(PLAIN, "cpu", "per plain request", "µs")
    token = Row(burst(scale), "cpu", "per token of a burst", "µs")
    return [
        *(Promise(name, 50, request) for name in ("LiteLLM", "OGX")),
        *(Promise(name, 25, token) for name in ("LiteLLM", "OGX")),
        Promise("responses.js", 3, request),
    ]


def kept(bench: Bench) -> str:
    """The promises and what was measured."""
    lines = ["| at least | measured | |", "|---|---|---|"]
    lanes = {lane.peer.name: lane for lane in bench.peers if lane.peer}
    for promise in promises(bench.scale):
        lane = lanes.get(promise.peer)
        ratio = bench.ratio(lane, promise.row) if lane else None
        what = f"{promise.times:g} × less CPU than {promise.peer} {promise.row.what}"
        if ratio is None:
            lines.append(f"| {what} | not measured | |")
        else:
            met = "met" if ratio >= promise.times else "**missed**"
            lines.append(f"| {what} | {number(ratio)} × | {met} |")
    return "\n".join(lines) + "\n"


def room(bench: Bench) -> str:
    """That neither generator nor upstream is what was measured."""
    most = max(figures.get("rate", 0.0) for figures in _plain(bench.lanes[1:]))
    reach = max(figures["rate"] for figures in _plain(bench.lanes[:1]))
    shares = [figures["load share"] for figures in _plain(bench.lanes[1:])]
    return (
        f"The generator gets {reach:,.0f} plain requests a second out of the upstream alone, "
        f"{reach / most:.1f} times what the fastest server here does; beside servers the two took "
        f"{min(shares):.0f} to {max(shares):.0f} % of their core."
    )


def _plain(lanes: Sequence[Lane]) -> list[Figures]:
    names = [plain(at_once) for at_once in CONCURRENCY if at_once > 1]
    return [lane.figures[name] for lane in lanes for name in names if name in lane.figures]
