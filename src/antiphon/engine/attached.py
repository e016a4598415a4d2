"""Where the bytes of an attachment are: in a blob of the project, or in memory.

Rules
1. Nothing is read before somebody asks for it: of a stored file that becomes text, only its head.
2. What came with the request is not written to the disk, not even to read its text (R-137).
"""

from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

from antiphon.blobs.base import Blobs
from antiphon.protocol.images import HEAD


class Source(Protocol):
    """Bytes with a name."""

    @property
    def filename(self) -> str:
        """What it is called, for who asks."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def key(self) -> str | None:
        """What its text is kept under; None: it is not kept."""
        ...

    async def head(self) -> bytes:
        """The first `HEAD` bytes. Raises `BlobMissing`."""
        ...

    async def whole(self) -> bytes:
        """All. Raises `BlobMissing`."""
        ...

    def local(self) -> AbstractAsyncContextManager[Path | bytes]:
        """A file with the bytes, or the bytes. Raises `BlobMissing`, or `Overloaded` when there is
        no room."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the project."""

    id: str
    filename: str
    size: int
    blobs: Blobs

    @property
    def key(self) -> str | None:
        """Files never change."""
        return self.id

    async def head(self) -> bytes:
        """See `Source`."""
        return await self._read(HEAD)

    async def whole(self) -> bytes:
        """See `Source`."""
        return await self._read(None)

    async def _read(self, end: int | None) -> bytes:
        async with aclosing(self.blobs.read(self.id, 0, end)) as pieces:
            whole = BytesIO()  # which grows: a join would copy all of it at once
            async for piece in pieces:
                whole.write(piece)
            return whole.getvalue()

    def local(self) -> AbstractAsyncContextManager[Path]:
        """See `Source`."""
        return self.blobs.local(self.id)


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes that came with the request, or from an address."""

    body: bytes
    filename: str
    key: str | None = None

    @property
    def size(self) -> int:
        """See `Source`."""
        return len(self.body)

    async def head(self) -> bytes:
        """See `Source`."""
        return self.body[:HEAD]

    async def whole(self) -> bytes:
        """See `Source`."""
        return self.body

    def local(self) -> AbstractAsyncContextManager[bytes]:
        """See `Source`."""
        return nullcontext(self.body)
