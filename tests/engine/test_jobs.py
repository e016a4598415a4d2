"""Durable runs on a scripted backend: queue, take-over, fencing, cancel, hand-back (design §5)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from antiphon.engine.runner import EngineOptions
from antiphon.errors import (
    InvalidRequestError,
    Overloaded,
    RateLimitError,
)
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta, UsageReport
from antiphon.protocol.response import Usage
from antiphon.store.memory import MemoryStore
from antiphon.testing import ScriptedTool, Step, assert_valid_beginning, assert_valid_log
from antiphon.tools.base import Call, CallItem, HostedFunction, Outcome
from tests.engine.bench import HANGS, HELLO, Bench, bury, jobs, pair, said, until

Json = dict[str, Any]
PYTHON: Json = {"type": "code_interpreter", "container": {"type": "auto"}}
CALLS: Sequence[Step] = [
    [
        TextDelta("I look."),
        ToolCallDelta(0, '{"code":"1"}', "code_interpreter", "call_1"),
        ToolCallDelta(1, '{"code":"2"}', "code_interpreter", "call_2"),
        UsageReport(Usage(10, 0, 5, 0)),
        Finish(),
    ]
]


class Python(ScriptedTool):
    """A hosted tool that says what it did, and can hang at its `stuck`-th call."""

    type = "code_interpreter"

    def __init__(self, *, repeatable: bool = True, stuck: int = 0) -> None:
        function = HostedFunction("code_interpreter", "", {"type": "object"}, repeatable=repeatable)
        super().__init__(self._work, function)
        self.ran: list[str] = []
        self.stopped = 0
        self._stuck = stuck

    def begin(self, call: Call) -> Json:
        return {**super().begin(call), "code": call.read()["code"]}

    def failed(self, call: Call, reason: str) -> Outcome:
        return Outcome({"outputs": [{"type": "logs", "logs": reason}]}, "failed")

    async def _work(self, call: Call, item: CallItem) -> str:
        code: str = call.read()["code"]
        self.ran.append(code)
        try:
            if len(self.ran) == self._stuck:
                await asyncio.sleep(60)
        finally:
            self.stopped += 1
        return f"ran {code}"


# -- the life of a job ---------------------------------------------------------------------------


async def test_a_job_is_queued_then_made() -> None:
    """R-67: everything is committed before it is told."""
    bench = Bench(HELLO)
    made = await bench.admit()
    shown = await bench.shown(made.id)
    assert orjson.loads(made.body) == shown
    assert (shown["status"], made.background, made.replayed) == ("queued", True, False)
    async with bench.working():
        final = assert_valid_log(await bench.follow(made.id))
        assert final == await bench.shown(made.id)
        assert (final["status"], final["output_text"]) == ("completed", "Hello")
        assert await bench.store.runs.queued() == 0


async def test_the_row_says_in_progress_before_the_model_is_asked() -> None:
    bench = Bench(HANGS)
    async with bench.working():
        made = await bench.admit()
        assert (await bench.ended(made.id, "in_progress"))["output"] == []


async def test_unstored_is_kept_for_ten_minutes_and_no_longer() -> None:
    """Spec §1; R-137."""
    later = 0
    bench = Bench(HELLO, store=MemoryStore(clock=lambda: time.time() + later))
    async with bench.working():
        made = await bench.admit(store=False)
        final = await bench.ended(made.id)
        row = await bench.store.get("p", made.id)
        assert row is not None
        assert row.expires_at is not None
        assert 600 <= row.expires_at - final["completed_at"] <= 601
        later = 590
        assert await bench.store.get("p", made.id) is not None
        assert await bench.store.runs.read(made.id, -1, 1)
        later = 602
        assert await bench.store.get("p", made.id) is None
        assert await bench.store.runs.read(made.id, -1, 1) == []


async def test_a_full_queue_takes_nothing_more() -> None:
    """R-116."""
    bench = Bench(options=EngineOptions(most_queued=1))
    await bench.admit()
    with pytest.raises(RateLimitError) as caught:
        await bench.admit()
    assert caught.value.retry_after
    assert await bench.store.runs.queued() == 1


async def test_what_is_gone_when_its_turn_comes_is_a_failure() -> None:
    """A job is planned twice: the parent was there when it was accepted."""
    bench = Bench()
    parent, _ = await Bench(HELLO, store=bench.store).events()
    made = await bench.admit(previous_response_id=parent.id)
    await bench.engine.delete("p", parent.id)
    async with bench.working():
        final = assert_valid_log(await bench.follow(made.id))
        assert (final["status"], final["error"]["code"]) == ("failed", "invalid_prompt")
        assert parent.id in final["error"]["message"]


async def test_no_more_jobs_than_may_are_made_at_once() -> None:
    bench = Bench(HANGS, HANGS, HELLO, options=jobs(most=2))
    async with bench.working():
        made = [await bench.admit() for _ in range(3)]
        for one in made[:2]:
            await said(bench, one.id, "response.output_text.delta")
        assert (await bench.shown(made[2].id))["status"] == "queued"
        await bench.engine.cancel("p", made[0].id)
        assert (await bench.ended(made[2].id))["output_text"] == "Hello"


async def test_a_process_may_make_no_jobs() -> None:
    """``ANTIPHON_BACKGROUND_RUNS=0``: a worker does."""
    server, worker = Bench(options=jobs(most=0)), None
    async with server.working():
        made = await server.admit()
        await asyncio.sleep(0.05)
        assert (await server.shown(made.id))["status"] == "queued"
        worker = pair(server, HELLO)
        async with worker.working():
            assert assert_valid_log(await server.follow(made.id))["output_text"] == "Hello"


async def test_a_quiet_job_says_that_it_lives() -> None:
    """Design §5: once for all readers, in the log."""
    slow: Sequence[Step] = [[TextDelta("half")], 0.9, [Finish()]]
    bench = Bench(slow, options=jobs(event_heartbeat=0.2))
    async with bench.working():
        made = await bench.admit()
        log = await bench.follow(made.id)
        assert_valid_log(log)
        beats = [event for event in log[3:] if event["type"] == "response.in_progress"]
        assert 1 <= len(beats) <= 4
        assert {beat["response"]["output_text"] for beat in beats} == {"half"}


# -- take-over -----------------------------------------------------------------------------------


async def test_a_job_of_a_dead_process_goes_on() -> None:
    """R-65, R-66: what was half said is taken back, no number is used twice."""
    first = Bench(HANGS)
    async with first.working():
        made = await first.admit()
        await said(first, made.id, "response.output_text.delta")
        second = pair(first, HELLO)
        async with second.working():
            await bury(first)
            log = await second.follow(made.id)
            final = assert_valid_log(log)
            assert (final["status"], final["output_text"]) == ("completed", "Hello")
            assert final == await second.shown(made.id)
            await until(
                lambda: bool(first.backend.closed)
            )  # its maker was fenced off, and stopped the work


async def test_hosted_calls_that_had_finished_are_not_made_again() -> None:
    """R-66, decision (a): the second is made again because it only reads."""
    tool = Python(stuck=2)
    first = Bench(CALLS, tools={tool.type: tool})
    async with first.working():
        made = await first.admit(tools=[PYTHON])
        await said(first, made.id, "response.code_interpreter_call.completed")
        await until(lambda: tool.ran == ["1", "2"])
        second = pair(first, HELLO, tools={tool.type: tool})
        async with second.working():
            await bury(first)
            final = assert_valid_log(await second.follow(made.id))
    assert tool.ran == ["1", "2", "2"]
    assert [item["type"] for item in final["output"]] == [
        "message",
        "code_interpreter_call",
        "code_interpreter_call",
        "message",
    ]
    logs = [item["outputs"][0]["logs"] for item in final["output"][1:3]]
    assert logs == ["ran 1", "ran 2"]
    assert final["usage"]["total_tokens"] == 15, "the turn before the death counts once"
    (prompt,) = second.backend.prompts
    assert [item["type"] for item in prompt.items[1:]] == [
        "message",
        "code_interpreter_call",
        "code_interpreter_call",
    ]


async def test_a_hosted_call_that_may_not_be_repeated_has_failed() -> None:
    """Decision (a): its outcome is unknown, and the model is told so."""
    tool = Python(repeatable=False, stuck=1)
    first = Bench(CALLS, tools={tool.type: tool})
    async with first.working():
        made = await first.admit(tools=[PYTHON])
        await said(first, made.id, "response.code_interpreter_call.completed")
        second = pair(first, HELLO, tools={tool.type: tool})
        async with second.working():
            await bury(first)
            final = assert_valid_log(await second.follow(made.id))
    assert tool.ran == ["1", "2"]
    calls = [item for item in final["output"] if item["type"] == "code_interpreter_call"]
    assert [item["status"] for item in calls] == ["failed", "completed"]
    assert "unknown" in calls[0]["outputs"][0]["logs"]


async def test_a_job_that_kills_who_makes_it_is_failed_at_last() -> None:
    """R-65: a poisonous request does not go round for ever."""
    bench = Bench()
    made = await bench.admit()
    for _ in range(2):
        victim = pair(bench, HANGS, options=jobs(attempts=2))
        async with victim.working():
            await until(lambda: bool(victim.backend.prompts))  # noqa: B023
            victim.engine.jobs.stopping = True  # the dead take nothing back
            await bury(victim)
    last = pair(bench, HELLO, options=jobs(attempts=2))
    async with last.working():
        final = assert_valid_log(await last.follow(made.id))
    assert (final["status"], final["error"]["code"]) == ("failed", "server_error")
    assert last.backend.prompts == []


async def test_at_shutdown_jobs_go_back_and_that_is_no_death() -> None:
    """R-73."""
    first = Bench(HANGS, options=jobs(attempts=1))
    async with first.working():
        made = await first.admit()
        await said(first, made.id, "response.output_text.delta")
        await first.engine.drain()
        with pytest.raises(Overloaded):
            await first.admit()
        assert first.backend.closed == 1
        assert await first.store.runs.queued() == 1
    second = pair(first, HELLO, options=jobs(attempts=1))
    async with second.working():
        assert assert_valid_log(await second.follow(made.id))["output_text"] == "Hello"


async def test_a_foreground_response_with_a_key_ends_with_its_process() -> None:
    """R-69: its twins are told, its key is free."""
    first = Bench(HANGS)
    async with first.working():
        made = await first.admit("k", background=False, stream=True)
        await said(first, made.id, "response.output_text.delta")
        second = pair(first, HELLO)
        async with second.working():
            await bury(first)
            await second.engine.jobs._bury(first.engine.jobs.owner, None)
            final = assert_valid_log(await second.follow(made.id))
            assert (final["status"], final["output_text"]) == ("failed", "half")
            again = await second.admit("k", background=False, stream=True)
            assert again.id != made.id
            assert not again.replayed
            await second.follow(again.id)


async def test_the_progress_of_a_hosted_call_is_shown_while_it_runs() -> None:
    """And the same in the foreground."""
    tool = Python(stuck=1)
    bench = Bench(CALLS, CALLS, tools={tool.type: tool})
    async with bench.working():
        made = await bench.admit(tools=[PYTHON])
        await said(bench, made.id, "response.code_interpreter_call.interpreting")
        await until(lambda: tool.ran == ["1", "2"])
        assert tool.stopped == 1, "the other one still runs"
    tool = Python(stuck=1)
    bench = Bench(CALLS, tools={tool.type: tool})
    _, task, log = await bench.start(stream=True, tools=[PYTHON])
    async with asyncio.timeout(5):
        async for frames in log.read():
            if "response.code_interpreter_call.interpreting" in dict(frames):
                break
    task.cancel()
    await asyncio.wait([task])
    assert tool.stopped == 2


# -- cancel and delete ---------------------------------------------------------------------------


async def test_cancel_works_from_any_process() -> None:
    """R-58: the maker is fenced off, and stops its work."""
    maker = Bench(HANGS)
    async with maker.working():
        made = await maker.admit()
        await said(maker, made.id, "response.output_text.delta")
        other = pair(maker)
        row = await other.engine.cancel("p", made.id)
        assert row is not None
        assert row.status == "cancelled"
        await until(lambda: bool(maker.backend.closed))
        shown = await maker.shown(made.id)
        assert (shown["status"], shown["output_text"]) == ("cancelled", "half")
        assert_valid_beginning(await maker.follow(made.id))
        again = await maker.engine.cancel("p", made.id)
        assert again is not None
        assert again.body == row.body


async def test_cancel_stops_a_hosted_call() -> None:
    """R-58: tools, too; what was half done is not left `interpreting`."""
    tool = Python(stuck=1)
    bench = Bench(CALLS, tools={tool.type: tool})
    async with bench.working():
        made = await bench.admit(tools=[PYTHON])
        await said(bench, made.id, "response.code_interpreter_call.interpreting")
        await until(lambda: tool.stopped == 1)
        await bench.engine.cancel("p", made.id)
        await until(lambda: tool.stopped == 2)
        shown = await bench.shown(made.id)
    assert [item["status"] for item in shown["output"]] == ["completed", "incomplete", "completed"]


async def test_cancel_of_a_run_that_was_taken_over_shows_what_stays() -> None:
    first = Bench(HANGS)
    async with first.working():
        made = await first.admit()
        await said(first, made.id, "response.output_text.delta")
        second = pair(first, [[TextDelta("other")], 60.0])
        async with second.working():
            await bury(first)
            await until(lambda: bool(second.backend.prompts))
            await asyncio.sleep(0.05)
            row = await second.engine.cancel("p", made.id)
    assert row is not None
    shown = orjson.loads(row.body)
    assert (shown["status"], shown["output_text"]) == ("cancelled", "other")
    assert len(shown["output"]) == 1


async def test_cancel_refuses_what_is_synchronous_and_finds_nothing_elsewhere() -> None:
    bench = Bench(HELLO)
    run, _ = await bench.events()
    with pytest.raises(InvalidRequestError, match="synchronous"):
        await bench.engine.cancel("p", run.id)
    assert await bench.engine.cancel("q", run.id) is None
    assert await bench.engine.cancel("p", "resp_1") is None


async def test_all_who_cancel_at_once_share_one_attempt() -> None:
    """R-58: each would take the lease from the others, and nobody would come to an end."""
    bench = Bench(HANGS)
    async with bench.working():
        made = await bench.admit()
        await said(bench, made.id, "response.output_text.delta")
        rows = await asyncio.gather(*(bench.engine.cancel("p", made.id) for _ in range(10)))
        row = await bench.store.get("p", made.id)
        assert row is not None
        assert row.attempt == 2, "one claim, one cancel"
    assert {each.body for each in rows if each is not None} == {row.body}


async def test_delete_stops_a_job_and_ends_its_readers() -> None:
    """R-59."""
    bench = Bench(HANGS)
    async with bench.working():
        made = await bench.admit()
        await said(bench, made.id, "response.output_text.delta")
        reader = asyncio.create_task(bench.follow(made.id))
        await asyncio.sleep(0.01)
        assert await bench.engine.delete("p", made.id)
        assert_valid_beginning(await reader)
        assert await bench.store.get("p", made.id) is None
        await until(lambda: bool(bench.backend.closed))
        assert not await bench.engine.delete("p", made.id)
