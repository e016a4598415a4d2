"""Every flow of the issue with whatever `openai` is importable; prints a summary as JSON.

    OPENAI_BASE_URL=… OPENAI_API_KEY=… python openai_flows.py [FLOW …]

Rules
1. No pytest and nothing of this repository: it runs under SDK versions that the tests do not have.
2. The upstream answers from `replies.FLOWS`, in the order of `FLOWS` here.
3. A flow asserts what it got and returns what it wants shown.
"""

import base64
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import openai
from openai import OpenAI
from pydantic import BaseModel

PNG: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 16).decode()
UNKNOWN: Final = "resp_" + "0" * 48
E = TypeVar("E", bound=Exception)
WEATHER: Final[Any] = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
SHOUT: Final[Any] = {"type": "custom", "name": "shout", "description": "Say it loud."}


class Person(BaseModel):
    """A structured answer."""

    name: str
    age: int


def caught(kind: type[E], call: Callable[[], object]) -> E:
    """The exception of type `kind` that `call` raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def create(client: OpenAI) -> object:
    """A plain request."""
    response = client.responses.create(model="m", input="Hi", instructions="Be brief.")
    assert response.status == "completed"
    assert response.output_text == "Hello"
    assert response.instructions == "Be brief."
    assert response.usage is not None
    assert response.usage.total_tokens == 8
    return response.usage.total_tokens


def events(client: OpenAI) -> object:
    """Every event of a raw stream."""
    got = list(client.responses.create(model="m", input="Hi", stream=True))
    types = [event.type for event in got]
    assert types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in got] == list(range(len(got)))
    last = got[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "Hello there"
    return types


def stream(client: OpenAI) -> object:
    """The accumulating helper; used for the heartbeat too."""
    types = []
    with client.responses.stream(model="m", input="Hi") as helper:
        snapshots = []
        for event in helper:
            types.append(event.type)
            if event.type == "response.output_text.delta":
                snapshots.append(event.snapshot)
        final = helper.get_final_response()
    assert snapshots == ["Hel", "Hello"]
    assert final.status == "completed"
    assert final.output_text == "Hello"
    assert client.responses.retrieve(final.id).output_text == "Hello"
    return types


def parse(client: OpenAI) -> object:
    """A pydantic model, whole and streamed."""
    response = client.responses.parse(model="m", input="Who?", text_format=Person)
    assert response.output_parsed == Person(name="Ada", age=36)
    with client.responses.stream(model="m", input="Who?", text_format=Person) as helper:
        final = helper.until_done().get_final_response()
    assert final.output_parsed == Person(name="Ada", age=36)
    return final.output_text


def outputs_of(calls: list[Any]) -> list[Any]:
    """What the two calls return."""
    assert [(call.type, call.call_id, json.loads(call.arguments)) for call in calls] == [
        ("function_call", "call_a", {"city": "Paris"}),
        ("function_call", "call_b", {"city": "Rome"}),
    ]
    return [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"sunny {call.call_id}"}
        for call in calls
    ]


def tools_chained(client: OpenAI) -> object:
    """Two parallel calls, answered with previous_response_id."""
    first = client.responses.create(model="m", input="Paris and Rome?", tools=[WEATHER])
    second = client.responses.create(
        model="m",
        previous_response_id=first.id,
        input=outputs_of(list(first.output)),
        tools=[WEATHER],
    )
    assert second.output_text == "Both are sunny."
    assert second.previous_response_id == first.id
    return first.status


def tools_whole_history(client: OpenAI) -> object:
    """Two parallel calls, streamed; their own output is sent back as the SDK dumps it."""
    question: Any = {"role": "user", "content": "Paris and Rome?"}
    with client.responses.stream(model="m", input=[question], tools=[WEATHER]) as helper:
        first = helper.until_done().get_final_response()
    history: list[Any] = [item.to_dict() for item in first.output]
    second = client.responses.create(
        model="m",
        input=[question, *history, *outputs_of(list(first.output))],
        tools=[WEATHER],
        store=False,
    )
    assert second.output_text == "Both are sunny."
    return sorted(history[0])


def custom_tool(client: OpenAI) -> object:
    """A tool with free text, streamed, then answered."""
    got = list(client.responses.create(model="m", input="Loud!", tools=[SHOUT], stream=True))
    last = got[-1]
    assert last.type == "response.completed"
    item = last.response.output[0]
    assert item.type == "custom_tool_call"
    assert item.input == "LOUD"
    output: Any = {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "ok"}
    second = client.responses.create(
        model="m", previous_response_id=last.response.id, input=[output], tools=[SHOUT]
    )
    assert second.output_text == "Heard."
    return [event.type for event in got if "custom" in event.type]


def reasoning(client: OpenAI) -> object:
    """Raw reasoning becomes an item before the message."""
    with client.responses.stream(model="m", input="?") as helper:
        types = [event.type for event in helper]
        final = helper.get_final_response()
    assert "response.reasoning_text.delta" in types
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output_text == "42"
    return types


def refusal(client: OpenAI) -> object:
    """A refusal is content, not text; with a text_format as well."""
    with client.responses.stream(model="m", input="?") as helper:
        types = [event.type for event in helper]
        final = helper.get_final_response()
    assert "response.refusal.delta" in types
    parsed = client.responses.parse(model="m", input="Who?", text_format=Person)
    for response in (final, parsed):
        item = response.output[0]
        assert item.type == "message"
        assert item.content[0].type == "refusal"
        assert item.content[0].refusal == "I cannot."
        assert response.output_text == ""
    assert parsed.output_parsed is None
    return types


def image(client: OpenAI) -> object:
    """A data URL and an address in one message."""
    message: Any = {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"},
            {"type": "input_image", "image_url": "https://example.com/cat.png"},
        ],
    }
    return client.responses.create(model="m", input=[message]).output_text


def input_items(client: OpenAI) -> object:
    """The list of what a response got, whole and page by page."""
    first = client.responses.create(model="m", input="one")
    second = client.responses.create(model="m", input="two", previous_response_id=first.id)
    listed = client.responses.input_items.list(second.id, order="asc").data
    roles = [item.role for item in listed if item.type == "message"]
    assert roles == ["user", "assistant", "user"]
    pages = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    assert [item.id for item in pages] == [item.id for item in listed]
    return roles


def retrieve_and_delete(client: OpenAI) -> object:
    """The stored response is the one that was answered, until it is deleted."""
    made = client.responses.create(model="m", input="x", metadata={"k": "v"})
    assert client.responses.retrieve(made.id).to_dict() == made.to_dict()
    client.responses.delete(made.id)
    error = caught(openai.NotFoundError, lambda: client.responses.retrieve(made.id))
    return error.message


def incomplete(client: OpenAI) -> object:
    """The model ran into its limit: a status, not an exception."""
    response = client.responses.create(model="m", input="x", max_output_tokens=16)
    last = list(client.responses.create(model="m", input="x", max_output_tokens=16, stream=True))[
        -1
    ]
    assert last.type == "response.incomplete"
    for got in (response, last.response):
        assert got.status == "incomplete"
        assert got.incomplete_details is not None
        assert got.incomplete_details.reason == "max_output_tokens"
        assert got.output_text == "half"
        item = got.output[0]
        assert item.type == "message"
        assert item.status == "incomplete"
    return last.type


def failed(client: OpenAI) -> object:
    """The upstream dies in the middle: an APIError in the raw stream and in the helper."""
    got: list[Any] = []

    def plain() -> None:
        got.extend(client.responses.create(model="m", input="x", stream=True))

    def accumulated() -> None:
        with client.responses.stream(model="m", input="x") as opened:
            got.extend(opened)

    errors = [caught(openai.APIError, way) for way in (plain, accumulated)]
    assert [error.code for error in errors] == ["server_error", "server_error"], errors
    ids = [event.response.id for event in got if event.type == "response.created"]
    stored = [client.responses.retrieve(id_) for id_ in ids]
    assert [(made.status, made.output_text) for made in stored] == [("failed", "half")] * 2
    return errors[0].message


def errors(client: OpenAI) -> object:
    """Each HTTP status is the SDK's own class, with code, param and request id."""
    responses = client.responses
    bad = caught(
        openai.BadRequestError, lambda: responses.create(model="m", input="x", temperature=3)
    )
    assert (bad.param, bad.code) == ("temperature", "decimal_above_max_value")
    assert bad.request_id is not None
    stranger = client.with_options(api_key="sk-wrong")
    wrong = caught(
        openai.AuthenticationError, lambda: stranger.responses.create(model="m", input="x")
    )
    assert wrong.code == "invalid_api_key"
    missing = caught(openai.NotFoundError, lambda: responses.retrieve(UNKNOWN))
    lost = caught(
        openai.BadRequestError,
        lambda: responses.create(model="m", input="x", previous_response_id=UNKNOWN),
    )
    assert lost.code == "previous_response_not_found"
    limited = [
        caught(openai.RateLimitError, lambda: responses.create(model="m", input="x")),
        caught(openai.RateLimitError, lambda: responses.create(model="m", input="x", stream=True)),
    ]
    assert [error.response.headers["retry-after"] for error in limited] == ["7", "7"]
    return [bad.message, wrong.message, missing.message, lost.message]


