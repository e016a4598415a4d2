"""Blobs as objects of an S3 bucket (`blobs.base`), with obstore (``antiphon[s3]``).

Rules
1. Credentials, region and endpoint are those of the usual ``AWS_…`` environment variables; nothing
   of them is written to a log or an answer (R-129).
2. A small blob is one PUT; a larger one is a multipart upload, which S3 shows when it is complete.
   What breaks off stays hidden and costs money: a rule of the bucket ends it (docs/files.md).
3. A blob is read in ranges, each a request of its own: nothing times out while a client is slow.
4. Databases share a prefix: what is under the id of one is its own, and no orphan of another.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from antiphon.blobs.base import BlobMissing
from antiphon.blobs.pieces import joined
from antiphon.errors import Overloaded

#: Bytes of a part, of a range, and of what is one PUT: 8 GiB are 1,024 of S3's 10,000 parts.
_PART: Final = 8 * 1024 * 1024
#: Parts that are on their way at once, each of which is in memory.
_AT_ONCE: Final = 2
#: Seconds after which a copy is one that a killed process left behind.
_ABANDONED: Final = 86_400
#: A client waits behind it: its own default is to try for three minutes.
_RETRIES: Final = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

_log = structlog.get_logger(__name__)


class S3Blobs:
    """Blobs in the bucket and under the prefix of ``s3://bucket/prefix``; `scratch` is the folder
    of copies that are read here. Raises ValueError when it cannot be used."""

    def __init__(self, url: str, scratch: Path) -> None:
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise ValueError("it is s3://BUCKET/PREFIX, or empty")
        self._scratch = scratch
        self._obstore = _library()
        self._bucket, self._prefix = parts.netloc, prefix
        self._store = self._opened(prefix)

    def claim(self, database: str) -> None:
        """See `Blobs.claim`."""
        self._store = self._opened("/".join(filter(None, (self._prefix, database))))

    async def put(self, id: str, pieces: AsyncIterable[bytes]) -> int:  # noqa: A002
        """See `Blobs.put`. A writer that is never closed publishes nothing."""
        size = 0
        with self._trouble(id):
            writer = self._obstore.open_writer_async(
                self._store, id, buffer_size=_PART, max_concurrency=_AT_ONCE
            )
        async for piece in joined(pieces):
            with self._trouble(id):
                await writer.write(piece)
            size += len(piece)
        with self._trouble(id):
            await writer.close()
        return size

    async def read(
        self,
        id: str,  # noqa: A002
        start: int = 0,
        end: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """See `Blobs.read`."""
        with self._trouble(id):
            size: int = (await self._obstore.head_async(self._store, id))["size"]
        last = size if end is None else min(end, size)
        while start < last:
            until = min(start + _PART, last)
            with self._trouble(id):
                piece = await self._obstore.get_range_async(self._store, id, start=start, end=until)
            start = until
            yield bytes(piece)

    @asynccontextmanager
    async def local(self, id: str) -> AsyncIterator[Path]:  # noqa: A002
        """See `Blobs.local`: a copy."""
        pieces = self.read(id)
        with self._trouble(id):
            copy = await asyncio.to_thread(_new_file, self._scratch)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    with self._trouble(id):
                        await asyncio.to_thread(_append, copy, piece)
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    async def delete(self, id: str) -> None:  # noqa: A002
        """See `Blobs.delete`."""
        try:
            with self._trouble(id):
                await self._obstore.delete_async(self._store, id)
        except BlobMissing:  # S3 itself does not say so
            pass

    async def ids(self, older_than: float) -> AsyncGenerator[str, None]:
        """See `Blobs.ids`."""
        await asyncio.to_thread(_clear, self._scratch)
        pages = self._obstore.list(self._store)
        while True:
            with self._trouble(""):
                page = await anext(pages, None)
            if page is None:
                return
            for one in page:
                if one["last_modified"].timestamp() < older_than:
                    yield one["path"]

    async def aclose(self) -> None:
        """Nothing to do: connections go with the last use."""

    def _opened(self, prefix: str) -> Any:
        # obstore takes the variables itself, but wants to be told that TLS may be missing.
        endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
        options = {"allow_http": endpoint.startswith("http://")}
        try:
            return self._obstore.store.S3Store(
                self._bucket, prefix=prefix or None, client_options=options, retry_config=_RETRIES
            )
        except self._obstore.exceptions.BaseError:
            raise ValueError("the AWS_… variables cannot be used") from None

    @contextmanager
    def _trouble(self, id_: str) -> Iterator[None]:
        """What goes wrong with the place is `Overloaded`."""
        try:
            yield
        except (self._obstore.exceptions.NotFoundError, FileNotFoundError):
            raise BlobMissing(id_) from None
        except (self._obstore.exceptions.BaseError, OSError) as error:
            # Its text has addresses and what S3 said: its kind must do.
            _log.error("blobs_trouble", place="s3", reason=type(error).__name__)
            raise Overloaded(retry_after=1) from error


def _library() -> ModuleType:
    """R-133."""
    try:
        import obstore  # noqa: PLC0415
        import obstore.exceptions  # noqa: PLC0415
        import obstore.store  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            "S3 needs the extra 's3' of this server: pip install 'antiphon[s3]'"
        ) from None
    return obstore


def _new_file(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, delete=False) as file:
        return Path(file.name)


def _clear(folder: Path) -> None:
    """Remove abandoned copies."""
    if not folder.is_dir():
        return
    for copy in folder.iterdir():
        with suppress(OSError):  # it goes while we look
            if copy.stat().st_mtime < time.time() - _ABANDONED:
                copy.unlink()


def _append(path: Path, piece: bytes) -> None:
    with path.open("ab") as file:
        file.write(piece)
