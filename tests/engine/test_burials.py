"""Who is taken for dead, and what is made of what they leave (R-65, R-69, R-70, R-77)."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from antiphon.engine.endings import REMEMBERED, Retention
from antiphon.engine.leases import Leases
from antiphon.engine.runner import Engine, EngineOptions
from antiphon.errors import Overloaded
from antiphon.protocol.deltas import Finish, TextDelta
from antiphon.protocol.emitter import Frame
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import new_response
from antiphon.store.base import Batch, IdempotencyKey, Kept, ResponseRow, Store
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_runs import MemoryRuns
from antiphon.store.sql import SqliteStore
from antiphon.testing import ScriptedBackend, Step, assert_valid_log
from tests.engine.bench import HELLO, JOBS, Bench, OneBackend, bury, said, until

#: Seconds; a heartbeat every tenth of a second.
LEASE = 0.4
FUTURE: Frame = ("response.of_the_future", b'{"type":"response.of_the_future"}')


# -- silence -------------------------------------------------------------------------------------


class Mute(MemoryRuns):
    """A store that takes no heartbeat for a while: it is locked (they wait), or full."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store._rows, store.conversations, store.webhooks, time.time)
        self.is_full = False
        self.free = asyncio.Event()
        self.free.set()

    async def beat(self, owner: str) -> None:
        await self.free.wait()
        if self.is_full:
            raise Overloaded(retry_after=1)
        await super().beat(owner)


class Watching:
    """Somebody who watches another process, and notes whom they bury."""

    def __init__(self) -> None:
        self.runs = Mute(MemoryStore())
        self.buried: list[str] = []

    async def bury(self, owner: str, beat: int | None = None) -> None:
        if owner:
            self.buried.append(f"{owner} at {beat}")

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[None]:
        await self.runs.beat("other")
        leases = Leases(self.runs, "me", LEASE, self.bury)
        await leases.open()
        yield
        await leases.close()


async def test_who_falls_silent_is_buried_with_its_last_heartbeat() -> None:
    """R-77: not before the lease is over."""
    watching = Watching()
    async with watching.begun():
        await asyncio.sleep(LEASE * 0.7)
        assert watching.buried == []
        await until(lambda: bool(watching.buried))
    assert watching.buried[0] == "other at 1"


@pytest.mark.parametrize("trouble", ["locked", "full"])
async def test_silence_does_not_count_while_nobody_can_speak(trouble: str) -> None:
    """R-70: when the trouble is over there is time for a word."""
    watching = Watching()
    async with watching.begun():
        await asyncio.sleep(LEASE / 2)
        watching.runs.is_full = trouble == "full"
        if trouble == "locked":
            watching.runs.free.clear()
        await asyncio.sleep(LEASE * 3)
        watching.runs.is_full = False
        watching.runs.free.set()
        await asyncio.sleep(LEASE / 2)
        assert watching.buried == []
        await watching.runs.beat("other")
        await asyncio.sleep(LEASE / 2)
        assert watching.buried == []
        await until(lambda: bool(watching.buried))
    assert watching.buried[0] == "other at 2"


async def test_heartbeats_need_no_thread_that_others_can_take(tmp_path: Path) -> None:
    """R-77: a dozen name servers that do not answer, in asyncio's own pool, and the process lives
    on."""
    store = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await store.open()
    watching = Watching()
    leases = Leases(store.runs, "me", 0.8, watching.bury)
    await leases.open()
    loop = asyncio.get_running_loop()
    sleeping = [loop.run_in_executor(None, time.sleep, 1.5) for _ in range(40)]
    first = (await store.runs.owners())["me"]
    await asyncio.sleep(1.2)
    assert (await store.runs.owners())["me"] >= first + 3
    for each in sleeping:
        each.cancel()
    await leases.close()
    await store.close()


# -- one's own burial ----------------------------------------------------------------------------


async def test_a_process_can_take_over_from_itself() -> None:
    """R-65: it was taken for dead and has its job again; the run before it stops, this one goes on,
    and the model is asked once more at most."""
    words: Sequence[Step] = [[TextDelta("a")], 0.6, [TextDelta("b"), Finish()]]
    bench = Bench([[TextDelta("half")], 0.3, [TextDelta("more")], 60.0], words, HELLO)
    async with bench.working():
        made = await bench.admit()
        await said(bench, made.id, "response.output_text.delta")
        await bury(bench)
        await bench.store.runs.beat(bench.engine.jobs.owner)
        bench.engine.jobs.poke()
        final = assert_valid_log(await bench.follow(made.id))
        assert (final["status"], final["output_text"]) == ("completed", "ab")
        await until(lambda: bench.engine.jobs.count == 0)
        row = await bench.store.runs.find(made.id)
    assert row is not None
    assert row.attempt == 2
    assert bench.backend.closed == len(bench.backend.prompts) == 2


# -- what the dead leave -------------------------------------------------------------------------


class Clock:
    """Unix seconds, some `later` than they are."""

    later = 0.0

    def __call__(self) -> float:
        return time.time() + self.later


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore(clock=clock, ttl=100 * 86_400)
    else:
        made = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}", clock=clock)
    await made.open()
    yield made
    await made.close()


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[None]:
    """A process that comes after the dead one."""
    engine = Engine(store, OneBackend(ScriptedBackend()), EngineOptions(jobs=JOBS))
    await engine.open()
    yield
    await engine.close()


