"""The bytes of a file as an answer (reliability R-98, R-103).

Rules
1. Whatever it is, it is only to be saved: no browser shows or runs what somebody has uploaded.
2. One range is honoured. Several, or what cannot be understood, count as none: RFC 9110 §14.2 lets
   a server do so, and no client needs more.
3. The head of the answer waits for the first piece, so that a file that is gone is a 404.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from antiphon.api.streams import while_connected
from antiphon.errors import RangeNotSatisfiable

_RANGE: Final = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})\s*\Z", re.IGNORECASE)
#: What stands for itself in a quoted string.
_ASCII: Final = re.compile(r'[^ !#-\[\]-~]|[%"\\]')


class Download(Response):
    """Bytes `span` of the `size` that a file has; `pieces` are those of the span."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        name: str,
        size: int,
        span: tuple[int, int] | None,
    ) -> None:
        self.background = None
        self._pieces = pieces
        start, end = span or (0, size)
        self.status_code = 200 if span is None else 206
        self.raw_headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % (end - start)),
            (b"content-disposition", disposition(name)),
            (b"content-security-policy", b"sandbox; default-src 'none'"),
            (b"accept-ranges", b"bytes"),
        ]
        if span is not None:
            self.raw_headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer, as fast as the client reads."""
        await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._pieces) as pieces:
            piece = await anext(pieces, b"")
            start = {"type": "http.response.start", "status": self.status_code}
            await send({**start, "headers": self.raw_headers})
            while piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await anext(pieces, b"")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def span_of(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte, and the one behind the last, that a ``Range`` asks for; None: the whole. Raises
    `RangeNotSatisfiable`."""
    asked = _RANGE.match(header) if header is not None else None
    if asked is None or asked.groups() == ("", ""):
        return None
    first, last = asked.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiable(size)
    return start, end


def disposition(name: str) -> bytes:
    """RFC 6266: a plain name for everybody, and the whole one for who understands it."""
    plain = _ASCII.sub("_", name).encode()
    return b"attachment; filename=\"%s\"; filename*=UTF-8''%s" % (
        plain,
        quote(name, safe="").encode(),
    )
