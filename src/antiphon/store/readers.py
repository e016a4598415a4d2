"""A few read-only connections to a SQLite file, each in a thread of its own.

Rules
1. A reader never waits for the writer (WAL) and never writes or checkpoints (mode=ro).
2. A connection that met trouble, or whose file was replaced, is opened anew for the next question.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import structlog

from antiphon.store import sqlite

#: Reads are short and mostly in the page cache: more threads only fight for the interpreter.
READERS: Final = 4

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class _Seat(threading.local):
    """What belongs to one thread."""

    connection: sqlite3.Connection | None = None
    identity: sqlite.Identity | None = None


class Readers:
    """Answers questions to the file at `path` until `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._seat = _Seat()
        self._connections: set[sqlite3.Connection] = set()
        self._closed = False

    async def ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `question` in a reader's thread."""
        if self._closed:
            raise sqlite.overloaded()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._answer, question)

    async def close(self) -> None:
        """Let the questions that were asked finish, then disconnect."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _answer(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return question(self._connect())
        except sqlite.MISTAKES:
            raise
        except sqlite.TROUBLE as error:
            self._disconnect()
            _log.warning("store_read_failed", path=str(self._path), reason=sqlite.reason(error))
            raise sqlite.overloaded() from error

    def _connect(self) -> sqlite3.Connection:
        seat = self._seat
        found = sqlite.identity(self._path)
        if seat.connection is not None and seat.identity == found:
            return seat.connection
        self._disconnect()
        seat.connection = sqlite.connect(self._path, "ro")
        seat.identity = found
        self._connections.add(seat.connection)
        return seat.connection

    def _disconnect(self) -> None:
        connection = self._seat.connection
        if connection is not None:
            self._seat.connection = None
            self._connections.discard(connection)
            connection.close()
