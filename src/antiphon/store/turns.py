"""One writer at a time, over all processes: SQLite before 3.51.3 can damage a file when one
connection begins its log anew while another writes or checkpoints (R-78).

Rules
1. Who writes, or may checkpoint, holds the lock of a file beside the database meanwhile. SQLite's
   own lock covers the writing; this one covers the checkpoint after it, too.
2. The kernel lets go of it when its process dies. Who waits too long hears the same as with a lock
   of SQLite.
3. Where there are no locks, or no room for a file, SQLite's own has to do.
"""

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from antiphon.store import sqlite

if sys.platform != "win32":
    import fcntl

#: Seconds between two tries.
_PAUSE: Final = 0.001


class Turns:
    """The turns to write to the database at `path`, of one thread."""

    def __init__(self, path: Path) -> None:
        self._name = path.with_name(f"{path.name}-writer")
        self._file: int | None = None

    @contextlib.contextmanager
    def turn(self, patience: float | None = None) -> Iterator[None]:
        """Nobody else writes meanwhile. Raises `sqlite3.OperationalError` when the turn does not
        come within `patience` seconds, or `sqlite.BUSY_TIMEOUT`."""
        file = self._open()
        if file is None:
            yield
            return
        _lock(file, sqlite.BUSY_TIMEOUT if patience is None else patience)
        try:
            yield
        finally:
            _unlock(file)

    def close(self) -> None:
        """No turn will be taken any more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int | None:
        if self._file is None and sys.platform != "win32":
            with contextlib.suppress(OSError):
                self._file = os.open(self._name, os.O_CREAT | os.O_RDWR, 0o600)
        return self._file


def _lock(file: int, patience: float) -> None:
    if sys.platform == "win32":
        return
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise sqlite3.OperationalError("another process writes for too long") from None
            time.sleep(_PAUSE)
        except OSError:
            return  # rule 3
        else:
            return


def _unlock(file: int) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
