"""Many clients at once, at little cost: HTTP/1.1 over plain asyncio streams."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import orjson

from tests.live import KEY, LiveServer


class Caller:
    """One client with one connection that is kept."""

    def __init__(self, server: LiveServer) -> None:
        self._port = server.port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._streams is not None
        _, writer = self._streams
        writer.close()
        await writer.wait_closed()

    async def create(self, **body: Any) -> tuple[int, bytes]:
        """Status and whole body of ``POST /v1/responses``."""
        return await self.ask("POST", "/v1/responses", orjson.dumps(body))

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and whole body of an answer."""
        assert self._streams is not None
        reader, writer = self._streams
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(answer.split()[1])
        _, found, rest = answer.partition("\r\ncontent-length: ")
        if found:
            return status, await reader.readexactly(int(rest.split("\r\n")[0]))
        return status, await _chunked(reader)


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)


async def crowd(
    server: LiveServer, count: int, work: Callable[[Caller, int], Awaitable[None]]
) -> None:
    """`work(caller, number)` with `count` callers at the same time."""

    async def one(number: int) -> None:
        async with Caller(server) as caller:
            await work(caller, number)

    await asyncio.gather(*map(one, range(count)))
