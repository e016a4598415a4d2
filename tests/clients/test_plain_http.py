"""A client without an SDK: the bytes of spec §4 on a plain socket, and one shape for both ways.

Rules
1. The reader here knows HTTP/1.1 framing and nothing else: what it splits, the server wrote.
2. A stream is checked as bytes first and only then as JSON.
"""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import pytest

from antiphon.testing import assert_valid_log
from tests.backends.upstream import ChatUpstream, Reply, chunk, sse
from tests.clients.replies import SLOW, TWO_CALLS, WEATHER, calling, said
from tests.live import KEY, LiveServer

EVENT: Final = re.compile(rb'event: ([a-z_.]+)\ndata: (\{"type":"\1",.*\})\n\n')
ID: Final = re.compile(r"\b(resp|msg|rs|fc|ctc)_[0-9a-f]{48}\b")


@dataclass
class Answer:
    """Status, header fields by lower-case name, and the body in the pieces of its framing."""

    status: int
    headers: dict[str, str]
    pieces: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The stream's events, after every byte of it was checked (spec §4)."""
        assert self.status == 200, self.body
        body = self.body
        assert b"\r" not in body
        assert body.endswith(b"\n\ndata: [DONE]\n\n")
        blocks = body.removesuffix(b"data: [DONE]\n\n").removesuffix(b"\n\n").split(b"\n\n")
        events = []
        for block in blocks:
            if block != b": ping":
                matched = EVENT.fullmatch(block + b"\n\n")
                assert matched, block
                events.append(json.loads(matched[2]))
        return events


class Connection:
    """One kept-alive connection."""

    def __init__(self, server: LiveServer) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request; read exactly its answer."""
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {KEY}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + data)
        status = int(self._file.readline().split()[1])
        headers = dict(self._fields())
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, list(self._chunks()))
        return Answer(status, headers, [self._file.read(int(headers["content-length"]))])

    def post(self, **body: Any) -> Answer:
        """``POST /v1/responses``."""
        return self.ask("POST", "/v1/responses", {"model": "m", "input": "Hi", **body})

    def _fields(self) -> Iterator[tuple[str, str]]:
        while (line := self._file.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), line
            name, _, value = line.decode("latin-1").partition(":")
            yield name.lower(), value.strip()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._file.readline(), 16):
            yield self._file.read(size)
            assert self._file.readline() == b"\r\n"
        assert self._file.readline() == b"\r\n"


@pytest.fixture
def connection(server: LiveServer) -> Iterator[Connection]:
    with Connection(server) as connection:
        yield connection


def test_the_bytes_of_a_stream(connection: Connection, upstream: ChatUpstream) -> None:
    upstream.script(Reply.chat("Hel", "lo\nthere ", "\N{PILE OF POO}\u2028", pause=0.05))
    answer = connection.post(stream=True)
    events = answer.events()
    assert assert_valid_log(events)["output_text"] == "Hello\nthere \N{PILE OF POO}\u2028"
    assert len(answer.pieces) >= 4, "events are sent when they happen"
    for piece in answer.pieces:
        assert piece.endswith(b"\n\n"), "a write carries whole events"
    headers = answer.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert headers["transfer-encoding"] == "chunked"
    assert headers["x-request-id"].startswith("req_")
    assert headers["openai-version"]
    assert int(headers["openai-processing-ms"]) >= 0
    assert "content-length" not in headers


def test_one_connection_serves_everything_in_turn(
    connection: Connection, upstream: ChatUpstream
) -> None:
    """A stream, an error, an answer, a failed stream: each leaves the connection usable."""
    cut = Reply(body=[sse(chunk(content="half")), 0.1, "cut"])
    upstream.script(Reply.chat("one"), Reply.chat("two"), cut, Reply.chat("four"))
    streamed = connection.post(stream=True).events()
    assert streamed[-1]["response"]["output_text"] == "one"
    refused = connection.post(temperature=3)
    assert (refused.status, refused.json()["error"]["param"]) == (400, "temperature")
    assert connection.post().json()["output_text"] == "two"
    failed = connection.post(stream=True).events()
    assert [event["type"] for event in failed[-2:]] == ["error", "response.failed"]
    assert failed[-2]["error"]["code"] == failed[-1]["response"]["error"]["code"]
    last = connection.post(stream=True).events()[-1]["response"]
    assert connection.ask("GET", f"/v1/responses/{last['id']}").json() == last
    assert connection.ask("DELETE", f"/v1/responses/{last['id']}").status == 200
    assert connection.ask("GET", f"/v1/responses/{last['id']}").status == 404


SAID: Final = {
    "text": Reply.chat("Hello", " there"),
    "nothing": said(),
    "two calls": TWO_CALLS,
    "text, then a call": said(
        sse(chunk(content="Let me see.")),
        *calling(("call_a", "weather", '{"city":"Rome"}')).body,
    ),
    "reasoning": said(sse(chunk(reasoning_content="Hmm.")), sse(chunk(content="42"))),
    "refusal": said(sse(chunk(refusal="No."))),
    "too long": said(sse(chunk(content="half")), finish="length"),
    "filtered": said(sse(chunk(content="half")), finish="content_filter"),
}


@pytest.mark.parametrize("reply", SAID.values(), ids=SAID)
def test_streamed_or_not_the_response_is_the_same(
    connection: Connection, upstream: ChatUpstream, reply: Reply
) -> None:
    """Same keys in the same order with the same values: only ids and times differ (lessons §5)."""
    upstream.script(reply)
    whole = connection.post(tools=[WEATHER])
    events = connection.post(tools=[WEATHER], stream=True).events()
    assert_valid_log(events)
    final = events[-1]["response"]
    assert whole.status == 200
    assert comparable(final) == comparable(whole.json())
    assert connection.ask("GET", f"/v1/responses/{final['id']}").json() == final
    for event in events[:2]:
        assert list(event["response"]) == list(final)


def comparable(response: Any) -> str:
    """The response as text, without what differs from one to the next."""
    times = {key: None for key in ("created_at", "completed_at") if response[key] is not None}
    return ID.sub(r"\1_", json.dumps({**response, **times}))


def test_heartbeats_on_the_wire(restless: LiveServer, upstream: ChatUpstream) -> None:
    """Design §5: comments and events, whole, counted like any other event."""
    upstream.script(SLOW)
    with Connection(restless) as connection:
        answer = connection.post(stream=True)
    assert answer.pieces.count(b": ping\n\n") >= 4
    events = answer.events()
    beats = [event for event in events[2:] if event["type"] == "response.in_progress"]
    assert 2 <= len(beats) <= 6
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [beat["response"]["output_text"] for beat in beats] == ["Hel"] * len(beats)
    assert events[-1]["response"]["output_text"] == "Hello"
