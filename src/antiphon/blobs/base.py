"""The port to the bytes of files (decision 0008).

Rules
1. A blob has the id of a row of ours, never a name that a client chose (R-96).
2. A blob is there whole or not at all, and never changes.
3. Nothing here holds a whole blob in memory.
4. Trouble with the place is `Overloaded`; a blob that is not there is `BlobMissing`.
"""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol


class BlobMissing(LookupError):
    """There is no such blob (any more)."""


class Blobs(Protocol):
    """One place for bytes."""

    def claim(self, database: str) -> None:
        """From now on it has the blobs of the database with this id, and shows no others."""
        ...

    async def put(self, id: str, pieces: AsyncIterable[bytes]) -> int:  # noqa: A002
        """Keep what comes; its length in bytes. Durable when it returns; what `pieces` raises ends
        it and leaves nothing."""
        ...

    def read(
        self,
        id: str,  # noqa: A002
        start: int = 0,
        end: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Bytes `start` to before `end`, in pieces; to be closed (`aclosing`). Raises `BlobMissing`
        at the first one."""
        ...

    def local(self, id: str) -> AbstractAsyncContextManager[Path]:  # noqa: A002
        """A file on this machine with the bytes, for as long as the context lasts; only to be read.
        Raises `BlobMissing`."""
        ...

    async def delete(self, id: str) -> None:  # noqa: A002
        """Forget it; no effect when it is not there."""
        ...

    def ids(self, older_than: float) -> AsyncGenerator[str, None]:
        """All blobs that were made before that Unix time, for whoever looks for orphans (R-104)."""
        ...

    async def aclose(self) -> None:
        """The server ends."""
        ...
