"""Runs on a scripted backend: commit before you tell, failures are events, cancel stops all."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from antiphon.engine.runner import Engine, EngineOptions
from antiphon.errors import APIError, Overloaded, RateLimitError, UpstreamError
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta, UsageReport
from antiphon.protocol.emitter import Frame
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Usage
from antiphon.protocol.schemas import AnswerSchema
from antiphon.store.base import ResponseRow
from antiphon.store.memory import MemoryStore
from antiphon.testing import Step, assert_valid_log, decode
from tests.engine.bench import HELLO, Bench, OneBackend

LATE_TOOLS: dict[str, Any] = {
    "type": "additional_tools",
    "role": "developer",
    "tools": [{"type": "web_search"}, {"type": "function", "name": "f"}],
}


class BrokenStore(MemoryStore):
    """Refuses writes: a full disk (R-71)."""

    broken = True

    async def save(self, row: ResponseRow) -> bool:
        if self.broken:
            raise Overloaded(retry_after=1)
        return await super().save(row)


class SlowStore(MemoryStore):
    """Takes a moment to commit an end."""

    async def save(self, row: ResponseRow) -> bool:
        if row.status == "completed":
            await asyncio.sleep(0.05)
        return await super().save(row)


async def test_the_stream_the_body_and_the_row_are_one_thing() -> None:
    bench = Bench(HELLO)
    run, events = await bench.events()
    final = assert_valid_log(events)
    row = await bench.store.get("p", run.id)
    assert row is not None
    assert orjson.loads(row.body) == orjson.loads(run.body) == final
    assert (row.status, final["output_text"]) == ("completed", "Hello")


async def test_the_row_is_committed_before_the_terminal_event_is_shown() -> None:
    """R-67: a client that reacts at once finds GET working."""
    bench = Bench(HELLO)
    run, task, log = await bench.start(stream=True)
    async for frames in log.read():
        row = await bench.store.get("p", run.id)
        assert row is not None, "a row before the first event"
        shown = frames[-1][0] == "response.completed"
        assert row.status == ("completed" if shown else "in_progress") or not shown
    await task


async def test_store_false_is_stored_nowhere() -> None:
    bench = Bench(HELLO)
    run, _ = await bench.events(store=False)
    assert await bench.store.get("p", run.id) is None


@pytest.mark.parametrize("error", [RateLimitError(retry_after=2), UpstreamError()])
async def test_a_refusal_before_the_first_token_is_an_http_error(error: APIError) -> None:
    bench = Bench([error])
    run, task, _ = await bench.start(stream=True)
    await run.accepted.wait()
    await task
    assert (run.error, run.spoken) == (error, False)


async def test_a_failure_after_the_first_token_is_an_event_and_the_text_is_kept() -> None:
    """R-45, R-49."""
    bench = Bench([[TextDelta("half")], UpstreamError(should_retry=False)])
    run, events = await bench.events()
    assert run.spoken
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    row = await bench.store.get("p", run.id)
    assert row is not None
    assert row.status == "failed"
    assert orjson.loads(row.body)["output_text"] == "half"


async def test_a_turn_without_an_end_is_a_failure() -> None:
    """R-45: never completed without a finish reason."""
    run, events = await Bench([[TextDelta("x")]]).events()
    assert assert_valid_log(events)["status"] == "failed"
    assert isinstance(run.error, UpstreamError)


async def test_a_bug_is_a_failure_and_says_nothing_of_itself() -> None:
    """R-131."""
    bench = Bench([[TextDelta("x")], ["not a delta"]])  # type: ignore[list-item]
    run, events = await bench.events()
    final = assert_valid_log(events)
    assert final["error"] == {"code": "server_error", "message": APIError().message}
    assert run.error is not None
    assert "delta" not in final["error"]["message"]


async def test_whatever_happens_the_log_ends() -> None:
    """R-48: no reader waits for ever, not even when the failure itself cannot be told."""
    bench = Bench([[], [UsageReport(Usage(input_tokens=2**64)), Finish()]])
    _, task, log = await bench.start(stream=True)
    async with asyncio.timeout(5):
        async for _ in log.read():
            pass
    await asyncio.wait({task})


async def test_a_delete_during_the_last_commit_ends_the_stream() -> None:
    """R-59, R-67: its reader gets an end, which is not one that a GET would not find."""
    bench = Bench(HELLO, store=SlowStore())
    run, task, log = await bench.start(stream=True)
    shown: list[Frame] = []
    async with asyncio.timeout(5):
        async for frames in log.read():
            shown += frames
            if run.machine.status == "completed":
                await bench.engine.delete("p", run.id)
    assert assert_valid_log(decode(shown))["status"] == "failed"
    await task
    assert await bench.store.get("p", run.id) is None


async def test_a_stream_that_could_not_be_stored_still_begins_with_created() -> None:
    """Spec §4.1: whoever already reads sees a whole log."""
    bench = Bench(HELLO, store=BrokenStore())
    _, events = await bench.events()
    assert assert_valid_log(events)["status"] == "failed"


async def test_a_store_that_refuses_turns_the_answer_into_a_failure() -> None:
    """R-71: what cannot be stored is not told as stored."""
    store = BrokenStore()
    bench = Bench(HELLO, store=store)
    run, task, _ = await bench.start()
    await task
    assert isinstance(run.error, Overloaded)
    assert run.error.should_retry is False
    assert orjson.loads(run.body)["status"] == "failed"


async def test_a_stream_that_cannot_be_stored_never_reaches_the_upstream() -> None:
    bench = Bench(HELLO, store=BrokenStore())
    run, task, _ = await bench.start(stream=True)
    await run.accepted.wait()
    await task
    assert isinstance(run.error, Overloaded)
    assert bench.backend.prompts == []


async def test_cancel_closes_the_upstream_and_the_row_says_cancelled() -> None:
    """R-53."""
    bench = Bench([[TextDelta("half")], 60.0])
    run, task, log = await bench.start(stream=True)
    await anext(log.read())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert bench.backend.closed == 1
    row = await bench.store.get("p", run.id)
    assert row is not None
    assert row.status == "cancelled"
    assert orjson.loads(row.body)["output_text"] == "half"


async def test_delete_stops_a_running_response_and_its_late_words_are_dropped() -> None:
    """R-59, R-48: its reader is told."""
    bench = Bench([[TextDelta("half")], 60.0])
    run, task, log = await bench.start(stream=True)
    await asyncio.sleep(0.01)
    assert await bench.engine.delete("p", run.id)
    frames = [frame async for batch in log.read() for frame in batch]
    final = assert_valid_log(decode(frames))
    assert (final["status"], final["output_text"]) == ("failed", "half")
    await task
    assert bench.backend.closed == 1
    assert await bench.store.get("p", run.id) is None
    assert not await bench.engine.delete("p", run.id)


async def test_a_cancelled_run_that_cannot_be_stored_still_ends() -> None:
    store = BrokenStore()
    store.broken = False
    bench = Bench([[TextDelta("half")], 60.0], store=store)
    _, task, _ = await bench.start(stream=True)
    await asyncio.sleep(0.01)
    store.broken = True
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert bench.backend.closed == 1


async def test_a_beat_is_an_event_of_a_running_response_only() -> None:
    bench = Bench([[TextDelta("half")], 0.05, [Finish()]])
    run, task, log = await bench.start(stream=True)
    await asyncio.sleep(0.01)
    run.beat()
    frames = [frame async for batch in log.read() for frame in batch]
    await task
    events = decode(frames)
    assert_valid_log(events)
    beats = [event for event in events if event["type"] == "response.in_progress"]
    assert [beat["response"]["output_text"] for beat in beats] == ["", "half"]
    run.beat()
    assert run.machine.take() == []


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("none", []),
        ("auto", ["f", "g"]),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
            ["g"],
        ),
    ],
)
async def test_tool_choice_is_a_hard_limit(choice: Any, names: list[str]) -> None:
    """Spec §10: calls of unlisted tools are suppressed, whatever the backend does."""
    bench = Bench([[ToolCallDelta(0, "{}", "f"), ToolCallDelta(1, "{}", "g"), Finish()]])
    tools = [{"type": "function", "name": name} for name in "fg"]
    _, events = await bench.events(tools=tools, tool_choice=choice)
    final = assert_valid_log(events)
    assert [item["name"] for item in final["output"]] == names


async def test_a_run_has_an_end() -> None:
    """R-44: one deadline for the whole run."""
    bench = Bench([[TextDelta("x")], 60.0])
    bench.engine = Engine(bench.store, OneBackend(bench.backend), EngineOptions(run_timeout=0.05))
    run, events = await bench.events()
    assert assert_valid_log(events)["status"] == "failed"
    assert run.error is not None
    assert run.error.status == 504


async def test_a_strict_answer_is_validated_and_a_call_is_not() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    tool = {"type": "function", "name": "f"}
    turns: list[Sequence[Step]] = [
        [[TextDelta('{"a": 1}'), Finish()]],
        [[TextDelta('{"a": "x"}'), Finish()]],
        [[TextDelta('{"a":'), Finish("length")]],
        [[ToolCallDelta(0, "{}", "f"), Finish()]],
    ]
    bench = Bench(*turns)
    statuses = []
    for _ in turns:
        _, events = await bench.events(text={"format": form}, tools=[tool])
        statuses.append(assert_valid_log(events)["status"])
    assert statuses == ["completed", "failed", "incomplete", "completed"]


async def test_a_long_answer_is_held_against_its_schema_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R-118."""
    threads, check = [], AnswerSchema.validate

    def watched(schema: AnswerSchema, text: str) -> str | None:
        threads.append(threading.current_thread())
        return check(schema, text)

    monkeypatch.setattr(AnswerSchema, "validate", watched)
    bench = Bench([[TextDelta(f"[{'1,' * 50_000}1]"), Finish()]])
    _, events = await bench.events(text={"format": {"type": "json_object"}}, input="JSON")
    assert assert_valid_log(events)["status"] == "failed"
    (thread,) = threads
    assert thread is not threading.main_thread()


