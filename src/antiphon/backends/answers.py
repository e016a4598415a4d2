"""An answer as it comes: aiohttp's, or what an adapter gives in its place.

Rules
1. Reading raises what is `BROKEN`, and nothing else.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import aiohttp

#: What goes wrong with a connection.
BROKEN: Final = (aiohttp.ClientError, OSError)
#: Seconds to wait for the end of the body after the last event, so that the connection can be kept.
_DRAIN: Final = 0.05


class Body(Protocol):
    """The bytes of an answer, as aiohttp's `StreamReader` has them."""

    async def read(self, n: int = -1) -> bytes:
        """What has come, empty at the end."""
        ...

    async def readany(self) -> bytes:
        """The same, however much it is."""
        ...

    def at_eof(self) -> bool:
        """All was read."""
        ...


class Answer(Protocol):
    """What is used here of an answer, as aiohttp's `ClientResponse` has it."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case find them."""
        ...

    @property
    def content_type(self) -> str:
        """The media type."""
        ...

    @property
    def content(self) -> Body:
        """Reading it raises what is `BROKEN`."""
        ...

    def close(self) -> None:
        """Nobody reads on; who reads now gets an error."""
        ...


async def read_up_to(response: Answer, most: int) -> bytes:
    """The body, or its first bytes; aiohttp's `read(n)` gives what has come."""
    pieces: list[bytes] = []
    while most > 0 and (piece := await response.content.read(most)):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


async def drain(response: Answer) -> None:
    """Read the end of the body, which follows the last event: the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN):
            while not response.content.at_eof():
                await response.content.readany()
    except BROKEN:
        return
