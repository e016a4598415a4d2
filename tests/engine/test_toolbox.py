"""Tools as a model sees them: names, choices, namespaces, deferred ones, calls that are shown when
they are whole (decision 0007)."""

from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.errors import InvalidRequestError
from antiphon.protocol.deltas import Finish, ToolCallDelta
from antiphon.testing import ScriptedTool, Step
from antiphon.tools.base import HostedFunction, Stage
from tests.engine.bench import HELLO, Bench
from tests.engine.tooling import ANSWER, FUNCTION, PYTHON, calls, kinds, play, told

# -- choices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "first"),
    [
        ("required", "required"),
        ({"type": "code_interpreter"}, {"type": "function", "name": "code_interpreter"}),
    ],
)
async def test_a_forced_choice_holds_for_the_first_turn(choice: Any, first: Any) -> None:
    bench = Bench(calls("1"), ANSWER, tools={"code_interpreter": ScriptedTool()})
    await play(bench, tool_choice=choice)
    assert [p.request.tool_choice for p in bench.backend.prompts] == [first, "auto"]


async def test_allowed_tools_is_a_hard_limit() -> None:
    """Spec §10: a call of another tool is suppressed, hosted or not."""
    choice = {"type": "allowed_tools", "mode": "required", "tools": [FUNCTION]}
    tool = ScriptedTool()
    bench = Bench(calls("1"), tools={"code_interpreter": tool})
    final, _ = await play(bench, tools=[PYTHON, FUNCTION], tool_choice=choice)
    assert (final["output"], tool.calls) == ([], [])
    asked = {"type": "function", "name": "weather"}
    assert bench.backend.prompts[0].request.tool_choice == {**choice, "tools": [asked]}
    choice["tools"] = [{"type": "code_interpreter"}]
    bench = Bench(calls("1"), ANSWER, tools={"code_interpreter": tool})
    final, _ = await play(bench, tools=[PYTHON, FUNCTION], tool_choice=choice)
    assert kinds(final) == ["code_interpreter_call", "message"]
    asked = {"type": "function", "name": "code_interpreter"}
    assert bench.backend.prompts[1].request.tool_choice == {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [asked],
    }


async def test_no_tool_may_be_called_where_the_choice_is_none() -> None:
    bench = Bench(calls("1"), tools={"code_interpreter": (tool := ScriptedTool())})
    final, _ = await play(bench, tool_choice="none")
    assert (final["output"], tool.calls) == ([], [])


# -- names ---------------------------------------------------------------------------------------


async def test_functions_of_the_client_keep_their_names() -> None:
    own = {**FUNCTION, "name": "code_interpreter"}
    tool = ScriptedTool()
    bench = Bench(
        [[ToolCallDelta(0, "{}", "code_interpreter__code_interpreter"), Finish()]],
        ANSWER,
        tools={"code_interpreter": tool},
    )
    final, _ = await play(bench, tools=[PYTHON, own])
    described = bench.backend.prompts[0].request.tools
    assert described is not None
    assert [tool["name"] for tool in described] == [
        "code_interpreter__code_interpreter",
        "code_interpreter",
    ]
    assert kinds(final) == ["code_interpreter_call", "message"]


async def test_a_tool_of_a_namespace_comes_back_with_it() -> None:
    spaces = [
        {"type": "namespace", "name": name, "description": name, "tools": [inner]}
        for name, inner in [
            ("github", FUNCTION),
            ("gitlab", {**FUNCTION, "name": "pipelines"}),
            ("jira", FUNCTION),
        ]
    ]
    turn = [[ToolCallDelta(n, "{}", name) for n, name in enumerate(["jira__weather", "pipelines"])]]
    bench = Bench([*turn, [Finish()]])
    final, _ = await play(bench, tools=spaces)
    described = bench.backend.prompts[0].request.tools
    assert described is not None
    assert [tool["name"] for tool in described] == ["github__weather", "pipelines", "jira__weather"]
    assert [(item["name"], item["namespace"]) for item in final["output"]] == [
        ("weather", "jira"),
        ("pipelines", "gitlab"),
    ]
    history = [*final["output"]]
    history += [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "x"}
        for item in final["output"]
    ]
    bench = Bench(HELLO)
    await play(bench, tools=spaces, input=history)
    names = [item.get("name") for item in bench.backend.prompts[0].items]
    assert names == ["jira__weather", "pipelines", None, None]


async def test_a_chosen_name_is_one_in_a_namespace_only_where_no_other_tool_has_it() -> None:
    space = {"type": "namespace", "name": "github", "description": "d", "tools": [FUNCTION]}
    name = {"type": "function", "name": "weather"}
    for tools, meant in (
        ([space, FUNCTION], ["weather"]),
        ([space, {**space, "name": "gitlab"}], ["github__weather", "gitlab__weather"]),
    ):
        bench = Bench(HELLO)
        await play(bench, tools=tools, tool_choice=name)
        assert bench.backend.prompts[0].request.tool_choice == {**name, "name": meant[0]}
        bench = Bench(HELLO)
        await play(
            bench,
            tools=tools,
            tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [name]},
        )
        allowed = bench.backend.prompts[0].request.tool_choice
        assert isinstance(allowed, dict)
        assert [tool["name"] for tool in allowed["tools"]] == meant


