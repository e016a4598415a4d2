"""A whole server in front of a server that speaks Responses itself.

Rule: the history is stored, or the client carries it; the upstream must not see a difference.
"""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.api.talk import client_of, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.replies import WEATHER
from tests.conformance.responses import ResponsesWire, response, sse
from tests.conformance.wire import Turn
from tests.live import LiveServer, serve

_WIRE: Final = ResponsesWire()
_BACKEND: Final = """
[[backends]]
name = "{profile}"
kind = "responses"
base_url = "{base_url}"
profile = "{profile}"
models = [{{{profile} = "m"}}]
"""
_RESULT: Final = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
_CALLING: Final = Turn((), ["I need ", "the weather."], "c2ln", [("weather", {"city": "Rome"})])
#: What the upstream said, as it said it.
_BLOB: Final = {
    "type": "reasoning",
    "id": "rs_0",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "I need the weather."}],
    "encrypted_content": "c2ln",
}


@pytest.fixture(scope="module")
def live(_upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with one upstream that stands for two."""
    toml = "".join(
        _BACKEND.format(profile=name, base_url=_upstream.base_url) for name in ("openai", "generic")
    )
    with serve(tmp_path_factory.mktemp("responses"), toml) as server:
        yield server


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


def ask(api: httpx2.Client, given: Any, **more: Any) -> httpx2.Response:
    body = {"model": "openai", "input": given, "tools": [WEATHER], **more}
    return api.post("/v1/responses", json=body)


@pytest.mark.parametrize("carried", ["stored", "encrypted only", "everything"])
def test_a_tool_loop_gives_the_upstream_its_reasoning_back(
    api: httpx2.Client, upstream: ChatUpstream, carried: str
) -> None:
    upstream.script(_WIRE.reply(_CALLING), _WIRE.reply(Turn(["Sunny."])))
    store = carried == "stored"
    answer = ask(api, "Rome?", store=store).json()
    reasoning, calling = answer["output"]
    assert reasoning["encrypted_content"] != "c2ln", "it is sealed for this project"
    given: list[Any] = [_RESULT]
    second: dict[str, Any] = {"store": store}
    if store:
        second["previous_response_id"] = answer["id"]
    else:
        if carried == "encrypted only":
            reasoning = {key: reasoning[key] for key in ("type", "encrypted_content")}
            reasoning["summary"] = []
        given = [{"role": "user", "content": "Rome?"}, reasoning, calling, _RESULT]
    reply = ask(api, given, **second)
    assert reply.status_code == 200, reply.text
    assert "x-antiphon-ignored" not in reply.headers
    assert reply.json()["output_text"] == "Sunny."
    called = {"call_id": "call_1", "name": "weather", "arguments": '{"city":"Rome"}'}
    assert upstream.requests[-1].json["input"] == [
        {"type": "message", "role": "user", "content": "Rome?"},
        _BLOB,
        {"type": "function_call", **called},
        _RESULT,
    ]


def test_two_thoughts_around_a_hidden_call_stay_two(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """The client sees one item of them; the upstream gets back what it had said."""
    blobs: list[Any] = [
        {"type": "reasoning", "id": f"rs_{n}", "summary": [], "encrypted_content": f"e{n}"}
        for n in (1, 2)
    ]
    call = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    output = [*blobs, call]
    upstream.script(Reply.json(response("completed", output)), _WIRE.reply(Turn(["Sunny."])))
    answer = ask(api, "Rome?").json()
    assert [item["type"] for item in answer["output"]] == ["reasoning", "function_call"]
    ask(api, [_RESULT], previous_response_id=answer["id"])
    assert upstream.requests[-1].json["input"][1:3] == blobs


def test_a_custom_tool_keeps_its_grammar(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """The upstream is held to it, and so is what it says."""
    text_format = {"type": "grammar", "syntax": "regex", "definition": "[0-9]+"}
    tool = {"type": "custom", "name": "count", "format": text_format}
    item = {"type": "custom_tool_call", "call_id": "call_1", "name": "count", "input": "42"}
    last = response("completed", [item])
    upstream.script(Reply(body=[sse({"type": "response.completed", "response": last})]))
    told = events(ask(api, "How many?", tools=[tool], stream=True).text)
    assert upstream.requests[-1].json["tools"] == [tool]
    (called,) = told[-1]["response"]["output"]
    assert (called["type"], called["name"], called["input"]) == ("custom_tool_call", "count", "42")


def test_what_a_lesser_server_does_not_know_is_named(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(_WIRE.reply(Turn(["Hello"])))
    reply = ask(api, "Hi", model="generic", text={"verbosity": "low"}, service_tier="flex")
    assert reply.json()["output_text"] == "Hello"
    assert reply.headers["x-antiphon-ignored"] == "service_tier, text.verbosity"
    assert "text" not in upstream.requests[-1].json


def test_failures_are_told_before_the_stream_and_in_it(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-42, R-43, R-45."""
    upstream.script(_WIRE.fault("too_long"))
    refused = ask(api, "Hi")
    assert (refused.status_code, error_of(refused)["code"]) == (400, "context_length_exceeded")
    upstream.script(_WIRE.fault("early"))
    told = events(ask(api, "Hi", stream=True).text)
    assert [event["type"] for event in told[-2:]] == ["error", "response.failed"]
    assert told[-1]["response"]["output"][0]["content"][0]["text"] == "Hel"


def test_reasoning_of_another_account_is_left_out(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """Two backends at one address: the server would refuse what it sealed for somebody else."""
    upstream.script(_WIRE.reply(_CALLING), _WIRE.reply(Turn(["Sunny."])))
    answer = ask(api, "Rome?").json()
    chained = {"previous_response_id": answer["id"], "model": "generic"}
    assert ask(api, [_RESULT], **chained).status_code == 200
    kinds = [item["type"] for item in upstream.requests[-1].json["input"]]
    assert kinds == ["message", "function_call", "function_call_output"]


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_that_its_maker_refuses_is_left_out(
    api: httpx2.Client, upstream: ChatUpstream, *, stream: bool
) -> None:
    """The operator's key may have become that of another organisation."""
    unreadable = {"error": {"code": "invalid_encrypted_content", "message": "x"}}
    refusal = Reply.json(unreadable, 400)
    upstream.script(_WIRE.reply(_CALLING), refusal, _WIRE.reply(Turn(["Sunny."])))
    answer = ask(api, "Rome?").json()
    reply = ask(api, [_RESULT], previous_response_id=answer["id"], stream=stream)
    assert (reply.status_code, "Sunny." in reply.text) == (200, True)
    _, first, second = (request.json["input"] for request in upstream.requests)
    assert [item for item in first if item["type"] != "reasoning"] == second
    assert first != second
    upstream.script(refusal)
    reply = ask(api, [_RESULT], previous_response_id=answer["id"])
    assert error_of(reply)["code"] == "invalid_encrypted_content", "once, and no more"
    assert len(upstream.requests) == 5
