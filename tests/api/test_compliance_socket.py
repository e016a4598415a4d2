"""The WebSocket cases of the Open Responses compliance suite (spec §10.2, 5 to 11), as our own
tests: on the simulator, and through the chat-completions backend."""

import httpx2
import pytest

from tests.api.talk import UNKNOWN, Json
from tests.api.talk_socket import ENDS, Socket, plugged
from tests.backends.upstream import ChatUpstream
from tests.live import LiveServer

#: Keys that a Response must have (spec §10.1): key → whether it may be null.
REQUIRED = {
    "id": False,
    "object": False,
    "created_at": False,
    "completed_at": True,
    "status": False,
    "incomplete_details": True,
    "model": False,
    "previous_response_id": True,
    "instructions": True,
    "output": False,
    "error": True,
    "tools": False,
    "tool_choice": False,
    "truncation": False,
    "parallel_tool_calls": False,
    "text": False,
    "top_p": False,
    "presence_penalty": False,
    "frequency_penalty": False,
    "top_logprobs": False,
    "temperature": False,
    "reasoning": True,
    "usage": True,
    "max_output_tokens": True,
    "max_tool_calls": True,
    "store": False,
    "background": False,
    "service_tier": False,
    "metadata": True,
    "safety_identifier": True,
    "prompt_cache_key": True,
}


@pytest.fixture(params=["simulator", "m"])
def model(request: pytest.FixtureRequest, upstream: ChatUpstream) -> str:
    """The simulator, and a model behind the chat-completions backend."""
    assert upstream.requests == []
    name: str = request.param
    return name


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


def turn(socket: Socket, model: str, *items: Json, **body: object) -> Json:
    """A turn as the suite makes it; it must complete with a whole Response."""
    socket.say({"type": "response.create", "model": model, "input": list(items), **body})
    response: Json = socket.rest()[-1]["response"]
    assert response["status"] == "completed"
    assert response["output"]
    for key, may_be_null in REQUIRED.items():
        assert key in response, key
        assert may_be_null or response[key] is not None, key
    return response


def failure(socket: Socket, model: str, *items: Json, **body: object) -> str:
    """The code of a turn that must fail: of an error frame, or of ``response.failed``."""
    socket.say({"type": "response.create", "model": model, "input": list(items), **body})
    while (event := socket.next())["type"] not in ("error", *ENDS):
        pass
    assert event["type"] in ("error", "response.failed"), event
    error = event.get("error") or event["response"]["error"]
    assert isinstance(error["code"], str | None)
    return error["code"] or ""


def test_websocket_response(server: LiveServer, model: str) -> None:
    """Case 5."""
    with plugged(server) as socket:
        turn(socket, model, user("Say hello in exactly 3 words."))


def test_websocket_sequential_responses(server: LiveServer, model: str) -> None:
    """Case 6."""
    with plugged(server) as socket:
        first = turn(socket, model, user("Say first."), store=False)
        second = turn(socket, model, user("Say second."), store=False)
    assert first["id"] != second["id"]


def test_websocket_continuation(server: LiveServer, model: str) -> None:
    """Case 7."""
    with plugged(server) as socket:
        first = turn(socket, model, user("Remember 42."), store=False)
        second = turn(
            socket, model, user("Which number?"), store=False, previous_response_id=first["id"]
        )
    assert second["previous_response_id"] == first["id"]


def test_websocket_reconnect_store_false_recovery(server: LiveServer, model: str) -> None:
    """Case 8."""
    with plugged(server) as socket:
        first = turn(socket, model, user("Hello"), store=False)
    with plugged(server) as socket:
        again = {"store": False, "previous_response_id": first["id"]}
        assert failure(socket, model, user("Go on"), **again) == "previous_response_not_found"
        turn(socket, model, user("Afresh"), store=False)


def test_websocket_previous_response_not_found(server: LiveServer, model: str) -> None:
    """Case 9."""
    with plugged(server) as socket:
        again = {"store": False, "previous_response_id": UNKNOWN}
        assert failure(socket, model, user("Go on"), **again) == "previous_response_not_found"


def test_websocket_failed_continuation_evicts_cache(server: LiveServer, model: str) -> None:
    """Case 10."""
    output = {"type": "function_call_output", "call_id": "call_unknown", "output": "x"}
    with plugged(server) as socket:
        first = turn(socket, model, user("Hello"), store=False)
        again = {"store": False, "previous_response_id": first["id"]}
        failure(socket, model, output, **again)
        assert failure(socket, model, user("Go on"), **again) == "previous_response_not_found"


def test_websocket_compact_new_chain(server: LiveServer, client: httpx2.Client, model: str) -> None:
    """Case 11: what we compacted is input like any other."""
    history = [
        user("Remember 42."),
        {"type": "message", "role": "assistant", "content": "I will."},
        user("And 43."),
    ]
    reply = client.post("/v1/responses/compact", json={"model": model, "input": history})
    assert reply.status_code == 200, reply.text
    output = reply.json()["output"]
    assert "compaction" in [item["type"] for item in output]
    with plugged(server) as socket:
        turn(socket, model, *output, user("Which numbers?"), tools=[], store=False)
