"""What becomes of one question to an MCP server over HTTP, and the body of its answer.

Rules
1. Whoever asks sets `EXCHANGE`; the SDK passes the context of who asks on to the task that sends.
2. Whatever is read is bounded, in pieces or whole (reliability R-89), and weighed before it is
   parsed (R-118).
"""

from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import anyio
import httpx2
import orjson

from antiphon.tools.mcp.faults import Fault, TooLarge
from antiphon.tools.mcp.weight import Events, check_weight

#: Bytes of one answer (R-89), and of all that a server says by itself, or in the old transport at
#: all.
MOST_BODY: Final = 8 << 20
MOST_LISTENED: Final = 64 << 20
#: What goes wrong on the way.
FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(slots=True)
class Exchange:
    """One question and what became of it; whoever asks sets `EXCHANGE`."""

    fault: Fault | None = None
    #: A JSON-RPC error came with the bad status of `fault`.
    explained: bool = False
    #: The status is told all the same.
    status_first: bool = False
    #: The result of a call.
    answer: dict[str, Any] | None = None
    #: Bytes that the answer may have and has so far; how often it was asked for again.
    most: int = MOST_BODY
    read: int = 0
    resumed: int = 0
    #: Left when there is no use in waiting any longer.
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


EXCHANGE: Final[ContextVar[Exchange]] = ContextVar("mcp_exchange")


class Stream(httpx2.AsyncByteStream):
    """A body of events, which is read as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse, exchange: Exchange) -> None:
        self._answer = answer
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reason = ""
        events = Events()
        try:
            while piece := await self._answer.content.readany():
                self._exchange.read += len(piece)
                if self._exchange.read > self._exchange.most:
                    raise TooLarge
                events.check(piece)
                yield piece
            events.end()
            return
        except TooLarge as fault:
            self._exchange.fault = fault
        except FAILURES as error:
            reason = type(error).__name__
        raise httpx2.ReadError(reason)

    async def aclose(self) -> None:
        self._answer.close()


async def content_of(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """The whole body. Raises `TooLarge`."""
    pieces = []
    size = 0
    while piece := await answer.content.readany():
        size += len(piece)
        if size > most:
            raise TooLarge
        pieces.append(piece)
    return b"".join(pieces)


def is_answer(content: bytes, asked: object) -> bool:
    """Whether it is the answer to this request; the SDK waits for it for ever if it is not. Raises
    `TooLarge`."""
    check_weight(content)
    try:
        message: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return isinstance(message, dict) and message.get("id") == asked


def why(error: Exception) -> str:
    """For the log, without a URL (R-130)."""
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{name}: {error.os_error}"[:200]
    return name
