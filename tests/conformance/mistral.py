"""Mistral's chat completions, as its documentation has them, where they are not OpenAI's: see
`tests.conformance.wire`.

Rules
1. Thoughts are parts of the content; calls come whole; usage comes with the reason to finish.
2. It has no word for a filter or a refusal, and one for its own failure.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from tests.backends.upstream import DONE, Reply, Request, Step, sse
from tests.conformance.library import LibraryWire
from tests.conformance.wire import Asked, Break, Json, Message, Refusal, Turn

_TOO_LONG: Final = (
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
    "context length SECRET"
)
#: Refusal → status, code, message.
_ERRORS: Final[Mapping[str, tuple[int, str, str]]] = {
    "rate": (429, "1300", "Requests rate limit exceeded SECRET"),
    "overloaded": (503, "3505", "Service unavailable. SECRET"),
    "broken": (500, "3700", "Internal server error SECRET"),
    "key": (401, "1000", "Unauthorized SECRET"),
    "forbidden": (403, "1001", "You do not have access. SECRET"),
    "too_long": (400, "3051", _TOO_LONG),
    "no_model": (404, "1500", "Invalid model: SECRET"),
    "refused": (400, "3000", "Expected last role User or Tool: SECRET"),
}
_FINISH: Final = {"stop": "stop", "length": "length", "filter": "stop", "refusal": "stop"}


def chunk(finish: str | None = None, usage: Json | None = None, **delta: Any) -> bytes:
    """One event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    about: Json = {"id": "m1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return sse({**about, "choices": [choice], **({"usage": usage} if usage else {})})


class MistralWire(LibraryWire):
    """A `Wire`; see `tests.conformance.wire`."""

    name = "any-llm, mistral"
    settings = 'provider = "mistral"'
    schemas = True
    thoughts_back = True
    filters = False

    def reply(self, turn: Turn) -> Reply:
        """See `Wire.reply`."""
        body: list[Step] = []
        for piece in _events(turn):
            body += [piece, turn.pause] if turn.pause else [piece]
        return Reply(body=[*body, DONE])

    def fault(self, fault: Refusal | Break) -> Reply:
        """See `Wire.fault`."""
        if fault in _ERRORS:
            status, code, message = _ERRORS[fault]
            headers = {"retry_after": "1"} if fault == "rate" else {}
            error = {"object": "error", "message": message, "type": "x", "code": code}
            return Reply.json({**error, "param": None}, status, **headers)
        if fault == "web_page":
            return Reply(body=[b"<html>SECRET</html>"], headers={"content-type": "text/html"})
        if fault == "garbage":
            return Reply.json({"answer": "SECRET"})
        ends: dict[str, list[Step]] = {
            "error": [chunk("error", content=""), DONE],
            "cut": [0.1, "cut"],
            "early": [DONE],
            "stall": ["stall"],
            "noise": [b"data: {SECRET\n\n"],
        }
        return Reply(body=[chunk(role="assistant", content="Hel"), *ends[fault]])

    def asked(self, request: Request) -> Asked:
        """See `Wire.asked`."""
        body = request.json
        messages = [_message(message) for message in body["messages"]]
        choice = body.get("tool_choice")
        format_ = (body.get("response_format") or {}).get("json_schema")
        return Asked(
            model=body["model"],
            messages=[message for message in messages if message.role != "system"],
            system="\n\n".join(message.text for message in messages if message.role == "system"),
            tools={
                tool["function"]["name"]: tool["function"]["parameters"]
                for tool in body.get("tools") or ()
            },
            choice=choice["function"]["name"] if isinstance(choice, dict) else choice,
            schema=None if format_ is None else format_["schema"],
            temperature=body.get("temperature"),
            most_tokens=body.get("max_tokens"),
            key=request.headers["authorization"].removeprefix("Bearer "),
        )

    def models(self, *names: str) -> Reply:
        """See `Wire.models`."""
        about = {"object": "model", "created": 1, "owned_by": "mistralai", "type": "base"}
        rows = [{"id": name, **about, "capabilities": {}} for name in names]
        return Reply.json({"object": "list", "data": rows})


def _events(turn: Turn) -> Iterator[bytes]:
    yield chunk(role="assistant", content="")
    for thought in turn.thoughts:
        yield chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}])
    for text in turn.text:
        yield chunk(content=text)
    calls = [
        {
            "id": f"call{number:05}",
            "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
            "index": number,
        }
        for number, (name, arguments) in enumerate(turn.calls)
    ]
    given, cached, made, _ = turn.usage
    counts = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    usage = {**counts, "prompt_tokens_details": {"cached_tokens": cached}}
    if calls:
        yield chunk("tool_calls", usage, content="", tool_calls=calls)
    else:
        yield chunk(_FINISH[turn.finish], usage, content="")


def _message(message: Json) -> Message:
    said = message.get("content") or ""
    parts: list[Json] = [{"type": "text", "text": said}] if isinstance(said, str) else said
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    thoughts = [part["thinking"] for part in parts if part["type"] == "thinking"]
    return Message(
        message["role"],
        "\n".join(part["text"] for part in parts if part["type"] == "text"),
        [_address(part["image_url"]) for part in parts if part["type"] == "image_url"],
        (),
        [(call["name"], orjson.loads(call["arguments"])) for call in calls],
        "".join(part["text"] for thought in thoughts for part in thought),
    )


def _address(image: Any) -> str:
    return str(image["url"] if isinstance(image, dict) else image)
