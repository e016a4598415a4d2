"""What an image server is asked, and what it answers: OpenAI's images API. Does no I/O.

Rules
1. Sent is only what was wished for: servers refuse fields that they do not know. `unsent` has those
   that this one does not know, and that are done here instead (`finishing.py`).
2. What comes back is read as it comes: `b64_json` or a `url`, streamed or not, whatever was asked.
   What the answer says of an image counts only where it says it in words that we know.
3. The server's text is only matched, never shown (R-42).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from antiphon.errors import ToolFailed
from antiphon.images.base import ImageWish, Look
from antiphon.protocol.image_usage import UNKNOWN, ImageUsage, read_usage

Json: TypeAlias = dict[str, Any]

_QUALITIES: Final = ("low", "medium", "high", "xhigh", "max", "auto")
_BACKGROUNDS: Final = ("transparent", "opaque", "auto")
#: Characters of a prompt that a server says it has made.
_MOST_PROMPT: Final = 32_000
#: The words of OpenAI, Azure and others for a prompt or an image against their rules.
_AGAINST_RULES: Final = re.compile(
    r"moderation_blocked|content_policy|safety system|content_filter|responsible_?ai", re.IGNORECASE
)

FAILED: Final = "The image server failed."
LATE: Final = "The image server did not answer in time."
#: Status → what the model is told.
_REFUSALS: Final[Mapping[int, str]] = {
    401: "The image server does not accept this server.",
    403: "The image server does not accept this server.",
    404: "The image server does not know this model, or cannot do this at all.",
    408: LATE,
    413: "The images are too large for the image server.",
    429: "The image server is asked too often at the moment.",
    504: LATE,
}


class Malformed(Exception):
    """An answer that cannot be used; the message is for the log."""


@dataclass(frozen=True, slots=True)
class Made:
    """An image of an answer, as `b64` or at a `url`. `index`: it is not finished; None: it is."""

    b64: str | None
    url: str | None
    look: Look
    index: int | None = None
    revised_prompt: str | None = None
    usage: ImageUsage = UNKNOWN


def fields_of(wish: ImageWish, unsent: frozenset[str]) -> Json:
    """What is asked, but for the images."""
    fields: Json = {"prompt": wish.prompt}
    wished = {
        "model": wish.model,
        "size": wish.size,
        "quality": wish.quality,
        "background": wish.background,
        "output_format": None if wish.output_format == "png" else wish.output_format,
        "output_compression": wish.output_compression,
        # Edits know no such field.
        "moderation": None if wish.images else wish.moderation,
        "input_fidelity": wish.input_fidelity,
        **wish.more,
    }
    fields |= {
        name: value for name, value in wished.items() if value is not None and name not in unsent
    }
    if wish.partial_images:
        fields |= {"stream": True, "partial_images": wish.partial_images}
    return fields


def form_text(value: Any) -> str:
    """A field as forms have it."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def read_answer(body: bytes) -> Made:
    """The first image of a JSON answer. Raises `Malformed`."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("no JSON") from None
    rows = answer.get("data") if isinstance(answer, dict) else None
    row = rows[0] if isinstance(rows, list) and rows else None
    if not isinstance(row, dict):
        raise Malformed("no images")
    prompt = row.get("revised_prompt")
    return Made(
        _text(row, "b64_json"),
        _text(row, "url"),
        _look(answer),
        revised_prompt=prompt[:_MOST_PROMPT] if isinstance(prompt, str) and prompt else None,
        usage=_usage(answer),
    )


def read_event(name: bytes, content: bytes) -> Made | None:
    """The image of an event of a stream; None: it has none. Raises `Malformed`, and `ToolFailed`
    for an error."""
    if content == b"[DONE]":
        return None
    try:
        event = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise Malformed("an event that is no JSON") from None
    if not isinstance(event, dict):
        raise Malformed("an event that is no object")
    kind = str(event.get("type") or name.decode(errors="replace"))
    if kind == "error" or isinstance(event.get("error"), dict):
        raise refusal(500, content)
    step = kind.rpartition(".")[2]
    if step not in ("partial_image", "completed"):
        return None
    index = event.get("partial_image_index") if step == "partial_image" else None
    if step == "partial_image" and type(index) is not int:
        return None  # nobody could say which it is, and the final one counts
    return Made(
        _text(event, "b64_json"), _text(event, "url"), _look(event), index, usage=_usage(event)
    )


def refusal(status: int, said: bytes) -> ToolFailed:
    """What the model is told of an answer with another status than 200."""
    if _AGAINST_RULES.search(said.decode(errors="replace")):
        return ToolFailed(
            "The image server refused: what was asked for is against its rules.",
            code="moderation_blocked",
        )
    if status in (400, 422):
        return ToolFailed("The image server refused the request.", code="invalid_request")
    return ToolFailed(_REFUSALS.get(status, FAILED))


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    return value if isinstance(value, str) and value else None


def _look(said: Mapping[str, Any]) -> Look:
    quality, background = said.get("quality"), said.get("background")
    return Look(
        quality=quality if quality in _QUALITIES else None,
        background=background if background in _BACKGROUNDS else None,
    )


def _usage(said: Mapping[str, Any]) -> ImageUsage:
    usage = said.get("usage")
    return read_usage(usage) if isinstance(usage, dict) else UNKNOWN
