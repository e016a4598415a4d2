"""One writer of an index at a time, over all processes: SQLite before 3.51.3 can damage a file when
one connection begins its log anew while another writes or checkpoints (R-78).

Rules
1. Who writes to an index, makes or removes it, or closes a connection that may checkpoint, holds
   the lock of a file beside it meanwhile.
2. The lock file goes with its index. So who has got the lock sees whether it is still that of the
   file there, and begins anew if it is not.
3. The kernel lets go of it when its process dies. Who waits too long hears the same as with a lock
   of SQLite.
4. Where there are no locks, or no room for a file, SQLite's own has to do.
"""

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

#: Ending of the name of a lock file.
LOCK: Final = "-writer"
#: Seconds between two tries: threads wait, and writing takes some ten times as long.
_PAUSE: Final = 0.002


@contextlib.contextmanager
def turn(index: Path, patience: float) -> Iterator[None]:
    """Nobody else writes to that index meanwhile. Raises `sqlite3.OperationalError` when the turn
    does not come within `patience` seconds."""
    until = time.monotonic() + patience
    path = index.with_name(index.name + LOCK)
    file = _current(path, until)
    try:
        yield
    finally:
        if file is not None:
            os.close(file)  # and so the lock ends


def _current(path: Path, until: float) -> int | None:
    """The lock file that is there, locked (rule 2)."""
    while (file := _locked(path, until)) is not None:
        fine = False
        try:
            fine = _is_there(path, file)
        finally:
            if not fine:
                os.close(file)
        if fine:
            return file
    return None


def _locked(path: Path, until: float) -> int | None:
    """The lock file, open; None: rule 4."""
    if sys.platform == "win32":
        return None
    try:
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    fine = False
    try:
        fine = _lock(file, until)
    finally:
        if not fine:
            os.close(file)
    return file if fine else None


def _lock(file: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise sqlite3.OperationalError("another one writes for too long") from None
            time.sleep(_PAUSE)
        except OSError:
            return False
        else:
            return True


def _is_there(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False
