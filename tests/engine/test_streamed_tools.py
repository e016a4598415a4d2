"""Hosted calls whose item is there before the call is whole, in the loop of tools."""

from collections.abc import Sequence
from typing import Any, Final

from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta, UsageReport
from antiphon.protocol.items.base import Item, told_of
from antiphon.protocol.response import Usage
from antiphon.testing import ScriptedTool, Step
from antiphon.tools.base import HostedFunction
from tests.engine.bench import Bench
from tests.engine.tooling import ANSWER, calls, kinds, limited, play, statuses

CODE: Final = HostedFunction(
    "code_interpreter", "Runs Python.", {"type": "object"}, streamed="code"
)


def tool(**more: Any) -> dict[str, ScriptedTool]:
    return {"code_interpreter": ScriptedTool(None, CODE, **more)}


def called(bench: Bench) -> list[Item]:
    """The calls as the model saw them in the end."""
    items = bench.backend.prompts[-1].items
    return [item for item in items if item["type"] == "code_interpreter_call"]


async def test_the_code_is_there_before_it_runs() -> None:
    bench = Bench(calls("1 + 1"), ANSWER, tools=tool())
    final, events = await play(bench)
    shown = [event["type"].removeprefix("response.code_interpreter_call") for event in events]
    assert [type_ for type_ in shown if type_.startswith(("_", "."))] == [
        ".in_progress",
        "_code.delta",
        "_code.done",
        ".interpreting",
        ".completed",
    ]
    assert kinds(final) == ["code_interpreter_call", "message"]
    assert final["output"][0]["code"] == "1 + 1"
    (item,) = called(bench)
    assert item["outputs"] == [{"type": "logs", "logs": 'ran {"code":"1 + 1"}'}]


async def test_more_calls_than_may_be_made_fail_in_their_items() -> None:
    """The model is told why, and answers."""
    bench = Bench(calls("a", "b", "c"), ANSWER, tools=tool())
    final, _ = await play(bench, max_tool_calls=2)
    assert statuses(final) == ["completed", "completed", "failed", "completed"]
    assert final["output"][2]["code"] == "c"
    assert "max_tool_calls" in str(told_of(called(bench)[2]))


async def test_a_turn_too_many_fails_in_its_item() -> None:
    bench = Bench(*[calls("a")] * 3, tools=tool(), options=limited(turns=1))
    final, _ = await play(bench)
    assert (final["status"], statuses(final)[0]) == ("failed", "failed")


async def test_what_a_turn_cannot_end_is_not_run() -> None:
    turn: Sequence[Step] = [
        [
            ToolCallDelta(0, '{"code": "a', "code_interpreter"),
            UsageReport(Usage(1, 0, 1, 0)),
            Finish("length"),
        ]
    ]
    tools = tool()
    final, _ = await play(Bench(turn, tools=tools))
    assert (final["status"], statuses(final)) == ("incomplete", ["incomplete"])
    assert tools["code_interpreter"].calls == []


async def test_text_behind_a_call_stands_behind_it() -> None:
    turn: Sequence[Step] = [
        [
            TextDelta("First."),
            ToolCallDelta(0, '{"code": "a"}', "code_interpreter"),
            TextDelta("Then."),
            UsageReport(Usage(1, 0, 1, 0)),
            Finish(),
        ]
    ]
    final, _ = await play(Bench(turn, ANSWER, tools=tool()))
    assert kinds(final) == ["message", "code_interpreter_call", "message", "message"]
    assert set(statuses(final)) == {"completed"}


async def test_a_run_in_the_background_goes_on_in_the_item() -> None:
    bench = Bench(calls("a"), ANSWER, tools=tool())
    async with bench.working():
        made = await bench.admit(
            tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]
        )
        await bench.follow(made.id)
    final = await bench.shown(made.id)
    assert kinds(final) == ["code_interpreter_call", "message"]
