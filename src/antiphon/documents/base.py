"""The port to the text of documents (decision 0008).

Rules
1. Files are somebody else's: whatever reads them is a process of its own that can be killed, with
   limits (R-100). What is wrong with a file is `Unreadable`, with a reason in our words; what is
   wrong around it is `Overloaded`.
2. What a file is, its bytes say; its name only helps where bytes cannot (R-96).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

#: What OpenAI calls them (`last_error.code` of a file in a vector store).
Why: TypeAlias = Literal["unsupported_file", "invalid_file", "server_error"]


class Unreadable(Exception):
    """A file whose text cannot be had; the message is for the client."""

    def __init__(self, code: Why, message: str) -> None:
        super().__init__(message)
        self.code: Why = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Chunking:
    """How text is cut: tokens (o200k) of a chunk at most, and of its overlap with the next."""

    size: int = 800
    overlap: int = 400


class Documents(Protocol):
    """Reads files; see the rules."""

    async def text(self, project: str, file: Path | bytes, filename: str) -> str:
        """All text of the file that is at a path, or is these bytes, and whose name for its owner
        is `filename`. Raises `Unreadable` and `Overloaded`."""
        ...

    async def chunks(
        self, project: str, path: Path, filename: str, chunking: Chunking
    ) -> list[str]:
        """The same in chunks, in order, none of them blank; at least one. Raises `Unreadable`
        and `Overloaded`."""
        ...

    async def aclose(self) -> None:
        """The server ends."""
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was at an address."""

    body: bytes
    filename: str


class Fetcher(Protocol):
    """Gets what stands at an address that a request names."""

    async def fetch(
        self, url: str, most_bytes: int, take: Callable[[int], Awaitable[None]]
    ) -> Fetched:
        """`take` is asked for bytes before they are kept; what it raises ends it. Raises
        `InvalidRequestError`, in words that do not tell what is at private addresses (R-94)."""
        ...
