"""The cases of the Open Responses compliance suite that go over a WebSocket (spec §10.2: 5 to 11,
and ``websocket-generate-false``), on the simulator and through the chat-completions backend.

Rules
1. As the suite does it: a turn is over with its terminal event or with an error, and the next one
   is sent at once. Whatever the server still said of the last one would count for the next.
2. Every frame must be valid, those of a turn that fails too.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import orjson
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.api.talk import Json
from tests.compliance.asking import PATIENCE, said, text_of
from tests.compliance.schema import COMPACTION, EVENT, RESPONSE, SOCKET_ERROR, check
from tests.live import KEY, LiveServer

ENDS: Final = ("response.completed", "response.incomplete", "response.failed", "error")
NOT_FOUND: Final = "previous_response_not_found"


@dataclass
class Turn:
    """What came back for a ``response.create``."""

    events: list[Json] = field(default_factory=list)

    @property
    def end(self) -> Json:
        """The event that it is over with."""
        return self.events[-1]

    @property
    def code(self) -> str | None:
        """The code of the error that it ended with."""
        error = self.end.get("error") or self.end["response"]["error"] or {}
        code: str | None = error.get("code")
        return code

    def response(self) -> Json:
        """The Response, which must be valid, completed, and the end of a whole stream."""
        assert self.end["type"] == "response.completed", self.end
        numbers = [event["sequence_number"] for event in self.events]
        assert numbers == list(range(len(self.events)))
        made: Json = self.end["response"]
        assert check(RESPONSE, made) == []
        assert made["status"] == "completed"
        return made


class Session:
    """The suite's side of a connection."""

    def __init__(self, connection: ClientConnection, model: str) -> None:
        self._connection = connection
        self._model = model

    def turn(self, text: object, **body: Any) -> Turn:
        """Ask, and take all frames up to the end."""
        request = {"type": "response.create", "model": self._model, "input": text, **body}
        self._connection.send(orjson.dumps(request).decode())
        turn = Turn()
        while not turn.events or turn.end["type"] not in ENDS:
            message = self._connection.recv(PATIENCE)
            assert isinstance(message, str), "events are text"
            event = orjson.loads(message)
            on_socket = event["type"] == "error" and "sequence_number" not in event
            assert check(SOCKET_ERROR if on_socket else EVENT, event) == []
            turn.events.append(event)
        return turn

    def made(self, text: object, **body: Any) -> Json:
        """The Response of a turn that must complete with output."""
        response = self.turn(text, **body).response()
        assert response["output"]
        return response


@contextlib.contextmanager
def session(tested: LiveServer, model: str) -> Iterator[Session]:
    """A new connection for the block."""
    url = f"ws://127.0.0.1:{tested.port}/v1/responses"
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    connection = connect(url, additional_headers=headers, proxy=None)
    with connection:
        yield Session(connection, model)


@pytest.fixture
def socket(tested: LiveServer, model: str) -> Iterator[Session]:
    """A connection to one of the models."""
    with session(tested, model) as opened:
        yield opened


def test_websocket_response(socket: Session) -> None:
    """Case 5."""
    response = socket.made([said("user", "Count to three.")])
    assert "Count to three." in text_of(response)


def test_websocket_sequential_responses(socket: Session) -> None:
    """Case 6."""
    first = socket.made("Say the first.", store=False)
    second = socket.made("Say the second.", store=False)
    assert first["id"] != second["id"]
    assert "second" in text_of(second)
    assert "first" not in text_of(second)


def test_websocket_continuation(socket: Session, model: str) -> None:
    """Case 7."""
    first = socket.made("The word is cobalt.", store=False)
    second = socket.made("Which word?", store=False, previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    assert model == "simulator" or "cobalt" in text_of(second)


def test_websocket_reconnect_store_false_recovery(
    tested: LiveServer, socket: Session, model: str
) -> None:
    """Case 8: the memory is the connection's, and the new connection goes on after the error."""
    first = socket.made("The word is copper.", store=False)
    with session(tested, model) as again:
        lost = again.turn("Go on.", store=False, previous_response_id=first["id"])
        assert lost.code == NOT_FOUND
        again.made([said("user", "Begin anew.")], store=False)


def test_websocket_previous_response_not_found(socket: Session) -> None:
    """Case 9."""
    unknown = "resp_openresponses_missing_1764967971"
    assert socket.turn("Go on.", store=False, previous_response_id=unknown).code == NOT_FOUND


def test_websocket_failed_continuation_evicts_cache(socket: Session) -> None:
    """Case 10."""
    first = socket.made("The word is ember.", store=False)
    again = {"store": False, "previous_response_id": first["id"]}
    orphan = {"type": "function_call_output", "call_id": "call_missing", "output": "No such call."}
    failed = socket.turn([orphan], **again)
    assert failed.end["type"] in ("error", "response.failed")
    assert socket.turn("Go on.", **again).code == NOT_FOUND


def test_websocket_compact_new_chain(socket: Session, suite: httpx2.Client, model: str) -> None:
    """Case 11: what a compaction gives goes back in as it is."""
    history = [
        said("user", [{"type": "input_text", "text": "The word is slate."}]),
        said("assistant", [{"type": "output_text", "text": "OK."}]),
        said("user", [{"type": "input_text", "text": "Compress this."}]),
    ]
    reply = suite.post("/v1/responses/compact", json={"model": model, "input": history})
    assert reply.status_code == 200, reply.text
    assert check(COMPACTION, reply.json()) == []
    window = [*reply.json()["output"], said("user", "Which word?")]
    response = socket.made(window, tools=[], store=False)
    assert model == "simulator" or "slate" in text_of(response)


def test_websocket_generate_false(socket: Session, model: str) -> None:
    """The newer case: a warm-up has an id and no output, and can be continued."""
    warm = socket.turn([said("user", "The word is jade.")], store=False, generate=False).response()
    assert warm["output"] == []
    response = socket.made("Which word?", store=False, previous_response_id=warm["id"])
    assert model == "simulator" or "jade" in text_of(response)


def test_every_error_frame_has_a_code(socket: Session) -> None:
    """§10: a status and `error.code`, also where OpenAI's HTTP answer has null."""
    orphan = {"type": "function_call_output", "call_id": "call_missing", "output": "No such call."}
    refused = socket.turn([orphan])
    assert (refused.end["status"], refused.code) == (400, "invalid_request_error")
    socket.made("Go on.")
