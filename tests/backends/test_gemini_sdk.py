"""Google's own SDK as the oracle: what the backend asks is of its types, and what the wire of the
tests answers is read by it to the same.

Rules
1. The types refuse unknown keys (`test_the_types_are_strict`) and unknown words of enumerations.
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson
import pytest
from google import genai
from google.genai import types

from antiphon.backends.base import Prompt
from antiphon.backends.gemini.messages import Target
from antiphon.backends.gemini.request import gemini_body
from antiphon.backends.gemini.stream import GeminiStream
from antiphon.backends.gemini.traits import traits_of
from antiphon.backends.origins import Origin
from antiphon.protocol.deltas import (
    Finish,
    ReasoningDelta,
    ReasoningState,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.items.reasoning import restored
from antiphon.protocol.request import parse_request
from tests.backends.upstream import ChatUpstream
from tests.conformance.gemini import GeminiWire
from tests.conformance.wire import Message, Turn

Json = dict[str, Any]
WIRE: Final = GeminiWire()
HERE: Final = Origin("x")
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}}
F: Final = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
T: Final = {"type": "custom", "name": "t"}
FORMAT: Final = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
PNG: Final = "data:image/png;base64,AAAA"
STATE: Final = HERE.state(
    {
        "turn": "r1",
        "signed": [
            {"part": "thought", "signature": "c2ln"},
            {"part": "call", "index": 0, "signature": "c2ln"},
        ],
    }
)
HISTORY: Final[list[Json]] = [
    {"role": "developer", "content": "Be kind."},
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What?"},
            {"type": "input_image", "image_url": PNG},
        ],
    },
    {"type": "function_call", "call_id": "c0", "name": "f", "arguments": '{"a":1}'},
    {
        "type": "function_call_output",
        "call_id": "c0",
        "output": [{"type": "input_image", "image_url": PNG}],
    },
]
PARAMETERS: Final[Json] = {
    "input": HISTORY,
    "instructions": "Be brief.",
    "tools": [F, T],
    "text": FORMAT,
    "reasoning": {"effort": "low"},
    "temperature": 0.5,
    "top_p": 0.5,
    "max_output_tokens": 50,
    "top_logprobs": 3,
}


def body(model: str, **parameters: object) -> Json:
    asked = parse_request(orjson.dumps({"model": "alias", **parameters}))
    items = list(asked.input)
    thought = {"type": "reasoning", "summary": []}
    items.insert(2, restored(thought, {"content": "hm", "state": STATE}))
    return gemini_body(Prompt(asked, model, items), Target(model, traits_of(model), HERE))


def of(kind: Any, value: object) -> None:
    """Validate as the SDK does what comes over the wire: bytes are base64."""
    kind.model_validate_json(orjson.dumps(value))


def test_the_types_are_strict() -> None:
    for kind in (types.Content, types.GenerationConfig, types.Tool, types.ToolConfig):
        with pytest.raises(ValueError, match="surprise"):
            of(kind, {"surprise": 1})


@pytest.mark.parametrize("model", ["gemini-flash-latest", "gemini-2.5-pro", "gemini-2.0-flash"])
@pytest.mark.parametrize(
    "choice", [None, "auto", "none", "required", {"type": "custom", "name": "t"}]
)
def test_requests(model: str, choice: object) -> None:
    sent = body(model, **{**PARAMETERS, "tool_choice": choice})
    for content in sent.pop("contents"):
        of(types.Content, content)
    of(types.Content, sent.pop("systemInstruction"))
    of(types.GenerationConfig, sent.pop("generationConfig"))
    for tool in sent.pop("tools", ()):
        of(types.Tool, tool)
    if config := sent.pop("toolConfig", None):
        of(types.ToolConfig, config)
    assert sent == {}


TURNS: Final = [
    Turn(["Hel", "lo"], usage=(7, 2, 5, 3)),
    Turn(["Hello"], ["hm", " so"], "c2ln"),
    Turn(["Hello"], signature="c2ln"),
    Turn(thoughts=["hm"], signature="c2ln", calls=[("f", {"a": 1}), ("g", {})]),
    Turn(["Hel"], finish="length"),
    Turn(["Hel"], finish="filter"),
]
_FINISH: Final = {
    types.FinishReason.STOP: "stop",
    types.FinishReason.MAX_TOKENS: "length",
    types.FinishReason.SAFETY: "content_filter",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ChatUpstream]:
    with ChatUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def sdk(upstream: ChatUpstream) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{upstream.port}")
    with genai.Client(api_key="k", vertexai=False, http_options=options) as client:
        yield client


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_answers(sdk: genai.Client, upstream: ChatUpstream, turn: Turn) -> None:
    """The SDK and our reader hear the same."""
    upstream.script(WIRE.reply(turn))
    chunks = list(sdk.models.generate_content_stream(model="m", contents="Hi"))
    heard = [
        part
        for chunk in chunks
        for candidate in chunk.candidates or ()
        for part in (candidate.content and candidate.content.parts) or ()
    ]
    reader = GeminiStream(HERE, all_turns=True)
    said = [
        delta
        for step in WIRE.reply(turn).body
        if isinstance(step, bytes)
        for delta in reader.feed(step)
    ] + reader.close()
    texts = [part.text for part in heard if part.text and not part.thought]
    assert texts == [delta.text for delta in said if isinstance(delta, TextDelta)] == [*turn.text]
    thoughts = [part.text for part in heard if part.thought]
    assert thoughts == [delta.text for delta in said if isinstance(delta, ReasoningDelta)]
    calls = [part.function_call for part in heard if part.function_call]
    assert [(call.id, call.name, call.args) for call in calls] == [
        (delta.call_id, delta.name, orjson.loads(delta.arguments))
        for delta in said
        if isinstance(delta, ToolCallDelta)
    ]
    signed = [part.thought_signature for part in heard if part.thought_signature]
    assert signed == ([b"sig"] if turn.signature else [])
    assert len([delta for delta in said if isinstance(delta, ReasoningState)]) == len(signed)
    assert chunks[-1].candidates is not None
    reason = chunks[-1].candidates[0].finish_reason
    assert reason is not None
    assert said[-1] == Finish(_FINISH[reason])  # type: ignore[arg-type]
    usage = chunks[-1].usage_metadata
    assert usage is not None
    (report,) = (delta.usage for delta in said if isinstance(delta, UsageReport))
    assert usage.total_token_count == report.total()
    assert (usage.thoughts_token_count or 0) == report.reasoning_tokens
    assert (usage.cached_content_token_count or 0) == report.cached_tokens


def test_errors(sdk: genai.Client, upstream: ChatUpstream) -> None:
    """What the wire of the tests says of failures is an error to the SDK."""
    for fault, code in (("forbidden", 403), ("too_long", 400), ("no_model", 404), ("error", 500)):
        upstream.script(WIRE.fault(fault))  # type: ignore[arg-type]
        with pytest.raises(genai.errors.APIError) as caught:
            list(sdk.models.generate_content_stream(model="m", contents="Hi"))
        assert caught.value.code == code


def test_what_the_sdk_asks_is_read_as_well(sdk: genai.Client, upstream: ChatUpstream) -> None:
    """The other way round: the wire of the tests reads the SDK's requests."""
    upstream.script(WIRE.reply(Turn(["Hello"])))
    function = types.FunctionDeclaration(name="f", parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(
        system_instruction="Be kind.",
        temperature=0.5,
        max_output_tokens=50,
        response_mime_type="application/json",
        response_json_schema=SCHEMA,
        tools=[types.Tool(function_declarations=[function])],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["f"]
            )
        ),
    )
    list(sdk.models.generate_content_stream(model="m", contents="Hi", config=config))
    asked = WIRE.asked(upstream.requests[-1])
    assert (asked.model, asked.key, asked.system) == ("m", "k", "Be kind.")
    assert (asked.temperature, asked.most_tokens) == (0.5, 50)
    assert (asked.schema, asked.tools, asked.choice) == (SCHEMA, {"f": SCHEMA}, "f")
    assert asked.messages == [Message("user", "Hi")]


def test_models_and_counts(sdk: genai.Client, upstream: ChatUpstream) -> None:
    upstream.models = WIRE.models("a", "b")
    listed = list(sdk.models.list())
    assert [(model.name, model.input_token_limit) for model in listed] == [
        ("models/a", 1_048_576),
        ("models/b", 1_048_576),
    ]
