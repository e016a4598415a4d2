"""Measuring servers side by side, in turns.

Rules
1. Row by row and repeat by repeat each server has its turn, and the upstream alone, so that a
   machine that changes its speed changes it for all.
2. A server that fails a row has the reason there, and goes on with the next; only Antiphon's
   failure ends everything. A slow one is repeated less often: `Scale.enough`.
3. Memory of idle streams is measured first, while a server is as it started.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from benchmarks.load import Sample, ServerError, Target, load, percentile
from benchmarks.meter import Meter
from benchmarks.peers.base import Peer
from benchmarks.works import ANTIPHON, Scale, Work, works

Figures: TypeAlias = dict[str, float]
Say: TypeAlias = Callable[[str], None]

#: Seconds for what has been sent to come back: 200 streams of a slow server.
_PATIENCE: Final = 400.0
#: The warm-up: requests, at once, seconds.
_WARM: Final = (64, 16, 5.0)
#: Seconds for idle streams to begin, and for memory to settle.
_BEGINNING: Final = 60.0
_SETTLING: Final = 2.0
#: Names of rows that no `Work` is behind.
IDLE_ROW: Final = "memory of an idle stream"
GROWTH_ROW: Final = "growth"


@dataclass
class Lane:
    """A server that is measured, or the upstream alone (no peer), and what was found."""

    name: str
    meter: Meter
    upstream: Meter
    peer: Peer | None = None
    figures: dict[str, Figures] = field(default_factory=dict)
    #: Why a row has no figures.
    reasons: dict[str, str] = field(default_factory=dict)

    def target(self, work: Work) -> Target | None:
        """What it is asked; nothing where it cannot, which is noted."""
        if self.peer is None:
            return work.direct(self.meter.port)
        if work.needs and work.needs in self.peer.cannot:
            self.reasons[work.name] = self.peer.cannot[work.needs]
            return None
        return work.served(self.peer, self.meter.port, self.upstream.port)

    @contextlib.asynccontextmanager
    async def excused(self, row: str) -> AsyncIterator[None]:
        """A peer may fail in here; Antiphon and the upstream may not."""
        try:
            yield
        except ServerError as error:
            if self.peer is None or self.peer is ANTIPHON:
                raise
            self.reasons[row] = reason(error)


def reason(error: Exception) -> str:
    """The beginning of the first line, for a table."""
    return str(error).splitlines()[0].replace("|", "/").replace("`", "'")[:160]


async def measure(
    work: Work, target: Target, lane: Lane, seconds: float, requests: int | None = None
) -> Figures:
    """One run: CPU in µs per unit, rate per second, times in ms, shares of a core."""
    apart = [lane.upstream] if lane.peer else []
    server, others = lane.meter.cpu(), _others(apart)
    count = requests or work.requests
    sample: Sample = await load(target, count, work.at_once, seconds=seconds, patience=_PATIENCE)
    server = lane.meter.cpu() - server
    units = len(sample.latencies) * (work.tokens or 1)
    return {
        "cpu": server * 1e6 / units,
        "rate": units / sample.wall,
        "p50": percentile(sample.latencies, 50) * 1e3,
        "first p50": percentile(sample.firsts, 50) * 1e3,
        "token p50": percentile(sample.tokens, 50) * 1e3,
        "transit p50": percentile(sample.transits, 50) * 1e3,
        "transit p99": percentile(sample.transits, 99) * 1e3,
        "share": server / sample.wall * 100,
        "load share": (_others(apart) - others) / sample.wall * 100,
        "requests": len(sample.latencies),
    }


def _others(apart: Iterable[Meter]) -> float:
    """CPU of the generator, which is this process, and of the upstream."""
    return time.process_time() + sum(meter.cpu() for meter in apart)


def median(runs: list[Figures]) -> Figures:
    """Of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


