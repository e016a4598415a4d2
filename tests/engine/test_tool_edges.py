"""What the loop of hosted tools does at its edges: odd calls, budgets, names (decision 0007)."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from antiphon.backends.chat_completions.messages import chat_messages
from antiphon.backends.profiles import GENERIC
from antiphon.backends.transcript import short_id
from antiphon.errors import InvalidRequestError
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta
from antiphon.protocol.items.base import told_of, turn_of
from antiphon.protocol.request import parse_request
from antiphon.testing import ScriptedTool, Step
from antiphon.tools.base import Call, CallItem, HostedFunction, Outcome
from tests.engine.bench import Bench
from tests.engine.test_approvals import FORECAST, MCP, Remote, World, asks, request_of, says
from tests.engine.tooling import ANSWER, FUNCTION, PYTHON, calls, kinds, limited, play, told

Json = dict[str, Any]
READ: Json = {
    "type": "function",
    "name": "read",
    "parameters": {"type": "object"},
    "defer_loading": True,
}
CRM: Json = {"type": "namespace", "name": "crm", "description": "d", "tools": [READ]}
SEARCH: Json = {"type": "tool_search"}
WORDS: Json = {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}


def turn(*made: tuple[str, str]) -> Sequence[Step]:
    return [[*(ToolCallDelta(n, text, name) for n, (name, text) in enumerate(made)), Finish()]]


SEARCHES = turn(("tool_search", '{"paths": ["crm"]}'))


def sent(bench: Bench) -> list[Json]:
    """What a chat-completions server would get in the last turn."""
    return chat_messages(None, bench.backend.prompts[-1].items, GENERIC)


# -- tool search ---------------------------------------------------------------------------------


async def test_a_chain_goes_on_after_a_search() -> None:
    """Items of searches here have no `call_id` (spec §3.3), and find each other all the same."""
    bench = Bench(SEARCHES, SEARCHES, ANSWER, ANSWER, ANSWER)
    tools = [CRM, SEARCH]
    first, _ = await play(bench, tools=tools)
    assert kinds(first)[:4] == ["tool_search_call", "tool_search_output"] * 2
    second, _ = await play(bench, tools=tools, previous_response_id=first["id"], input="more")
    by_hand = [{"role": "user", "content": "hi"}, *first["output"]]
    third, _ = await play(
        bench, tools=tools, store=False, input=orjson.loads(orjson.dumps(by_hand))
    )
    assert [second["status"], third["status"]] == ["completed"] * 2
    ids = [call["id"] for message in sent(bench) for call in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in sent(bench) if message["role"] == "tool"]
    assert ids == answered == [short_id(item["id"]) for item in first["output"][0:4:2]]


async def test_a_search_takes_no_other_calls_output() -> None:
    bench = Bench(turn(("weather", "{}"), ("tool_search", '{"paths": ["crm"]}')), ANSWER)
    tools = [CRM, SEARCH, FUNCTION]
    first, _ = await play(bench, tools=tools)
    (call,) = (item for item in first["output"] if item["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    await play(bench, tools=tools, previous_response_id=first["id"], input=[output])
    answers = {m["tool_call_id"]: m["content"] for m in sent(bench) if m["role"] == "tool"}
    assert answers[call["call_id"]] == "sunny"
    assert len(answers) == 2


@pytest.mark.parametrize("arguments", ['{"paths": 5}', '{"paths": {"a": 1}}', '{"query": true}'])
async def test_a_search_for_nonsense_is_told_to_the_model(arguments: str) -> None:
    bench = Bench(turn(("tool_search", arguments)), ANSWER)
    final, _ = await play(bench, tools=[CRM, SEARCH])
    assert (final["status"], kinds(final)) == ("completed", ["message"])
    assert told(bench) == ["Not run: 'paths' must be a list of strings."]


async def test_names_stay_while_tools_are_found() -> None:
    """A call in the turn of a search means what the model saw (R-13)."""
    tool = ScriptedTool(None, HostedFunction("read", "", {"type": "object"}))
    made = turn(("tool_search", '{"paths": ["crm"]}'), ("code_interpreter__read", '{"x": 1}'))
    bench = Bench(made, ANSWER, tools={"code_interpreter": tool})
    await play(bench, tools=[PYTHON, CRM, SEARCH])
    names = [[tool["name"] for tool in p.request.tools or ()] for p in bench.backend.prompts]
    assert names == [
        ["code_interpreter__read", "tool_search"],
        ["code_interpreter__read", "crm__read", "tool_search"],
    ]
    assert [call.arguments for call in tool.calls] == ['{"x": 1}']


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "whatever", "tools": [{"type": "function"}]},
        {"type": "mcp", "server_label": "x", "tools": [{"type": "x"}]},
        {"type": "tool_search", "execution": "client", "description": 5, "parameters": "x"},
        {"type": "web_search"},
    ],
)
async def test_a_tool_in_an_item_that_cannot_be_loaded_is_reported(tool: Json) -> None:
    bench = Bench(ANSWER)
    await bench.engine.open()
    items = [
        {"type": "additional_tools", "role": "developer", "tools": [tool]},
        {"role": "user", "content": "x"},
    ]
    body = {"model": "m", "input": items, "tools": [FUNCTION], "stream": True}
    made = await bench.engine.start(parse_request(orjson.dumps(body)), "p")
    await made.task  # type: ignore[union-attr]
    assert made.run.ignored == ["input[0].tools"]  # type: ignore[union-attr]
    seen = bench.backend.prompts[0].request.tools or []
    assert [one["name"] for one in seen] == ["weather"]


# -- calls that go wrong ---------------------------------------------------------------------------


async def test_what_a_model_wrote_goes_back_as_an_object() -> None:
    """Servers parse the arguments of the history."""
    custom: Json = {"type": "custom", "name": "sql", "format": WORDS}
    bench = Bench(
        turn(("sql", "SELECT 1")), turn(("shot", '{"a":')), ANSWER, tools={"mcp": _Shots()}
    )
    await play(bench, tools=[custom, MCP])
    made = [call["function"] for m in sent(bench) for call in m.get("tool_calls", ())]
    assert [call["name"] for call in made] == ["sql", "shot"]
    read = [orjson.loads(call["arguments"]) for call in made]
    assert read == [{"input": "SELECT 1"}, {"input": '{"a":'}]


async def test_a_tool_that_cancels_itself_has_crashed() -> None:
    async def run(call: Call, item: CallItem) -> str:
        raise asyncio.CancelledError

    bench = Bench(calls("1", "2"), ANSWER, tools={"code_interpreter": ScriptedTool(run)})
    final, _ = await play(bench)
    assert [item["status"] for item in final["output"]] == ["failed", "failed", "completed"]


async def test_so_many_calls_of_a_turn_are_run_and_so_many_at_once() -> None:
    """R-118."""
    running = most = 0

    async def run(call: Call, item: CallItem) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return "."

    tool = ScriptedTool(run)
    bench = Bench(calls(*map(str, range(130))), ANSWER, tools={"code_interpreter": tool})
    final, _ = await play(bench)
    assert kinds(final).count("code_interpreter_call") == 128
    assert most == 16
    assert len(told(bench)) == 2
    assert "too many calls" in told(bench)[0]


# -- budgets ---------------------------------------------------------------------------------------


async def test_max_output_tokens_is_for_the_whole_response() -> None:
    """R-120, spec §1: each turn of the model may write what is left, if that is as much as a
    request may ask for: OpenAI refuses less."""
    tool = ScriptedTool()
    bench = Bench(*(calls(str(n)) for n in range(6)), tools={"code_interpreter": tool})
    final, _ = await play(bench, max_output_tokens=30)
    asked = [prompt.request.max_output_tokens for prompt in bench.backend.prompts]
    assert asked == [30, 25, 20]
    assert final["status"] == "incomplete"
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize(("said", "status"), [('{"a": 1}', "completed"), ("none", "failed")])
async def test_an_answer_after_calls_matches_its_schema(said: str, status: str) -> None:
    """Spec §8: what the model says beside a call is no answer, what it says at the end is."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    made = ToolCallDelta(0, '{"code": "1"}', "code_interpreter")
    aside: Sequence[Step] = [[TextDelta("Let me see."), made, Finish()]]
    bench = Bench(aside, [[TextDelta(said), Finish()]], tools={"code_interpreter": ScriptedTool()})
    final, _ = await play(bench, text={"format": form})
    assert kinds(final)[:2] == ["message", "code_interpreter_call"]
    assert final["status"] == status


