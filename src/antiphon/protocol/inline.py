"""Bytes inside JSON: data URLs (RFC 2397) and bare base64. Pure.

Rules
1. Base64 is read strictly, and all is read and written in pieces, of which the whole grows: no
   thread interrupts a piece, nor the copying of a large whole (R-118).
2. Who only wants to know what something begins with reads it as the most lenient reader would:
   what is checked here must be what somebody else sees (R-99).
"""

import base64
import binascii
import re
from collections.abc import Iterable
from io import BytesIO
from typing import Final, NamedTuple

#: Characters that are read at a time, and bytes that are written: about 1 ms.
_PIECE: Final = 1 << 18
_BYTES: Final = _PIECE // 4 * 3
#: The same, where each may be part of an escape.
_ESCAPED_PIECE: Final = 1 << 16
#: Characters in which a data URL must have its comma to have a head.
_URL_HEAD: Final = 1_024
_ESCAPE: Final = re.compile(rb"%(?=[0-9A-Fa-f]{2})")
#: Bytes that lenient readers of base64 skip.
_NOISE: Final = bytes(
    byte
    for byte in range(256)
    if not (chr(byte).isascii() and (chr(byte).isalnum() or byte in b"+/"))
)


class Inline(NamedTuple):
    """Bytes, and the media type that their URL claims; it may be empty."""

    body: bytes
    media_type: str


def read_inline(text: str) -> Inline:
    """A data URL, or bare base64. Raises ValueError."""
    if text[:5].lower() != "data:":
        return Inline(_decoded(text), "")
    comma = text.find(",")
    if comma < 0:
        raise ValueError("a data URL without a comma")
    head = text[5:comma]
    if head.lower().endswith(";base64"):
        return Inline(_decoded(text, comma + 1), _media_type(head))
    return Inline(_unescaped(text, comma + 1), _media_type(head))


def inlined(media_type: str, body: bytes) -> str:
    """The URL of these bytes."""
    pieces = (body[at : at + _BYTES] for at in range(0, len(body), _BYTES))
    encoded = (base64.b64encode(piece).decode() for piece in pieces)
    return _grown(f"data:{media_type};base64,", encoded)


def head_of(url: str, most: int) -> bytes:
    """The first bytes of a data URL, at most so many; none if they cannot be read."""
    comma = url.find(",", 0, _URL_HEAD)
    if comma < 0:
        return b""
    if not url[:comma].lower().endswith(";base64"):
        return _unescaped(url[: comma + 1 + 3 * most], comma + 1, "replace")[:most]
    text = url[comma + 1 : comma + 1 + most // 3 * 4]
    try:
        return base64.b64decode(text[: len(text) // 4 * 4], validate=True)
    except ValueError:
        clean = _unescaped(text, 0, "ignore").translate(None, _NOISE)
        return binascii.a2b_base64(clean[: len(clean) // 4 * 4])


def with_media_type(url: str, media_type: str) -> str:
    """The data URL with this media type: the same object if it has it."""
    comma = url.find(",", 0, _URL_HEAD)
    head = url[5:comma]
    if _media_type(head) == media_type:
        return url
    _, semicolon, more = head.partition(";")
    return _grown(f"data:{media_type}{semicolon}{more}", _pieces(url, comma))


def _media_type(head: str) -> str:
    return head.partition(";")[0].strip().lower()


def _unescaped(text: str, start: int, errors: str = "strict") -> bytes:
    """Without escapes. They are written as quoted-printable has them, which `binascii` reads."""
    pieces = (piece.encode(errors=errors).replace(b"=", b"=3D") for piece in _uncut(text, start))
    return _whole(binascii.a2b_qp(_ESCAPE.sub(b"=", piece)) for piece in pieces)


def _uncut(text: str, start: int) -> Iterable[str]:
    """Pieces of a text from `start` on, of which none ends within an escape."""
    while start < len(text):
        end = start + _ESCAPED_PIECE
        escape = text.rfind("%", end - 2, end)
        end = end if escape < 0 else escape
        yield text[start:end]
        start = end


def _decoded(text: str, start: int = 0) -> bytes:
    if text.find("=", start, -2) >= 0:
        raise ValueError("padding before the end")
    return _whole(base64.b64decode(piece, validate=True) for piece in _pieces(text, start))


def _pieces(text: str, start: int) -> Iterable[str]:
    return (text[at : at + _PIECE] for at in range(start, len(text), _PIECE))


def _whole(pieces: Iterable[bytes]) -> bytes:
    whole = BytesIO()
    for piece in pieces:
        whole.write(piece)
    return whole.getvalue()


def _grown(text: str, pieces: Iterable[str]) -> str:
    """Nobody else has the text, so it grows in place: a join would copy all of it at once."""
    for piece in pieces:
        text += piece
    return text
