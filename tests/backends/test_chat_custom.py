"""Custom tools on servers that know them: native, with their grammars (spec §1.2)."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletionCustomToolParam, ChatCompletionToolChoiceOptionParam
from pydantic import TypeAdapter

from antiphon.backends.base import Prompt
from antiphon.backends.chat_completions.messages import chat_messages
from antiphon.backends.chat_completions.request import chat_body
from antiphon.backends.chat_completions.stream import ChatStream
from antiphon.backends.profiles import GENERIC, PROFILES
from antiphon.protocol.deltas import Delta, ToolCallDelta
from antiphon.protocol.request import CreateResponse
from tests.backends.upstream import DONE, chunk, sse

Json = dict[str, Any]
OPENAI = PROFILES["openai"]
CHOICE: TypeAdapter[Any] = TypeAdapter(ChatCompletionToolChoiceOptionParam)
GRAMMAR: Json = {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'}
TOOL: Json = {"type": "custom", "name": "c", "description": "D", "format": GRAMMAR}


def test_a_custom_tool_is_sent_as_it_is() -> None:
    request = CreateResponse.model_validate(
        {"model": "m", "input": "x", "tools": [TOOL, {"type": "custom", "name": "d"}]}
    )
    body = chat_body(Prompt(request, "m", request.input), OPENAI)
    grammar = {"syntax": "lark", "definition": 'start: "a"'}
    native = {"type": "grammar", "grammar": grammar}
    assert body["tools"] == [
        {"type": "custom", "custom": {"name": "c", "description": "D", "format": native}},
        {"type": "custom", "custom": {"name": "d"}},
    ]
    plain = chat_body(Prompt(request, "m", request.input), GENERIC)
    assert [tool["type"] for tool in plain["tools"]] == ["function", "function"]


def test_the_history_has_the_calls_as_they_were() -> None:
    items = [
        {"type": "custom_tool_call", "call_id": "1", "name": "c", "input": 'say "a"'},
        {"type": "custom_tool_call_output", "call_id": "1", "output": "ok"},
    ]
    call, output = chat_messages(None, items, OPENAI)
    assert call["tool_calls"] == [
        {"id": "1", "type": "custom", "custom": {"name": "c", "input": 'say "a"'}}
    ]
    assert output == {"role": "tool", "tool_call_id": "1", "content": "ok"}


def played(*fragments: Json) -> list[Delta]:
    stream = ChatStream(OPENAI, frozenset({"c"}))
    out: list[Delta] = []
    for fragment in fragments:
        out += stream.feed(sse(chunk(tool_calls=[fragment])))
    out += stream.feed(sse(chunk(finish="tool_calls")))
    out += stream.feed(DONE)
    return out


def test_the_text_streams_as_it_is() -> None:
    """What looks like our own wrapping is text."""
    head = {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "c", "input": ""}}
    deltas = played(
        head,
        {"index": 0, "custom": {"input": '{"input": '}},
        {"index": 0, "custom": {"input": '"a"}'}},
    )
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert "".join(call.arguments for call in calls) == '{"input": "a"}'
    assert {call.kind for call in calls} == {"custom"}
    assert len(calls) == 2


def test_an_empty_text_stays_empty() -> None:
    calls = [
        delta
        for delta in played({"index": 0, "id": "call_1", "custom": {"name": "c", "input": ""}})
        if isinstance(delta, ToolCallDelta)
    ]
    assert "".join(call.arguments for call in calls) == ""


def calls_of(*fragments: Json) -> list[ToolCallDelta]:
    return [delta for delta in played(*fragments) if isinstance(delta, ToolCallDelta)]


def test_a_null_says_nothing_about_the_kind_of_a_call() -> None:
    """Some servers write all keys; then it is our function, whose text is wrapped."""
    function = {"name": "c", "arguments": '{"input": "a"}'}
    calls = calls_of({"index": 0, "id": "call_1", "function": function, "custom": None})
    assert [(call.arguments, call.kind) for call in calls] == [("a", "custom")]


def test_a_call_of_a_custom_tool_that_nobody_knows_is_none_of_a_function() -> None:
    calls = calls_of({"index": 0, "id": "call_1", "custom": {"name": "x", "input": "a"}})
    assert [(call.name, call.arguments, call.kind) for call in calls] == [("x", "a", "custom")]


#: tool_choice of the request, what is sent
CHOICES: list[tuple[Json, Json]] = [
    ({"type": "custom", "name": "c"}, {"type": "custom", "custom": {"name": "c"}}),
    ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    (
        {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "custom", "name": "c"}, {"type": "function", "name": "f"}],
        },
        {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "auto",
                "tools": [
                    {"type": "custom", "custom": {"name": "c"}},
                    {"type": "function", "function": {"name": "f"}},
                ],
            },
        },
    ),
]


@pytest.mark.parametrize(("choice", "sent"), CHOICES)
def test_a_choice_names_the_tool_as_what_it_is(choice: Json, sent: Json) -> None:
    tools = [TOOL, {"type": "function", "name": "f"}]
    request = CreateResponse.model_validate(
        {"model": "m", "input": "x", "tools": tools, "tool_choice": choice}
    )
    body = chat_body(Prompt(request, "m", request.input), OPENAI)
    assert body["tool_choice"] == sent
    CHOICE.validate_python(sent)
    TypeAdapter(ChatCompletionCustomToolParam).validate_python(body["tools"][0])
