"""Images that were made here: kept once, as blobs, and shown where the API shows items (decision
0010).

Rules
1. Inside the server an item has a reference (`protocol/image_references.py`). It becomes base64 at
   the edge of the API, as the last step before bytes go out, and nowhere else.
2. Blob first, row second; a row goes before its blob. What breaks off in between leaves an orphan
   (R-104).
3. An image that is not the project's is not there (R-30). What refers to one that is not there is
   shown as null.
4. Bytes are encoded beside the event loop (R-118), a piece of an image at a time.
"""

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from io import BytesIO
from typing import Final

import structlog

from antiphon.blobs.base import BlobMissing, Blobs
from antiphon.engine.files import log_stuck, remove_blobs
from antiphon.errors import NotFoundError, Overloaded, PayloadTooLarge
from antiphon.protocol.image_references import MARK, blob_named, blob_of, parted, reference_to
from antiphon.store.base import ImageRow, Images
from antiphon.tools.base import Scope

#: Bytes that are written at a time.
_PIECE: Final = 1024 * 1024
#: Seconds that a stream waits for blobs that cannot be read, and between two tries.
_PATIENCE: Final = 30.0
_RETRY: Final = 0.5

_log = structlog.get_logger(__name__)


class ProjectImages:
    """The images of all projects; `most_project`: bytes that one may have in all, 0: no limit;
    `clock` gives Unix seconds."""

    def __init__(
        self,
        images: Images,
        blobs: Blobs,
        most_project: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._images = images
        self._blobs = blobs
        self._most_project = most_project
        self._clock = clock

    async def keep(self, scope: Scope, body: bytes, media_type: str) -> str:
        """Keep an image of a stored response: the reference to it. Raises `APIError`."""
        if scope.response_id is None:
            raise ValueError("nothing is kept of a response that is not stored")
        row = ImageRow(
            blob=blob_named(secrets.token_hex(16)),
            project=scope.project,
            response_id=scope.response_id,
            conversation_id=scope.conversation_id,
            created_at=int(self._clock()),
            bytes=len(body),
            media_type=media_type,
        )
        await self._blobs.put(row.blob, _pieces(body))
        if not await self._images.add(row, self._most_project):
            log_stuck(await remove_blobs(self._blobs, [row.blob]))
            raise PayloadTooLarge(
                f"This project may store {self._most_project} bytes, and there is not enough left "
                "of them for the image. Delete files or responses to make room.",
                code="storage_quota_exceeded",
            )
        return reference_to(row.blob)

    async def find(self, project: str, reference: str) -> ImageRow:
        """What is known of an image. Raises `NotFoundError`."""
        blob = blob_of(reference)
        row = (await self._images.find(project, [blob])).get(blob) if blob else None
        if row is None:
            raise _gone()
        return row

    async def load(self, row: ImageRow) -> bytes:
        """Its bytes. Raises `NotFoundError`."""
        whole = BytesIO()  # which grows: a join would copy all of it at once
        try:
            async with aclosing(self._blobs.read(row.blob)) as pieces:
                async for piece in pieces:
                    whole.write(piece)
        except BlobMissing:
            raise _gone() from None
        return whole.getvalue()

    # -- at the edge of the API ----------------------------------------------------------------

    async def pieces(self, project: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """Encoded JSON as the API shows it, in pieces. Raises `APIError`."""
        texts, blobs = parted(body)
        known = await self._images.find(project, set(blobs)) if blobs else {}
        yield texts[0]
        for blob, text in zip(blobs, texts[1:], strict=True):
            if blob in known:
                async with aclosing(self._quoted(blob)) as quoted:
                    async for piece in quoted:
                        yield piece
            else:
                yield b"null"
            yield text

    async def streamed(self, project: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The same for a stream, which cannot say that there is trouble: that is waited out for a
        while before the first piece. Raises `APIError`."""
        until = time.monotonic() + _PATIENCE
        while True:
            async with aclosing(self.pieces(project, body)) as pieces:
                try:
                    first = await anext(pieces) + await anext(pieces, b"")
                except Overloaded as error:
                    if time.monotonic() > until:
                        raise
                    _log.warning("images_wait", error=error.message)
                else:
                    yield first
                    async for piece in pieces:
                        yield piece
                    return
            await asyncio.sleep(_RETRY)

    async def shown(self, project: str, body: bytes) -> bytes:
        """Encoded JSON, or events, as the API shows them. Trouble with the blobs is waited out for
        a while: a stream cannot say it. Raises `APIError`."""
        if MARK not in body:
            return body
        until = time.monotonic() + _PATIENCE
        while True:
            whole = BytesIO()
            try:
                async with aclosing(self.pieces(project, body)) as pieces:
                    async for piece in pieces:
                        whole.write(piece)
            except Overloaded as error:
                if time.monotonic() > until:
                    raise
                _log.warning("images_wait", error=error.message)
                await asyncio.sleep(_RETRY)
            else:
                return whole.getvalue()

    async def _quoted(self, blob: str) -> AsyncGenerator[bytes, None]:
        """The JSON string of a blob, or null. Raises `Overloaded` when it goes in the middle."""
        rest = b""
        opened = False
        try:
            async with aclosing(self._blobs.read(blob)) as pieces:
                async for piece in pieces:
                    whole = rest + piece
                    end = len(whole) // 3 * 3
                    encoded = await asyncio.to_thread(base64.b64encode, whole[:end])
                    yield encoded if opened else b'"' + encoded
                    opened, rest = True, whole[end:]
        except BlobMissing:
            _log.warning("image_lost", blob=blob)
            if opened:
                raise Overloaded(retry_after=1) from None
            yield b"null"
        else:
            yield (b"" if opened else b'"') + base64.b64encode(rest) + b'"'

    # -- the sweep -----------------------------------------------------------------------------

    async def sweep(self, now: int, limit: int) -> int:
        """Remove what nobody needs any more; `limit` means that there may be more to look at."""
        gone, seen = await self._images.expire(now, limit)
        log_stuck(await remove_blobs(self._blobs, gone))
        return seen


def _gone() -> NotFoundError:
    return NotFoundError("The image is not available any more.")


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), _PIECE):
        yield body[at : at + _PIECE]
