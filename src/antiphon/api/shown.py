"""JSON answers with what stands in them for images filled in (`engine.images`, decision 0010).

Rules
1. A body without images goes out as it is, with its length. One that has some goes out in pieces,
   as fast as the client reads, so that no list of large images is in memory.
2. The head of the answer waits for the first pieces: what is not there at all is an HTTP error.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from antiphon.api.streams import while_connected
from antiphon.engine.images import ProjectImages
from antiphon.protocol.image_references import MARK

Headers: TypeAlias = list[tuple[bytes, bytes]]

_JSON: Final = "application/json"
_TYPE: Final = (b"content-type", _JSON.encode())


@dataclass(frozen=True, slots=True)
class Shown:
    """What one project is shown."""

    images: ProjectImages
    project: str

    async def whole(self, body: bytes) -> bytes:
        """Encoded JSON, or events, with their images. Raises `APIError`."""
        return await self.images.shown(self.project, body)

    def pieces(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The same in pieces."""
        return self.images.pieces(self.project, body)

    def streamed(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The same for a stream that has begun."""
        return self.images.streamed(self.project, body)

    def answer(self, body: bytes) -> Response:
        """An answer of 200."""
        if MARK not in body:
            return Response(body, media_type=_JSON)
        return _Pieced(self.pieces(body))


async def send_json(send: Send, body: bytes, headers: Headers, shown: Shown | None = None) -> None:
    """Answer 200 with a JSON body; `shown`: it may have images. Raises `APIError` before the first
    byte."""
    if shown is not None and body.find(MARK) >= 0:
        await _send_pieces(send, shown.pieces(body), headers)
        return
    headers = [_TYPE, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_pieces(send: Send, pieces: AsyncGenerator[bytes, None], headers: Headers) -> None:
    async with aclosing(pieces):
        piece = await anext(pieces) + await anext(pieces, b"")
        start = {"type": "http.response.start", "status": 200, "headers": [_TYPE, *headers]}
        await send(start)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Pieced(Response):
    """A body in pieces, the first two of which there are."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self.background = None
        self.status_code = 200
        self.raw_headers = []
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer, as fast as the client reads."""
        await while_connected(receive, _send_pieces(send, self._pieces, self.raw_headers))
