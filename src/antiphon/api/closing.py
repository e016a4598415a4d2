"""How a connection ends: refused, after lingering, or because its reader is dead."""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

from uvicorn._types import ASGI3Application, ASGISendEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from antiphon.api.errors import error_response
from antiphon.api.headers import FIXED_HEADERS, request_id
from antiphon.errors import APIError

if sys.platform == "linux":
    import fcntl
    import termios

    def _in_kernel(fd: int) -> int:
        """Bytes that were written to the socket but not acknowledged by the peer."""
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
else:

    def _in_kernel(fd: int) -> int:
        """Not known here."""
        del fd
        return 0


def refusal(error: APIError) -> bytes:
    """A whole HTTP answer for a request that no app will see; it is the last on its connection."""
    reply = error_response(error)
    lines = [
        b"HTTP/1.1 %d %s" % (reply.status, HTTPStatus(reply.status).phrase.encode()),
        *(name + b": " + value for name, value in reply.headers if name != b"connection"),
        *(name + b": " + value for name, value in FIXED_HEADERS),
        b"x-request-id: " + request_id().encode(),
        b"connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + reply.body


class LingeringTransport(asyncio.Transport):
    """A transport for one answer: `close` asks the protocol to linger first."""

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._linger = linger

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Pass on."""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Pass on."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Pass on."""
        return self._transport.get_extra_info(name, default)

    def close(self) -> None:
        """Linger, then close."""
        self._linger()


#: Linger for no time: what is closed is reset.
_RESET: Final = struct.pack("ii", 1, 0)


class Cycle(RequestResponseCycle):
    """A request and its answer; knows how to close when the answer came first (`wire`, rule 3)."""

    closing_transport: LingeringTransport
    is_stopping: Callable[[], bool]

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        """ASGI `send`."""
        if not self.response_started:
            if self.more_body:
                self.close_after()
            elif self.is_stopping():
                self.keep_alive = False
            if message["type"] == "http.response.start":
                return self._start(message)
        return super().send(message)

    async def _start(self, message: HTTPResponseStartEvent) -> None:
        """Write the head, as uvicorn does. That searches each field for what none may have; here it
        is one search, which costs a fifth."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        status, fields = message["status"], [*self.default_headers, *message.get("headers", ())]
        self._check(fields)
        lines = [b"%b: %b\r\n" % field for field in fields if field[0] != b"connection"]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD":
            self.chunked_encoding = status not in (204, 304)
            if self.chunked_encoding:
                lines.append(b"transfer-encoding: chunked\r\n")
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n"]))

    def _check(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Refuse what could end a field early; note what fields say of the answer."""
        names = b"".join([name for name, _ in fields])
        if HEADER_RE.search(names) or HEADER_VALUE_RE.search(b"".join([v for _, v in fields])):
            raise RuntimeError("An invalid header field.")
        for name, value in fields:
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive = False

    def close_after(self) -> None:
        """Close the connection, lingering, once this answer is out."""
        self.keep_alive = False
        self.transport = self.closing_transport


class OldCycle(Cycle):
    """One in HTTP/1.0, which knows no chunks: a body without a length ends with its connection
    (RFC 9112 §6.3), and half of one with its reset: it must not look whole."""

    _is_open = False

    async def run_asgi(self, app: ASGI3Application) -> None:
        """See uvicorn's, which closes what is not complete."""
        await super().run_asgi(app)
        if self._is_open and not self.response_complete:
            fd = self.transport.get_extra_info("socket").fileno()
            if fd >= 0:
                with socket.socket(fileno=os.dup(fd)) as same:
                    same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        """ASGI `send`."""
        if self._is_open and message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))
        return super().send(message)

    def _check(self, fields: list[tuple[bytes, bytes]]) -> None:
        super()._check(fields)
        if self.chunked_encoding is None:
            self._is_open, self.chunked_encoding = True, False


class WriteWatch:
    """Drops a connection whose reader takes nothing for `timeout` seconds (R-117).

    Progress is a change of what is still to be taken, the kernel's queue included: a slow reader
    that empties it byte by byte stays.
    """

    _LOOKS = 4

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, timeout: float
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._interval = timeout / self._LOOKS
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._still = 0

    def start(self) -> None:
        """Watch until everything is written."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self._left = self.unread()
            self._still = 0
            self._timer = self._loop.call_later(self._interval, self._look)

    def stop(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._transport.get_write_buffer_size():
            return
        left = self.unread()
        self._still = self._still + 1 if left == self._left else 0
        self._left = left
        if self._still >= self._LOOKS:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(self._interval, self._look)

    def unread(self) -> int:
        """Bytes that are still to be taken."""
        size = self._transport.get_write_buffer_size()
        sock = self._transport.get_extra_info("socket")
        try:
            return size + _in_kernel(sock.fileno()) if sock is not None else size
        except OSError:
            return size
