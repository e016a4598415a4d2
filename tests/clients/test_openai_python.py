"""openai-python against a real server, a real upstream behind it (issue 1/8, must show 2)."""

import base64
from collections.abc import Iterator
from typing import Any

import openai
import orjson
import pytest
from openai import OpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from antiphon.testing import assert_valid_log
from tests.backends.upstream import DONE, ChatUpstream, Reply, chunk, sse
from tests.live import KEY, OTHER_KEY, LiveServer

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 16).decode()
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def client_of(server: LiveServer, key: str = KEY) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key=key, max_retries=0)


@pytest.fixture
def client(server: LiveServer) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


def tool_call(index: int, id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {
        "index": index,
        "id": id_,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


TWO_CALLS = Reply(
    body=[
        sse(chunk(tool_calls=[tool_call(0, "call_a", "weather", '{"city"')])),
        sse(chunk(tool_calls=[tool_call(1, "call_b", "weather", '{"city":"Rome"}')])),
        sse(chunk(tool_calls=[{"index": 0, "function": {"arguments": ':"Paris"}'}}])),
        sse(chunk(finish="tool_calls")),
        sse({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
        DONE,
    ]
)
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def test_create(client: OpenAI, upstream: ChatUpstream) -> None:
    response = client.responses.create(model="any-model", input="Hi", instructions="Be brief.")
    assert response.output_text == "Hello"
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.total_tokens == 8
    sent = upstream.requests[0].json
    assert sent["model"] == "any-model"
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}


def test_every_event_of_a_stream_is_valid(client: OpenAI, upstream: ChatUpstream) -> None:
    upstream.script(Reply.chat("Hel", "lo", " there"))
    events = list(client.responses.create(model="m", input="Hi", stream=True))
    for event in events:
        EVENT.validate_python(event.model_dump(exclude_unset=True))
    final = assert_valid_log([event.model_dump(exclude_unset=True) for event in events])
    assert final["output_text"] == "Hello there"


def test_stream_helper_and_final_response(client: OpenAI, upstream: ChatUpstream) -> None:
    upstream.script(Reply.chat("Hel", "lo"))
    with client.responses.stream(model="m", input="Hi") as stream:
        deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert deltas == ["Hel", "lo"]
    assert final.output_text == "Hello"
    assert client.responses.retrieve(final.id).output_text == "Hello"


class Person(BaseModel):
    name: str
    age: int


def test_parse_with_a_pydantic_model(client: OpenAI, upstream: ChatUpstream) -> None:
    upstream.script(Reply.chat('{"name":"Ada",', '"age":36}'))
    response = client.responses.parse(model="m", input="Who?", text_format=Person)
    assert response.output_parsed == Person(name="Ada", age=36)
    sent = upstream.requests[0].json["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["strict"] is True
    assert sent["json_schema"]["schema"]["required"] == ["name", "age"]


def test_an_answer_that_is_not_of_the_schema_is_a_failure(
    client: OpenAI, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.chat('{"name":"Ada"}'))
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.parse(model="m", input="Who?", text_format=Person)
    assert "schema" in caught.value.message
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("chained", [True, False], ids=["previous_response_id", "whole history"])
def test_a_function_calling_loop_with_two_parallel_calls(
    client: OpenAI, upstream: ChatUpstream, chained: bool
) -> None:
    upstream.script(TWO_CALLS, Reply.chat("Both are sunny."))
    first = client.responses.create(model="m", input="Paris and Rome?", tools=[WEATHER])
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.call_id, orjson.loads(call.arguments)) for call in calls] == [
        ("call_a", {"city": "Paris"}),
        ("call_b", {"city": "Rome"}),
    ]
    outputs: list[Any] = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        for call in calls
    ]
    if chained:
        second = client.responses.create(
            model="m", previous_response_id=first.id, input=outputs, tools=[WEATHER]
        )
    else:
        history: list[Any] = [item.model_dump(exclude_none=True) for item in first.output]
        question: Any = {"role": "user", "content": "Paris and Rome?"}
        second = client.responses.create(
            model="m", input=[question, *history, *outputs], tools=[WEATHER]
        )
    assert second.output_text == "Both are sunny."
    messages = upstream.requests[1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_a", "call_b"]
    assert [message["tool_call_id"] for message in messages[2:]] == ["call_a", "call_b"]


def test_streamed_calls_accumulate(client: OpenAI, upstream: ChatUpstream) -> None:
    upstream.script(TWO_CALLS)
    with client.responses.stream(model="m", input="?", tools=[WEATHER]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert [getattr(item, "arguments", None) for item in final.output] == [
        '{"city":"Paris"}',
        '{"city":"Rome"}',
    ]


def test_images_reach_the_upstream(client: OpenAI, upstream: ChatUpstream) -> None:
    data_url = f"data:image/png;base64,{PNG}"
    parts: Any = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": data_url, "detail": "low"},
        {"type": "input_image", "image_url": "https://example.com/cat.png"},
    ]
    message: Any = {"role": "user", "content": parts}
    client.responses.create(model="m", input=[message])
    content = upstream.requests[0].json["messages"][0]["content"]
    assert content[0] == {"type": "text", "text": "What is it?"}
    assert content[1]["image_url"] == {"url": data_url, "detail": "low"}
    assert content[2]["image_url"]["url"] == "https://example.com/cat.png"


def test_reasoning_becomes_an_item(client: OpenAI, upstream: ChatUpstream) -> None:
    body = [
        sse(chunk(reasoning_content="Let me ")),
        sse(chunk(reasoning_content="think.")),
        sse(chunk(content="42")),
        sse(chunk(finish="stop")),
        DONE,
    ]
    upstream.script(Reply(body=body))
    with client.responses.stream(model="m", input="?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.reasoning_text.delta" in kinds
    assert [item.type for item in final.output] == ["reasoning", "message"]


def test_input_items_list(client: OpenAI, upstream: ChatUpstream) -> None:
    first = client.responses.create(model="m", input="one")
    second = client.responses.create(model="m", input="two", previous_response_id=first.id)
    ascending = client.responses.input_items.list(second.id, order="asc").data
    assert [item.type for item in ascending] == ["message", "message", "message"]
    assert [item.role for item in ascending if item.type == "message"] == [
        "user",
        "assistant",
        "user",
    ]
    pages = list(client.responses.input_items.list(second.id, limit=1, order="desc"))
    assert [item.id for item in pages] == [item.id for item in reversed(ascending)]


def test_branching(client: OpenAI, upstream: ChatUpstream) -> None:
    root = client.responses.create(model="m", input="root")
    for branch in ("left", "right"):
        client.responses.create(model="m", input=branch, previous_response_id=root.id)
        texts = [message["content"] for message in upstream.requests[-1].json["messages"]]
        assert texts == ["root", "Hello", branch]


def test_instructions_are_not_carried_over(client: OpenAI, upstream: ChatUpstream) -> None:
    first = client.responses.create(model="m", input="one", instructions="Speak Latin.")
    client.responses.create(model="m", input="two", previous_response_id=first.id)
    assert "Speak Latin." not in upstream.requests[-1].body.decode()


def test_item_reference(client: OpenAI, upstream: ChatUpstream) -> None:
    first = client.responses.create(model="m", input="one")
    reference: Any = {"type": "item_reference", "id": first.output[0].id}
    question: Any = {"role": "user", "content": "again?"}
    client.responses.create(model="m", input=[reference, question])
    messages = upstream.requests[-1].json["messages"]
    assert messages[0] == {"role": "assistant", "content": "Hello"}


def test_retrieve_and_delete(client: OpenAI, upstream: ChatUpstream) -> None:
    made = client.responses.create(model="m", input="x", metadata={"k": "v"})
    got = client.responses.retrieve(made.id)
    assert got.model_dump() == made.model_dump()
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input="y", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found"


def test_store_false_is_not_kept(client: OpenAI, upstream: ChatUpstream) -> None:
    made = client.responses.create(model="m", input="x", store=False)
    assert made.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_another_project_sees_nothing(
    server: LiveServer, client: OpenAI, upstream: ChatUpstream
) -> None:
    """R-29, R-30: another's id answers like an unknown one."""
    made = client.responses.create(model="m", input="x")
    unknown = "resp_" + "0" * 48
    with client_of(server, OTHER_KEY) as other:
        for id_ in (made.id, unknown):
            errors = []
            with pytest.raises(openai.NotFoundError) as caught:
                other.responses.retrieve(id_)
            errors.append(caught.value)
            with pytest.raises(openai.NotFoundError) as caught:
                other.responses.delete(id_)
            errors.append(caught.value)
            with pytest.raises(openai.NotFoundError) as caught:
                other.responses.input_items.list(id_)
            errors.append(caught.value)
            assert {error.body["message"] for error in errors} == {  # type: ignore[index]
                f"Response with id '{id_}' not found."
            }
            with pytest.raises(openai.BadRequestError) as bad:
                other.responses.create(model="m", input="y", previous_response_id=id_)
            assert bad.value.code == "previous_response_not_found"
        reference: Any = {"type": "item_reference", "id": made.output[0].id}
        with pytest.raises(openai.NotFoundError):
            other.responses.create(model="m", input=[reference])
    assert client.responses.retrieve(made.id).id == made.id


def test_error_classes(server: LiveServer, client: OpenAI, upstream: ChatUpstream) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.responses.create(model="m", input="x", temperature=3)
    assert (bad.value.param, bad.value.code) == ("temperature", "decimal_above_max_value")
    assert bad.value.request_id is not None
    with client_of(server, "sk-wrong") as stranger, pytest.raises(openai.AuthenticationError) as no:
        stranger.responses.create(model="m", input="x")
    assert no.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_" + "0" * 48)
    assert upstream.requests == []
    upstream.script(Reply.json({"error": {}}, 429, retry_after="7"))
    with pytest.raises(openai.RateLimitError) as limited:
        client.responses.create(model="m", input="x")
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="m", input="x", stream=True)


def test_a_stream_cut_by_the_upstream_fails_and_keeps_what_was_said(
    client: OpenAI, upstream: ChatUpstream
) -> None:
    upstream.script(Reply(body=[sse(chunk(content="half")), 0.1, "cut"]))
    stream = iter(client.responses.create(model="m", input="x", stream=True))
    created: Any = next(stream)
    with pytest.raises(openai.APIError):
        list(stream)
    stored = client.responses.retrieve(created.response.id)
    assert stored.status == "failed"
    assert stored.output_text == "half"


def test_models(client: OpenAI, upstream: ChatUpstream) -> None:
    ids = {model.id for model in client.models.list()}
    assert ids == {"m", "simulator"}
    assert client.models.retrieve("simulator").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")
