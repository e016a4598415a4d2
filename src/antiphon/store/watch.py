"""Waiting for commits: of this process at once, of any other within one poll.

Rules
1. One connection asks for all who wait, and only while somebody waits: ``PRAGMA data_version``
   changes when another connection has committed, and costs no read of a table.
2. The first poll counts all that came since the last one, however long ago that was.
3. Trouble of the database is no news: those who wait do so until their time is over.
"""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias

from antiphon.store import sqlite
from antiphon.store.bell import Bell

#: Seconds between two polls.
POLL: Final = 0.05

#: Which file, which connection, which version: any difference is news.
_Sight: TypeAlias = tuple[sqlite.Identity | None, int, int]


class Watch:
    """Watches the database at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-watch")
        self._connection: sqlite3.Connection | None = None
        self._identity: sqlite.Identity | None = None
        self._connected = 0
        self._seen: _Sight | None = None
        self._bell = Bell()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, seconds: float) -> None:
        """Until there is news; at most so many seconds."""
        if self._poller is None and not self._closed:
            self._poller = asyncio.create_task(self._poll(), name="store-watch")
        await self._bell.wait(seconds)

    def news(self) -> None:
        """This process has committed something."""
        self._bell.ring()

    async def close(self) -> None:
        """Poll no more."""
        self._closed = True
        if self._poller is not None:
            self._poller.cancel()
        await asyncio.to_thread(self._thread.shutdown)
        self._disconnect()

    async def _poll(self) -> None:
        """Runs while somebody waits, and at least once."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                seen = await loop.run_in_executor(self._thread, self._look)
                if seen is not None and seen != self._seen:
                    self._seen = seen
                    self._bell.ring()
                await asyncio.sleep(POLL)
                if not self._bell.waiting:
                    return
        finally:
            self._poller = None

    # In the thread.

    def _look(self) -> _Sight | None:
        """What there is now; None: it cannot be seen."""
        try:
            version = self._connect().execute("PRAGMA data_version").fetchone()[0]
        except sqlite.TROUBLE:
            self._disconnect()
            return None
        return self._identity, self._connected, version

    def _connect(self) -> sqlite3.Connection:
        found = sqlite.identity(self._path)
        if self._connection is not None and found == self._identity:
            return self._connection
        self._disconnect()
        self._connection = sqlite.connect(self._path, "ro")
        self._identity = found
        self._connected += 1
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
