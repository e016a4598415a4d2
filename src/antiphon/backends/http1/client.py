"""A client for one model server: connections that are kept, and requests over them.

Rules
1. What was used last is used next; what the server has closed, or nobody has used for a while, is
   closed.
2. A kept connection may be closed by the server just when a request goes out. A GET goes out once
   more then, over a new one. A POST does not: the server may have been at work, and whether that is
   done twice is for the retries of the caller (RFC 9110 §9.2.2).
3. Redirects are not followed, there are no cookies, and the environment names no proxy.
4. Leaving a request in any way closes its connection, unless the whole answer has come.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from functools import cache, partial
from typing import Final, Literal, final

from aiohappyeyeballs import start_connection

from antiphon.backends.answers import Answer
from antiphon.backends.http1.connection import Connection, HttpError, Incoming, Place
from antiphon.backends.http1.target import Target, lines_of, merged, target_of
from antiphon.backends.http1.unpacked import unpacked

#: Connections at a time; more requests wait.
_CONNECTIONS: Final = 1024
#: Seconds for which an unused connection is kept at least, and how much longer at most.
_KEPT: Final = 15.0
_LOOK: Final = 5.0
#: Seconds after which another address of the same name is tried, too (RFC 8305 §5).
_NEXT_ADDRESS: Final = 0.25
#: URLs whose heads are remembered: those of one server, with a few models and lists.
_REMEMBERED: Final = 64


@final
class Client:
    """Use `aclose` at the end."""

    def __init__(self, headers: Mapping[str, str], connect_timeout: float) -> None:
        """`headers`: of every request."""
        self._headers = headers
        self._connect_timeout = connect_timeout
        self._targets: dict[str, Target] = {}
        self._open: set[Connection] = set()
        #: The one that was used last is the last one.
        self._idle: dict[Place, list[Connection]] = {}
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self._looking: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def request(
        self,
        method: Literal["GET", "POST"],
        url: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """An answer of which the head has come; close it. `headers` take the place of those of the
        client. Raises OSError."""
        target = self._targets.get(url) or self._remembered(url)
        lines = lines_of(merged(target.headers, headers)) if headers else target.lines
        length = b"Content-Length: %d\r\n" % len(body) if method == "POST" else b""
        head = b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method.encode(), target.path, lines, length)
        connection = await self._lent(target.place)
        is_new = not connection.is_used
        try:
            answer = await _exchanged(connection, head, body)
        except HttpError:
            if is_new or method == "POST":
                raise
            connection = await self._lent(target.place, is_new=True)
            answer = await _exchanged(connection, head, body)
        return unpacked(answer) if "content-encoding" in answer.headers else answer

    async def aclose(self) -> None:
        """Close all connections; who reads an answer gets an error."""
        self._is_closed = True
        if self._looking is not None:
            self._looking.cancel()
        for connection in list(self._open):
            connection.give_up("closed")
            connection.abort()
        await asyncio.sleep(0)  # sockets are closed in the next round

    async def _lent(self, place: Place, *, is_new: bool = False) -> Connection:
        """A connection for one answer."""
        await self._places.acquire()
        connection = None
        try:
            connection = None if is_new else self._kept(place)
            if connection is None:
                connection = await self._connected(place)
            return connection
        finally:
            if connection is None:
                self._places.release()

    def _kept(self, place: Place) -> Connection | None:
        idle = self._idle.get(place)
        while idle:
            connection = idle.pop()
            if not connection.is_closing:
                return connection
        return None

    async def _connected(self, place: Place) -> Connection:
        """A new connection. Raises OSError."""
        where = f"{place.host}:{place.port}"
        try:
            async with asyncio.timeout(self._connect_timeout):
                connection = await _connect(place, partial(Connection, place, self))
        except TimeoutError:
            raise TimeoutError(f"no connection to {where} in time") from None
        except OSError as exc:
            raise HttpError(f"no connection to {where}: {exc}") from None
        if self._is_closed or connection.is_closing:
            connection.abort()
            raise HttpError("closed")
        self._open.add(connection)
        return connection

    def _remembered(self, url: str) -> Target:
        if len(self._targets) >= _REMEMBERED:
            self._targets.clear()
        target = self._targets[url] = target_of(url, self._headers)
        return target

    # -- what connections tell (`Lender`) ----------------------------------------------------------

    def take_back(self, connection: Connection, *, is_reusable: bool) -> None:
        """See `Lender.take_back`."""
        self._places.release()
        if not is_reusable:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(connection.place, []).append(connection)
        if self._looking is None:
            self._looking = loop.call_later(_LOOK, self._look)

    def forget(self, connection: Connection) -> None:
        """See `Lender.forget`."""
        self._open.discard(connection)
        idle = self._idle.get(connection.place, [])
        if connection in idle:
            idle.remove(connection)

    def _look(self) -> None:
        """Close what nobody has used for a while."""
        self._looking = None
        loop = asyncio.get_running_loop()
        for idle in self._idle.values():
            while idle and loop.time() - idle[0].idle_since > _KEPT:
                idle.pop(0).abort()
        if any(self._idle.values()):
            self._looking = loop.call_later(_LOOK, self._look)


async def _exchanged(connection: Connection, head: bytes, body: bytes) -> Incoming:
    """The answer to a request. Raises `HttpError`."""
    answer = connection.ask()
    is_begun = False
    try:
        await connection.send(answer, head, body)
        await answer.begun()
        is_begun = True
        return answer
    finally:
        if not is_begun:
            answer.close()


async def _connect(place: Place, protocol: partial[Connection]) -> Connection:
    loop = asyncio.get_running_loop()
    tls = await asyncio.to_thread(_trust) if place.is_tls else None
    found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    # uvloop's `create_connection` tries one address after the other.
    sock = await start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS, interleave=1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    name = place.host.rstrip(".") if place.is_tls else None
    _, connection = await loop.create_connection(protocol, sock=sock, ssl=tls, server_hostname=name)
    return connection


@cache
def _trust() -> ssl.SSLContext:
    """The certificates of this machine; reading them takes a while."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