async def leave(
    store: Store,
    name: str,
    *frames: Frame,
    kept: Kept = "stored",
    key: str | None = None,
) -> str:
    """A foreground response of a process that is gone; its id."""
    id_ = f"resp_{'0' * 16}{name:0>32}"
    now = int(time.time())
    request = CreateResponse(model="m", input="hi", store=kept == "stored")
    body = orjson.dumps(new_response(request, id=id_, created_at=now, status="in_progress"))
    row = ResponseRow(id_, "p", "in_progress", now, None, None, body, b"[]", kept, "dead")
    record = IdempotencyKey(key, "f", now + REMEMBERED) if key else None
    await store.runs.admit(row, Batch(0, list(frames)), job=None, key=record, most_queued=1)
    return id_


@pytest.mark.parametrize(("kept", "kept_for"), [("stored", 30 * 86_400), ("replayed", 86_400)])
async def test_what_died_before_its_first_event_ends_and_goes_in_time(
    store: Store, clock: Clock, kept: Kept, kept_for: int
) -> None:
    """R-69, R-137: no log, but an end, and a day on which it is swept."""
    left = await leave(store, kept, kept=kept, key="k")
    async with opened(store):
        row = await store.runs.find(left)
        assert row is not None
        assert row.status == orjson.loads(row.body)["status"] == "failed"
        assert row.expires_at == row.created_at + kept_for
        assert await store.runs.read(left, -1, 1) == []
        assert await store.runs.twin("p", "k") is None, "R-82"
        clock.later = kept_for - 60
        await store.expire(int(clock()), 10)
        assert await store.runs.find(left) is not None
        clock.later = kept_for + 60
        assert await store.runs.find(left) is None
        assert await store.expire(int(clock()), 10) >= 1


async def test_a_log_of_the_future_keeps_nobody_from_starting(store: Store) -> None:
    """R-69: what this version cannot read is ended as well, and so are the others."""
    before = await leave(store, "1")
    strange = await leave(store, "2", FUTURE)
    after = await leave(store, "3")
    async with opened(store):
        for id_ in (before, strange, after):
            row = await store.runs.find(id_)
            assert row is not None
            assert row.status == orjson.loads(row.body)["status"] == "failed"
    log = await store.runs.read(strange, -1, 10_000)
    assert log[0] == FUTURE
    assert log[-1][0] == "response.failed"
    numbers = [orjson.loads(body)["sequence_number"] for _, body in log[1:]]
    assert numbers == list(range(1, len(log)))


async def test_a_job_with_a_log_of_the_future_fails_once() -> None:
    """R-65: it does not go round for ever, and kills nobody."""
    bench = Bench(HELLO)
    made = await bench.admit()
    entry = bench.store._rows.there(made.id)
    assert entry is not None
    entry.log.append(FUTURE)
    async with bench.working():
        shown = await bench.ended(made.id)
        assert shown["status"] == "failed"
        assert shown["error"]["code"] == "server_error"
        again = await bench.admit()
        assert (await bench.ended(again.id))["status"] == "completed"
    assert (entry.row.attempt, entry.deaths) == (1, 0)
    assert len(bench.backend.prompts) == 1, "not for the strange one"


class Faster(MemoryRuns):
    """Somebody else is faster than who was told of a leftover."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store._rows, store.conversations, store.webhooks, time.time)

    async def release(
        self, owner: str, *, died: bool, beat: int | None = None
    ) -> list[ResponseRow]:
        left = await super().release(owner, died=died, beat=beat)
        for entry in self._rows:
            if entry.row.id in {row.id for row in left}:
                entry.row.status = "completed"
        return left


async def test_the_key_of_what_ended_otherwise_is_kept() -> None:
    """R-79: it was answered, so it is replayed."""
    store = MemoryStore()
    store.runs = Faster(store)
    left = await leave(store, "1", key="k")
    bench = Bench(store=store)
    async with bench.working():
        twin = await store.runs.twin("p", "k")
    assert twin is not None
    assert twin.response_id == left


async def test_events_are_kept_as_long_as_the_key(clock: Clock) -> None:
    """R-79: however soon other logs go."""
    store = MemoryStore(clock=clock, ttl=100 * 86_400)
    bench = Bench(HELLO, HELLO, store=store, options=EngineOptions(Retention(30, 1.0), JOBS))
    async with bench.working():
        keyed = await bench.admit("k", background=False, stream=True)
        plain = await bench.admit()
        log = await bench.follow(keyed.id)
        await bench.follow(plain.id)
        clock.later = 3600 * 2
        again = await bench.admit("k", background=False, stream=True)
        assert again.replayed
        assert await bench.follow(again.id) == log
        assert await store.runs.read(plain.id, -1, 1) == []


async def test_a_job_that_fell_silent_but_goes_on_is_left_alone() -> None:
    """R-70: a burial that comes too late by one heartbeat."""
    first = Bench(HELLO)
    async with first.working():
        seen = (await first.store.runs.owners())[first.engine.jobs.owner]
        made = await first.admit()
        await first.store.runs.beat(first.engine.jobs.owner)
        second = Bench(store=first.store)
        await second.engine.jobs._bury(first.engine.jobs.owner, seen)
        assert assert_valid_log(await first.follow(made.id))["status"] == "completed"
        row = await first.store.runs.find(made.id)
    assert row is not None
    assert row.attempt == 1
