"""WebSocket mode over a real socket: the handshake, and what either side says (spec §2.6)."""

import re
from typing import Any, Final

import httpx2
import orjson
import pytest
from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter

from tests.api.talk import UNKNOWN, Json, events
from tests.api.talk_socket import SLOW, denial, plugged
from tests.backends.upstream import ChatUpstream, Reply, chunk, sse
from tests.live import KEY, LiveServer, serve

_OFFICIAL: Final[TypeAdapter[Any]] = TypeAdapter(ResponsesServerEvent)
MESSAGE: Final = {"type": "message", "role": "user", "content": "Wait"}


# -- the handshake -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "sk-wrong-key-that-nobody-has", "x y"])
def test_without_a_good_key_there_is_no_handshake(server: LiveServer, key: str | None) -> None:
    """R-27: the same answer as HTTP's, before anything is accepted."""
    refusal = denial(server, key).response
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=server.root_url, trust_env=False) as nobody:
        plain = nobody.post("/v1/responses", headers=headers, json={})
    assert refusal.status_code == plain.status_code == 401
    assert bytes(refusal.body or b"") == plain.content
    assert refusal.headers["www-authenticate"] == "Bearer"
    assert refusal.headers["x-request-id"].startswith("req_")
    assert refusal.headers["x-content-type-options"] == "nosniff"
    assert "handshake" not in server.log(), "a denial is no event of ours"


def test_other_paths_have_no_sockets(server: LiveServer) -> None:
    """R-16."""
    for path in ("/v1/responses/", "/v1/nothing", "/"):
        refusal = denial(server, path=path).response
        assert refusal.status_code == 404
        assert orjson.loads(refusal.body or b"")["error"]["message"] == f"Invalid URL (GET {path})"


def test_an_accepted_handshake_has_the_fields_of_every_answer(server: LiveServer) -> None:
    with plugged(server) as socket:
        answer = socket.raw.response
        assert answer is not None
        assert answer.status_code == 101
        assert answer.headers["x-request-id"].startswith("req_")
        assert "sec-websocket-extensions" not in answer.headers


# -- events --------------------------------------------------------------------------------------


def test_events_are_those_of_a_stream(server: LiveServer, client: httpx2.Client) -> None:
    """Spec §2.6: the same events in the same order, one a message, numbered from 0 for each
    response, without ``[DONE]``."""
    body = {"model": "simulator", "input": "Tell me", "stream": True}
    streamed = events(client.post("/v1/responses", json=body).text)
    with plugged(server) as socket:
        for _ in range(2):
            socket.ask("Tell me")
            said = socket.rest()
            assert [event["type"] for event in said] == [event["type"] for event in streamed]
            assert [set(event) for event in said] == [set(event) for event in streamed]
            assert said[-1]["response"]["output_text"] == streamed[-1]["response"]["output_text"]
        # Nothing is left behind that the next turn would take for its own.
        assert socket.refused(previous_response_id=UNKNOWN)["status"] == 400


def test_a_lane_says_its_name_in_every_event(server: LiveServer) -> None:
    with plugged(server) as socket:
        socket.ask(stream_id="a.B-9_")
        while True:
            message = socket.raw.recv(5)
            event = _OFFICIAL.validate_json(message)
            assert event.stream_id == "a.B-9_"
            assert message.count("stream_id") == 1  # type: ignore[arg-type]
            if event.type == "response.completed":
                break


def test_what_is_said_is_what_is_stored(server: LiveServer, client: httpx2.Client) -> None:
    with plugged(server) as socket:
        response = socket.made(metadata={"a": "b"})
    assert client.get(f"/v1/responses/{response['id']}").json() == response


@pytest.mark.parametrize(
    "fields", [{}, {"stream": True}, {"stream": None}, {"background": False}, {"background": None}]
)
def test_what_is_implied_may_be_said(server: LiveServer, fields: Json) -> None:
    with plugged(server) as socket:
        socket.made(**fields)


@pytest.mark.parametrize("wanted", [True, False])
def test_obfuscation(server: LiveServer, wanted: bool) -> None:
    with plugged(server) as socket:
        socket.ask(stream_options={"include_obfuscation": wanted})
        deltas = [event for event in socket.rest() if event["type"].endswith(".delta")]
    assert deltas
    assert all(("obfuscation" in event) is wanted for event in deltas)


def test_what_fails_inside_is_said_once(server: LiveServer, upstream: ChatUpstream) -> None:
    """``response.failed`` alone: clients take an `error` for the end; and the socket goes on."""
    upstream.script(Reply.json({"error": {"message": "secret"}}, 400), Reply.chat("Fine"))
    with plugged(server) as socket:
        socket.ask(model="m")
        said = socket.rest()
        assert said[-1]["response"]["error"]["code"] == "invalid_prompt"
        assert [event["type"] for event in said] == [
            *("response.created", "response.in_progress", "response.failed")
        ]
        assert "secret" not in repr(said)
        assert socket.made(model="m")["output_text"] == "Fine"


def test_a_quiet_run_says_that_it_lives(server: LiveServer, tmp_path: Any) -> None:
    """Design §5: a data-bearing event after a settable idle time."""

    with (
        serve(tmp_path, None, {"ANTIPHON_EVENT_HEARTBEAT": "0.1"}) as live,
        plugged(live) as socket,
    ):
        socket.ask("[[tokens=2]] [[pace=700ms]]")
        types = [event["type"] for event in socket.rest()]
    assert types.count("response.in_progress") > 3


