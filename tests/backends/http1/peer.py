"""The other end: a server on loopback whose every byte a test writes itself.

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")

    async with serving(talk) as server:
        await client.request("GET", server.url)

Rules
1. `talk` is run for each connection, which is closed when it returns.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from antiphon.backends.answers import Answer

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Peer:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heads: list[bytes]

    async def head(self) -> bytes:
        """The next head."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head

    async def request(self) -> bytes:
        """The body of the next request."""
        for line in (await self.head()).lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return await self.reader.readexactly(int(line.partition(b":")[2]))
        return b""

    async def say(self, said: bytes) -> None:
        """As fast as it is taken."""
        self.writer.write(said)
        await self.writer.drain()

    async def gone(self) -> None:
        """The client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Talk: TypeAlias = Callable[[Peer], Awaitable[None]]


@dataclass
class Server:
    """`heads` of requests in the order of their coming; `open`: connections now."""

    port: int
    host: str = "127.0.0.1"
    scheme: str = "http"
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        """Its root."""
        return f"{self.scheme}://{self.host}:{self.port}/"

    async def is_left(self) -> None:
        """No connection is open any more."""
        await self.is_at(0)

    async def is_at(self, number: int) -> None:
        """So many connections are open."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: self.open == number)

    async def count(self, step: int) -> None:
        """A connection has come, or gone."""
        self.open += step
        async with self.changed:
            self.changed.notify_all()


@contextlib.asynccontextmanager
async def serving(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    tasks: set[asyncio.Task[None]] = set()
    server = Server(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        await server.count(1)
        try:
            await talk(Peer(reader, writer, server.heads))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            await server.count(-1)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # what they closed is closed in the next rounds


async def answer_all(peer: Peer) -> None:
    """A `Talk`: two letters for each request."""
    while True:
        await peer.request()
        await peer.say(OK)


def saying(said: bytes) -> Talk:
    """Answers the first request so, and closes."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(said)

    return talk


async def whole(answer: Answer) -> bytes:
    """All of the body."""
    pieces = []
    try:
        while piece := await answer.content.read(65536):
            pieces.append(piece)
    finally:
        answer.close()
    return b"".join(pieces)
