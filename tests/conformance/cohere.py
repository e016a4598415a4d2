"""Cohere's Chat API v2, as its documentation has it: see `tests.conformance.wire`.

Rules
1. What is said before calls is a plan (``tool-plan-delta``), and goes back as one.
2. It has no word for a filter or a refusal.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from tests.backends.upstream import Reply, Request, Step
from tests.conformance.library import LibraryWire
from tests.conformance.wire import Asked, Break, Json, Message, Refusal, Turn

_TOO_LONG: Final = (
    "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000. "
    "Try using a shorter prompt. SECRET"
)
#: Refusal → status, message.
_ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "rate": (429, "You are past the per minute request limit. SECRET"),
    "overloaded": (503, "service unavailable. SECRET"),
    "broken": (500, "internal server error. SECRET"),
    "key": (401, "invalid api token SECRET"),
    "forbidden": (403, "your account may not do this. SECRET"),
    "too_long": (400, _TOO_LONG),
    "no_model": (404, "model 'real-model' not found. SECRET"),
    "refused": (400, "invalid request: SECRET"),
}
_FINISH: Final = {
    "stop": "COMPLETE",
    "length": "MAX_TOKENS",
    "filter": "COMPLETE",
    "refusal": "COMPLETE",
}


def event(type_: str, **more: Any) -> bytes:
    """One event of a stream."""
    said = orjson.dumps({"type": type_, **more})
    return b"event: %b\ndata: %b\n\n" % (type_.encode(), said)


def content(index: int, kind: str, *pieces: str) -> list[bytes]:
    """A block of text or thinking."""
    begin = {"message": {"content": {"type": kind, kind: ""}}}
    deltas = [{"message": {"content": {kind: piece}}} for piece in pieces]
    return [
        event("content-start", index=index, delta=begin),
        *(event("content-delta", index=index, delta=delta) for delta in deltas),
        event("content-end", index=index),
    ]


def end(reason: str, usage: tuple[int, int, int, int] = (7, 0, 5, 0)) -> bytes:
    """The last event."""
    given, cached, made, _ = usage
    tokens = {"input_tokens": given, "output_tokens": made}
    counts = {"billed_units": tokens, "tokens": tokens, "cached_tokens": cached}
    return event("message-end", delta={"finish_reason": reason, "usage": counts})


def start() -> bytes:
    """The first event."""
    said: Json = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}
    return event("message-start", id="m1", delta={"message": {**said, "citations": []}})


class CohereWire(LibraryWire):
    """A `Wire`; see `tests.conformance.wire`."""

    name = "any-llm, cohere"
    settings = 'provider = "cohere"'
    schemas = True
    filters = False

    def reply(self, turn: Turn) -> Reply:
        """See `Wire.reply`."""
        body: list[Step] = []
        for piece in _events(turn):
            body += [piece, turn.pause] if turn.pause else [piece]
        return Reply(body=body)

    def fault(self, fault: Refusal | Break) -> Reply:
        """See `Wire.fault`."""
        if fault in _ERRORS:
            status, message = _ERRORS[fault]
            headers = {"retry_after": "1"} if fault == "rate" else {}
            return Reply.json({"id": "e1", "message": message}, status, **headers)
        if fault == "web_page":
            return Reply(body=[b"<html>SECRET</html>"], headers={"content-type": "text/html"})
        if fault == "garbage":
            return Reply.json({"answer": "SECRET"})
        ends: dict[str, list[Step]] = {
            "error": [end("ERROR")],
            "cut": [0.1, "cut"],
            "early": [event("content-end", index=0)],
            "stall": ["stall"],
            "noise": [b"event: content-delta\ndata: {SECRET\n\n"],
        }
        return Reply(body=[start(), *content(0, "text", "Hel")[:2], *ends[fault]])

    def asked(self, request: Request) -> Asked:
        """See `Wire.asked`."""
        body = request.json
        messages = [_message(message) for message in body["messages"]]
        choice = body.get("tool_choice")
        format_ = body.get("response_format")
        return Asked(
            model=body["model"],
            messages=[message for message in messages if message.role != "system"],
            system="\n\n".join(message.text for message in messages if message.role == "system"),
            tools={
                tool["function"]["name"]: tool["function"]["parameters"]
                for tool in body.get("tools", ())
            },
            choice=None if choice is None else {"NONE": "none", "REQUIRED": "required"}[choice],
            schema=None if format_ is None else format_.get("schema", {}),
            temperature=body.get("temperature"),
            most_tokens=body.get("max_tokens"),
            key=request.headers["authorization"].removeprefix("Bearer "),
        )

    def models(self, *names: str) -> Reply:
        """See `Wire.models`."""
        rows = [{"name": name, "endpoints": ["chat"], "context_length": 128000} for name in names]
        return Reply.json({"models": rows})


def _events(turn: Turn) -> Iterator[bytes]:
    yield start()
    index = 0
    if turn.thoughts:
        yield from content(index, "thinking", *turn.thoughts)
        index += 1
    if turn.calls:
        for text in turn.text:
            yield event("tool-plan-delta", delta={"message": {"tool_plan": text}})
    elif turn.text:
        yield from content(index, "text", *turn.text)
    for number, (name, arguments) in enumerate(turn.calls):
        function = {"name": name, "arguments": ""}
        call = {"id": f"{name}_{number}", "type": "function", "function": function}
        yield event("tool-call-start", index=number, delta={"message": {"tool_calls": call}})
        written = orjson.dumps(arguments).decode()
        for piece in (written[:3], written[3:]):
            more = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield event("tool-call-delta", index=number, delta=more)
        yield event("tool-call-end", index=number)
    calls = turn.calls and turn.finish == "stop"
    yield end("TOOL_CALL" if calls else _FINISH[turn.finish], turn.usage)


def _message(message: Json) -> Message:
    said = message.get("content") or ""
    parts: list[Json] = [{"type": "text", "text": said}] if isinstance(said, str) else said
    calls = [call["function"] for call in message.get("tool_calls", ())]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return Message(
        message["role"],
        "\n".join(texts) or message.get("tool_plan", ""),
        [part["image_url"]["url"] for part in parts if part["type"] == "image_url"],
        (),
        [(call["name"], orjson.loads(call["arguments"])) for call in calls],
    )
