"""Anthropic's Messages API, from the other end."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from tests.backends.upstream import Reply, Request, Step
from tests.conformance.wire import Asked, Break, Json, Message, Refusal, Remote, Turn

SECRET: Final = "SECRET-of-the-upstream"
#: How a turn ends that has no calls. The API has one word for what is filtered and refused.
_STOP: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "filter": "refusal",
    "refusal": "refusal",
}
#: Status, type and message of an error.
_REFUSALS: Final[Mapping[str, tuple[int, str, str]]] = {
    "rate": (429, "rate_limit_error", f"{SECRET} would exceed your rate limit"),
    "overloaded": (529, "overloaded_error", f"Overloaded {SECRET}"),
    "broken": (500, "api_error", f"Internal server error {SECRET}"),
    "key": (401, "authentication_error", f"invalid x-api-key {SECRET}"),
    "forbidden": (403, "permission_error", f"Your key may not do this {SECRET}"),
    "too_long": (
        400,
        "invalid_request_error",
        f"prompt is too long: 210000 tokens > 200000 maximum {SECRET}",
    ),
    "no_model": (404, "not_found_error", f"model: {SECRET}"),
    "refused": (400, "invalid_request_error", f"messages.0: {SECRET} is not allowed"),
}


def event(type_: str, **fields: Any) -> bytes:
    """One server-sent event."""
    data = orjson.dumps({"type": type_, **fields})
    return b"event: %b\ndata: %b\n\n" % (type_.encode(), data)


def start(usage: Json | None = None) -> bytes:
    """The first event of an answer."""
    message: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage or {"input_tokens": 7, "output_tokens": 1},
    }
    return event("message_start", message=message)


def block(index: int, begin: Json, *deltas: Json) -> list[bytes]:
    """A block of content, from its start to its stop."""
    return [
        event("content_block_start", index=index, content_block=begin),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def text(index: int, *pieces: str) -> list[bytes]:
    """A block of text."""
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    return block(index, {"type": "text", "text": ""}, *deltas)


def thinking(index: int, signature: str | None, *pieces: str) -> list[bytes]:
    """A block of thoughts."""
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    if signature is not None:
        deltas.append({"type": "signature_delta", "signature": signature})
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def tool_use(index: int, id_: str, name: str, *pieces: str) -> list[bytes]:
    """A call, with its arguments in pieces."""
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(index, {"type": "tool_use", "id": id_, "name": name, "input": {}}, *deltas)


def stop(reason: str, usage: Json | None = None, **details: Any) -> list[bytes]:
    """The last events of an answer."""
    delta = {"stop_reason": reason, "stop_sequence": None, **details}
    counts = usage or {"output_tokens": 5}
    return [event("message_delta", delta=delta, usage=counts), event("message_stop")]


class AnthropicWire(Remote):
    """A `Wire`; see `tests.conformance.wire`."""

    name = "anthropic"
    kind = "anthropic"
    path = "/v1"
    #: A model that takes everything; it thinks when it is told to.
    settings = 'profile = "claude-sonnet-4-6"'
    schemas = True
    thoughts_back = True
    signatures = True
    images = True
    filters = True

    def __init__(self, *, claude: bool = True) -> None:
        """Not `claude`: a server of which only the protocol is known."""
        if not claude:
            self.name, self.settings, self.schemas = "anthropic's protocol alone", "", False

    def reply(self, turn: Turn) -> Reply:
        """See `Wire.reply`."""
        body: list[Step] = []
        for piece in _events(turn):
            body += [piece, turn.pause] if turn.pause else [piece]
        return Reply(body=body)

    def fault(self, fault: Refusal | Break) -> Reply:
        """See `Wire.fault`."""
        if fault in _REFUSALS:
            status, kind, message = _REFUSALS[fault]
            headers = {"retry_after": "1"} if fault == "rate" else {}
            error = {"type": "error", "error": {"type": kind, "message": message}}
            return Reply.json({**error, "request_id": "req_1"}, status, **headers)
        if fault == "web_page":
            page = f"<html>{SECRET}</html>".encode()
            return Reply(body=[page], headers={"content-type": "text/html"})
        if fault == "garbage":
            return Reply.json({"answer": SECRET})
        begin = [start(), *text(0, "Hel")[:2]]
        error = {"type": "overloaded_error", "message": SECRET}
        ends: dict[str, list[Step]] = {
            "error": [event("error", error=error)],
            "cut": [0.1, "cut"],
            "early": [event("content_block_stop", index=0)],
            "stall": ["stall"],
            "noise": [b"event: content_block_delta\ndata: {" + SECRET.encode() + b"\n\n"],
        }
        return Reply(body=[*begin, *ends[fault]])

    def asked(self, request: Request) -> Asked:
        """See `Wire.asked`."""
        body = request.json
        tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools", ())}
        choice = body.get("tool_choice")
        return Asked(
            model=body["model"],
            messages=[m for message in body["messages"] for m in _messages(message)],
            system=body.get("system", ""),
            tools=tools,
            choice=None if choice is None else _choice(choice),
            schema=body.get("output_config", {}).get("format", {}).get("schema"),
            temperature=body.get("temperature"),
            most_tokens=body["max_tokens"],
            key=request.headers.get("x-api-key"),
        )

    def models(self, *names: str) -> Reply:
        """See `Wire.models`."""
        rows = [
            {
                "type": "model",
                "id": name,
                "display_name": name.title(),
                "created_at": "2026-02-05T00:00:00Z",
            }
            for name in names
        ]
        ends = {"first_id": names[0], "last_id": names[-1]} if names else {}
        return Reply.json({"data": rows, "has_more": False, **ends})


def _events(turn: Turn) -> Iterator[bytes]:
    given, cached, made, reasoning = turn.usage
    usage = {
        "input_tokens": given - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }
    yield start({**usage, "output_tokens": 1})
    yield event("ping")
    index = 0
    if turn.thoughts or turn.signature:
        yield from thinking(index, turn.signature or "c2lnbmF0dXJl", *turn.thoughts)
        index += 1
    if turn.text:
        yield from text(index, *turn.text)
        index += 1
    for number, (name, arguments) in enumerate(turn.calls):
        written = orjson.dumps(arguments).decode()
        pieces = (written[:3], written[3:]) if arguments else ("",)
        yield from tool_use(index, f"toolu_{number}", name, *pieces)
        index += 1
    calls = turn.calls and turn.finish == "stop"
    details = {"output_tokens_details": {"thinking_tokens": reasoning}} if reasoning else {}
    counts = {**usage, "output_tokens": made, **details}
    yield from stop("tool_use" if calls else _STOP[turn.finish], counts)


def _messages(message: Json) -> Iterator[Message]:
    blocks = message["content"]
    for result in (b for b in blocks if b["type"] == "tool_result"):
        yield _message("tool", result.get("content", []))
    others = [b for b in blocks if b["type"] != "tool_result"]
    if others:
        yield _message(message["role"], others)


def _message(role: str, blocks: list[Json]) -> Message:
    thoughts = [b for b in blocks if b["type"] == "thinking"]
    return Message(
        role,
        "\n".join(b["text"] for b in blocks if b["type"] == "text"),
        [_address(b["source"]) for b in blocks if b["type"] == "image"],
        [b["source"]["media_type"] for b in blocks if b["type"] == "document"],
        [(b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"],
        "".join(b["thinking"] for b in thoughts),
        thoughts[-1]["signature"] if thoughts else None,
    )


def _address(source: Json) -> str:
    if source["type"] == "url":
        return str(source["url"])
    return f"data:{source['media_type']};base64,{source['data']}"


def _choice(choice: Json) -> str:
    named: dict[str, str] = {"auto": "auto", "none": "none", "any": "required"}
    return named.get(choice["type"]) or str(choice["name"])
