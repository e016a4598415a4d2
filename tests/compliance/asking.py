"""How the compliance cases are asked over HTTP, and read as the suite reads the answers."""

import base64
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import orjson

from tests.api.talk import Json
from tests.compliance.schema import COMPACTION, EVENT, RESPONSE, check

#: Seconds that the suite waits for a turn.
PATIENCE: Final = 30.0
WEATHER: Final[Json] = {
    "type": "function",
    "name": "get_weather",
    "description": "Tells the weather of a place",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "A city"}},
        "required": ["location"],
    },
}


def said(role: str, content: object, **more: object) -> Json:
    return {"type": "message", "role": role, "content": content, **more}


def png(width: int, height: int) -> str:
    """A red picture as a data URL."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    rows = (b"\0" + b"\xff\0\0" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    encoded = base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunks).decode()
    return f"data:image/png;base64,{encoded}"


def post(suite: httpx2.Client, body: Json, path: str = "/v1/responses") -> Json:
    """The JSON of an answer that must be good."""
    reply = suite.post(path, json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    value: Json = reply.json()
    return value


def answered(suite: httpx2.Client, model: str, *items: Json, **body: Any) -> Json:
    """A valid Response with output to a request that is not streamed."""
    response = post(suite, {"model": model, "input": list(items), **body})
    assert check(RESPONSE, response) == []
    assert response["output"]
    assert response["status"] == "completed"
    return response


def text_of(response: Json) -> str:
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


@dataclass
class Reader:
    """The suite's reader of event streams: an event whose lines come in two reads of the network
    is lost to it (spec §4)."""

    events: list[Json] = field(default_factory=list)
    _rest: str = ""

    def feed(self, read: str) -> None:
        *lines, self._rest = (self._rest + read).split("\n")
        name = payload = ""
        for line in lines:
            if line.startswith("event:"):
                name = line.removeprefix("event:").strip()
            elif line.startswith("data:"):
                payload = line.removeprefix("data:").strip()
            elif line == "" and payload:
                if payload != "[DONE]":
                    event: Json = orjson.loads(payload)
                    assert name == event["type"]
                    self.events.append(event)
                name = payload = ""


def read(suite: httpx2.Client, model: str, *items: Json, **body: Any) -> list[Json]:
    """The events of a stream, as the suite reads them."""
    reader, raw = Reader(), b""
    request = {"model": model, "input": list(items), "stream": True, **body}
    with suite.stream("POST", "/v1/responses", json=request) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].partition(";")[0] == "text/event-stream"
        for piece in reply.iter_raw():
            raw += piece
            reader.feed(piece.decode())
    assert len(reader.events) == raw.count(b"\ndata: {"), "an event came in two reads"
    assert raw.endswith(b"data: [DONE]\n\n")
    return reader.events


def streamed(suite: httpx2.Client, model: str, *items: Json, **body: Any) -> list[Json]:
    """The events of a stream that must complete and all be valid."""
    events = read(suite, model, *items, **body)
    assert [problem for event in events for problem in check(EVENT, event)] == []
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["status"] == "completed"
    return events


def compacted(suite: httpx2.Client, model: str, *items: Json, **body: Any) -> Json:
    """A valid compaction."""
    request = {"model": model, "input": list(items), **body}
    made = post(suite, request, "/v1/responses/compact")
    assert check(COMPACTION, made) == []
    assert "compaction" in [item["type"] for item in made["output"]]
    return made
