"""What a Responses server would say, rendered once: for gateways in front of such a server."""

import functools
from typing import Any, Final

import orjson


def _event(name: str, number: int, **fields: Any) -> bytes:
    said = orjson.dumps({"type": name, "sequence_number": number, **fields})
    return b"event: %b\ndata: %b\n\n" % (name.encode(), said)


def _response(tokens: tuple[str, ...], status: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": "".join(tokens), "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    output = [{**message, "content": [text]}] if status == "completed" else []
    usage = {"input_tokens": 5, "output_tokens": len(tokens), "total_tokens": len(tokens) + 5}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "plain",
        "status": status,
        "output": output,
        "usage": usage,
    }


_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _beginning(tokens: tuple[str, ...]) -> bytes:
    said = _response(tokens, "in_progress")
    return b"".join(
        _event(f"response.{name}", number, response=said)
        for number, name in enumerate(("created", "in_progress"))
    )


@functools.cache
def beginning() -> bytes:
    """The HTTP answer of a model that does not go on."""
    body = _beginning(())
    return b"%b%x\r\n%b\r\n" % (_STREAM, len(body), body)


@functools.cache
def answer(tokens: tuple[str, ...], streamed: bool) -> bytes:
    """The whole HTTP answer that says `tokens`."""
    whole = _response(tokens, "completed")
    if not streamed:
        body = orjson.dumps(whole)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        return head % len(body) + body
    item = whole["output"][0]
    part, place = item["content"][0], {"output_index": 0}
    within = {"item_id": item["id"], "content_index": 0, **place}
    last = len(tokens) + 4
    events = [
        _beginning(tokens),
        _event("response.output_item.added", 2, item={**item, "content": []}, **place),
        _event("response.content_part.added", 3, part={**part, "text": ""}, **within),
        *(
            _event("response.output_text.delta", at, delta=token, **within)
            for at, token in enumerate(tokens, 4)
        ),
        _event("response.output_text.done", last, text=part["text"], **within),
        _event("response.content_part.done", last + 1, part=part, **within),
        _event("response.output_item.done", last + 2, item=item, **place),
        _event("response.completed", last + 3, response=whole),
    ]
    body = b"".join(events)
    return b"%b%x\r\n%b\r\n0\r\n\r\n" % (_STREAM, len(body), body)
