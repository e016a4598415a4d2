"""How the live tests talk over a WebSocket: one JSON text a message, whole events out of it."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import orjson
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from antiphon.testing import assert_valid_log
from tests.api.talk import Json
from tests.live import KEY, LiveServer

#: Long enough to be overtaken.
SLOW: Final = "[[tokens=20]] [[pace=30ms]]"
ENDS: Final = ("response.completed", "response.incomplete", "response.failed")


class Socket:
    """An open connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.raw = connection

    def say(self, event: object) -> None:
        """Send a message: bytes and text as they are, anything else as JSON."""
        if not isinstance(event, str | bytes):
            event = orjson.dumps(event).decode()
        self.raw.send(event)

    def ask(self, text: object = "Hi", **body: Any) -> None:
        """A ``response.create`` for the simulator."""
        self.say({"type": "response.create", "model": "simulator", "input": text, **body})

    def next(self, timeout: float = 10) -> Json:
        """The next event."""
        message = self.raw.recv(timeout)
        assert isinstance(message, str), "events are text"
        event: Json = orjson.loads(message)
        return event

    def rest(self, stream_id: str | None = None) -> list[Json]:
        """The events of a response, which must be as in an SSE stream, up to its end; and nothing
        but events of this lane."""
        events: list[Json] = []
        while not events or events[-1]["type"] not in ENDS:
            event = self.next()
            assert event.pop("stream_id", None) == stream_id
            assert "sequence_number" in event, event
            events.append(event)
        assert_valid_log(events)
        return events

    def made(self, text: object = "Hi", **body: Any) -> Json:
        """The Response to a request that must work."""
        self.ask(text, **body)
        response: Json = self.rest(body.get("stream_id"))[-1]["response"]
        assert response["status"] == "completed", response
        return response

    def refused(self, text: object = "Hi", **body: Any) -> Json:
        """The error frame that a request is answered with."""
        self.ask(text, **body)
        return self.error(body.get("stream_id"))

    def error(self, stream_id: object = None) -> Json:
        """The next event, which must be an error frame of a lane."""
        event = self.next()
        assert event.pop("type") == "error", event
        assert event.pop("stream_id", None) == stream_id
        assert set(event) == {"status", "error"}
        assert set(event["error"]) - {"headers"} == {"type", "code", "message", "param"}
        return event

    def close_code(self, timeout: float = 10) -> int | None:
        """The code that the server closes with; what comes before is not read."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.raw.recv(timeout)
        return self.raw.close_code


def url_of(server: LiveServer, path: str = "/v1/responses") -> str:
    """Where WebSockets are."""
    return f"ws://127.0.0.1:{server.port}{path}"


def plug(
    server: LiveServer,
    key: str | None = KEY,
    path: str = "/v1/responses",
    *,
    buffer: int | None = None,
) -> Socket:
    """A new connection; who opens it closes it. `buffer`: bytes that the kernel holds for it."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.connect(("127.0.0.1", server.port))
    connection = connect(
        url_of(server, path),
        sock=sock,
        additional_headers=headers,
        compression=None,
        max_size=None,
        ping_interval=None,
        proxy=None,
    )
    return Socket(connection)


@contextlib.contextmanager
def plugged(server: LiveServer, key: str | None = KEY) -> Iterator[Socket]:
    """A connection for the block."""
    plugged_in = plug(server, key)
    with plugged_in.raw:
        yield plugged_in


def denial(server: LiveServer, key: str | None = KEY, path: str = "/v1/responses") -> InvalidStatus:
    """The HTTP answer to a handshake that must fail."""
    try:
        plug(server, key, path).raw.close()
    except InvalidStatus as refusal:
        return refusal
    raise AssertionError("the handshake was accepted")
