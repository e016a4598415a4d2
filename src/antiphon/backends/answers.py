"""An answer as it comes: over HTTP, or what an adapter gives in its place.

Rules
1. What goes wrong with a connection is an OSError; reading raises nothing else.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

#: Seconds to wait for the end of the body after the last event, so that the connection can be kept.
_DRAIN: Final = 0.05
#: Reads that are worth it: what is there already is read without a wait.
_READS: Final = 16


class Body(Protocol):
    """The bytes of an answer."""

    async def read(self, n: int = -1) -> bytes:
        """What has come, at most `n` bytes of it; empty at the end."""
        ...

    def at_eof(self) -> bool:
        """All was read."""
        ...


class Answer(Protocol):
    """What is used here of an answer."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case find them."""
        ...

    @property
    def content_type(self) -> str:
        """The media type, without its parameters."""
        ...

    @property
    def content(self) -> Body:
        """Reading it raises OSError."""
        ...

    def close(self) -> None:
        """Nobody reads on; who reads now gets an error."""
        ...


async def read_up_to(response: Answer, most: int) -> bytes:
    """The body, or its first bytes."""
    pieces: list[bytes] = []
    while most > 0 and (piece := await response.content.read(most)):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


async def drain(response: Answer) -> None:
    """Read the end of the body, which follows the last event: the connection can be used again."""
    if response.content.at_eof():
        return
    try:
        async with asyncio.timeout(_DRAIN):
            for _ in range(_READS):
                if not await response.content.read():
                    return
    except OSError:
        return
