"""openai-python against a live server with a Messages API behind it: what Claude has thought comes
back to it, and only where it may."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from openai import OpenAI

from tests.backends.upstream import ChatUpstream
from tests.conformance.anthropic import AnthropicWire
from tests.conformance.wire import Asked, Turn
from tests.live import KEY, LiveServer, serve

WIRE: Final = AnthropicWire()
TOML: Final = """
[[backends]]
name = "claude"
kind = "anthropic"
base_url = "{here}"
models = ["claude-*"]

[[backends]]
name = "cousin"
kind = "anthropic"
base_url = "{there}"
models = [{{cousin = "claude-opus-5-5"}}]

[image_generation]
kind = "simulator"
"""
MODEL: Final = "claude-opus-5-5"
FUNCTION: Final[Any] = {
    "type": "function",
    "name": "f",
    "parameters": {
        "type": "object",
        "properties": {"x": {"type": "integer"}},
        "required": ["x"],
        "additionalProperties": False,
    },
    "strict": True,
}
CALLS: Final = Turn(
    thoughts=["hm"], signature="c2ln", text=["Let me see."], calls=[("f", {"x": 1})]
)
DONE: Final = Turn(text=["Done."])


@pytest.fixture(scope="module")
def _claude() -> Iterator[ChatUpstream]:
    with ChatUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, _claude: ChatUpstream) -> Iterator[LiveServer]:
    here = _claude.base_url
    toml = TOML.format(here=here, there=here.replace("127.0.0.1", "localhost"))
    with serve(tmp_path_factory.mktemp("claude"), toml) as server:
        yield server


@pytest.fixture
def claude(_claude: ChatUpstream) -> ChatUpstream:
    """The upstream, with nothing asked yet."""
    _claude.requests.clear()
    _claude.models = WIRE.models(MODEL)
    return _claude


@pytest.fixture
def sdk(live: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=live.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def asked(claude: ChatUpstream) -> list[Asked]:
    return [WIRE.asked(request) for request in claude.requests]


def output(response: Any) -> Any:
    (call,) = [item for item in response.output if item.type == "function_call"]
    return {"type": "function_call_output", "call_id": call.call_id, "output": "2"}


def signatures(asked: Asked) -> list[str | None]:
    return [message.signature for message in asked.messages if message.role == "assistant"]


def test_thinking_goes_back_while_the_turn_goes_on(sdk: OpenAI, claude: ChatUpstream) -> None:
    claude.script(WIRE.reply(CALLS), WIRE.reply(DONE))
    first = sdk.responses.create(model=MODEL, input="Hi", instructions="Be kind.", tools=[FUNCTION])
    assert [item.type for item in first.output] == ["reasoning", "message", "function_call"]
    second = sdk.responses.create(
        model=MODEL,
        input=[output(first)],
        instructions="Be kind.",
        tools=[FUNCTION],
        previous_response_id=first.id,
    )
    assert second.output_text == "Done."
    _, again = asked(claude)
    assert signatures(again) == ["c2ln"]
    blocks = claude.requests[1].json["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use"]
    assert blocks[0] == {"type": "thinking", "thinking": "hm", "signature": "c2ln"}


def test_it_goes_back_when_the_client_carries_it(sdk: OpenAI, claude: ChatUpstream) -> None:
    claude.script(WIRE.reply(CALLS), WIRE.reply(DONE))
    asking: Any = {"model": MODEL, "tools": [FUNCTION], "store": False, "stream": True}
    said: list[Any] = [{"role": "user", "content": "Hi"}]
    *_, end = sdk.responses.create(input=said, **asking)
    carried = [item.model_dump(exclude_none=True) for item in end.response.output]
    assert "c2ln" not in str(carried), "it is sealed"
    list(sdk.responses.create(input=[*said, *carried, output(end.response)], **asking))
    assert signatures(asked(claude)[1]) == ["c2ln"]


@pytest.mark.parametrize(
    "changes",
    [{"model": "cousin"}, {"model": "claude-opus-5"}, {"instructions": "Be short."}],
    ids=["another deployment", "another model", "other instructions"],
)
def test_it_does_not_where_it_would_be_refused(
    sdk: OpenAI, claude: ChatUpstream, changes: dict[str, str]
) -> None:
    claude.script(WIRE.reply(CALLS), WIRE.reply(DONE))
    first = sdk.responses.create(model=MODEL, input="Hi", tools=[FUNCTION])
    asking: Any = {"model": MODEL, "previous_response_id": first.id, "tools": [FUNCTION], **changes}
    assert sdk.responses.create(input=[output(first)], **asking).output_text == "Done."
    assert signatures(asked(claude)[1]) == [None]


def test_hosted_tools_and_what_was_thought_between_them(sdk: OpenAI, claude: ChatUpstream) -> None:
    """The calls of this server are calls and results; Claude sees the image, in the same run and
    in the next response."""
    draws = Turn(
        thoughts=["hm"], signature="c2ln", calls=[("image_generation", {"prompt": "Otter"})]
    )
    claude.script(WIRE.reply(draws), WIRE.reply(draws), WIRE.reply(DONE))
    tool: Any = {"type": "image_generation"}
    first = sdk.responses.create(model=MODEL, input="Draw.", tools=[tool])
    assert first.output_text == "Done."
    assert first.usage is not None
    assert first.usage.input_tokens == 21
    sdk.responses.create(model=MODEL, input="And?", tools=[tool], previous_response_id=first.id)
    *_, third, later = asked(claude)
    assert signatures(third) == ["c2ln", "c2ln"]
    results = [message for message in third.messages if message.role == "tool"]
    assert all(message.images[0].startswith("data:image/png") for message in results)
    assert [message.role for message in later.messages].count("tool") == 2
    assert set(signatures(later)) == {None}, "of a turn that is over it is not shown"


def test_a_refusal_is_one(sdk: OpenAI, claude: ChatUpstream) -> None:
    claude.script(WIRE.reply(Turn(finish="refusal")))
    response = sdk.responses.create(model=MODEL, input="Hi")
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "content_filter"
    (message,) = response.output
    assert message.type == "message"
    assert message.content[0].type == "refusal"


def test_a_strict_answer(sdk: OpenAI, claude: ChatUpstream) -> None:
    claude.script(WIRE.reply(Turn(text=['{"x":', "1}"])))
    schema = FUNCTION["parameters"]
    form: Any = {"type": "json_schema", "name": "a", "schema": schema, "strict": True}
    raw = sdk.responses.with_raw_response.create(
        model=MODEL, input="Hi", text={"format": form}, temperature=0.5
    )
    assert raw.parse().output_text == '{"x":1}'
    assert raw.headers["x-antiphon-ignored"] == "temperature"
    assert asked(claude)[0].schema == schema


def test_models(sdk: OpenAI, claude: ChatUpstream) -> None:
    found = {model.id: model for model in sdk.models.list()}
    assert found[MODEL].created == 1770249600
    assert found["cousin"].model_extra == {"context_window": 1_000_000}


def test_tokens_are_counted_by_the_upstream(sdk: OpenAI, claude: ChatUpstream) -> None:
    claude.paths["/v1/messages/count_tokens"] = type(claude.models).json({"input_tokens": 77})
    counted = sdk.responses.input_tokens.with_raw_response.count(model=MODEL, input="Hi")
    assert counted.headers["x-antiphon-token-count"] == "backend"
    assert counted.parse().input_tokens == 77
