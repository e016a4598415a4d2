"""How a connection ends: after lingering, or because its reader is dead."""

import asyncio
import sys
from collections.abc import Callable

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

    def close(self) -> None:
        """Linger, then close."""
        self._linger()


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
            self._left = self._unread()
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
        left = self._unread()
        self._still = self._still + 1 if left == self._left else 0
        self._left = left
        if self._still >= self._LOOKS:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(self._interval, self._look)

    def _unread(self) -> int:
        size = self._transport.get_write_buffer_size()
        sock = self._transport.get_extra_info("socket")
        try:
            return size + _in_kernel(sock.fileno()) if sock is not None else size
        except OSError:
            return size