def poll(client: OpenAI, made: Any) -> Any:
    """The documented loop, without its patience."""
    while made.status in ("queued", "in_progress"):
        time.sleep(0.05)
        made = client.responses.retrieve(made.id)
    return made


def numbers(got: list[Any]) -> list[int]:
    """Their sequence numbers."""
    return [event.sequence_number for event in got]


def ids_of(response: Any) -> list[str]:
    """The ids of its items."""
    return [item.id for item in response.output]


def background(client: OpenAI) -> object:
    """Queued, polled, and then as good as any other."""
    made = client.responses.create(model="m", input="x", background=True, metadata={"k": "v"})
    assert (made.status, made.background, made.output) == ("queued", True, [])
    final = poll(client, made)
    assert (final.status, final.output_text, final.id) == ("completed", "Hello", made.id)
    assert final.metadata == {"k": "v"}
    assert final.usage is not None
    again = client.responses.cancel(final.id)
    assert again.to_dict() == final.to_dict(), "what has ended stays as it is"
    return final.status


def background_resume(client: OpenAI) -> object:
    """A stream that is left in the middle; the rest, and the whole, later."""
    start: list[Any] = []
    with client.responses.create(model="m", input="x", background=True, stream=True) as opened:
        for event in opened:
            start.append(event)
            if event.type == "response.output_text.delta":
                break
    id_ = start[0].response.id
    after = start[-1].sequence_number
    rest = list(client.responses.retrieve(id_, stream=True, starting_after=after))
    assert numbers(start + rest) == list(range(len(start + rest)))
    assert rest[-1].type == "response.completed"
    assert rest[-1].response.output_text == "Hello there"
    whole = list(client.responses.retrieve(id_, stream=True))
    assert [event.to_dict() for event in whole] == [event.to_dict() for event in start + rest]
    last = whole[-1].sequence_number
    assert list(client.responses.retrieve(id_, stream=True, starting_after=last)) == []
    plain = list(client.responses.retrieve(id_, stream=True, include_obfuscation=False))
    assert numbers(plain) == numbers(whole)
    return [event.type for event in whole]