async def test_at_shutdown_runs_end_with_a_terminal_event_and_new_ones_are_turned_away() -> None:
    """R-73."""
    bench = Bench([[TextDelta("half")], 60.0], [[TextDelta("half")], 60.0])
    _, stream_task, log = await bench.start(stream=True)
    plain, plain_task, _ = await bench.start()
    await asyncio.sleep(0.01)
    bench.engine.stopping = True
    with pytest.raises(Overloaded):
        await bench.start()
    bench.engine.stop()
    bench.engine.stop()
    frames = [frame async for batch in log.read() for frame in batch]
    assert assert_valid_log(decode(frames))["status"] == "failed"
    await asyncio.gather(stream_task, plain_task)
    assert isinstance(plain.error, Overloaded)
    row = await bench.store.get("p", plain.id)
    assert row is not None
    assert row.status == "failed"
    assert bench.backend.closed == 2


async def test_recovery_ends_what_a_dead_server_left_running() -> None:
    """R-69: nothing stays in progress for ever."""
    bench = Bench([[TextDelta("half")], 60.0])
    run, task, _ = await bench.start(stream=True)
    await asyncio.sleep(0.01)
    later = Bench(HELLO, store=bench.store)
    await bench.store.runs.release(bench.engine.jobs.owner, died=True)
    await later.engine.open()
    row = await later.store.get("p", run.id)
    assert row is not None
    body = orjson.loads(row.body)
    assert row.status == body["status"] == "failed"
    assert body["error"]["code"] == "server_error"
    await later.engine.close()
    task.cancel()
    await asyncio.wait({task})


async def test_close_ends_what_still_runs() -> None:
    bench = Bench([[TextDelta("x")], 60.0])
    _, task, _ = await bench.start(stream=True)
    await asyncio.sleep(0.01)
    await bench.engine.close()
    assert task.cancelled()
    assert bench.backend.closed == 1


async def test_tools_that_come_in_the_input_are_named_as_ignored() -> None:
    """Design §5, never silent."""
    run, _ = await Bench(HELLO).events(input=[LATE_TOOLS, {"role": "user", "content": "hi"}])
    assert run.ignored == ["input[0].tools"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"conversation": "conv_1"}, 404, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, 404, "prompt"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools"),
        ({"model": "nothing"}, 400, "model"),
        ({"tool_choice": {"type": "web_search"}, "input": [LATE_TOOLS]}, 400, "tool_choice"),
    ],
)
async def test_what_is_not_supported_is_refused_before_anything_runs(
    fields: dict[str, Any], status: int, param: str
) -> None:
    bench = Bench(HELLO)
    request = CreateResponse(**{"model": "m", "input": "hi", **fields})
    with pytest.raises(APIError) as caught:
        await bench.engine.start(request, "p")
    assert (caught.value.status, caught.value.param) == (status, param)
    assert bench.backend.prompts == []
