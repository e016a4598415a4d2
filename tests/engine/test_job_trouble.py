"""Moments in which the store does not answer, or the process leaves, cost no job (R-71, R-73)."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from antiphon.errors import APIError, NotFoundError, Overloaded
from antiphon.protocol.emitter import Frame
from antiphon.store.base import Job, Turn
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_runs import MemoryRuns
from antiphon.testing import assert_valid_log
from tests.engine.bench import HANGS, HELLO, Bench, jobs, pair, said, until


class Flaky(MemoryRuns):
    """Refuses single reads, and can be slow to say what was claimed."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store._rows, store.conversations, store.webhooks, time.time)
        #: Reads of logs, and questions for the length of the queue, that fail.
        self.reads = 0
        self.questions = 0
        #: What happens between a claim and its answer.
        self.claimed: Callable[[], Awaitable[None]] | None = None

    async def read(self, response_id: str, after: int, most_bytes: int) -> list[Frame]:
        if self.reads:
            self.reads -= 1
            raise Overloaded(retry_after=1)
        return await super().read(response_id, after, most_bytes)

    async def queued(self) -> int:
        if self.questions:
            self.questions -= 1
            raise Overloaded(retry_after=1)
        return await super().queued()

    async def claim(self, owner: str, most: int) -> list[Job]:
        found = await super().claim(owner, most)
        if found and self.claimed is not None:
            await self.claimed()
        return found


class FlakyStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__(clock=time.time)
        self.runs: Flaky = Flaky(self)
        #: What the next reads of a history raise.
        self.trouble: list[APIError] = []

    async def chain(self, project: str, id: str) -> list[Turn] | None:  # noqa: A002
        if self.trouble:
            raise self.trouble.pop()
        return await super().chain(project, id)


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


# -- when it begins ------------------------------------------------------------------------------


async def test_a_log_that_cannot_be_read_for_a_moment(store: FlakyStore) -> None:
    """R-71: the job waits."""
    bench = Bench(HELLO, store=store)
    made = await bench.admit()
    store.runs.reads = 1
    async with bench.working():
        assert (await bench.ended(made.id))["status"] == "completed"
        assert assert_valid_log(await bench.follow(made.id))["output_text"] == "Hello"
    assert store.runs.reads == 0


async def test_a_history_that_cannot_be_read_for_a_moment(store: FlakyStore) -> None:
    """R-71."""
    parent, _ = await Bench(HELLO, store=store).events()
    bench = Bench(HELLO, store=store)
    made = await bench.admit(previous_response_id=parent.id)
    store.trouble = [Overloaded(retry_after=1)]
    async with bench.working():
        assert (await bench.ended(made.id))["status"] == "completed"
    assert not store.trouble
    assert len(bench.backend.prompts[0].items) == 3, "with its history"


async def test_a_mistake_is_no_trouble(store: FlakyStore) -> None:
    """Only what passes is waited for."""
    parent, _ = await Bench(HELLO, store=store).events()
    bench = Bench(HELLO, store=store)
    made = await bench.admit(previous_response_id=parent.id)
    store.trouble = [NotFoundError("no such thing")]
    async with bench.working():
        assert (await bench.ended(made.id))["status"] == "failed"
    assert bench.backend.prompts == []


async def test_trouble_for_long_can_be_left(store: FlakyStore) -> None:
    """R-73: who leaves meanwhile puts the job back."""
    bench = Bench(HELLO, store=store)
    made = await bench.admit()
    store.runs.reads = 1000
    async with bench.working():
        await until(lambda: store.runs.reads < 1000)
    assert await store.runs.queued() == 1
    store.runs.reads = 0
    other = pair(bench, HELLO)
    async with other.working():
        assert (await other.ended(made.id))["status"] == "completed"
    entry = store._rows.there(made.id)
    assert entry is not None
    assert entry.deaths == 0


# -- between the queue and the work --------------------------------------------------------------


async def test_a_queue_whose_length_is_not_known_loses_no_job(store: FlakyStore) -> None:
    """R-71: what was claimed is made."""
    bench = Bench(*[HELLO] * 6, store=store, options=jobs(most=2))
    async with bench.working():
        store.runs.questions = 3
        made = [await bench.admit() for _ in range(6)]
        for one in made:
            assert (await bench.ended(one.id))["status"] == "completed"
    attempts = [entry.row.attempt for entry in store._rows]
    assert attempts == [1] * 6


async def test_what_is_claimed_while_leaving_goes_back(store: FlakyStore) -> None:
    """R-73: the claim was on its way; nobody waits for a lease to end."""
    bench = Bench(HELLO, store=store)

    async def leave() -> None:
        bench.engine.jobs.stopping = True

    store.runs.claimed = leave
    async with bench.working():
        made = await bench.admit()
        await until(lambda: _attempt(store, made.id) == 1)
        await asyncio.sleep(0)
        row = await store.runs.find(made.id)
        assert row is not None
        assert row.owner is None
        assert await store.runs.queued() == 1
    assert bench.backend.prompts == []


async def test_what_is_deleted_while_it_is_claimed_is_no_crash(store: FlakyStore) -> None:
    """R-59, R-131: its events are gone when they are read."""
    bench = Bench(HELLO, store=store)

    deleted: list[bool] = []

    async def delete() -> None:
        deleted.append(await bench.engine.delete("p", made.id))

    store.runs.claimed = delete
    made = await bench.admit()
    with capture_logs() as logs:
        async with bench.working():
            await until(lambda: bool(deleted))
            await asyncio.sleep(0.05)
    assert deleted == [True]
    assert logs == []
    assert bench.backend.prompts == []


async def test_what_runs_when_we_leave_goes_back_at_once(store: FlakyStore) -> None:
    """R-73: also what has only just been claimed, and what waits for the store."""
    bench = Bench(HANGS, HANGS, store=store)
    async with bench.working():
        runs = await bench.admit()
        await said(bench, runs.id, "response.output_text.delta")
        store.runs.reads = 1000
        waits = await bench.admit()
        await until(lambda: store.runs.reads < 1000)
        await bench.engine.drain()
        assert await store.runs.queued() == 2
        assert await store.runs.owned(bench.engine.jobs.owner) == set()
        assert {_attempt(store, one.id) for one in (runs, waits)} == {1}


def _attempt(store: FlakyStore, response_id: str) -> int:
    entry = store._rows.there(response_id)
    assert entry is not None
    return entry.row.attempt
