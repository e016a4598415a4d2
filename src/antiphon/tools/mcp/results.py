"""What an MCP tool answered, as an `mcp_call` item shows it and as the model reads it.

Rules
1. `output` is text, of at most `most` characters; what is left out is said. Text parts come first;
   where there are none, what is structured is the answer.
2. Images are for the model only, and only if they are what they say and of a kind that models see;
   the item has a line in their place. Other bytes have a line as well.
3. An error has one of OpenAI's three shapes: ``mcp_tool_execution_error``, ``mcp_protocol_error``,
   ``http_error``.
"""

import base64
import binascii
import json
import re
from typing import Any, Final, TypeAlias

import orjson

from antiphon.tools.base import Outcome
from antiphon.tools.mcp.faults import BadStatus, Fault, Refusal, phrase

Json: TypeAlias = dict[str, Any]

#: Bytes of one image, and how many there may be: what model servers take.
_MOST_IMAGE: Final = 5 << 20
_MOST_IMAGES: Final = 16
#: Parts of one answer.
_MOST_PARTS: Final = 1_000
#: Characters of the message of a JSON-RPC error.
_MOST_MESSAGE: Final = 2_000
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}")
#: How files of each kind begin.
_MAGIC: Final = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}


def outcome(arguments: str, result: Json, most: int) -> Outcome:
    """How a call ends that was answered with `result`, a ``CallToolResult`` as it came."""
    content = result.get("content")
    parts = (
        [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    )
    parts = parts[:_MOST_PARTS]
    text = _text(parts, result.get("structuredContent"))
    if result.get("isError") is True:
        return _failed(
            arguments,
            {"type": "mcp_tool_execution_error", "content": _shown(parts, text, most)},
            bounded(text or "The tool failed.", most),
        )
    output = bounded(text, most)
    images = [image for part in parts if (image := _image(part)) is not None][:_MOST_IMAGES]
    told = [{"type": "input_text", "text": output}, *images] if images else None
    return Outcome({"arguments": arguments, "output": output, "error": None}, told=told)


def faulty(arguments: str, fault: Fault) -> Outcome:
    """How a call ends whose server could not be used."""
    match fault:
        case BadStatus(status=status):
            error: Json = {"type": "http_error", "code": status, "message": phrase(status)}
            return _failed(arguments, error, fault.text)
        case Refusal(code=code, message=message):
            message = bounded(message, _MOST_MESSAGE)
            error = {"type": "mcp_protocol_error", "code": code, "message": message}
            return _failed(arguments, error, message or fault.text)
    return broken(arguments, fault.text)


def broken(arguments: str, reason: str) -> Outcome:
    """How a call ends that could not be run, or did not end by itself."""
    content = [{"type": "text", "text": reason}]
    return _failed(arguments, {"type": "mcp_tool_execution_error", "content": content}, reason)


def bounded(text: str, most: int) -> str:
    """`text`, or its beginning and how much of it that is."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[truncated: {most} of {len(text)} characters]"


def _failed(arguments: str, error: Json, told: str) -> Outcome:
    return Outcome({"arguments": arguments, "output": None, "error": error}, "failed", told)


def _text(parts: list[Json], structured: Any) -> str:
    lines = [_line(part) for part in parts]
    if structured is not None and not any(map(_has_text, parts)):
        lines.insert(0, _json(structured))
    return "\n".join(lines)


def _has_text(part: Json) -> bool:
    match part:
        case {"type": "text", "text": str()} | {"type": "resource", "resource": {"text": str()}}:
            return True
    return False


def _line(part: Json) -> str:
    """What stands for one part of the content in the output."""
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "resource", "resource": {"text": str(text)}}:
            return text
        case {"type": "resource", "resource": {"blob": str(blob)} as resource}:
            return _bytes_line(resource.get("mimeType"), blob, "resource")
        case {"type": "resource_link", "uri": str(uri)}:
            named = [part.get(key) for key in ("title", "name", "description")]
            lines = dict.fromkeys(name for name in named if isinstance(name, str) and name)
            return "\n".join([f"[resource: {uri}]", *lines])
        case {"type": "image" | "audio" as kind, "data": str(content)}:
            return _bytes_line(part.get("mimeType"), content, kind)
    return "[unknown content]"


def _bytes_line(media_type: object, content: str, kind: str) -> str:
    known = str(media_type).lower()
    name = known if _MEDIA_TYPE.fullmatch(known) else kind
    return f"[{name}, {len(content.rstrip('=')) * 3 // 4} bytes]"


def _image(part: Json) -> Json | None:
    """The part as a model sees it; None: it does not."""
    content = part.get("data")
    if part.get("type") != "image" or not isinstance(content, str):
        return None
    media_type = str(part.get("mimeType")).lower().replace("image/jpg", "image/jpeg")
    magic = _MAGIC.get(media_type)
    if magic is None or len(content) > _MOST_IMAGE * 4 // 3 + 4:
        return None
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not magic.match(raw) or len(raw) > _MOST_IMAGE:
        return None
    url = f"data:{media_type};base64,{content}"
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def _shown(parts: list[Json], text: str, most: int) -> list[Json]:
    """The content of an error: part by part, or as one text if there is too much or nothing."""
    lines = [_line(part) for part in parts]
    if not lines or sum(map(len, lines)) > most:
        lines = [bounded(text, most)]
    return [{"type": "text", "text": line} for line in lines]


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        return json.dumps(value, ensure_ascii=False)
