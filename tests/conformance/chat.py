"""Chat-completions, as OpenAI documents it, with the `reasoning_content` of vLLM and llama.cpp."""

from collections.abc import Iterator
from typing import Any

import orjson

from tests.backends.upstream import DONE, Reply, Request, Step, chunk, sse
from tests.conformance.wire import Asked, Break, Json, Message, Refusal, Remote, Turn

_FINISH = {"stop": "stop", "length": "length", "filter": "content_filter", "refusal": "stop"}
_SECRET = "SECRET of the server"


def _error(status: int, code: str, message: str = _SECRET, **headers: str) -> Reply:
    error = {"message": message, "type": "x", "code": code, "param": None}
    return Reply.json({"error": error}, status, **headers)


_REFUSALS: dict[str, Reply] = {
    "rate": _error(429, "rate_limit_exceeded", retry_after="1"),
    "overloaded": _error(503, "overloaded"),
    "broken": _error(500, "server_error"),
    "key": _error(401, "invalid_api_key"),
    "forbidden": _error(403, "forbidden"),
    "too_long": _error(
        400,
        "context_length_exceeded",
        f"This model's maximum context length is 8192 tokens. {_SECRET}",
    ),
    "no_model": _error(404, "model_not_found"),
    "refused": _error(400, "invalid_value"),
    "web_page": Reply(200, [b"<html>SECRET</html>"], {"content-type": "text/html"}),
    "garbage": Reply.json({"SECRET": True}),
}
_HEL = sse(chunk(content="Hel"))
_BREAKS: dict[str, list[Step]] = {
    "error": [_HEL, sse({"error": {"message": _SECRET, "code": 500}}), DONE],
    "cut": [_HEL, "cut"],
    "early": [_HEL, DONE],
    "stall": [_HEL, "stall"],
    "noise": [_HEL, b"data: {SECRET\n\n", sse(chunk(finish="stop")), DONE],
}


class ChatWire(Remote):
    """See `Wire`."""

    name = "chat_completions"
    kind = "chat_completions"
    settings = 'profile = "llama.cpp"\nvision = true'
    path = "/v1"
    schemas = True
    thoughts_back = True
    signatures = False
    images = True
    filters = True

    def __init__(self, *, schemas: bool = True) -> None:
        if not schemas:
            self.name, self.schemas = "chat_completions without schemas", False
            self.settings += "\njson_schema = false"

    def reply(self, turn: Turn) -> Reply:
        """See `Wire`."""
        return Reply(body=list(_body(turn)))

    def fault(self, fault: Refusal | Break) -> Reply:
        """See `Wire`."""
        broken = _BREAKS.get(fault)
        return _REFUSALS[fault] if broken is None else Reply(body=broken)

    def asked(self, request: Request) -> Asked:
        """See `Wire`."""
        body = request.json
        assert body["stream"] is True
        schema = body.get("response_format") or {}
        choice = body.get("tool_choice")
        return Asked(
            body["model"],
            [_message(one) for one in body["messages"] if one["role"] != "system"],
            "\n".join(one["content"] for one in body["messages"] if one["role"] == "system"),
            {
                tool["function"]["name"]: tool["function"]["parameters"]
                for tool in body.get("tools", ())
            },
            choice if isinstance(choice, str | None) else choice["function"]["name"],
            schema["json_schema"]["schema"] if "json_schema" in schema else None,
            body.get("temperature"),
            body.get("max_tokens"),
            request.headers.get("authorization", "").removeprefix("Bearer "),
        )

    def models(self, *names: str) -> Reply:
        """See `Wire`."""
        return Reply.json({"object": "list", "data": [{"id": name} for name in names]})


def _body(turn: Turn) -> Iterator[Step]:
    for thought in turn.thoughts:
        yield sse(chunk(reasoning_content=thought))
    for text in turn.text:
        yield sse(chunk(refusal=text) if turn.finish == "refusal" else chunk(content=text))
        if turn.pause:
            yield turn.pause
    for index, (name, arguments) in enumerate(turn.calls):
        begun = {"index": index, "id": f"call_{name}_{index}", "type": "function"}
        yield sse(chunk(tool_calls=[{**begun, "function": {"name": name, "arguments": ""}}]))
        text = orjson.dumps(arguments).decode()
        for piece in (text[:3], text[3:]):
            yield sse(chunk(tool_calls=[{"index": index, "function": {"arguments": piece}}]))
    yield sse(chunk(finish="tool_calls" if turn.calls else _FINISH[turn.finish]))
    read, cached, written, thought_of = turn.usage
    usage: Json = {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought_of},
    }
    yield sse({"choices": [], "usage": usage})
    yield DONE


def _message(message: Json) -> Message:
    content: Any = message.get("content") or ""
    texts = [{"type": "text", "text": content}]
    parts: list[Json] = texts if isinstance(content, str) else content
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return Message(
        message["role"],
        "".join(part["text"] for part in parts if part["type"] == "text"),
        [str(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"],
        calls=[(call["name"], orjson.loads(call["arguments"])) for call in calls],
        thoughts=message.get("reasoning_content", ""),
    )
