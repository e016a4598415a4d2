"""Images for those who change them: files of the project, what was made here, data URLs, addresses
(R-83, R-99).

Rules
1. An image is what its head says, and is not decoded here. What an image server can take is PNG,
   WebP and JPEG of a single frame.
2. Bytes of all requests are limited, from before they come for as long as their image lives
   (`room.py`).
"""

import asyncio
import time
from typing import Any, Final

from antiphon.blobs.base import BlobMissing, Blobs
from antiphon.documents.base import Fetcher
from antiphon.engine.attached import Stored
from antiphon.engine.images import ProjectImages
from antiphon.engine.room import Held, Room
from antiphon.errors import InvalidRequestError, NoSuchFile
from antiphon.images.base import Picture
from antiphon.protocol.images import HEAD, image_of
from antiphon.protocol.inline import head_of, read_inline
from antiphon.protocol.validation import echo
from antiphon.store.base import FileRow, Files
from antiphon.tools.base import Scope

Json = dict[str, Any]

#: Bytes of one image (spec §1, other limits).
_MOST_BYTES: Final = 50 * 1024 * 1024
#: Bytes of images that all requests together have in memory, and those of one project.
_MOST_HELD: Final = 192 * 1024 * 1024
_MOST_HELD_EACH: Final = _MOST_HELD // 4 * 3
_TAKEN: Final = ("image/png", "image/webp", "image/jpeg")


class ProjectPictures:
    """See `antiphon.tools.image_generation.pictures.Pictures`."""

    def __init__(self, files: Files, images: ProjectImages, blobs: Blobs, fetcher: Fetcher) -> None:
        self._files = files
        self._images = images
        self._blobs = blobs
        self._fetcher = fetcher
        self._room = Room(_MOST_HELD, _MOST_HELD_EACH)

    async def check(self, project: str, source: Json) -> None:
        """See `Pictures`."""
        if "result" in source:
            await self._images.find(project, source["result"])
        elif "file_id" in source:
            await self._row(project, source["file_id"])
        elif _is_inline(source["image_url"]):
            _media_type(await asyncio.to_thread(head_of, source["image_url"], HEAD))

    async def load(self, project: str, source: Json) -> Picture:
        """See `Pictures`."""
        held = self._room.hold(project)
        if "result" in source:
            row = await self._images.find(project, source["result"])
            _check_size(row.bytes)
            await held.take(row.bytes)
            body = await self._images.load(row)
        elif "file_id" in source:
            body = await self._stored(project, source["file_id"], held)
        elif _is_inline(source["image_url"]):
            body = await _decoded(source["image_url"], held)
        else:
            fetched = await self._fetcher.fetch(source["image_url"], _MOST_BYTES, held.take)
            body = fetched.body
        return Picture(body, _media_type(body[:HEAD]), held)

    async def keep(self, scope: Scope, body: bytes, media_type: str) -> str:
        """See `Pictures`."""
        return await self._images.keep(scope, body, media_type)

    async def _stored(self, project: str, file_id: str, held: Held) -> bytes:
        row = await self._row(project, file_id)
        await held.take(row.bytes)
        try:
            return await Stored(row.id, row.filename, row.bytes, self._blobs).whole()
        except BlobMissing:
            raise NoSuchFile(echo(file_id)) from None

    async def _row(self, project: str, file_id: str) -> FileRow:
        row = await self._files.get(project, file_id, int(time.time()))
        if row is None:
            raise NoSuchFile(echo(file_id))
        _check_size(row.bytes)
        return row


def _is_inline(url: str) -> bool:
    return url[:5].lower() == "data:"


async def _decoded(url: str, held: Held) -> bytes:
    size = len(url) // 4 * 3
    _check_size(size)
    await held.take(size)
    try:
        return (await asyncio.to_thread(read_inline, url)).body
    except ValueError:
        raise InvalidRequestError(
            "The image cannot be read: expected base64.", code="invalid_base64_image"
        ) from None


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise InvalidRequestError(
            f"The image is too large: the limit is {_MOST_BYTES} bytes.",
            code="image_file_too_large",
        )


def _media_type(head: bytes) -> str:
    """Raises `InvalidRequestError`."""
    found = image_of(head)
    if found is None or found.media_type not in _TAKEN or found.is_animated:
        raise InvalidRequestError(
            "The image cannot be changed: expected PNG, JPEG or WebP with a single frame.",
            code="invalid_image_format",
        )
    if found.size is not None and found.size.is_too_large:
        width, height = found.size
        raise InvalidRequestError(
            f"The image is too large: {width} × {height} pixels. A side may have 8000, the whole "
            "50 million.",
            code="image_too_large",
        )
    return found.media_type
