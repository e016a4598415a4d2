"""openai-python with ``prompt=``: what the model sees, and what comes back (spec §1, `prompt`)."""

import base64
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.responses import ResponseInputFileParam, ResponseInputImageParam
from openai.types.responses.response_prompt_param import ResponsePromptParam

from tests.api.talk import client_of
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import KEY, OTHER_KEY, LiveServer

Json: TypeAlias = dict[str, Any]
UNKNOWN: Final = "pmpt_" + "0" * 48
PNG: Final = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 16).decode()
IMAGE: Final[ResponseInputImageParam] = {"type": "input_image", "image_url": PNG, "detail": "low"}
FILE: Final[ResponseInputFileParam] = {
    "type": "input_file",
    "file_data": "data:text/plain;base64," + base64.b64encode(b"notes").decode(),
    "filename": "notes.txt",
}
WEATHER: Final[Json] = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
}


@pytest.fixture
def sdk(server: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def plain(server: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(server) as client:
        yield client


def make(plain: httpx2.Client, **template: Any) -> str:
    """The id of a new prompt whose template names a model."""
    body = {"template": {"model": "m", **template}}
    reply = plain.post("/v1/prompts", json=body)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def publish(plain: httpx2.Client, id_: str, **template: Any) -> None:
    body = {"template": {"model": "m", **template}}
    reply = plain.post(f"/v1/prompts/{id_}/versions", json=body)
    assert reply.status_code == 200, reply.text


def messages(upstream: ChatUpstream) -> list[tuple[str, Any]]:
    """Role and content of what the model saw last."""
    body = upstream.requests[-1].json
    return [(message["role"], message["content"]) for message in body["messages"]]


def test_a_prompt_with_variables(sdk: OpenAI, plain: httpx2.Client, upstream: ChatUpstream) -> None:
    id_ = make(
        plain,
        instructions="Answer {{who}} in {{ language }}.",
        input="The city is {{city}}.",
        temperature=0.25,
        tools=[WEATHER],
    )
    given: dict[str, Any] = {"who": "Ada", "language": "Latin", "city": "{{who}}"}
    response = sdk.responses.create(
        prompt={"id": id_, "version": "1", "variables": given}, input="Go"
    )
    assert messages(upstream) == [
        ("system", "Answer Ada in Latin."),
        ("user", "The city is {{who}}."),
        ("user", "Go"),
    ]
    body = upstream.requests[-1].json
    assert (body["temperature"], body["tools"][0]["function"]["name"]) == (0.25, "weather")
    assert response.output_text == "Hello"
    assert response.prompt is not None
    assert response.prompt.to_dict() == {"id": id_, "version": "1", "variables": given}
    assert (response.model, response.temperature) == ("m", 0.25)
    assert isinstance(response.instructions, list)
    assert [(item.to_dict()["role"], _said(item)) for item in response.instructions] == [
        ("developer", "Answer Ada in Latin."),
        ("user", "The city is {{who}}."),
    ]
    assert sdk.responses.retrieve(response.id).to_dict() == response.to_dict()
    own = [item.to_dict() for item in sdk.responses.input_items.list(response.id)]
    assert [item["content"] for item in own] == [[{"type": "input_text", "text": "Go"}]]


def _said(item: Any) -> str:
    return str(item.to_dict()["content"][0]["text"])


def test_the_default_version_is_the_newest_until_somebody_says_otherwise(
    sdk: OpenAI, plain: httpx2.Client, upstream: ChatUpstream
) -> None:
    id_ = make(plain, instructions="one")
    publish(plain, id_, instructions="two")
    for prompt, version, said in (
        ({"id": id_}, "2", "two"),
        ({"id": id_, "version": "1"}, "1", "one"),
    ):
        response = sdk.responses.create(prompt=_param(prompt), input="Go")
        assert messages(upstream)[0] == ("system", said)
        assert response.instructions == said
        assert response.prompt is not None
        assert (response.prompt.version, response.prompt.variables) == (version, {})
    assert plain.post(f"/v1/prompts/{id_}", json={"default_version": "1"}).status_code == 200
    sdk.responses.create(prompt={"id": id_}, input="Go")
    assert messages(upstream)[0] == ("system", "one")


def _param(prompt: Json) -> ResponsePromptParam:
    return {**ResponsePromptParam(id=prompt["id"]), **prompt}  # type: ignore[typeddict-item]


def test_images_and_files(sdk: OpenAI, plain: httpx2.Client, upstream: ChatUpstream) -> None:
    id_ = make(plain, input="Look: {{photo}} and read {{notes}}!")
    sdk.responses.create(prompt={"id": id_, "variables": {"photo": IMAGE, "notes": FILE}})
    ((role, content),) = messages(upstream)
    assert role == "user"
    assert content[0] == {"type": "text", "text": "Look: "}
    assert content[1] == {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    assert content[2] == {"type": "text", "text": " and read "}
    assert "notes" in str(content[3])
    assert content[4] == {"type": "text", "text": "!"}


def test_the_request_overrides_and_the_template_is_not_carried_over(
    sdk: OpenAI, plain: httpx2.Client, upstream: ChatUpstream
) -> None:
    id_ = make(plain, instructions="Old", input="First", temperature=0.25, tools=[WEATHER])
    first = sdk.responses.create(
        prompt={"id": id_}, input="A", instructions="New", temperature=1, model="other"
    )
    body = upstream.requests[-1].json
    assert (body["model"], body["temperature"]) == ("other", 1)
    assert messages(upstream) == [("system", "New"), ("user", "First"), ("user", "A")]
    second = sdk.responses.create(model="m", input="B", previous_response_id=first.id)
    assert messages(upstream) == [("user", "A"), ("assistant", "Hello"), ("user", "B")]
    assert (second.prompt, second.instructions, second.tools) == (None, None, [])
    # Before all history, also where the chain had the prompt already.
    sdk.responses.create(prompt={"id": id_}, input="C", previous_response_id=first.id)
    assert messages(upstream) == [
        ("system", "Old"),
        ("user", "First"),
        ("user", "A"),
        ("assistant", "Hello"),
        ("user", "C"),
    ]


def test_instructions_alone_are_enough(
    sdk: OpenAI, plain: httpx2.Client, upstream: ChatUpstream
) -> None:
    id_ = make(plain, instructions="Say hello to {{who}}")
    sdk.responses.create(prompt={"id": id_, "variables": {"who": "Ada"}})
    assert messages(upstream) == [("system", "Say hello to Ada")]


@pytest.mark.parametrize("background", [False, True])
def test_a_stream(
    background: bool, sdk: OpenAI, plain: httpx2.Client, upstream: ChatUpstream
) -> None:
    id_ = make(plain, input="Hi {{who}}")
    events = list(
        sdk.responses.create(
            prompt={"id": id_, "variables": {"who": "Ada"}}, stream=True, background=background
        )
    )
    for event in (events[0], events[-1]):
        assert event.type in ("response.created", "response.completed")
        assert event.response.prompt is not None
        assert event.response.prompt.version == "1"
        assert isinstance(event.response.instructions, list)
    assert messages(upstream) == [("user", "Hi Ada")]


def test_a_background_response_is_made_with_the_version_it_was_accepted_with(
    sdk: OpenAI, plain: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.chat("Hello", pause=1.0), Reply.chat("Hello"))
    id_ = make(plain, instructions="one")
    made = [sdk.responses.create(prompt={"id": id_}, input="Go", background=True) for _ in "ab"]
    publish(plain, id_, instructions="two")
    for response in made:
        assert response.prompt is not None
        assert (response.prompt.version, response.instructions) == ("1", "one")
        while (done := sdk.responses.retrieve(response.id)).status in ("queued", "in_progress"):
            pass
        assert (done.status, done.instructions) == ("completed", "one")
    assert {request.json["messages"][0]["content"] for request in upstream.requests} == {"one"}


@pytest.mark.parametrize(
    ("template", "asked", "param", "code"),
    [
        ({"instructions": "{{a}}"}, {}, "prompt.variables", "prompt_variable_missing"),
        (
            {"instructions": "Hi"},
            {"prompt": {"variables": {"a": "1"}}},
            "prompt.variables.a",
            "prompt_variable_unknown",
        ),
        (
            {"instructions": "{{a}}"},
            {"prompt": {"variables": {"a": IMAGE}}},
            "prompt.variables.a",
            "invalid_value",
        ),
        ({"model": None}, {}, "model", "missing_required_parameter"),
        ({"tool_choice": "required"}, {}, "tool_choice", None),
        ({}, {"tool_choice": {"type": "function", "name": "x"}}, "tool_choice", None),
        ({"model": "gone-*"}, {"model": ""}, "model", "model_not_found"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(
    template: Json,
    asked: Json,
    param: str,
    code: str | None,
    plain: httpx2.Client,
    upstream: ChatUpstream,
) -> None:
    prompt = {"id": make(plain, **template), **asked.get("prompt", {})}
    upstream.requests.clear()
    for stream in (False, True):
        body = {"input": "Go", "stream": stream, **asked, "prompt": prompt}
        reply = plain.post("/v1/responses", json=body)
        assert reply.status_code == 400, reply.text
        error = reply.json()["error"]
        assert (error["param"], error["code"]) == (param, code)
        assert upstream.requests == []


@pytest.mark.parametrize("part", [{"file_id": "file_1"}, {"image_url": "ftp://a.example"}])
@pytest.mark.parametrize("role", ["user", "developer"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_backend_cannot_take_is_refused_in_a_template_too(
    part: Json, role: str, stream: bool, plain: httpx2.Client, upstream: ChatUpstream
) -> None:
    """Design §5, never silent: as if the messages stood in `input`."""
    content = [{"type": "input_image", **part}]
    message = {"role": role, "content": content}
    body = {"model": "m", "input": [message]}
    expected = plain.post("/v1/responses", json=body)
    made = plain.post("/v1/prompts", json={"template": body})
    upstream.requests.clear()
    if made.status_code == 200:
        asked = {"prompt": {"id": made.json()["id"]}, "stream": stream}
        made = plain.post("/v1/responses", json=asked)
    assert made.status_code == expected.status_code, made.text
    assert made.status_code in (400, 404)
    assert upstream.requests == []


def test_who_has_no_such_prompt(
    sdk: OpenAI, plain: httpx2.Client, server: LiveServer, upstream: ChatUpstream
) -> None:
    """R-30: another project's prompt, an unknown one and an unknown version."""
    id_ = make(plain, instructions="xylophone-4712")
    with OpenAI(base_url=server.base_url, api_key=OTHER_KEY, max_retries=0) as other:
        texts = []
        for wanted in (id_, UNKNOWN):
            with pytest.raises(openai.NotFoundError) as caught:
                other.responses.create(prompt={"id": wanted}, input="Go")
            assert caught.value.param == "prompt"
            texts.append(caught.value.response.text.replace(wanted, "ID"))
        assert texts[0] == texts[1]
    for version in ("2", "0", "latest", "9" * 40):
        with pytest.raises(openai.NotFoundError, match=f"Version '{version}' of prompt"):
            sdk.responses.create(prompt={"id": id_, "version": version}, input="Go")
    assert upstream.requests == []


def test_counting_sees_the_prompt_too(sdk: OpenAI, plain: httpx2.Client) -> None:
    short, long = make(plain, input="Hi"), make(plain, input="Hi " * 1000)
    counted = [
        plain.post("/v1/responses/input_tokens", json={"prompt": {"id": id_}}).json()
        for id_ in (short, long)
    ]
    assert counted[0]["input_tokens"] + 500 < counted[1]["input_tokens"]
