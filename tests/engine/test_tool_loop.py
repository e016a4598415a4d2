"""The loop of hosted tools on a scripted backend (design §4, decision 0007)."""

import asyncio
from collections.abc import Sequence

from antiphon.errors import APIError, ExternalConnectorError, RateLimitError, ToolFailed
from antiphon.protocol.deltas import Finish, ToolCallDelta
from antiphon.protocol.items.base import told_of, turn_of
from antiphon.testing import ScriptedTool, Step
from antiphon.tools.base import Call, CallItem, HostedFunction, Stage
from tests.engine.bench import HELLO, Bench
from tests.engine.tooling import (
    ANSWER,
    FUNCTION,
    PYTHON,
    calls,
    kinds,
    limited,
    play,
    statuses,
    told,
)

# -- the way of a call ---------------------------------------------------------------------------


async def test_a_call_has_the_events_of_its_item_and_the_model_goes_on() -> None:
    bench = Bench(calls("1"), ANSWER, tools={"code_interpreter": (tool := ScriptedTool())})
    final, events = await play(bench)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.code_interpreter_call.in_progress",
        "response.code_interpreter_call.interpreting",
        "response.code_interpreter_call.completed",
        "response.output_item.done",
        *("response.output_item.added", "response.content_part.added"),
        "response.output_text.delta",
        "response.output_text.done",
        *("response.content_part.done", "response.output_item.done"),
        "response.completed",
    ]
    assert events[4] == {
        "type": "response.code_interpreter_call.interpreting",
        "sequence_number": 4,
        "item_id": final["output"][0]["id"],
        "output_index": 0,
    }
    assert kinds(final) == ["code_interpreter_call", "message"]
    assert final["usage"]["total_tokens"] == 15 + 23, "summed over the turns"
    assert tool.closed == 1
    item = bench.backend.prompts[1].items[-1]
    assert (item["id"], turn_of(item)) == (final["output"][0]["id"], 1)


async def test_the_calls_of_a_turn_run_at_once_and_stand_in_their_order() -> None:
    started: list[str] = []
    both = asyncio.Event()

    async def run(call: Call, item: CallItem) -> str:
        started.append(call.read()["code"])
        if len(started) == 2:
            both.set()
        await both.wait()
        if call.read()["code"] == "1":
            await asyncio.sleep(0.02)
        return str(call.read()["code"])

    bench = Bench(calls("1", "2"), ANSWER, tools={"code_interpreter": ScriptedTool(run)})
    final, events = await play(bench)
    assert [item["outputs"][0]["logs"] for item in final["output"][:2]] == ["1", "2"]
    done = [e["output_index"] for e in events if e["type"] == "response.output_item.done"]
    assert done == [1, 0, 2], "each ends when it ends"


async def test_one_call_a_turn_where_calls_may_not_be_parallel() -> None:
    tool = ScriptedTool()
    bench = Bench(calls("1", "2"), ANSWER, tools={"code_interpreter": tool})
    final, _ = await play(bench, parallel_tool_calls=False)
    assert kinds(final) == ["code_interpreter_call", "message"]
    assert len(tool.calls) == 1


async def test_hosted_calls_run_before_the_client_answers_its_own() -> None:
    """Spec §4: the outputs of that turn are there already."""
    other = ToolCallDelta(9, "{}", "weather", "call_w")
    bench = Bench(calls("1", more=[other]), tools={"code_interpreter": ScriptedTool()})
    final, _ = await play(bench, tools=[PYTHON, FUNCTION])
    assert kinds(final) == ["function_call", "code_interpreter_call"]
    assert statuses(final) == ["completed", "completed"]
    assert (final["status"], len(bench.backend.prompts)) == ("completed", 1)


async def test_the_turns_of_a_run_stay_apart_for_the_model() -> None:
    """Calls one after the other are not shown as made at once."""
    bench = Bench(calls("1"), calls("2"), ANSWER, tools={"code_interpreter": ScriptedTool()})
    await play(bench)
    assert [turn_of(item) for item in bench.backend.prompts[2].items[1:]] == [1, 2]


# -- how a call fails ----------------------------------------------------------------------------


async def test_a_tool_that_says_why_it_failed() -> None:
    async def run(call: Call, item: CallItem) -> str:
        raise ToolFailed("There is no such file.")

    bench = Bench(calls("1"), ANSWER, tools={"code_interpreter": ScriptedTool(run)})
    final, events = await play(bench)
    assert statuses(final) == ["failed", "completed"]
    assert final["status"] == "completed"
    assert not [e for e in events if e["type"] == "response.code_interpreter_call.completed"]
    seen = bench.backend.prompts[1].items[-1]
    assert told_of(seen) == "There is no such file."


async def test_a_tool_that_crashes_harms_nobody_else() -> None:
    """Its own error is for the log (R-129)."""

    async def run(call: Call, item: CallItem) -> str:
        if call.read()["code"] == "1":
            raise ZeroDivisionError("a secret path")
        return "fine"

    bench = Bench(calls("1", "2"), ANSWER, tools={"code_interpreter": ScriptedTool(run)})
    final, _ = await play(bench)
    assert statuses(final) == ["failed", "completed", "completed"]
    assert final["output"][0]["outputs"] == [{"type": "logs", "logs": "The tool crashed."}]


async def test_a_tool_that_takes_too_long_is_stopped() -> None:
    """R-89; the others of its turn are not."""
    stopped = asyncio.Event()

    async def run(call: Call, item: CallItem) -> str:
        try:
            await asyncio.sleep(60 if call.read()["code"] == "1" else 0)
        except asyncio.CancelledError:
            stopped.set()
            raise
        return "fine"

    bench = Bench(
        calls("1", "2"),
        ANSWER,
        tools={"code_interpreter": ScriptedTool(run)},
        options=limited(timeout=0.05),
    )
    final, _ = await play(bench)
    assert stopped.is_set()
    assert statuses(final) == ["failed", "completed", "completed"]
    assert "within 0.05 seconds" in final["output"][0]["outputs"][0]["logs"]


