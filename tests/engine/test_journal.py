"""What is committed together: events, how far the run is, and its end (R-66, R-67, R-118)."""

import asyncio
from collections.abc import Iterator

import orjson
import pytest

from antiphon.engine import durable
from antiphon.engine.durable import DurableLog
from antiphon.errors import Overloaded
from antiphon.protocol.emitter import Frame
from antiphon.store.base import Batch, Ending, Lease, ResponseRow, Snapshot
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_runs import MemoryRuns
from antiphon.testing import ScriptedTool, assert_valid_log
from antiphon.tools.base import Call, CallItem, Outcome
from tests.engine.bench import Bench, until
from tests.engine.tooling import ANSWER, PYTHON, calls

ID = "resp_" + "1" * 48
COMPLETED = "response.code_interpreter_call.completed"


class Held(MemoryRuns):
    """Keeps what was committed; writes wait while it is not `free`, and fail while `broken`."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store._rows, store.conversations, store.webhooks, lambda: 1_000_000.0)
        #: The types of the events, and the progress or the status beside them.
        self.commits: list[tuple[list[str], bytes | str | None]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.broken = False
        self.waiting = 0

    async def append(self, lease: Lease, events: Batch, snapshot: Snapshot | None = None) -> bool:
        await self._turn()
        self._keep(events, snapshot.progress if snapshot else None)
        return await super().append(lease, events, snapshot)

    async def finish(self, lease: Lease, events: Batch, ending: Ending) -> bool:
        await self._turn()
        self._keep(events, ending.status)
        return await super().finish(lease, events, ending)

    async def _turn(self) -> None:
        self.waiting += 1
        await self.free.wait()
        self.waiting -= 1
        if self.broken:
            raise Overloaded(retry_after=1)

    def _keep(self, events: Batch, beside: bytes | str | None) -> None:
        self.commits.append(([name for name, _ in events.frames], beside))


class HeldStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.runs: Held = Held(self)


def frame(number: int, name: str) -> Frame:
    return name, orjson.dumps({"type": name, "sequence_number": number})


# -- the log -------------------------------------------------------------------------------------


@pytest.fixture
async def runs() -> Held:
    """With one response that `me` makes."""
    runs = HeldStore().runs
    row = ResponseRow(ID, "p", "queued", 1, None, None, b"{}", b"[]")
    await runs.admit(row, Batch(0, []), job=b"{}", key=None, most_queued=1)
    await runs.beat("me")
    await runs.claim("me", 1)
    return runs


@pytest.fixture
def log(runs: Held) -> Iterator[DurableLog]:
    log = DurableLog(runs, Lease(ID, "me", 1), first=0)
    yield log
    log.close()


async def test_a_snapshot_says_as_much_as_the_events_beside_it(runs: Held, log: DurableLog) -> None:
    """It is made when they are taken, not when it was asked for."""
    done: list[str] = []

    async def end(number: int, name: str) -> None:
        done.append(name)
        log.append([frame(number, name)])
        await log.checkpoint(lambda: Snapshot("in_progress", b"{}", ",".join(done).encode()))

    runs.free.clear()
    ends = [asyncio.create_task(end(0, "a"))]
    await until(lambda: runs.waiting == 1)
    ends += [asyncio.create_task(end(1, "b")), asyncio.create_task(end(2, "c"))]
    await asyncio.sleep(0.02)  # the flusher waits as well
    runs.free.set()
    await asyncio.gather(*ends)
    assert runs.commits == [(["a"], b"a"), (["b", "c"], b"a,b,c")]


async def test_events_wait_for_no_snapshot_but_take_it_along(runs: Held, log: DurableLog) -> None:
    """Also where nobody waits for it any more."""
    runs.free.clear()
    log.append([frame(0, "a")])
    await until(lambda: runs.waiting == 1)
    log.append([frame(1, "b")])
    asked = asyncio.create_task(log.checkpoint(lambda: Snapshot("in_progress", b"{}", b"b")))
    await asyncio.sleep(0.01)
    asked.cancel()
    runs.free.set()
    await until(lambda: len(runs.commits) == 2)
    assert runs.commits == [(["a"], None), (["b"], b"b")]


async def test_the_last_event_comes_with_the_end(
    runs: Held, log: DurableLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-67: also where somebody tries to commit others while the store is in trouble. What was
    still asked for does not say that it is over."""
    monkeypatch.setattr(durable, "_RETRY", 0.02)
    runs.broken = True
    log.append([frame(0, "a")])
    await asyncio.sleep(0.03)
    asked = asyncio.create_task(log.checkpoint(lambda: Snapshot("completed", b"{}", b"p")))
    ending = Ending("completed", b"{}", None, None, None)
    last = asyncio.create_task(log.finish([frame(1, "response.completed")], ending))
    await asyncio.sleep(0.03)
    runs.broken = False
    await asyncio.gather(asked, last)
    assert runs.commits == [(["a", "response.completed"], "completed")]
    assert not log.lost


# -- the calls of a run --------------------------------------------------------------------------


class Telling(ScriptedTool):
    """Tells the model more than its item shows; all calls end when they may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end: dict[str, asyncio.Event] = {}

    async def run(self, call: Call, item: CallItem) -> Outcome:
        code = call.read()["code"]
        await self.may_end.setdefault(code, asyncio.Event()).wait()
        return Outcome({"outputs": None}, told=f"told {code}")


async def test_the_end_of_a_call_and_what_was_told_are_one_commit() -> None:
    """R-66: whoever goes on after any of them knows both, or neither."""
    store, tool = HeldStore(), Telling()
    bench = Bench(calls("1", "2"), ANSWER, store=store, tools={"code_interpreter": tool})
    async with bench.working():
        made = await bench.admit(tools=[PYTHON])
        await until(lambda: len(tool.may_end) == 2)
        await asyncio.sleep(0.02)
        store.runs.free.clear()
        for event in tool.may_end.values():
            event.set()
            await asyncio.sleep(0.02)
        store.runs.free.set()
        assert_valid_log(await bench.follow(made.id))
    told = 0
    for names, beside in store.runs.commits:
        ended = names.count(COMPLETED)
        if ended:
            assert isinstance(beside, bytes)
            progress = orjson.loads(beside)
            told += ended
            assert (len(progress["told"]), len(progress["pending"])) == (told, 2 - told)
    assert told == 2


async def test_calls_that_end_at_once_are_written_down_once() -> None:
    """R-118: a snapshot is the whole response, and is made on the loop."""
    store, tool = HeldStore(), Telling()
    turn = calls(*map(str, range(12)))
    bench = Bench(turn, ANSWER, store=store, tools={"code_interpreter": tool})
    async with bench.working():
        made = await bench.admit(tools=[PYTHON])
        await until(lambda: len(tool.may_end) == 12)
        for event in tool.may_end.values():
            event.set()
        assert_valid_log(await bench.follow(made.id))
    ends = [names.count(COMPLETED) for names, _ in store.runs.commits]
    assert [ended for ended in ends if ended] == [12]