async def test_hosted_tools_are_gone_when_all_calls_are_made() -> None:
    tool = ScriptedTool()
    bench = Bench(calls("1", "2"), calls("3"), ANSWER, tools={"code_interpreter": tool})
    await play(bench, max_tool_calls=1)
    assert [bool(p.request.tools) for p in bench.backend.prompts] == [True, False, False]
    assert len(tool.calls) == 1


async def test_a_forced_choice_was_heard_when_the_user_approved_its_call() -> None:
    world = World(asks(), ANSWER)
    forced = {"type": "mcp", "server_label": "s"}
    first = await world.ask(tool_choice=forced)
    answer = says(request_of(first))
    await world.ask(previous_response_id=first["id"], input=[answer], tool_choice=forced)
    chosen = [prompt.request.tool_choice for prompt in world.bench.backend.prompts]
    assert chosen == [{"type": "function", "name": "forecast"}, "auto"]


async def test_who_stores_nothing_is_asked_again_once() -> None:
    """The old answer comes again with each request; the newer one counts."""
    world = World(asks(), ANSWER)
    first = await world.ask(store=False)
    world.tool.functions = (replace(FORECAST, fingerprint="two"),)
    said = [{"role": "user", "content": "hi"}, *first["output"], says(request_of(first))]
    again = await world.ask(store=False, input=said)
    said += [*again["output"], says(request_of(again))]
    final = await world.ask(store=False, input=said)
    assert [item["type"] for item in final["output"]] == ["mcp_call", "message"]
    assert len(world.tool.calls) == 1


