"""The log of a durable run, and its readers (design §5; reliability R-61 to R-67, R-71, R-117)."""

import asyncio

import orjson
import pytest

from antiphon.engine.durable import MOST_PENDING, TAIL, DurableLog
from antiphon.engine.follow import Unfinished, follow
from antiphon.errors import Overloaded
from antiphon.protocol.emitter import Frame
from antiphon.store.base import Batch, Ending, Lease, ResponseRow, Snapshot
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_runs import MemoryRuns

ID = "resp_" + "1" * 48
ENDING = Ending("completed", b"{}", None, None, None)
DELTA = "response.output_text.delta"


def frame(number: int, size: int = 0, type_: str = DELTA) -> Frame:
    body = {"type": type_, "sequence_number": number, "delta": "x" * size}
    return type_, orjson.dumps(body)


def frames(*numbers: int) -> list[Frame]:
    return [frame(number) for number in numbers]


class Watched(MemoryRuns):
    """Counts commits; `held` keeps them waiting, `broken` refuses them."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store._rows, store.conversations, store.webhooks, lambda: 1_000_000.0)
        self.commits: list[int] = []
        self.held = asyncio.Event()
        self.held.set()
        self.broken = False

    async def append(self, lease: Lease, events: Batch, snapshot: Snapshot | None = None) -> bool:
        await self.held.wait()
        if self.broken:
            raise Overloaded(retry_after=1)
        self.commits.append(len(events.frames))
        return await super().append(lease, events, snapshot)

    async def status(self, response_id: str) -> str | None:
        if self.broken:
            raise Overloaded(retry_after=1)
        return await super().status(response_id)


class Here:
    """A process with one run."""

    def __init__(self, log: DurableLog | None) -> None:
        self.log = log
        self.stopping = False

    def live(self, response_id: str) -> DurableLog | None:
        return self.log


@pytest.fixture
async def runs() -> Watched:
    """With one response that `me` makes."""
    runs = Watched(MemoryStore())
    row = ResponseRow(ID, "p", "queued", 1, None, None, b"{}", b"[]")
    await runs.admit(row, Batch(0, frames(0, 1)), job=b"{}", key=None, most_queued=1)
    await runs.beat("me")
    await runs.claim("me", 1)
    return runs


def log_of(runs: Watched, lost: list[int] | None = None) -> DurableLog:
    def on_lost() -> None:
        if lost is not None:
            lost.append(1)

    made = DurableLog(runs, Lease(ID, "me", 1), first=2)
    made.on_lost = on_lost
    return made


async def all_of(runs: Watched, here: Here, after: int = -1) -> list[Frame]:
    async with asyncio.timeout(5):
        log = follow(runs, here, ID, after=after, idle=5.0)
        return [one async for batch in log for one in batch]


async def test_nothing_is_shown_before_its_commit(runs: Watched) -> None:
    """R-67: no reader sees what a crash can unsay."""
    log = log_of(runs)
    runs.held.clear()
    log.append(frames(2, 3))
    await asyncio.sleep(0.05)
    assert log.since(2) == []
    assert not await log.news(0.01)
    runs.held.set()
    assert await log.news(1)
    assert log.since(2) == frames(2, 3) == await runs.read(ID, 1, 1000)


async def test_events_gather_for_one_commit(runs: Watched) -> None:
    """Design §5: a few milliseconds, or enough of them."""
    log = log_of(runs)
    for number in range(2, 40):
        log.append(frames(number))
    await log.news(1)
    assert runs.commits == [38]
    assert log.since(2) == frames(*range(2, 40))


async def test_a_checkpoint_commits_what_was_said_before_it(runs: Watched) -> None:
    log = log_of(runs)
    log.append(frames(2))
    await log.checkpoint(lambda: Snapshot("in_progress", b"{1}", b"p"))
    row = await runs.find(ID)
    assert row is not None
    assert (row.status, row.body) == ("in_progress", b"{1}")
    assert await runs.read(ID, 1, 1000) == frames(2)


async def test_trouble_of_the_store_delays_and_loses_nothing(runs: Watched) -> None:
    """R-71."""
    log = log_of(runs)
    runs.broken = True
    log.append(frames(2))
    await asyncio.sleep(0.05)
    log.append(frames(3))
    runs.broken = False
    await log.finish([frame(4, type_="response.completed")], ENDING)
    assert [orjson.loads(body)["sequence_number"] for _, body in await runs.read(ID, -1, 9**9)] == [
        *range(5)
    ]


async def test_a_run_waits_while_too_much_is_not_committed(runs: Watched) -> None:
    """R-117: memory has a limit, whatever the model says."""
    log = log_of(runs)
    runs.held.clear()
    await asyncio.wait_for(log.room(), 1)
    log.append([frame(2, MOST_PENDING)])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(log.room(), 0.05)
    runs.held.set()
    await asyncio.wait_for(log.room(), 1)


async def test_who_lost_the_lease_is_told_once(runs: Watched) -> None:
    """R-65: a late write is refused, and not tried again."""
    lost: list[int] = []
    log = log_of(runs, lost)
    await runs.take("p", ID, "other")
    log.append(frames(2))
    await asyncio.sleep(0.05)
    assert (log.lost, lost) == (True, [1])
    await asyncio.wait_for(log.room(), 1)
    await log.finish(frames(3), ENDING)
    assert lost == [1]
    assert await runs.read(ID, 1, 1000) == []


async def test_only_the_newest_are_kept_in_memory(runs: Watched) -> None:
    """R-117: who is further behind reads the store."""
    log = log_of(runs)
    for number in range(2, 12):
        log.append([frame(number, TAIL // 4)])
        await log.news(1)
    assert log.since(2) is None
    assert log.since(11) == [frame(11, TAIL // 4)]
    assert log.since(12) == []


# -- readers -------------------------------------------------------------------------------------


async def test_a_reader_comes_from_the_store_into_the_present(runs: Watched) -> None:
    """R-61, R-63: from any number, each once, whether it is in memory or not."""
    log = log_of(runs)
    here = Here(log)
    readers = [asyncio.create_task(all_of(runs, here, after)) for after in (-1, 0, 5, 100)]
    for number in range(2, 12):
        log.append([frame(number, TAIL // 4)])
        await asyncio.sleep(0.01)
    await log.finish([frame(12, type_="response.completed")], ENDING)
    log.close()
    here.log = None
    whole = await runs.read(ID, -1, 9**9)
    assert len(whole) == 13
    assert [await reader for reader in readers] == [whole, whole[1:], whole[6:], []]
    assert await all_of(runs, here, 3) == whole[4:]


async def test_a_reader_elsewhere_follows_the_store(runs: Watched) -> None:
    log = log_of(runs)
    reader = asyncio.create_task(all_of(runs, Here(None)))
    log.append(frames(2))
    await asyncio.sleep(0.05)
    await log.finish([frame(3, type_="response.failed")], ENDING)
    assert await reader == await runs.read(ID, -1, 9**9)


async def test_a_quiet_reader_is_asked_again(runs: Watched) -> None:
    """For the comments of a stream (design §5)."""
    for here in (Here(log_of(runs)), Here(None)):
        log = follow(runs, here, ID, after=1, idle=0.02)
        assert [await anext(log) for _ in range(3)] == [[], [], []]
        await log.aclose()


async def test_readers_survive_trouble_of_the_store(runs: Watched) -> None:
    """R-71: a stream that has begun does not break."""
    reader = asyncio.create_task(all_of(runs, Here(None)))
    await asyncio.sleep(0.03)
    runs.broken = True
    await runs.finish(Lease(ID, "me", 1), Batch(2, frames(2)), ENDING)
    await asyncio.sleep(0.05)
    assert not reader.done()
    runs.broken = False
    assert await reader == frames(0, 1, 2)


async def test_a_server_that_stops_leaves_the_stream_open_ended(runs: Watched) -> None:
    """R-73: it can be resumed elsewhere; no ``[DONE]`` is said."""
    here = Here(None)
    log = follow(runs, here, ID, after=-1, idle=5.0)
    assert await anext(log) == frames(0, 1)
    here.stopping = True
    with pytest.raises(Unfinished):
        await anext(log)


async def test_the_end_without_an_event_is_an_end(runs: Watched) -> None:
    """Spec §4.4: a cancelled response, and one that was deleted."""
    reader = asyncio.create_task(all_of(runs, Here(None)))
    await asyncio.sleep(0.03)
    cancelled = Ending("cancelled", b"{}", None, None, None)
    await runs.finish(Lease(ID, "me", 1), Batch(2, []), cancelled)
    assert await reader == frames(0, 1)
    assert [one async for one in follow(runs, Here(None), "resp_x", after=-1, idle=1.0)] == []