def background_stream(client: OpenAI) -> object:
    """The accumulating helper on a response that runs, and on one that has ended."""
    made = client.responses.create(model="m", input="Who?", background=True)
    with client.responses.stream(response_id=made.id) as helper:
        whole = [event.sequence_number for event in helper]
        final = helper.get_final_response()
    assert final.output_text == '{"name":"Ada","age":36}'
    for after in (0, 3, whole[-2]):
        with client.responses.stream(
            response_id=made.id, starting_after=after, text_format=Person
        ) as helper:
            seen = [event.sequence_number for event in helper]
            parsed = helper.get_final_response()
        assert seen == whole[after + 1 :]
        assert parsed.output_parsed == Person(name="Ada", age=36)
    return whole


def background_cancel(client: OpenAI) -> object:
    """What runs is stopped; again, there is no effect; streams of it come to their end."""
    made = client.responses.create(model="m", input="x", background=True)
    with client.responses.retrieve(made.id, stream=True) as opened:
        for event in opened:
            if event.type == "response.output_text.delta":
                break
    cancelled = client.responses.cancel(made.id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "Hel")
    assert client.responses.cancel(made.id).to_dict() == cancelled.to_dict()
    assert client.responses.retrieve(made.id).to_dict() == cancelled.to_dict()
    types = [event.type for event in client.responses.retrieve(made.id, stream=True)]
    assert types[-1] == "response.output_text.delta"
    synchronous = client.responses.create(model="m", input="x")
    refused = caught(openai.BadRequestError, lambda: client.responses.cancel(synchronous.id))
    caught(openai.NotFoundError, lambda: client.responses.cancel(UNKNOWN))
    return refused.message


