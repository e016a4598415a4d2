"""Gemini behind a running server: tools of clients, schemas, counting, the configuration."""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from antiphon.app.backends import KINDS
from antiphon.backends.gemini.backend import Gemini
from antiphon.config import BackendConfig, ConfigError
from tests.api.talk import client_of, create, events
from tests.backends.upstream import ChatUpstream, Reply, sse
from tests.conformance.gemini import GeminiWire
from tests.conformance.wire import Message, Turn
from tests.live import serve

WIRE: Final = GeminiWire()
F: Final = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
SCHEMA: Final = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
CALLING: Final = Turn(
    thoughts=["I need the weather."], signature="c2ln", calls=[("weather", {"city": "Rome"})]
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[ChatUpstream]:
    with ChatUpstream(WIRE.models("real-name")) as server:
        yield server


@pytest.fixture(scope="module")
def client(
    upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    toml = f"""
[[backends]]
name = "google"
kind = "gemini"
base_url = "{upstream.base_url}"
api_key_env = "GOOGLE_KEY"
models = [{{m = "real-name"}}]

[image_generation]
kind = "simulator"
"""
    folder = tmp_path_factory.mktemp("gemini")
    with serve(folder, toml, {"GOOGLE_KEY": "theirs"}) as live, client_of(live) as made:
        yield made


@pytest.mark.parametrize("stored", [True, False])
def test_a_signature_goes_round(
    client: httpx2.Client, upstream: ChatUpstream, stored: bool
) -> None:
    """In the store of the server, or carried by the client."""
    upstream.requests.clear()
    upstream.script(WIRE.reply(CALLING), WIRE.reply(Turn(["Sunny."])))
    include: dict[str, Any] = (
        {} if stored else {"store": False, "include": ["reasoning.encrypted_content"]}
    )
    first = create(client, tools=[F], **include)
    reasoning, call = first["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "I need the weather."}]
    assert (call["name"], call["arguments"]) == ("weather", '{"city":"Rome"}')
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    if stored:
        more: dict[str, Any] = {"input": [result], "previous_response_id": first["id"]}
    else:
        more = {"input": [{"role": "user", "content": "Hi"}, *first["output"], result]}
    second = create(client, tools=[F], **include, **more)
    assert second["output_text"] == "Sunny."
    asked = WIRE.asked(upstream.requests[1])
    assert asked.key == "theirs"
    assert asked.messages == [
        Message("user", "Hi"),
        Message("assistant", calls=(("weather", {"city": "Rome"}),), signature="c2ln"),
        Message("tool", "sunny"),
    ]


def test_a_stream(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(WIRE.reply(Turn(["Hel", "lo"], ["hm"], usage=(7, 2, 5, 3))))
    asked = {"model": "m", "input": "Hi", "stream": True, "reasoning": {"summary": "auto"}}
    last = events(client.post("/v1/responses", json=asked).text)[-1]
    assert last["type"] == "response.completed"
    response = last["response"]
    assert response["output"][0]["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert response["usage"]["input_tokens_details"]["cached_tokens"] == 2
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}


def test_hosted_tools(client: httpx2.Client, upstream: ChatUpstream) -> None:
    """Parallel calls that the server runs; their signature and the images go back."""
    upstream.requests.clear()
    calls = [("image_generation", {"prompt": text}) for text in ("a cat", "a dog")]
    drawing = Turn(thoughts=["I draw."], signature="c2ln", calls=calls)
    upstream.script(WIRE.reply(drawing), WIRE.reply(Turn(["Done."])))
    made = create(client, tools=[{"type": "image_generation"}])
    kinds = [item["type"] for item in made["output"]]
    assert kinds == ["reasoning", *["image_generation_call"] * 2, "message"]
    _, turn, *results = WIRE.asked(upstream.requests[1]).messages
    assert turn.signature == "c2ln"
    assert [name for name, _ in turn.calls] == ["image_generation"] * 2
    assert [result.role for result in results] == ["tool", "tool"]
    assert all(result.images[0].startswith("data:image/png;base64,") for result in results)
    first, second = upstream.requests[1].json["contents"][1]["parts"]
    assert "thoughtSignature" in first
    assert "thoughtSignature" not in second


def test_a_blocked_prompt(client: httpx2.Client, upstream: ChatUpstream) -> None:
    """400; in a stream, which has begun, the same error."""
    upstream.script(Reply(body=[sse({"promptFeedback": {"blockReason": "SAFETY"}})]))
    asked = {"model": "m", "input": "Hi"}
    reply = client.post("/v1/responses", json=asked)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input")
    *_, error, failed = events(client.post("/v1/responses", json={**asked, "stream": True}).text)
    assert (error["type"], error["param"]) == ("error", "input")
    assert failed["response"]["error"]["code"] == "invalid_prompt"


def test_a_custom_tool(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(WIRE.reply(Turn(calls=[("note", {"input": "a\nb"})])))
    (call,) = create(client, tools=[{"type": "custom", "name": "note"}])["output"]
    assert (call["type"], call["input"]) == ("custom_tool_call", "a\nb")


def test_a_schema(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(WIRE.reply(Turn(['{"a":', "1}"])))
    form = {"type": "json_schema", "name": "n", "strict": True, "schema": SCHEMA}
    made = create(client, text={"format": form})
    assert made["output_text"] == '{"a":1}'
    assert WIRE.asked(upstream.requests[-1]).schema == SCHEMA


def test_what_is_dropped_is_said(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(WIRE.reply(Turn(["Hello"])))
    asked = {"model": "m", "input": "Hi", "user": "u", "reasoning": {"effort": "none"}}
    reply = client.post("/v1/responses", json=asked)
    assert reply.headers["x-antiphon-ignored"] == "user, reasoning.effort"


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("filter", "content_filter")]
)
def test_what_was_cut_off(
    client: httpx2.Client, upstream: ChatUpstream, finish: Any, reason: str
) -> None:
    upstream.script(WIRE.reply(Turn(["Hel"], finish=finish)))
    made = create(client)
    assert (made["status"], made["incomplete_details"]) == ("incomplete", {"reason": reason})


def test_counting_and_models(client: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.paths["/v1/models/real-name:countTokens"] = Reply.json({"totalTokens": 31})
    reply = client.post("/v1/responses/input_tokens", json={"model": "m", "input": "Hi"})
    assert reply.json()["input_tokens"] == 31
    assert reply.headers["x-antiphon-token-count"] == "backend"
    listed = {row["id"]: row for row in client.get("/v1/models").json()["data"]}
    assert listed["m"]["context_window"] == 1_048_576


# -- the configuration ---------------------------------------------------------------------------


def test_google_is_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_KEY", "theirs")
    made = KINDS["gemini"](BackendConfig(name="g", kind="gemini", api_key_env="GOOGLE_KEY"))
    assert isinstance(made, Gemini)
    elsewhere = BackendConfig(name="g", kind="gemini", base_url="http://127.0.0.1:1/v1beta")
    assert isinstance(KINDS["gemini"](elsewhere), Gemini)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "needs an api_key_env"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"profile": "openai"}, "there are none for this kind"),
    ],
)
def test_what_is_missing(settings: dict[str, str], says: str) -> None:
    """R-132."""
    entry = BackendConfig.model_validate({"name": "g", "kind": "gemini", **settings})
    with pytest.raises(ConfigError, match=says):
        KINDS["gemini"](entry)
