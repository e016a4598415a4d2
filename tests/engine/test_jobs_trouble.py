"""Durable runs while the store is in trouble, and requests with the same Idempotency-Key."""

import asyncio
from collections.abc import Sequence

import orjson
import pytest

from antiphon.errors import APIError, IdempotencyKeyReused, Overloaded, UpstreamError
from antiphon.protocol.deltas import Finish, TextDelta
from antiphon.store.base import Batch, Ending, Lease, Snapshot
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_runs import MemoryRuns
from antiphon.testing import Step, assert_valid_log
from tests.engine.bench import HANGS, HELLO, Bench, pair, said, until
from tests.engine.test_jobs import CALLS, PYTHON, Python

# -- a store in trouble --------------------------------------------------------------------------


class Troubled(MemoryRuns):
    """Refuses every write while `broken` is set (R-71)."""

    broken = False

    async def append(self, lease: Lease, events: Batch, snapshot: Snapshot | None = None) -> bool:
        self._check()
        return await super().append(lease, events, snapshot)

    async def finish(self, lease: Lease, events: Batch, ending: Ending) -> bool:
        self._check()
        return await super().finish(lease, events, ending)

    def _check(self) -> None:
        if self.broken:
            raise Overloaded(retry_after=1)


class TroubledStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.runs: Troubled = Troubled(
            self._rows, self.conversations, self.webhooks, lambda: 1_000_000.0
        )


async def test_a_durable_run_waits_until_the_store_is_well_again() -> None:
    """R-71: what the model said is not lost, and not said twice."""
    store = TroubledStore()
    words: Sequence[Step] = [[TextDelta("a")], 0.1, [TextDelta("b"), Finish()]]
    bench = Bench(words, store=store)
    async with bench.working():
        made = await bench.admit()
        await said(bench, made.id, "response.output_text.delta")
        store.runs.broken = True
        await asyncio.sleep(0.3)
        assert (await bench.shown(made.id))["status"] == "in_progress"
        store.runs.broken = False
        assert assert_valid_log(await bench.follow(made.id))["output_text"] == "ab"


async def test_a_cancel_that_could_not_be_stored_is_stored_later() -> None:
    store = TroubledStore()
    bench = Bench(HANGS, store=store)
    async with bench.working():
        made = await bench.admit()
        await said(bench, made.id, "response.output_text.delta")
        store.runs.broken = True
        with pytest.raises(Overloaded):
            await bench.engine.cancel("p", made.id)
        store.runs.broken = False
        assert (await bench.ended(made.id))["status"] == "cancelled"


class Overtaken(MemoryRuns):
    """Another process takes the job in the moment in which a call is announced."""

    has_happened = False

    async def append(self, lease: Lease, events: Batch, snapshot: Snapshot | None = None) -> bool:
        if snapshot is not None and b'"begun":true' in snapshot.progress:
            await self.take("p", lease.response_id, "other")
            self.has_happened = True
        return await super().append(lease, events, snapshot)


async def test_a_call_is_not_made_for_a_job_that_is_lost() -> None:
    """R-58, R-66: who cancels, or goes on with it, must not find that it is made all the same."""
    store = MemoryStore()
    runs = Overtaken(store._rows, store.conversations, store.webhooks, lambda: 1_000_000.0)
    store.runs = runs
    tool = Python(repeatable=False)
    bench = Bench(CALLS, tools={tool.type: tool}, store=store)
    async with bench.working():
        await bench.admit(tools=[PYTHON])
        await until(lambda: runs.has_happened)
        await until(lambda: bench.engine.jobs.count == 0)
    assert tool.ran == []


# -- twins ---------------------------------------------------------------------------------------


async def test_twins_share_one_run() -> None:
    """R-79."""
    bench = Bench(HELLO, HELLO)
    async with bench.working():
        first = await bench.admit("k", background=False)
        twin = await bench.admit("k", background=False)
        assert (twin.id, twin.replayed, first.replayed) == (first.id, True, False)
        bodies = [await bench.engine.outcome(one) for one in (first, twin)]
        assert bodies[0] == bodies[1]
        assert orjson.loads(bodies[0])["output_text"] == "Hello"
        with pytest.raises(IdempotencyKeyReused):
            await bench.admit("k", background=False, input="other")
    assert len(bench.backend.prompts) == 1


async def test_a_twin_on_another_node_waits_for_the_answer() -> None:
    bench = Bench([[TextDelta("x")], 0.1, [Finish()]])
    other = pair(bench)
    async with bench.working(), other.working():
        first = await bench.admit("k", background=False)
        twin = await other.admit("k", background=False)
        assert twin.replayed
        assert await other.engine.outcome(twin) == await bench.engine.outcome(first)


async def test_an_error_frees_the_key() -> None:
    bench = Bench([UpstreamError()], HELLO)
    async with bench.working():
        first = await bench.admit("k", background=False)
        with pytest.raises(UpstreamError):
            await bench.engine.outcome(first)
        again = await bench.admit("k", background=False)
        assert not again.replayed
        assert orjson.loads(await bench.engine.outcome(again))["output_text"] == "Hello"


async def test_a_twin_of_what_failed_is_told_so() -> None:
    bench = Bench([[TextDelta("x")], 0.05, UpstreamError(should_retry=False)])
    other = pair(bench)
    async with bench.working(), other.working():
        await bench.admit("k", background=False)
        twin = await other.admit("k", background=False)
        with pytest.raises(APIError, match="same Idempotency-Key"):
            await other.engine.outcome(twin)