async def test_a_function_may_take_longer_than_others() -> None:
    async def run(call: Call, item: CallItem) -> str:
        await asyncio.sleep(0.1 if call.read()["code"] == "1" else 60)
        return "fine"

    slow = HostedFunction("code_interpreter", "Runs.", {"type": "object"}, timeout=0.3)
    bench = Bench(
        calls("1", "2"),
        ANSWER,
        tools={"code_interpreter": ScriptedTool(run, slow)},
        options=limited(timeout=0.02),
    )
    final, _ = await play(bench)
    assert statuses(final) == ["completed", "failed", "completed"]
    assert "within 0.3 seconds" in final["output"][1]["outputs"][0]["logs"]


async def test_arguments_that_are_no_json_are_the_tools_to_judge() -> None:
    broken: Sequence[Step] = [[ToolCallDelta(0, "{oops", "code_interpreter"), Finish()]]

    async def run(call: Call, item: CallItem) -> str:
        return str(call.read())

    bench = Bench(broken, ANSWER, tools={"code_interpreter": ScriptedTool(run)})
    final, _ = await play(bench)
    assert statuses(final) == ["failed", "completed"]
    assert "not a JSON object" in final["output"][0]["outputs"][0]["logs"]


async def test_a_tool_that_cannot_get_ready_fails_the_response() -> None:
    """Spec §1.2: 424, before the model is asked."""

    async def prepare(stage: Stage) -> None:
        raise ExternalConnectorError(param="tools")

    bench = Bench(HELLO, tools={"code_interpreter": ScriptedTool(prepare=prepare)})
    run, task, _ = await bench.start(tools=[PYTHON])
    await task
    assert isinstance(run.error, ExternalConnectorError)
    assert (run.spoken, bench.backend.prompts) == (False, [])


async def test_a_client_that_leaves_stops_the_call() -> None:
    """R-53."""
    running, stopped = asyncio.Event(), asyncio.Event()

    async def run(call: Call, item: CallItem) -> str:
        running.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return ""

    tool = ScriptedTool(run)
    bench = Bench(calls("1"), tools={"code_interpreter": tool})
    _, task, _ = await bench.start(tools=[PYTHON])
    await running.wait()
    task.cancel()
    await asyncio.wait([task])
    assert stopped.is_set()
    assert tool.closed == 1


# -- budgets -------------------------------------------------------------------------------------


async def test_no_more_calls_than_the_request_allows() -> None:
    """Spec §1 `max_tool_calls`: the rest is told to the model, and not run."""
    tool = ScriptedTool()
    bench = Bench(calls("1", "2", "3"), calls("4"), ANSWER, tools={"code_interpreter": tool})
    final, _ = await play(bench, max_tool_calls=2)
    assert kinds(final) == ["code_interpreter_call", "code_interpreter_call", "message"]
    assert [call.read()["code"] for call in tool.calls] == ["1", "2"]
    assert len(told(bench, 1)) == 1
    assert "max_tool_calls" in told(bench, 1)[0]
    assert len(told(bench, 2)) == 2
    assert bench.backend.prompts[2].request.tools is None, "it has to do without them now"


async def test_who_goes_on_asking_for_more_calls_has_said_all() -> None:
    bench = Bench(*[calls("1")] * 9, tools={"code_interpreter": (tool := ScriptedTool())})
    final, _ = await play(bench, max_tool_calls=1)
    assert (final["status"], kinds(final)) == ("completed", ["code_interpreter_call"])
    assert len(tool.calls) == 1
    assert len(bench.backend.prompts) == 3


async def test_a_loop_without_end_is_ended() -> None:
    """R-120: the last turn has no tools; who calls them all the same has failed."""
    tool = ScriptedTool()
    bench = Bench(*[calls("1")] * 9, tools={"code_interpreter": tool}, options=limited(turns=4))
    final, _ = await play(bench)
    assert (final["status"], final["error"]["code"]) == ("failed", "server_error")
    assert len(bench.backend.prompts) == 4
    assert [prompt.request.tools is None for prompt in bench.backend.prompts] == [
        *(False, False, False, True)
    ]
    assert final["usage"]["total_tokens"] == 4 * 15


async def test_the_last_turn_can_still_answer() -> None:
    bench = Bench(
        *(calls("1"), calls("2"), ANSWER),
        tools={"code_interpreter": ScriptedTool()},
        options=limited(turns=3),
    )
    final, _ = await play(bench, tools=[PYTHON, FUNCTION])
    assert final["output_text"] == "Done."
    last = bench.backend.prompts[2].request.tools
    assert last is not None
    assert [tool["name"] for tool in last] == ["weather"]


# -- what no client sees -------------------------------------------------------------------------


async def test_an_error_of_the_model_in_a_later_turn_keeps_what_was_done() -> None:
    bench = Bench(calls("1"), [APIError("broken")], tools={"code_interpreter": ScriptedTool()})
    final, _ = await play(bench)
    assert (final["status"], kinds(final)) == ("failed", ["code_interpreter_call"])
    assert statuses(final) == ["completed"]


async def test_what_was_done_is_not_offered_to_be_done_again() -> None:
    """R-52: an SDK would send the request once more, and the tool would run once more."""
    busy = RateLimitError(retry_after=1, should_retry=None)
    bench = Bench(calls("1"), [busy], tools={"code_interpreter": ScriptedTool()})
    run, task, _ = await bench.start(tools=[PYTHON])
    await task
    assert run.error is busy
    assert busy.should_retry is False