# -- what clients say ----------------------------------------------------------------------------

BAD: Final[dict[str, tuple[object, str | None, str | None]]] = {
    "no JSON": ("{", None, None),
    "empty": ("", None, None),
    "NaN": ('{"type": NaN}', None, None),
    "twice": ('{"type": "response.create", "model": "a", "model": "b"}', None, None),
    "deep": ("[" * 200 + "]" * 200, None, None),
    "no object": ([], None, "invalid_type"),
    "no type": ({}, "type", "missing_required_parameter"),
    "type of no type": ({"type": 1}, "type", "invalid_type"),
    "unknown type": ({"type": "response.cancel"}, "type", "invalid_value"),
    "binary": (b'{"type": "response.create"}', None, None),
    "steer what": ({"type": "response.steer", "input": "x"}, "previous_response_id", None),
    "steer with": ({"type": "response.steer", "previous_response_id": "r"}, "input", None),
    "steer odd": (
        {"type": "response.steer", "previous_response_id": 1, "input": "x"},
        "previous_response_id",
        "invalid_type",
    ),
    "steer lane": (
        {"type": "response.steer", "previous_response_id": "r", "input": "x", "stream_id": "a"},
        "stream_id",
        "unknown_parameter",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_an_error_and_the_socket_stays_open(
    server: LiveServer, name: str
) -> None:
    event, param, code = BAD[name]
    with plugged(server) as socket:
        socket.say(event)
        frame = socket.error()
        assert frame["status"] == 400
        assert frame["error"]["type"] == "invalid_request_error"
        assert frame["error"]["param"] == param
        assert code is None or frame["error"]["code"] == code
        socket.made()


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"model": ""},
        {"input": 5},
        {"input": []},
        {"temperature": 3},
        {"nonsense": 1},
        {"stream": "yes"},
        {"background": "yes"},
        {"stream_options": {"x": 1}},
        {"previous_response_id": UNKNOWN},
        {"previous_response_id": 7},
        {"tools": [{"type": "web_search"}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
    ],
    ids=repr,
)
def test_parameters_are_checked_as_over_http(
    server: LiveServer, client: httpx2.Client, fields: Json
) -> None:
    """The same status, texts, codes and params; but `code` is never null here (spec §10)."""
    body = {"model": "simulator", "input": "Hi", "stream": True, **fields}
    plain = client.post("/v1/responses", json=body)
    with plugged(server) as socket:
        socket.say({"type": "response.create", "model": "simulator", "input": "Hi", **fields})
        frame = socket.error()
        error = plain.json()["error"]
        assert frame["error"] == {**error, "code": error["code"] or error["type"]}
        assert frame["status"] == plain.status_code
        socket.made()


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"stream": False}, "stream", "unsupported_parameter"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"generate": 1}, "generate", "invalid_type"),
    ],
)
def test_what_a_socket_cannot_do_is_named(
    server: LiveServer, fields: Json, param: str, code: str
) -> None:
    with plugged(server) as socket:
        error = socket.refused(**fields)["error"]
        assert (error["param"], error["code"]) == (param, code)
        # In its lane and in its turn.
        assert socket.refused(stream_id="lane", **fields)["error"] == error


@pytest.mark.parametrize("stream_id", ["", "a b", "ä", "a" * 257, 5, ["a"], "a\n", "a/b"])
def test_stream_ids_are_checked(server: LiveServer, stream_id: object) -> None:
    with plugged(server) as socket:
        socket.ask(stream_id=stream_id)
        frame = socket.error()
        assert frame["error"] == {
            "type": "invalid_request_error",
            "code": "invalid_stream_id",
            "param": "stream_id",
            "message": "The 'stream_id' field must be a non-empty string with at most 256 "
            "characters and may only contain letters, numbers, underscores, hyphens, and periods.",
        }
        socket.made(stream_id="a" * 256)
        socket.made(stream_id=None)


def test_steering_is_refused_in_its_own_shape(server: LiveServer) -> None:
    """App. E, ResponseSteerFailedEvent."""
    sent = {"previous_response_id": UNKNOWN, "input": [MESSAGE]}
    with plugged(server) as socket:
        socket.ask(SLOW)
        assert socket.next()["type"] == "response.created"
        socket.say({"type": "response.steer", **sent})
        while (event := socket.next())["type"] != "response.steer.failed":
            pass
        _OFFICIAL.validate_python(event)
        assert event["steer"] == sent
        assert event["error"]["code"] == "steering_not_supported"
        assert event["error"]["type"] == "invalid_request_error"


def test_metrics_count_open_sockets(server: LiveServer, client: httpx2.Client) -> None:
    def count() -> float:
        found = re.search(r"^antiphon_websockets (.*)$", client.get("/metrics").text, re.MULTILINE)
        assert found
        return float(found[1])

    before = count()
    with plugged(server):
        assert count() == before + 1


def test_the_key_is_not_repeated(server: LiveServer, upstream: ChatUpstream) -> None:
    """R-27, R-130."""
    upstream.script(Reply(body=[sse(chunk(content="Hi")), "cut"]))
    with plugged(server) as socket:
        socket.ask(model="m")
        said = repr(socket.rest())
    assert KEY not in said
    assert KEY not in server.log()