async def measure_all(scale: Scale, lanes: list[Lane], say: Say) -> None:
    """Everything, into the lanes."""
    kinds = works(scale)
    for lane in lanes:
        say(f"{lane.name}: warm-up")
        lane.figures["memory"] = {"at start": lane.meter.rss()}
        await _warm(lane, kinds)
        lane.figures["memory"]["warm"] = lane.meter.rss()
        if lane.peer:
            say(f"{lane.name}: {IDLE_ROW}")
            async with lane.excused(IDLE_ROW):
                lane.figures[IDLE_ROW] = await _idle(lane, lane.peer, scale.idle)
    for work in kinds:
        await _row(scale, work, lanes, say)
    for lane in lanes:
        lane.figures["memory"]["after"] = lane.meter.rss()
    for lane in filter(lambda lane: lane.peer, lanes):
        say(f"{lane.name}: {GROWTH_ROW}")
        async with lane.excused(GROWTH_ROW):
            await _grow(scale, kinds[0], lane)


async def _warm(lane: Lane, kinds: list[Work]) -> None:
    """The first plain requests and streams, which make what is kept."""
    requests, at_once, seconds = _WARM
    for work in (kinds[0], next(work for work in kinds if work.tokens)):
        target = lane.target(work)
        assert target is not None
        async with lane.excused("warm-up"):
            await load(target, requests, at_once, seconds=seconds, patience=_PATIENCE)


async def _row(scale: Scale, work: Work, lanes: list[Lane], say: Say) -> None:
    """One row of the table."""
    runs: dict[str, list[Figures]] = {lane.name: [] for lane in lanes}
    spent = dict.fromkeys(runs, 0.0)
    for repeat in range(scale.repeats):
        for lane in lanes:
            target = lane.target(work)
            done = spent[lane.name] > scale.enough or work.name in lane.reasons
            if target is None or done:
                continue
            say(f"{work.name}: {repeat + 1} of {scale.repeats}, {lane.name}")
            started = time.monotonic()
            async with lane.excused(work.name):
                runs[lane.name].append(await measure(work, target, lane, scale.seconds))
            spent[lane.name] += time.monotonic() - started
    for lane in lanes:
        if runs[lane.name]:
            lane.figures[work.name] = median(runs[lane.name])


async def _grow(scale: Scale, work: Work, lane: Lane) -> None:
    """Resident memory before and after many requests; a peer has a minute."""
    target = lane.target(work)
    assert target is not None
    before = lane.meter.rss()
    seconds = float("inf") if lane.peer is ANTIPHON else 6 * scale.seconds
    sample = await load(target, scale.growth, 64, seconds=seconds, patience=_PATIENCE)
    grown = {"growth": lane.meter.rss() - before, "requests": len(sample.latencies)}
    lane.figures[GROWTH_ROW] = grown


async def _idle(lane: Lane, peer: Peer, streams: int) -> Figures:
    """Kilobytes of resident memory that an open stream takes which says nothing."""
    work = Work("idle", "silent", streams, streams, stream=True)
    target = work.served(peer, lane.meter.port, lane.upstream.port)
    before = lane.meter.rss()
    opened = await asyncio.gather(*(_open(target) for _ in range(streams)), return_exceptions=True)
    writers = [each for each in opened if isinstance(each, asyncio.StreamWriter)]
    await asyncio.sleep(_SETTLING)
    grown = lane.meter.rss() - before
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(_SETTLING)
    if not writers:
        raise ServerError(f"of {streams} streams none was opened: {opened[0]}")
    return {"kB": grown * 1e3 / len(writers), "streams": len(writers)}


async def _open(target: Target) -> asyncio.StreamWriter:
    """A stream that has begun, or has been waiting for long: some servers say nothing, not even a
    status, before the first token."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(target.request)
    try:
        status = await asyncio.wait_for(reader.readline(), _BEGINNING)
    except TimeoutError:
        return writer
    if b" 200 " in status:
        return writer
    writer.transport.abort()
    raise ServerError(f"A stream did not begin: {status!r}")