# -- what only the model is told -------------------------------------------------------------------


class _Shots(Remote):
    """Shows the model more than the item says."""

    def __init__(self, long: str = "") -> None:
        super().__init__(HostedFunction("shot", "", {"type": "object"}))
        self.long = long

    def begin(self, call: Call) -> Json:
        return {**super().begin(call), "arguments": call.arguments}

    async def run(self, call: Call, item: CallItem) -> Outcome:
        call.read()
        text = "PICTURE" + (self.long if "1" in call.arguments else "")
        fields = {"arguments": call.arguments, "output": "[image]"}
        return Outcome(fields, told=[{"type": "input_text", "text": text}])


async def test_a_call_under_another_name_keeps_what_was_told() -> None:
    mine: Json = {"type": "function", "name": "shot", "parameters": {"type": "object"}}
    bench = Bench(turn(("s__shot", "{}")), turn(("s__shot", "{}")), ANSWER, tools={"mcp": _Shots()})
    await play(bench, tools=[MCP, mine])
    seen = [item for item in bench.backend.prompts[-1].items if item["type"] == "mcp_call"]
    assert [(item["name"], turn_of(item)) for item in seen] == [("s__shot", 1), ("s__shot", 2)]
    assert all(told_of(item) for item in seen)


async def test_a_compaction_keeps_what_was_told_of_the_newest_call() -> None:
    bench = Bench(
        turn(("shot", '{"n": 1}')),
        turn(("shot", '{"n": 2}')),
        [[TextDelta("SUMMARY"), Finish()]],
        ANSWER,
        tools={"mcp": _Shots(" word" * 3000)},
        options=limited(),
    )
    bench.backend.tokens = lambda prompt: (
        5000 if sum(item["type"] == "mcp_call" for item in prompt.items) > 1 else 10
    )
    final, _ = await play(
        bench,
        tools=[MCP],
        context_management=[{"type": "compaction", "compact_threshold": 1000}],
    )
    assert "compaction" in kinds(final)
    (kept,) = (item for item in bench.backend.prompts[-1].items if item["type"] == "mcp_call")
    assert (kept["arguments"], turn_of(kept)) == ('{"n": 2}', 2)
    assert told_of(kept) == [{"type": "input_text", "text": "PICTURE"}]


async def test_a_call_that_is_lost_beside_one_of_the_client_is_in_the_log() -> None:
    """Nobody can be told: the response ends with the client's calls."""
    bench = Bench(turn(("weather", "{}"), ("apply_patch", '{"bad": 1}')))
    with capture_logs() as logs:
        final, _ = await play(bench, tools=[FUNCTION, {"type": "apply_patch"}])
    assert kinds(final) == ["function_call"]
    assert [log["function"] for log in logs if log["event"] == "call_dropped"] == ["apply_patch"]


async def test_a_call_of_what_is_not_there_is_told_to_the_model() -> None:
    """Hosted tools alone, and `allowed_tools` of a server: there is no client to run it."""
    bench = Bench(turn(("sl.ow", "{}")), ANSWER, tools={"code_interpreter": ScriptedTool()})
    final, _ = await play(bench)
    assert kinds(final) == ["message"]
    assert told(bench) == ["Not run: there is no function 'sl.ow'. There are: code_interpreter."]
    (call,) = (call for m in sent(bench) for call in m.get("tool_calls", ()))
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", call["function"]["name"])


async def test_without_hosted_tools_all_calls_are_the_clients() -> None:
    bench = Bench(turn(("other", "{}")))
    final, _ = await play(bench, tools=[FUNCTION])
    assert kinds(final) == ["function_call"]


async def test_a_hosted_tool_can_come_once() -> None:
    """By whichever of its names: the model could not tell the two apart."""
    tool = ScriptedTool()
    bench = Bench(ANSWER, tools={"code_interpreter": tool, "web_search": tool, "mcp": Remote()})
    await play(bench, tools=[PYTHON, MCP, {**MCP, "server_label": "t"}])
    with pytest.raises(InvalidRequestError) as caught:
        await play(bench, tools=[PYTHON, {"type": "web_search"}])
    assert caught.value.param == "tools[1]"
