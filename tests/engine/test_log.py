"""EventLog: order, one reader, back-pressure (reliability R-117)."""

import asyncio

import pytest

from antiphon.engine.log import EventLog
from antiphon.protocol.emitter import Frame


def frames(*numbers: int) -> list[Frame]:
    return [("response.in_progress", b"%d" % number) for number in numbers]


async def collect(log: EventLog, after: int = -1) -> list[list[Frame]]:
    return [batch async for batch in log.read(after=after)]


async def collect_frames(log: EventLog, after: int = -1) -> list[Frame]:
    return [frame for batch in await collect(log, after) for frame in batch]


async def test_all_that_is_ready_comes_in_one_list() -> None:
    log = EventLog()
    log.append(frames(0, 1))
    log.append(frames(2))
    log.close()
    assert await collect(log) == [frames(0, 1, 2)]


async def test_more_than_a_slow_reader_should_hold_comes_in_pieces() -> None:
    """R-117: what it has not taken yet still counts against the run."""
    log = EventLog(limit=1000)
    log.append([("response.in_progress", b"x" * 10)] * 300)
    reader = log.read()
    waiting = asyncio.ensure_future(log.room())
    pieces = [len(await anext(reader))]
    await asyncio.sleep(0)
    assert not waiting.done()
    pieces += [len(await anext(reader)) for _ in range(2)]
    await waiting
    assert pieces == [128, 128, 44]
    await reader.aclose()


async def test_a_reader_is_woken_and_ends_with_the_log() -> None:
    log = EventLog()
    reader = asyncio.create_task(collect_frames(log))
    for number in range(3):
        await asyncio.sleep(0)
        log.append(frames(number))
    await asyncio.sleep(0)
    log.close()
    assert await reader == frames(0, 1, 2)


async def test_reading_begins_after_the_number_that_is_asked_for() -> None:
    log = EventLog()
    reader = asyncio.create_task(collect_frames(log, after=1))
    await asyncio.sleep(0)
    log.append(frames(0, 1))
    await asyncio.sleep(0)
    log.append(frames(2, 3))
    log.close()
    assert await reader == frames(2, 3)


async def test_what_was_read_is_forgotten() -> None:
    log = EventLog()
    log.append(frames(0))
    log.close()
    assert await collect(log) == [frames(0)]
    with pytest.raises(LookupError):
        await collect(log)


async def test_nothing_wakes_nobody() -> None:
    log = EventLog()
    reader = log.read(idle=0.02)
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    log.append([])
    assert await waiting == []
    await reader.aclose()


async def test_an_idle_reader_gets_an_empty_list() -> None:
    log = EventLog()
    reader = log.read(idle=0.01)
    assert await anext(reader) == []
    log.append(frames(0))
    assert await anext(reader) == frames(0)
    await reader.aclose()


async def test_each_wait_has_all_of_the_idle_time() -> None:
    """One timer serves all waits of a reader."""
    log, loop = EventLog(), asyncio.get_running_loop()
    reader = log.read(idle=0.2)
    loop.call_later(0.1, log.append, frames(0))
    assert await anext(reader) == frames(0)
    began = loop.time()
    assert await anext(reader) == []
    assert await anext(reader) == []
    assert loop.time() - began >= 0.399
    await reader.aclose()


async def test_the_run_waits_for_a_slow_reader() -> None:
    """R-117: what a reader has not taken is bounded."""
    log = EventLog(limit=3)
    log.append(frames(1, 2, 3, 4))
    waiting = asyncio.create_task(log.room())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert await anext(log.read()) == frames(1, 2, 3, 4)
    await asyncio.wait_for(waiting, 1)


async def test_a_log_that_nobody_reads_keeps_nothing_and_never_waits() -> None:
    log = EventLog(keep=False, limit=1)
    log.append(frames(1, 2, 3))
    await asyncio.wait_for(log.room(), 1)
    log.close()
    assert await collect(log) == []
