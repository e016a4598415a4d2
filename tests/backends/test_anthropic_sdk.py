"""Anthropic's own SDK as the oracle: it takes what is sent, and reads what our upstream says."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import anthropic
import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from pydantic import TypeAdapter

from antiphon.backends.anthropic.backend import Anthropic
from antiphon.backends.anthropic.messages import View, conversation
from antiphon.backends.upstream import UpstreamConfig
from tests.backends.asking import ask, prompt
from tests.backends.test_anthropic_messages import CASES, Case
from tests.backends.test_anthropic_request import FORCED, TOOLS, body, effort
from tests.backends.upstream import ChatUpstream, Reply
from tests.conformance.anthropic import AnthropicWire, block, start, stop
from tests.conformance.wire import Json, Turn

WIRE = AnthropicWire()
PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)
#: Known to the API of 2023-06-01, which this server speaks, but not to this SDK any more.
_OLDER = ("temperature", "top_p")


def plain(value: Any) -> Any:
    """The value with what was to be validated later validated now."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value]


def assert_valid(made: Json) -> None:
    """The SDK knows each key, and drops none."""
    known = {key: value for key, value in made.items() if key not in _OLDER}
    assert plain(PARAMS.validate_python(known)) == known


CLOSED = {"type": "object", "properties": {}, "additionalProperties": False}
FORM = {"type": "json_schema", "name": "a", "schema": CLOSED, "strict": True}

BODIES: Sequence[Json] = [
    {"instructions": "Be kind.", "max_output_tokens": 100, "temperature": 0.5, "top_p": 0.5},
    {"safety_identifier": "u", "prompt_cache_key": "k"},
    {"text": {"format": FORM}},
    effort("low"),
    effort("none"),
    effort("max", **FORCED),
    *(parameters for _, _, parameters, _ in TOOLS),
]


@pytest.mark.parametrize("parameters", BODIES, ids=str)
@pytest.mark.parametrize(
    "model",
    ["claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-5", "claude-sonnet-5-5", "kimi"],
)
def test_the_sdk_knows_what_is_sent(model: str, parameters: Json) -> None:
    assert_valid(body(model, **parameters))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_sdk_knows_the_messages(case: Case) -> None:
    talk = conversation(case.instructions, case.items, View(True, None, None))
    assert_valid({"model": "m", "max_tokens": 9, "messages": talk.messages, "stream": True})


def test_the_oracle_sees_what_it_does_not_know() -> None:
    with pytest.raises(AssertionError):
        assert_valid({**body(), "surprise": 1})


async def test_the_sdk_knows_what_is_counted(upstream: ChatUpstream) -> None:
    upstream.paths["/v1/messages/count_tokens"] = Reply.json({"input_tokens": 1})
    backend = Anthropic(UpstreamConfig("a", upstream.base_url, profile="claude-opus-5"))
    await backend.count(prompt(tools=[{"type": "function", "name": "f"}]))
    await backend.aclose()
    (request,) = upstream.requests
    params: TypeAdapter[Any] = TypeAdapter(MessageCountTokensParams)
    assert plain(params.validate_python(request.json)) == request.json


# -- what our upstream says ----------------------------------------------------------------------


@pytest.fixture
def client(upstream: ChatUpstream) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key="k", base_url=f"http://127.0.0.1:{upstream.port}", max_retries=0
    ) as made:
        yield made


def message(client: anthropic.Anthropic) -> Any:
    """What the SDK makes of the upstream's stream."""
    hi: Any = {"role": "user", "content": "Hi"}
    with client.messages.stream(model="m", max_tokens=9, messages=[hi]) as stream:
        return stream.get_final_message()


def test_the_sdk_reads_the_wire(client: anthropic.Anthropic, upstream: ChatUpstream) -> None:
    turn = Turn(
        text=["Hel", "lo"],
        thoughts=["h", "m"],
        signature="c2ln",
        calls=[("f", {"x": [1]}), ("g", {})],
        usage=(9, 4, 6, 2),
    )
    upstream.script(WIRE.reply(turn))
    thought, said, one, two = message(client).content
    assert (thought.thinking, thought.signature) == ("hm", "c2ln")
    assert said.text == "Hello"
    assert [(call.name, call.input) for call in (one, two)] == list(turn.calls)


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (Turn(text=["a"]), "end_turn"),
        (Turn(text=["a"], finish="length"), "max_tokens"),
        (Turn(finish="refusal"), "refusal"),
        (Turn(calls=[("f", {})]), "tool_use"),
    ],
)
def test_the_sdk_reads_how_it_ends(
    client: anthropic.Anthropic, upstream: ChatUpstream, turn: Turn, reason: str
) -> None:
    upstream.script(WIRE.reply(turn))
    read = message(client)
    assert read.stop_reason == reason
    usage = read.usage
    counted = usage.input_tokens + usage.cache_read_input_tokens
    assert (counted, usage.output_tokens) == (7, 5)


def test_the_sdk_reads_redacted_thinking(
    client: anthropic.Anthropic, upstream: ChatUpstream
) -> None:
    secret = block(0, {"type": "redacted_thinking", "data": "eA=="})
    upstream.script(Reply(body=[start(), *secret, *stop("end_turn")]))
    (thought,) = message(client).content
    assert thought.data == "eA=="


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("rate", anthropic.RateLimitError),
        ("broken", anthropic.InternalServerError),
        ("key", anthropic.AuthenticationError),
        ("too_long", anthropic.BadRequestError),
        ("no_model", anthropic.NotFoundError),
        ("error", anthropic.APIStatusError),
    ],
)
def test_the_sdk_reads_the_faults(
    client: anthropic.Anthropic, upstream: ChatUpstream, fault: Any, expected: type[Exception]
) -> None:
    upstream.script(WIRE.fault(fault))
    with pytest.raises(expected):
        message(client)


def test_the_sdk_reads_the_models(client: anthropic.Anthropic, upstream: ChatUpstream) -> None:
    upstream.models = WIRE.models("a", "b")
    assert [model.id for model in client.models.list()] == ["a", "b"]


async def test_both_read_the_same(client: anthropic.Anthropic, upstream: ChatUpstream) -> None:
    """A stream with everything in it: the same text, calls and tokens."""
    turn = Turn(text=["é", "😀"], thoughts=["hm"], calls=[("f", {"a": "b"})], usage=(11, 2, 8, 3))
    upstream.script(WIRE.reply(turn))
    backend = Anthropic(UpstreamConfig("a", upstream.base_url))
    ours = [delta for deltas in await ask(backend) for delta in deltas]
    await backend.aclose()
    theirs = message(client)
    assert "".join(d.text for d in ours if hasattr(d, "text")) == "hm" + theirs.content[1].text
    assert theirs.content[1].text == "é😀"
    (usage,) = [d.usage for d in ours if hasattr(d, "usage")]
    assert usage.input_tokens == theirs.usage.input_tokens + theirs.usage.cache_read_input_tokens
    assert usage.output_tokens == theirs.usage.output_tokens
    assert usage.reasoning_tokens == theirs.usage.output_tokens_details.thinking_tokens