async def test_a_tool_choice_that_means_nothing_is_refused() -> None:
    """What a server offers is known when it was asked: then, too, before the model is."""
    function = HostedFunction("f", "", {})
    bench = Bench(HELLO, tools={"mcp": ScriptedTool(None, function)})
    tool = {"type": "mcp", "server_label": "s", "server_url": "https://x"}
    choice = {"type": "mcp", "server_label": "s", "name": "g"}
    run, task, _ = await bench.start(tools=[tool], tool_choice=choice)
    await task
    assert isinstance(run.error, InvalidRequestError)
    assert (run.error.param, run.spoken) == ("tool_choice", False)


# -- calls of the client that are shown when they are whole ---------------------------------------


async def test_a_call_that_is_not_right_is_told_to_the_model() -> None:
    wrong: Sequence[Step] = [
        [ToolCallDelta(0, '{"nothing": 1}', "local_shell", "call_1"), Finish()]
    ]
    right: Sequence[Step] = [
        [ToolCallDelta(0, '{"command": ["ls"]}', "local_shell", "call_2"), Finish()]
    ]
    bench = Bench(wrong, right)
    final, events = await play(bench, tools=[{"type": "local_shell"}])
    (item,) = final["output"]
    assert (item["type"], item["call_id"]) == ("local_shell_call", "call_2")
    assert item["action"]["command"] == ["ls"]
    assert "Not run" in told(bench)[0]
    assert [e["type"] for e in events[2:4]] == [
        *("response.output_item.added", "response.output_item.done")
    ]


async def test_a_custom_tool_gets_what_its_grammar_allows_and_nothing_else() -> None:
    tool = {
        "type": "custom",
        "name": "dial",
        "format": {"type": "grammar", "syntax": "regex", "definition": "[0-9]+"},
    }

    def turn(text: str) -> Sequence[Step]:
        return [[ToolCallDelta(0, text, "dial", kind="custom"), Finish()]]

    bench = Bench(turn("abc"), turn("12"), turn("x"))
    final, _ = await play(bench, tools=[tool])
    assert [item["input"] for item in final["output"]] == ["12"]
    assert "grammar" in told(bench)[0]
    assert len(bench.backend.prompts) == 2


# -- deferred tools ------------------------------------------------------------------------------


async def test_deferred_tools_are_seen_when_they_were_searched_for() -> None:
    deferred = {**FUNCTION, "defer_loading": True, "description": "Tells the weather."}
    other = {**FUNCTION, "name": "news", "defer_loading": True}
    search: Sequence[Step] = [[ToolCallDelta(0, '{"paths": ["weather"]}', "tool_search"), Finish()]]
    use: Sequence[Step] = [[ToolCallDelta(0, "{}", "weather", "call_w"), Finish()]]
    bench = Bench(search, use)
    tools = [deferred, other, {"type": "tool_search"}]
    final, _ = await play(bench, tools=tools)
    names = [[t["name"] for t in p.request.tools or ()] for p in bench.backend.prompts]
    assert names == [["tool_search"], ["weather", "tool_search"]]
    assert kinds(final) == ["tool_search_call", "tool_search_output", "function_call"]
    assert final["output"][0]["arguments"] == {"paths": ["weather"]}
    assert final["output"][1]["tools"] == final["tools"][:1]
    assert final["tools"][0].keys() >= {"name", "description", "parameters", "strict"}
    described = bench.backend.prompts[0].request.tools
    assert described is not None
    assert "Tells the weather." in described[0]["description"]


async def test_what_was_found_stays_found_in_the_chain() -> None:
    found = {"type": "tool_search_output", "call_id": "call_1", "execution": "client"}
    call = {"type": "tool_search_call", "call_id": "call_1", "arguments": {}, "execution": "client"}
    bench = Bench(HELLO)
    client = {"type": "tool_search", "execution": "client"}
    await play(bench, tools=[client], input=[call, {**found, "tools": [FUNCTION]}])
    described = bench.backend.prompts[0].request.tools
    assert described is not None
    assert [tool["name"] for tool in described] == ["tool_search", "weather"]


async def test_tools_that_the_input_adds_are_tools_like_others() -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": [FUNCTION]}
    bench = Bench([[ToolCallDelta(0, "{}", "weather"), Finish()]])
    choice = {"type": "function", "name": "weather"}
    final, _ = await play(bench, tools=[], tool_choice=choice, input=[added])
    assert kinds(final) == ["function_call"]
    assert bench.backend.prompts[0].request.tool_choice == choice


async def test_a_server_that_is_not_listed_yet_may_be_chosen_beside_functions() -> None:
    tool = ScriptedTool(None)
    tool.functions = ()

    async def prepare(stage: Stage) -> None:
        tool.functions = [HostedFunction("look", "", {})]

    tool.prepare = prepare  # type: ignore[method-assign]
    server = {"type": "mcp", "server_label": "s", "server_url": "https://x"}
    choice = {"type": "mcp", "server_label": "s", "name": "look"}
    bench = Bench(HELLO, tools={"mcp": tool})
    await play(bench, tools=[FUNCTION, server], tool_choice=choice)
    asked = {"type": "function", "name": "look"}
    assert bench.backend.prompts[0].request.tool_choice == asked
