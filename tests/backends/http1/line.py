"""A connection without a socket: what the event loop and the client would do, a test does."""

import asyncio
from collections.abc import Iterable

from antiphon.backends.http1.connection import Connection, Place


class Line(asyncio.Transport):
    """A transport that takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False
        self.is_paused = False
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.WriteTransport`."""
        self.written.append(bytes(data))

    def abort(self) -> None:
        """See `asyncio.WriteTransport`."""
        self.is_aborted = True

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self.is_aborted

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        assert self.is_paused
        self.is_paused = False


class Owner:
    """A `Lender` that takes notes."""

    def __init__(self) -> None:
        self.taken_back: list[bool] = []

    def take_back(self, connection: Connection, *, is_reusable: bool) -> None:
        """See `Lender`."""
        self.taken_back.append(is_reusable)
        if not is_reusable:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        """See `Lender`."""


def connected() -> tuple[Connection, Line, Owner]:
    line, owner = Line(), Owner()
    connection = Connection(Place("h", 80, is_tls=False), owner)
    connection.connection_made(line)
    return connection, line, owner


def come(connection: Connection, line: Line, pieces: Iterable[bytes]) -> None:
    """As an event loop would have it."""
    for piece in pieces:
        if piece and not line.is_aborted:
            connection.data_received(piece)
