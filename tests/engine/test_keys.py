"""What becomes of an Idempotency-Key when things go wrong (R-79 to R-82)."""

import asyncio
import time

import orjson
import pytest

from antiphon.engine.endings import Retention
from antiphon.engine.runner import EngineOptions
from antiphon.errors import APIError, InvalidRequestError, Overloaded, UpstreamError
from antiphon.protocol.deltas import Finish, TextDelta
from antiphon.store.memory import MemoryStore
from antiphon.testing import assert_valid_log
from tests.engine.bench import HANGS, HELLO, JOBS, Bench, pair, said, until


async def has_key(bench: Bench) -> bool:
    """Whether the key is taken."""
    return await bench.store.runs.twin("p", "k") is not None


# -- whose client has left -----------------------------------------------------------------------


async def test_a_failure_that_nobody_hears_frees_the_key() -> None:
    """R-82: who comes back has it made anew, and is not told of an error for a day."""
    bench = Bench([[TextDelta("x")], 0.05, UpstreamError(should_retry=False)], HELLO)
    async with bench.working():
        first = await bench.admit("k", background=False)
        shown = await bench.ended(first.id)
        assert shown["status"] == "failed"
        async with asyncio.timeout(5):
            while await has_key(bench):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        again = await bench.admit("k", background=False)
        assert not again.replayed
        assert orjson.loads(await bench.engine.outcome(again))["output_text"] == "Hello"


async def test_a_stream_that_had_begun_keeps_its_key_when_it_fails() -> None:
    """R-79: it was a 200."""
    bench = Bench([[TextDelta("x")], 0.05, UpstreamError(should_retry=False)])
    async with bench.working():
        first = await bench.admit("k", background=False, stream=True)
        log = await bench.follow(first.id)
        assert assert_valid_log(log)["status"] == "failed"
        await until(lambda: bench.engine.jobs.count == 0)
        await asyncio.sleep(0.05)
        again = await bench.admit("k", background=False, stream=True)
        assert again.replayed
        assert await bench.follow(again.id) == log


async def test_what_is_stopped_frees_its_key_before_the_process_leaves() -> None:
    """R-73, R-82."""
    bench = Bench(HANGS)
    async with bench.working():
        made = await bench.admit("k", background=False)
        await said(bench, made.id, "response.output_text.delta")
        await bench.engine.drain()
        bench.engine.stop()
    assert (await bench.shown(made.id))["status"] == "failed"
    assert not await has_key(bench)


async def test_who_leaves_does_not_wait_for_ever() -> None:
    """R-73: what nobody stops is given up when patience ends, and ended as failed."""
    bench = Bench(HANGS, options=EngineOptions(jobs=JOBS, shutdown_patience=0.2))
    began = time.monotonic()
    async with bench.working():
        made = await bench.admit("k", background=False)
        await said(bench, made.id, "response.output_text.delta")
    assert time.monotonic() - began < 2
    assert (await bench.shown(made.id))["status"] == "failed"
    assert bench.backend.closed == 1
    assert not await has_key(bench)


# -- twins ---------------------------------------------------------------------------------------


async def test_a_twin_at_a_process_that_leaves_is_sent_elsewhere() -> None:
    """R-73: the response goes on, so this is no failure of it."""
    maker = Bench([[TextDelta("x")], 2.0, [TextDelta("y"), Finish()]])
    other = pair(maker)
    async with maker.working(), other.working():
        made = await maker.admit("k", background=False)
        twin = await other.admit("k", background=False)
        waiting = asyncio.create_task(other.engine.outcome(twin))
        await asyncio.sleep(0.05)
        await other.engine.drain()
        with pytest.raises(Overloaded) as caught:
            await asyncio.wait_for(waiting, 1.5)
        assert caught.value.headers()["retry-after"]
        assert await has_key(maker)
        assert orjson.loads(await maker.engine.outcome(made))["output_text"] == "xy"


async def test_a_deleted_run_is_not_made_again() -> None:
    """R-59: who waits for it, here or elsewhere, is told not to try again."""
    maker = Bench(HANGS)
    other = pair(maker)
    async with maker.working(), other.working():
        made = await maker.admit("k", background=False)
        await said(maker, made.id, "response.output_text.delta")
        here = await maker.admit("k", background=False)
        there = await other.admit("k", background=False)
        waiting = [
            asyncio.create_task(bench.engine.outcome(each))
            for bench, each in ((maker, made), (maker, here), (other, there))
        ]
        await asyncio.sleep(0.05)
        assert await maker.engine.delete("p", made.id)
        for each in waiting:
            with pytest.raises(APIError, match="deleted") as caught:
                await asyncio.wait_for(each, 3)
            assert caught.value.status == 500
            assert caught.value.headers()["x-should-retry"] == "false"
        assert len(maker.backend.prompts) == 1


async def test_a_replay_needs_nothing_but_the_response() -> None:
    """R-79: what the request was made of may be gone."""
    bench = Bench(HELLO, HELLO)
    parent, _ = await bench.events()
    async with bench.working():
        fields = {"background": False, "previous_response_id": parent.id}
        made = await bench.admit("k", **fields)
        body = await bench.engine.outcome(made)
        assert await bench.engine.delete("p", parent.id)
        again = await bench.admit("k", **fields)
        assert again.replayed
        assert await bench.engine.outcome(again) == body
        with pytest.raises(InvalidRequestError):
            await bench.admit("another", **fields)


async def test_a_stream_without_its_log_is_refused() -> None:
    """R-79: a stream in which nothing happens would be a lie."""
    later = 0.0
    store = MemoryStore(clock=lambda: time.time() + later, ttl=100 * 86_400)
    bench = Bench(HELLO, HELLO, store=store, options=EngineOptions(Retention(30, 1.0), JOBS))
    async with bench.working():
        made = await bench.admit("k", stream=True)
        await bench.follow(made.id)
        await bench.engine.check_log(made.id)
        later = 2 * 3600
        again = await bench.admit("k", stream=True)
        assert again.replayed
        with pytest.raises(InvalidRequestError, match="no longer kept") as caught:
            await bench.engine.check_log(again.id)
        assert caught.value.status == 400
        running = await bench.admit()
        await bench.engine.check_log(running.id)