def background_failed(client: OpenAI) -> object:
    """A state when it is polled, an exception when it is streamed."""
    made = client.responses.create(model="m", input="x", background=True)
    final = poll(client, made)
    assert final.status == "failed"
    assert final.error.code == "server_error"
    assert final.output_text == "half"
    error = caught(openai.APIError, lambda: list(client.responses.retrieve(made.id, stream=True)))
    assert error.code == "server_error"
    return final.error.message


def replay(client: OpenAI) -> object:
    """All readers on the response that ``RESPONSE_ID`` names, from every event on; not in `FLOWS`,
    because the upstream has nothing to do with it."""
    id_ = os.environ["RESPONSE_ID"]
    whole = list(client.responses.retrieve(id_, stream=True))
    stored = client.responses.retrieve(id_)
    assert numbers(whole) == list(range(len(whole)))
    for after in (None, *range(len(whole) - 1)):
        since = 0 if after is None else after + 1
        more: Any = {} if after is None else {"starting_after": after}
        if after is None or after % 5 == 0:
            raw = client.responses.retrieve(id_, stream=True, **more)
            assert numbers(list(raw)) == list(range(since, len(whole)))
        with client.responses.stream(response_id=id_, **more) as helper:
            assert numbers(list(helper)) == list(range(since, len(whole)))
            final = helper.get_final_response()
        assert final.output_text == stored.output_text
        assert ids_of(final) == ids_of(stored)
    added = [event for event in whole if event.type == "response.output_item.added"]
    return {"indices": [event.output_index for event in added], "text": stored.output_text}


def container_files(client: OpenAI) -> object:
    """By their bytes, and by the ids of others, which older versions send as a form."""
    box = client.containers.create(name="box").id
    kept = client.files.create(file=("one.txt", b"one"), purpose="user_data").id
    sent = client.containers.files.create(box, file=("two.txt", b"two"))
    copied = client.containers.files.create(box, file_id=kept)
    files = [(file.path, file.bytes, file.source) for file in (copied, sent)]
    assert files == [("/mnt/data/one.txt", 3, "user"), ("/mnt/data/two.txt", 3, "user")]
    content = client.containers.files.content.retrieve(copied.id, container_id=box)
    assert content.read() == b"one"
    client.files.delete(kept)
    client.containers.delete(box)
    return [file[0] for file in files]


FLOWS: Final = {
    flow.__name__: flow
    for flow in (
        create,
        events,
        stream,
        parse,
        tools_chained,
        tools_whole_history,
        custom_tool,
        reasoning,
        refusal,
        image,
        input_items,
        retrieve_and_delete,
        incomplete,
        failed,
        errors,
        background,
        background_resume,
        background_stream,
        background_cancel,
        background_failed,
        container_files,
    )
}


def main(names: list[str]) -> None:
    """Run the flows of these names, or all."""
    with OpenAI(max_retries=0, timeout=30) as client:
        every = {**FLOWS, "replay": replay}
        shown = {name: every[name](client) for name in names or FLOWS}
    print(json.dumps({"version": openai.__version__, "flows": shown}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
