"""Blobs as files of a folder (`blobs.base`).

Rules
1. A blob is ``<two hex digits of a hash>/<id>``; nothing of a path comes from a client, a path that
   leads out of the folder is trouble, and no link is followed (R-96, R-97).
2. A blob is written beside its place and moved there once all of it is on the disk, and then its
   folder is: whatever happens, it is there whole or not at all.
3. All work on files is done in threads of our own (R-118), one step of a file at a time: when
   somebody leaves in the middle, the file is closed behind the step that runs.
4. What a killed process left behind goes with the first listing an hour later.
5. A folder that was there does not go. Where it is not, it is away (a disk that is not mounted):
   nothing is missing, and nothing is stored in its place, where it would be hidden later.
"""

import asyncio
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import structlog

from antiphon.blobs.base import BlobMissing
from antiphon.blobs.pieces import PIECE, joined
from antiphon.errors import Overloaded

#: As many files are worked on at once; more only wait for the same disk.
_THREADS: Final = 4
#: Seconds after which a temporary file belongs to nobody: one that is written changes sooner.
ABANDONED: Final = 3_600
#: What begins the name of a temporary file, which no id does.
_TEMPORARY: Final = ".new-"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class LocalBlobs:
    """Blobs in `folder`, which is made when it is needed. With fewer than `min_free` bytes left on
    its disk nothing more is put there."""

    def __init__(self, folder: Path, min_free: int = 0) -> None:
        self._folder = folder
        self._min_free = min_free
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="blobs")
        self._was_there = False

    def claim(self, database: str) -> None:  # noqa: ARG002
        """See `Blobs.claim`: the folder is that of one database (`app.folder`)."""
        self._was_there = os.path.isdir(self._folder)

    async def put(self, id: str, pieces: AsyncIterable[bytes]) -> int:  # noqa: A002
        """See `Blobs.put`."""
        draft = _Draft(self._place(id), self._folder, self._min_free)
        size = 0
        try:
            await self._run(lambda: self._there(draft.open))
            async for piece in joined(pieces):
                await self._run(lambda piece=piece: draft.write(piece))  # type: ignore[misc]
                size += len(piece)
            await self._run(draft.publish)
        finally:
            await self._finish(draft.discard)
        return size

    async def read(
        self,
        id: str,  # noqa: A002
        start: int = 0,
        end: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """See `Blobs.read`."""
        opened = _Opened(self._place(id), self._folder)
        try:
            await self._run(lambda: self._there(opened.open))
            while end is None or start < end:
                most = PIECE if end is None else min(PIECE, end - start)
                piece = await self._run(lambda at=start, most=most: opened.read(at, most))  # type: ignore[misc]
                if not piece:
                    return
                start += len(piece)
                yield piece
        finally:
            await self._finish(opened.close)

    @asynccontextmanager
    async def local(self, id: str) -> AsyncIterator[Path]:  # noqa: A002
        """See `Blobs.local`: the file itself."""
        place = self._place(id)
        await self._run(lambda: self._there(lambda: os.close(_open(place, self._folder))))
        yield place

    async def delete(self, id: str) -> None:  # noqa: A002
        """See `Blobs.delete`."""
        path = self._place(id)

        def remove() -> None:
            _contained(path, self._folder)
            with suppress(FileNotFoundError):
                path.unlink()

        await self._run(remove)

    async def ids(self, older_than: float) -> AsyncGenerator[str, None]:
        """See `Blobs.ids`."""
        for folder in await self._run(lambda: _folders(self._folder)):
            for id_ in await self._run(lambda at=folder: _listed(at, older_than)):  # type: ignore[misc]
                yield id_

    async def aclose(self) -> None:
        """See `Blobs.aclose`: what was begun is finished."""
        await asyncio.to_thread(self._threads.shutdown)

    def _there(self, step: Callable[[], _T]) -> _T:
        """Run a step that needs the folder (rule 5)."""
        if self._was_there and not os.path.isdir(self._folder):
            raise OSError(0, "the folder is away")
        answer = step()
        self._was_there |= os.path.isdir(self._folder)
        return answer

    def _place(self, id_: str) -> Path:
        if not _ID.match(id_):
            raise ValueError(f"{id_!r} is not the id of a blob")
        return self._folder / hashlib.sha256(id_.encode()).hexdigest()[:2] / id_

    async def _finish(self, step: Callable[[], None]) -> None:
        """Run the last step of a file behind the one that may still run; a second cancellation ends
        the waiting and not the step."""
        try:
            last = asyncio.wrap_future(self._threads.submit(step))
        except RuntimeError:  # the threads have ended
            step()
        else:
            await asyncio.wait([last])

    async def _run(self, step: Callable[[], _T]) -> _T:
        """Run a step in a thread."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, step)
        except OSError as error:
            # Neither paths nor names of clients: `strerror` is the system's own text.
            _log.error("blobs_trouble", folder=str(self._folder), reason=error.strerror)
            raise Overloaded(retry_after=1) from error


class _Draft:
    """A blob while it is written."""

    def __init__(self, place: Path, folder: Path, min_free: int) -> None:
        self._place = place
        self._folder = folder
        self._min_free = min_free
        self._path = place.with_name(_TEMPORARY + secrets.token_hex(16))
        #: Held by the step that runs.
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._over = False

    def open(self) -> None:
        """Make the temporary file."""
        with self._lock:
            self._check()
            _make(self._place.parent)
            _contained(self._place, self._folder)
            self._check_room(0)
            self._fd = os.open(self._path, _NEW, 0o600)

    def write(self, piece: bytes) -> None:
        """Add to it."""
        with self._lock:
            fd = self._check()
            self._check_room(len(piece))
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(fd, rest) :]

    def publish(self) -> None:
        """Put it where it is found."""
        with self._lock:
            os.fsync(self._check())
            self._path.rename(self._place)
            _flush(self._place.parent)

    def discard(self) -> None:
        """Close it; and remove it if it was not published."""
        with self._lock, suppress(OSError):
            self._over = True
            if self._fd is not None:
                os.close(self._fd)
                self._path.unlink(missing_ok=True)

    def _check(self) -> int:
        """Whoever is cancelled leaves a step in the queue."""
        if self._over:
            raise OSError(0, "the client has left")
        return -1 if self._fd is None else self._fd

    def _check_room(self, size: int) -> None:
        if not self._min_free:
            return
        disk = os.statvfs(self._place.parent)
        if disk.f_bavail * disk.f_frsize < self._min_free + size:
            _log.warning("blobs_disk_full", folder=str(self._folder))
            # It is said again in vain until somebody makes room: the SDKs would send it all again.
            raise Overloaded(
                "There is too little space for this file at the moment. Please try again later.",
                should_retry=False,
            )


class _Opened:
    """A blob while it is read."""

    def __init__(self, place: Path, folder: Path) -> None:
        self._place = place
        self._folder = folder
        #: Held by the step that runs.
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._over = False

    def open(self) -> None:
        """Raises `BlobMissing`."""
        with self._lock:
            if not self._over:
                self._fd = _open(self._place, self._folder)

    def read(self, start: int, most: int) -> bytes:
        """Up to `most` bytes from `start` on."""
        with self._lock:
            return b"" if self._fd is None else os.pread(self._fd, most, start)

    def close(self) -> None:
        """The end, also of what a step still waits to do."""
        with self._lock:
            self._over = True
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


def _open(place: Path, folder: Path) -> int:
    """A descriptor to read from. Raises `BlobMissing`."""
    _contained(place, folder)
    try:
        return os.open(place, _OLD)
    except FileNotFoundError:
        raise BlobMissing(place.name) from None


def _make(folder: Path) -> None:
    """Make a folder that only we can read, and those above it, to last."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _flush(folder.parent)


def _flush(folder: Path) -> None:
    """Make what changed in a folder last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _contained(path: Path, folder: Path) -> None:
    """R-97: somebody may have put a link where a folder of ours should be."""
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise OSError(0, "a link leads out of the folder")


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _listed(folder: Path, older_than: float) -> list[str]:
    """The blobs in one of the folders; what was abandoned there is removed."""
    found = []
    abandoned = time.time() - ABANDONED
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # it goes while we look
            changed = path.lstat().st_mtime
            if path.name.startswith(_TEMPORARY) and changed < abandoned:
                path.unlink()
            elif _ID.match(path.name) and changed < older_than:
                found.append(path.name)
    return found
