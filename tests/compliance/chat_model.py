"""A chat-completions server that answers like vLLM with a model behind it, on loopback.

Rules
1. It is as strict as vLLM about what it is sent: roles, kinds of content, calls before their
   outputs, images that are images. What it does not take is a 400.
2. It calls the first tool when the user has spoken last and tools are there to choose from; else
   it says what the user has said so far, and how many images it saw: its context can be seen.
3. Asked to think, it has thoughts, which come first as `reasoning_content`.
4. Everything streams, a word or a few characters of arguments at a time, with usage if asked for.
"""

import base64
import binascii
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import orjson

Json: TypeAlias = dict[str, Any]

MODEL: Final = "served-model"
_THOUGHTS: Final = "Let me think about it."
#: Characters of a message that the model repeats.
_LONGEST: Final = 60
_PNG: Final = b"\x89PNG\r\n\x1a\n"


class Refused(ValueError):
    """A request that vLLM would answer with 400."""


class ChatModel:
    """The server; use it as a context manager."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Connection)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def base_url(self) -> str:
        """Where it is, with ``/v1``."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        models = [{"id": MODEL, "object": "model", "created": 1, "max_model_len": 32_768}]
        found = self.path == "/v1/models"
        self._json(200 if found else 404, {"object": "list", "data": models} if found else {})

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/chat/completions":
            self._json(404, {"detail": "Not Found"})
            return
        try:
            chunks = list(_answer(body))
        except Refused as refusal:
            error = {"message": str(refusal), "type": "BadRequestError", "param": None, "code": 400}
            self._json(400, {"error": error})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self._write(b"data: " + orjson.dumps(chunk) + b"\n\n")
        self._write(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _write(self, event: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def _json(self, status: int, value: Json) -> None:
        body = orjson.dumps(value)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing."""


def _answer(body: Json) -> Iterator[Json]:
    """The chunks of an answer. Raises `Refused`."""
    if body.get("model") != MODEL or body.get("stream") is not True:
        raise Refused(f"The model `{body.get('model')}` does not exist, or does not stream.")
    said, images = _read(body["messages"])
    choosing = body.get("tool_choice", "auto") != "none"
    calls = bool(body.get("tools")) and choosing and body["messages"][-1]["role"] == "user"
    yield _chunk({"role": "assistant", "content": ""})
    if said and "think" in said[-1].lower():
        yield from (_chunk({"reasoning_content": f"{word} "}) for word in _THOUGHTS.split())
    if calls:
        yield from (_chunk({"tool_calls": [part]}) for part in _call(body["tools"][0]["function"]))
    else:
        told = " | ".join(text[:_LONGEST] for text in said)
        words = f"You said: {told} ({images} images)".split()
        yield from (_chunk({"content": f"{word} "}) for word in words)
    yield _chunk({}, "tool_calls" if calls else "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        counts = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        yield {**_chunk({}), "choices": [], "usage": counts}


def _read(messages: list[Json]) -> tuple[list[str], int]:
    """What the user said, and the number of images."""
    said: list[str] = []
    images = 0
    called: set[str] = set()
    for message in messages:
        match message["role"]:
            case "user":
                text, seen = _content(message["content"])
                said.append(text)
                images += seen
            case "assistant":
                if not message.get("content") and not message.get("tool_calls"):
                    raise Refused("An assistant message needs content or tool calls.")
                called |= {call["id"] for call in message.get("tool_calls") or ()}
            case "tool":
                if message["tool_call_id"] not in called:
                    raise Refused(f"No tool call {message['tool_call_id']!r} before its output.")
            case "system" | "developer":
                _content(message["content"])
            case role:
                raise Refused(f"Unexpected role {role!r}.")
    return said, images


def _content(content: str | list[Json]) -> tuple[str, int]:
    """The text of a message, and the number of its images."""
    if isinstance(content, str):
        return content, 0
    texts = []
    images = 0
    for part in content:
        match part["type"]:
            case "text":
                texts.append(part["text"])
            case "image_url":
                _look(part["image_url"]["url"])
                images += 1
            case kind:
                raise Refused(f"Unknown part type: {kind}")
    return " ".join(texts), images


def _look(url: str) -> None:
    prefix, _, encoded = url.partition(",")
    try:
        seen = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise Refused("The image is not base64.") from error
    if prefix != "data:image/png;base64" or not seen.startswith(_PNG):
        raise Refused("Cannot identify the image.")


def _call(function: Json) -> Iterator[Json]:
    """The fragments of a call with everything that the function needs."""
    schema = function.get("parameters") or {}
    arguments = orjson.dumps(dict.fromkeys(schema.get("required", ()), "San Francisco")).decode()
    head = {"name": function["name"], "arguments": ""}
    yield {"index": 0, "id": "chatcmpl-tool-1", "type": "function", "function": head}
    for start in range(0, len(arguments), 4):
        yield {"index": 0, "function": {"arguments": arguments[start : start + 4]}}


def _chunk(delta: Json, finish: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
    }
