"""Uploads: a file that comes in parts (spec §2.3).

Rules
1. Each part is a blob of its own. `complete` makes one of them, in the order that it names, and the
   file is there in the step in which the upload is over: once, whoever asks at the same time. The
   blobs of the parts go behind the answer: there may be many.
2. `complete` and `cancel` can be said again: an answer that was lost is given once more.
3. An upload that nobody completes within an hour has expired; its parts go with the next sweep.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import Final, Literal, TypeAlias
from weakref import WeakValueDictionary

from antiphon.blobs.base import BlobMissing
from antiphon.engine.files import Arrival, FileService
from antiphon.errors import (
    APIError,
    InvalidRequestError,
    PayloadTooLarge,
    RateLimitError,
    UploadNotFound,
)
from antiphon.protocol.files import NewUpload, clean_filename, lifetime
from antiphon.protocol.validation import echo
from antiphon.store.base import MOST_PARTS, FileRow, PartRow, UploadRow
from antiphon.store.base.files import MOST_PENDING

#: Bytes of a part, and seconds that an upload may take: OpenAI's.
MAX_PART: Final = 64 * 1024 * 1024
LIFETIME: Final = 3_600

Status: TypeAlias = Literal["pending", "completed", "cancelled", "expired"]


class UploadService:
    """The uploads of all projects. Raises `UploadNotFound` where there is none."""

    def __init__(self, files: FileService) -> None:
        self._files = files
        self._rows = files.rows
        #: Held by who completes an upload; gone when nobody does or waits.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def begin(self, project: str, new: NewUpload) -> UploadRow:
        """A new upload. Raises `InvalidRequestError`, and `RateLimitError` while the project has
        too many."""
        most = self._files.options.max_upload
        if new.bytes > most:
            raise InvalidRequestError(
                f"Invalid 'bytes': integer above maximum value. Expected a value <= {most}, but "
                f"got {new.bytes} instead.",
                param="bytes",
                code="integer_above_max_value",
            )
        now = self._files.now()
        upload = UploadRow(
            self._files.new_id("upload_"),
            project,
            now,
            now + LIFETIME,
            new.bytes,
            clean_filename(new.filename),
            new.purpose,
            lifetime(new.purpose, new.expires_after),
        )
        if not await self._rows.begin(upload):
            raise RateLimitError(
                f"This project has {MOST_PENDING} pending uploads, which is the limit. Complete or "
                "cancel some of them.",
                should_retry=False,
            )
        return upload

    async def part_arriving(self, project: str, id_: str) -> AbstractAsyncContextManager[Arrival]:
        """The context in which a part may come; refused before a byte is read if it may not."""
        self._check_pending(await self._get(project, id_))
        return self._files.arriving(project, "part_", MAX_PART)

    async def add_part(self, project: str, id_: str, arrival: Arrival) -> PartRow:
        """Make a part of what has arrived."""
        part = PartRow(arrival.id, id_, project, self._files.now(), arrival.size)
        arrival.is_loose = False
        outcome = await self._rows.add_part(part, self._files.options.max_project)
        if outcome == "added":
            return part
        arrival.is_loose = True
        upload = await self._get(project, id_)
        match outcome:
            case "too_large":
                raise PayloadTooLarge(
                    f"The parts of this upload have more than the {upload.bytes} bytes that were "
                    "announced."
                )
            case "too_many":
                raise InvalidRequestError(
                    f"An upload has at most {MOST_PARTS} parts.", param="upload_id"
                )
            case "no_room":
                raise self._files.no_room()
        raise self._ended(upload)

    async def complete(
        self, project: str, id_: str, part_ids: Sequence[str], md5: str | None
    ) -> tuple[UploadRow, FileRow | None]:
        """Make the file; None if it was made before and is gone again."""
        key = hashlib.sha256("\n".join(part_ids).encode()).hexdigest()
        async with self._locks.setdefault(id_, asyncio.Lock()):
            upload = await self._get(project, id_)
            try:
                self._check_pending(upload)
                await self._check_parts(upload, part_ids)
                return await self._made(replace(upload, parts_key=key), part_ids, md5)
            except APIError:
                # It was made before; or by another process, which took the parts, meanwhile.
                upload = await self._get(project, id_)
                if upload.status != "completed" or upload.parts_key != key:
                    raise
                made = upload.file_id or ""
                return upload, await self._rows.get(project, made, self._files.now())

    async def cancel(self, project: str, id_: str) -> UploadRow:
        """End it without a file."""
        upload = await self._get(project, id_)
        if upload.status == "cancelled":
            return upload
        parts = await self._rows.cancel(project, id_, self._files.now())
        upload = await self._get(project, id_)
        if parts is not None:
            self._files.remove_later(parts)
        elif upload.status != "cancelled":  # else it was, by another process
            raise self._ended(upload)
        return upload

    def status(self, upload: UploadRow) -> Status:
        """How it is now."""
        if upload.status == "pending" and upload.expires_at <= self._files.now():
            return "expired"
        return upload.status

    async def _made(
        self, upload: UploadRow, part_ids: Sequence[str], md5: str | None
    ) -> tuple[UploadRow, FileRow]:
        digest = hashlib.md5(usedforsecurity=False)
        # The parts have been counted: no room is asked for a second time.
        error = PayloadTooLarge()
        whole = Arrival(self._files.new_id("file-"), self._files.blobs, upload.bytes, error)
        async with self._files.keeping(whole):
            try:
                await whole.take(self._joined(part_ids, digest if md5 else None))
            except BlobMissing:
                # It ended meanwhile; or somebody else removed what is ours.
                self._check_pending(await self._get(upload.project, upload.id))
                raise APIError from None
            if md5 and digest.hexdigest() != md5.lower():
                raise InvalidRequestError(
                    f"Invalid 'md5': the file has the checksum '{digest.hexdigest()}', but "
                    f"'{echo(md5)}' was expected.",
                    param="md5",
                    code="invalid_value",
                )
            file = self._files.row(
                upload.project, whole, upload.filename, upload.purpose, upload.file_lifetime
            )
            whole.is_loose = False
            parts = await self._rows.complete(upload, file)
            if parts is None:
                whole.is_loose = True
                raise self._ended(await self._get(upload.project, upload.id))
            self._files.remove_later(parts)
            return await self._get(upload.project, upload.id), file

    async def _joined(
        self, part_ids: Sequence[str], digest: "hashlib._Hash | None"
    ) -> AsyncIterator[bytes]:
        for id_ in part_ids:
            async with aclosing(self._files.blobs.read(id_)) as pieces:
                async for piece in pieces:
                    if digest is not None:
                        await asyncio.to_thread(digest.update, piece)
                    yield piece

    async def _check_parts(self, upload: UploadRow, part_ids: Sequence[str]) -> None:
        sizes = await self._rows.parts(upload.project, upload.id)
        size = 0
        for position, part_id in enumerate(part_ids):
            if part_id not in sizes:
                raise InvalidRequestError(
                    f"Part with id '{echo(part_id)}' not found in this upload, or named twice.",
                    param=f"part_ids[{position}]",
                    code="invalid_value",
                )
            size += sizes.pop(part_id)
        if size != upload.bytes:
            raise InvalidRequestError(
                f"These parts have {size} bytes, but the upload was announced with {upload.bytes}.",
                param="part_ids",
                code="invalid_value",
            )

    async def _get(self, project: str, id_: str) -> UploadRow:
        upload = await self._rows.upload(project, id_)
        if upload is None:
            raise UploadNotFound(echo(id_))
        return upload

    def _check_pending(self, upload: UploadRow) -> None:
        if self.status(upload) != "pending":
            raise self._ended(upload)

    def _ended(self, upload: UploadRow) -> InvalidRequestError:
        return InvalidRequestError(
            f"Upload '{upload.id}' is {self.status(upload)}; only a pending one can be changed.",
            param="upload_id",
        )
