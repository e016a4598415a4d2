"""The Responses API as OpenAI serves it: what a server says, and what it is asked (spec §4.1)."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from tests.backends.upstream import Reply, Request, Step
from tests.conformance.wire import Asked, Break, Json, Message, Refusal, Remote, Turn

#: What a server gives for reasoning of which the turn has no signature of its own.
_SEALED: Final = "gAAAAA-sealed"

#: Refusal → (status, the `error` object).
_REFUSALS: Final[dict[str, tuple[int, Json]]] = {
    "rate": (429, {"code": "rate_limit_exceeded", "type": "tokens", "message": "Limit of SECRET"}),
    "overloaded": (503, {"code": None, "type": "server_error", "message": "Slow Down, SECRET"}),
    "broken": (500, {"code": None, "type": "server_error", "message": "The server had SECRET"}),
    "key": (
        401,
        {"code": "invalid_api_key", "type": "invalid_request_error", "message": "Key SECRET"},
    ),
    "forbidden": (403, {"code": None, "type": "invalid_request_error", "message": "Not SECRET"}),
    "too_long": (
        400,
        {
            "code": "context_length_exceeded",
            "type": "invalid_request_error",
            "param": "input",
            "message": "Your input exceeds the context window of this model. SECRET",
        },
    ),
    "no_model": (
        404,
        {
            "code": "model_not_found",
            "type": "invalid_request_error",
            "message": "The model 'SECRET' does not exist or you do not have access to it.",
        },
    ),
    "refused": (
        400,
        {"code": "invalid_value", "type": "invalid_request_error", "message": "Invalid SECRET"},
    ),
}
#: How a turn ended → (its event, the reason of `incomplete_details`).
_ENDS: Final = {
    "stop": ("completed", None),
    "refusal": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
    "filter": ("incomplete", "content_filter"),
}


def sse(event: Json) -> bytes:
    """One event, with its name as OpenAI writes it."""
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))


def response(status: str, output: Sequence[Json] = (), **more: Any) -> Json:
    """A Response as another server has it."""
    return {
        "id": "resp_up",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "m",
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "store": False,
        "usage": None,
        **more,
    }


def usage(counts: tuple[int, int, int, int]) -> Json:
    """`usage` from input (of these cached) and output (of these reasoning)."""
    incoming, cached, outgoing, reasoning = counts
    return {
        "input_tokens": incoming,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": outgoing,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": incoming + outgoing,
    }


def events(turn: Turn) -> Iterator[Json]:
    """All events of a turn, numbered."""
    output: list[Json] = []
    numbers = itertools.count()

    def numbered(bare: Json) -> Json:
        return {**bare, "sequence_number": next(numbers)}

    yield numbered({"type": "response.created", "response": response("in_progress")})
    yield numbered({"type": "response.in_progress", "response": response("in_progress")})
    if turn.thoughts or turn.signature:
        yield from map(numbered, _reasoning(turn, output))
    if turn.text:
        yield from map(numbered, _message(turn, output))
    for name, arguments in turn.calls:
        text = arguments.get("input")  # such calls are of custom tools
        if isinstance(text, str):
            yield from map(numbered, _custom(name, text, output))
        else:
            yield from map(numbered, _call(name, orjson.dumps(arguments).decode(), output))
    status, reason = _ENDS[turn.finish]
    details = {"incomplete_details": {"reason": reason}} if reason else {}
    last = response(status, output, usage=usage(turn.usage), **details)
    yield numbered({"type": f"response.{status}", "response": last})


def _reasoning(turn: Turn, output: list[Json]) -> Iterator[Json]:
    place: Json = {"item_id": f"rs_{len(output)}", "output_index": len(output)}
    item: Json = {"id": place["item_id"], "type": "reasoning", "summary": []}
    yield {"type": "response.output_item.added", "output_index": len(output), "item": item}
    place["content_index"] = 0
    for thought in turn.thoughts:
        yield {"type": "response.reasoning_text.delta", **place, "delta": thought}
    text = "".join(turn.thoughts)
    if text:
        yield {"type": "response.reasoning_text.done", **place, "text": text}
        item = {**item, "content": [{"type": "reasoning_text", "text": text}]}
    item = {**item, "encrypted_content": turn.signature or _SEALED}
    yield {"type": "response.output_item.done", "output_index": len(output), "item": item}
    output.append(item)


def _message(turn: Turn, output: list[Json]) -> Iterator[Json]:
    index = len(output)
    refuses = turn.finish == "refusal"
    kind, field = ("refusal", "refusal") if refuses else ("output_text", "text")
    place = {"item_id": f"msg_{index}", "output_index": index, "content_index": 0}
    item: Json = {
        "id": f"msg_{index}",
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    extra: Json = {} if refuses else {"annotations": [], "logprobs": []}
    logprobs: Json = {} if refuses else {"logprobs": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": item}
    part: Json = {"type": kind, field: "", **extra}
    yield {"type": "response.content_part.added", **place, "part": part}
    for text in turn.text:
        yield {"type": f"response.{kind}.delta", **place, "delta": text, **logprobs}
    part = {**part, field: "".join(turn.text)}
    yield {"type": f"response.{kind}.done", **place, field: part[field], **logprobs}
    yield {"type": "response.content_part.done", **place, "part": part}
    status = _ENDS[turn.finish][0]
    item = {**item, "status": status, "content": [part]}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}
    output.append(item)


def _custom(name: str, text: str, output: list[Json]) -> Iterator[Json]:
    """A call of a custom tool."""
    index = len(output)
    place = {"item_id": f"ctc_{index}", "output_index": index}
    item: Json = {
        "id": f"ctc_{index}",
        "type": "custom_tool_call",
        "status": "in_progress",
        "call_id": f"call_{index}",
        "name": name,
        "input": "",
    }
    yield {"type": "response.output_item.added", "output_index": index, "item": item}
    yield {"type": "response.custom_tool_call_input.delta", **place, "delta": text}
    yield {"type": "response.custom_tool_call_input.done", **place, "input": text}
    item = {**item, "status": "completed", "input": text}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}
    output.append(item)


def _call(name: str, arguments: str, output: list[Json]) -> Iterator[Json]:
    index = len(output)
    place = {"item_id": f"fc_{index}", "output_index": index}
    item: Json = {
        "id": f"fc_{index}",
        "type": "function_call",
        "status": "in_progress",
        "arguments": "",
        "call_id": f"call_{index}",
        "name": name,
    }
    yield {"type": "response.output_item.added", "output_index": index, "item": item}
    half = len(arguments) // 2
    for piece in (arguments[:half], arguments[half:]):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    done = {"name": name, "arguments": arguments}
    yield {"type": "response.function_call_arguments.done", **place, **done}
    item = {**item, "status": "completed", "arguments": arguments}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}
    output.append(item)


class ResponsesWire(Remote):
    """See `tests.conformance.wire.Wire`."""

    name = "responses"
    kind = "responses"
    path = "/v1"
    settings = 'profile = "openai"\n'
    schemas = True
    thoughts_back = True
    signatures = True
    images = True
    filters = True

    def reply(self, turn: Turn) -> Reply:
        """See `Wire.reply`."""
        body: list[Step] = []
        for event in events(turn):
            body.append(sse(event))
            if turn.pause and event["type"].endswith(".delta"):
                body.append(turn.pause)
        return Reply(body=body)

    def fault(self, fault: Refusal | Break) -> Reply:
        """See `Wire.fault`."""
        if fault in _REFUSALS:
            status, error = _REFUSALS[fault]
            headers = {"retry_after": "1"} if fault == "rate" else {}
            return Reply.json({"error": {"param": None, **error}}, status, **headers)
        if fault == "web_page":
            return Reply(200, [b"<html>SECRET</html>"], {"content-type": "text/html"})
        if fault == "garbage":
            return Reply.json({"SECRET": 1})
        begun: list[Step] = []
        for event in events(Turn(["Hel"])):
            begun.append(sse(event))
            if event["type"] == "response.output_text.delta":
                break
        ends: dict[str, list[Step]] = {
            "error": [*map(sse, _failure(len(begun)))],
            "cut": ["cut"],
            "early": [],
            "stall": ["stall"],
            "noise": [b"event: response.output_text.delta\ndata: {SECRET\n\n"],
        }
        return Reply(body=[*begun, 0.05, *ends[fault]])

    def asked(self, request: Request) -> Asked:
        """See `Wire.asked`."""
        body = request.json
        choice = body.get("tool_choice")
        wanted = (body.get("text") or {}).get("format") or {"type": "text"}
        schemas: Json = {"text": None, "json_object": {}, "json_schema": wanted.get("schema")}
        key = request.headers.get("authorization")
        return Asked(
            model=body["model"],
            messages=list(_messages(body["input"])),
            system=body.get("instructions", ""),
            tools={tool["name"]: tool.get("parameters", {}) for tool in body.get("tools", ())},
            choice=choice.get("name", choice.get("mode")) if isinstance(choice, dict) else choice,
            schema=schemas[wanted["type"]],
            temperature=body.get("temperature"),
            most_tokens=body.get("max_output_tokens"),
            key=None if key is None else key.removeprefix("Bearer "),
        )

    def models(self, *names: str) -> Reply:
        """See `Wire.models`."""
        rows = [
            {"id": name, "object": "model", "created": 1, "owned_by": "openai"} for name in names
        ]
        return Reply.json({"object": "list", "data": rows})


def _failure(number: int) -> Iterator[Json]:
    error = {"code": "server_error", "message": "The server had SECRET."}
    nested = {"type": "server_error", **error, "param": None}
    yield {"type": "error", "sequence_number": number, **error, "param": None, "error": nested}
    failed = response("failed", error=error)
    yield {"type": "response.failed", "sequence_number": number + 1, "response": failed}


def _messages(items: Sequence[Json]) -> Iterator[Message]:
    """What the model sees; all that it said in a row is one message."""
    for by_model, group in itertools.groupby(items, _is_spoken):
        if by_model:
            yield _spoken(list(group))
            continue
        for item in group:
            role = "tool" if item["type"].endswith("_output") else item["role"]
            content = item["output"] if role == "tool" else item["content"]
            parts = (
                [{"type": "input_text", "text": content}] if isinstance(content, str) else content
            )
            yield Message(
                role,
                "\n".join(part["text"] for part in parts if part["type"] == "input_text"),
                images=[p["image_url"] for p in parts if p["type"] == "input_image"],
                files=[
                    p["file_data"].partition(";")[0].removeprefix("data:")
                    for p in parts
                    if p["type"] == "input_file"
                ],
            )


def _is_spoken(item: Json) -> bool:
    if item["type"] == "message":
        return bool(item["role"] == "assistant")
    return not item["type"].endswith("_output")


def _spoken(items: Sequence[Json]) -> Message:
    thoughts = [item for item in items if item["type"] == "reasoning"]
    blobs = [item["encrypted_content"] for item in thoughts if item.get("encrypted_content")]
    signature = blobs[-1] if blobs else None
    return Message(
        "assistant",
        "\n".join(item["content"] for item in items if item["type"] == "message"),
        calls=[
            (
                item["name"],
                orjson.loads(item["arguments"]) if "arguments" in item else item["input"],
            )
            for item in items
            if item["type"].endswith("_call")
        ],
        thoughts="".join(part["text"] for one in thoughts for part in one.get("content", ())),
        signature=None if signature == _SEALED else signature,
    )
