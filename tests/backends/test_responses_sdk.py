"""openai-python as the oracle: what is sent is what it would send, and it reads what the tests'
upstream says as the backend does."""

from typing import Any, get_type_hints

import pytest
from openai import AsyncOpenAI
from openai.types.responses import (
    EasyInputMessageParam,
    ResponseStreamEvent,
    ToolParam,
)
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from openai.types.responses.response_input_param import ResponseInputItemParam
from pydantic import TypeAdapter

from antiphon.backends.base import Prompt
from antiphon.backends.origins import Origin
from antiphon.backends.responses.dialects import DIALECTS
from antiphon.backends.responses.messages import input_items
from antiphon.backends.responses.request import counted_body, responses_body
from antiphon.backends.responses.stream import ResponsesStream
from antiphon.protocol.deltas import (
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from tests.backends.asking import KEY
from tests.backends.test_responses_messages import HERE, HISTORIES
from tests.backends.test_responses_request import ALLOW_G, F, G, T, request, schema_format
from tests.backends.upstream import ChatUpstream
from tests.conformance.responses import ResponsesWire, events
from tests.conformance.wire import Turn

OPENAI = DIALECTS["openai"]
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseInputItemParam)
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL: TypeAdapter[Any] = TypeAdapter(ToolParam)

TURNS = {
    "text": Turn(["Hel", "lo"], usage=(10, 4, 6, 2)),
    "thoughts and calls": Turn(["Hi"], ["h", "m"], "c2ln", [("f", {"a": 1}), ("g", {})]),
    "a refusal": Turn(["No", "."], finish="refusal"),
    "cut off": Turn(["Hel"], finish="length"),
    "filtered": Turn(["Hel"], finish="filter"),
    "nothing": Turn(),
}


def known(items: list[Any]) -> None:
    """Each item is one of the SDK's, with its keys."""
    for item in items:
        read = ITEM.validate_python(item)
        if item["type"] == "message":
            TypeAdapter(EasyInputMessageParam).validate_python(item)
        assert read.keys() == item.keys()


@pytest.mark.parametrize("name", HISTORIES)
def test_input_is_the_sdks(name: str) -> None:
    items, _, _ = HISTORIES[name]
    known(input_items(items, OPENAI, HERE))


def test_parameters_are_the_sdks() -> None:
    asked = request(
        {
            "instructions": "Be kind.",
            "tools": [F, G, T],
            "tool_choice": ALLOW_G,
            "parallel_tool_calls": False,
            "top_logprobs": 2,
            "temperature": 1,
            "top_p": 1,
            "max_output_tokens": 100,
            "reasoning": {"effort": "high", "summary": "auto", "mode": "pro"},
            "service_tier": "flex",
            "prompt_cache_key": "k",
            "prompt_cache_retention": "24h",
            "safety_identifier": "s",
            "user": "u",
            **schema_format(strict=False),
        }
    )
    prompt = Prompt(asked, "o3", list(asked.input))
    for made, params in (
        (responses_body(prompt, OPENAI, Origin("here")), ResponseCreateParamsStreaming),
        (counted_body(prompt, OPENAI, Origin("here")), InputTokenCountParams),
    ):
        assert made.keys() <= get_type_hints(params).keys()
        TypeAdapter(params).validate_python(made)
        for tool in made["tools"]:
            assert TOOL.validate_python(tool).keys() == tool.keys()


@pytest.mark.parametrize("turn", TURNS.values(), ids=list(TURNS))
async def test_the_sdk_reads_what_we_read(turn: Turn, upstream: ChatUpstream) -> None:
    wire = ResponsesWire()
    upstream.script(wire.reply(turn))
    body = b"".join(step for step in wire.reply(turn).body if isinstance(step, bytes))
    said = ResponsesStream(HERE).feed(body)
    texts: dict[str, str] = {}
    async with AsyncOpenAI(base_url=upstream.base_url, api_key=KEY, max_retries=0) as client:
        async for event in await client.responses.create(model="m", input="Hi", stream=True):
            if event.type in ("response.completed", "response.incomplete"):
                last = event.response
            elif event.type.endswith(".delta"):
                texts[event.type] = texts.get(event.type, "") + str(event.to_dict()["delta"])
    ours = {
        "response.output_text.delta": [d.text for d in said if isinstance(d, TextDelta)],
        "response.refusal.delta": [d.text for d in said if isinstance(d, RefusalDelta)],
        "response.reasoning_text.delta": [d.text for d in said if isinstance(d, ReasoningDelta)],
        "response.function_call_arguments.delta": [
            d.arguments for d in said if isinstance(d, ToolCallDelta)
        ],
    }
    assert {name: "".join(text) for name, text in ours.items() if text} == texts
    calls = [(d.call_id, d.name) for d in said if isinstance(d, ToolCallDelta) and d.name]
    assert calls == [(i.call_id, i.name) for i in last.output if i.type == "function_call"]
    (usage,) = [d.usage for d in said if isinstance(d, UsageReport)]
    assert last.usage is not None
    assert usage.body() == last.usage.model_dump(exclude_none=True)


@pytest.mark.parametrize("turn", TURNS.values(), ids=list(TURNS))
def test_the_wire_is_the_sdks(turn: Turn) -> None:
    for event in events(turn):
        EVENT.validate_python(event)
