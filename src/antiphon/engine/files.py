"""Files: bytes that come, and bytes that go (spec §2.3, decision 0008).

Rules
1. Blob first, row second; a file goes the other way round. Whatever breaks off in between leaves an
   orphan that nobody sees, which `engine.orphans` takes (R-104).
2. From the moment at which a row may have been written, only the sweep decides about its blob. A
   blob that no row names any more is an orphan if it cannot be removed, and nobody's error.
3. Another project's file, and one that has expired, is unknown (R-29).
4. Limits are held while bytes come, and that of a project once more in the step that writes the
   row (R-102).
5. Files go through `Files.delete` alone: what hangs on one is the store's business, in that step.
"""

import asyncio
import secrets
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from antiphon.blobs.base import BlobMissing, Blobs
from antiphon.errors import APIError, InvalidRequestError, NoSuchFile, PayloadTooLarge
from antiphon.protocol.validation import echo
from antiphon.store.base import FileListing, FileRow, Files

_log = structlog.get_logger(__name__)

#: Blobs in a row that make trouble before the place counts as broken.
_MOST_TROUBLE: Final = 10
#: Seconds that the end waits for blobs that are being removed.
_LAST_REMOVALS: Final = 5.0


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Limits in bytes: of a file, of a file in parts, of a project (0: none)."""

    max_file: int = 512 * 1024 * 1024
    max_upload: int = 8 * 1024 * 1024 * 1024
    max_project: int = 0


class Arrival:
    """A blob that comes and has no row yet. `limit`: bytes that it may have, or `too_large` is
    raised."""

    def __init__(self, id_: str, blobs: Blobs, limit: int, too_large: PayloadTooLarge) -> None:
        self.id = id_
        self.limit = limit
        self.too_large = too_large
        #: Bytes that came.
        self.size = 0
        #: Whether there is a blob that no row can name.
        self.is_loose = False
        self._blobs = blobs

    async def take(self, pieces: AsyncIterable[bytes]) -> None:
        """Store what comes. Raises what `pieces` raises, and `PayloadTooLarge`."""
        self.size = await self._blobs.put(self.id, self._bounded(pieces))
        self.is_loose = True

    async def _bounded(self, pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        size = 0
        async for piece in pieces:
            size += len(piece)
            if size > self.limit:
                raise self.too_large
            yield piece


class FileService:
    """The files of all projects; `clock` gives Unix seconds. Raises `NoSuchFile` where there is
    none."""

    def __init__(
        self,
        files: Files,
        blobs: Blobs,
        options: FileOptions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rows = files
        self.blobs = blobs
        self.options = options
        self._clock = clock
        self._removals: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Wait a little for blobs that are being removed; those that are left are orphans."""
        if self._removals:
            _, late = await asyncio.wait(self._removals, timeout=_LAST_REMOVALS)
            for removal in late:
                removal.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    @asynccontextmanager
    async def arriving(
        self, project: str, prefix: str = "file-", limit: int | None = None
    ) -> AsyncIterator[Arrival]:
        """Something new of a project, which is gone again if it gets no row. `limit` in bytes;
        None: that of a file."""
        most = self.options.max_file if limit is None else limit
        error = PayloadTooLarge(f"The file is too large: the limit is {most} bytes.")
        if self.options.max_project:
            room = max(0, self.options.max_project - await self.rows.used(project))
            if room < most:
                most, error = room, self.no_room()
        async with self.keeping(Arrival(self.new_id(prefix), self.blobs, most, error)) as arrival:
            yield arrival

    @asynccontextmanager
    async def keeping(self, arrival: Arrival) -> AsyncIterator[Arrival]:
        """Remove it at the end if it is still loose."""
        try:
            yield arrival
        finally:
            if arrival.is_loose:
                await self._remove([arrival.id])

    async def add(
        self, project: str, arrival: Arrival, filename: str, purpose: str, lifetime: int | None
    ) -> FileRow:
        """Make a file of what has arrived; `lifetime` in seconds. Raises `PayloadTooLarge`."""
        row = self.row(project, arrival, filename, purpose, lifetime)
        arrival.is_loose = False
        if not await self.rows.add(row, self.options.max_project):
            arrival.is_loose = True
            raise self.no_room()
        return row

    def row(
        self, project: str, arrival: Arrival, filename: str, purpose: str, lifetime: int | None
    ) -> FileRow:
        """The row of what has arrived, from now on."""
        now = self.now()
        until = None if lifetime is None else now + lifetime
        return FileRow(arrival.id, project, now, until, arrival.size, filename, purpose)

    async def get(self, project: str, id_: str) -> FileRow:
        """One file."""
        row = await self.rows.get(project, id_, self.now())
        if row is None:
            raise NoSuchFile(echo(id_))
        return row

    async def listed(self, project: str, wanted: FileListing) -> tuple[list[FileRow], bool]:
        """A page of files, and whether there is more."""
        page = await self.rows.listed(project, wanted, self.now())
        if page is None:
            text = f"File with id '{echo(wanted.after)}' not found."
            raise InvalidRequestError(text, param="after")
        return page

    async def delete(self, project: str, id_: str) -> None:
        """Forget a file."""
        await self.get(project, id_)
        if not await self.rows.delete(project, id_):
            raise NoSuchFile(echo(id_))
        await self._remove([id_])

    def remove_later(self, ids: Iterable[str]) -> None:
        """Remove blobs that no row names any more, while others go on; at most until `aclose`."""
        removal = asyncio.create_task(self._remove(ids), name="blob-removal")
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    async def _remove(self, ids: Iterable[str]) -> None:
        log_stuck(await remove_blobs(self.blobs, ids))

    async def content(self, row: FileRow, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Bytes `start` to before `end`. Raises `NoSuchFile` at the first piece."""
        try:
            async with aclosing(self.blobs.read(row.id, start, end)) as pieces:
                async for piece in pieces:
                    yield piece
        except BlobMissing:  # somebody deletes it right now
            raise NoSuchFile(row.id) from None

    def new_id(self, prefix: str) -> str:
        """R-32: 128 bits that nobody can guess."""
        return prefix + secrets.token_hex(16)

    def no_room(self) -> PayloadTooLarge:
        """R-102."""
        return PayloadTooLarge(
            f"This project may store {self.options.max_project} bytes, and there is not enough "
            "left of them. Delete files to make room.",
            code="storage_quota_exceeded",
        )

    def now(self) -> int:
        """Unix time in seconds."""
        return int(self._clock())


async def remove_blobs(blobs: Blobs, ids: Iterable[str]) -> dict[str, str]:
    """Remove blobs that no row names. Those that are stuck, and why: after some in a row the others
    are not even tried."""
    stuck: dict[str, str] = {}
    in_a_row, reason = 0, ""
    for id_ in ids:
        if in_a_row < _MOST_TROUBLE:
            try:
                await blobs.delete(id_)
            except APIError as error:
                in_a_row, reason = in_a_row + 1, error.message
            else:
                in_a_row = 0
                continue
        stuck[id_] = reason
    return stuck


def log_stuck(stuck: Mapping[str, str]) -> None:
    """One line, however many there are."""
    if stuck:
        id_, reason = next(iter(stuck.items()))
        _log.warning("blobs_not_removed", count=len(stuck), first=id_, error=reason)
