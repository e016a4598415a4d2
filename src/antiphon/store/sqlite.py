"""Connections to a SQLite file, and what its errors mean.

Rules
1. Only `create` makes a file. A file that is gone or was replaced while we run is trouble until it
   is back: writes into a deleted file would be acknowledged and lost.
2. Errors that the surroundings cause (lock, full disk, rights, damage) are `TROUBLE`: the caller
   hears 503 and the connection is opened anew. Errors of our own making stay what they are.
3. Nobody but SQLite opens a database that may be in use: POSIX drops all locks of a process on a
   file when it closes any handle of that file, and then another process may remove the log.
"""

import errno
import os
import sqlite3
import urllib.parse
from pathlib import Path
from typing import Final, Literal

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from antiphon.errors import Overloaded
from antiphon.store.base import StoreError

#: How long a statement waits for a lock that another process holds (R-70), in seconds.
BUSY_TIMEOUT: Final = 10.0
#: When a client that was turned away may come back, in seconds.
RETRY_AFTER: Final = 1.0
#: A wrong statement or value: a bug, not trouble.
MISTAKES: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.NotSupportedError,
    OverflowError,
    TypeError,
    ValueError,
)
TROUBLE: Final = (sqlite3.Error, OSError, MemoryError)

#: Device and inode.
Identity = tuple[int, int]


def path_of(url: str) -> Path:
    """The file that ``sqlite+aiosqlite:///./antiphon.db`` (or ``sqlite:///…``) names."""
    try:
        parts = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"{url!r} is not a database URL.") from error
    if parts.query or parts.host:
        raise StoreError("A SQLite URL is sqlite+aiosqlite:/// and a path, nothing more.")
    if not parts.database or parts.database == ":memory:":
        raise StoreError("For a store that is not on the disk, set the URL to memory://")
    return Path(parts.database).absolute()


def create(path: Path) -> None:
    """Make an empty file that only its owner can read, if there is none; or say why it cannot be
    used."""
    if not path.parent.is_dir():
        raise StoreError(f"The directory of the database does not exist: {path.parent}")
    try:
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StoreError(f"The database {path} cannot be written ({error.strerror}).") from error
    if not os.access(path.parent, os.W_OK):
        raise StoreError(f"SQLite must be able to make files beside {path}.")


def connect(
    path: Path, mode: Literal["rw", "ro"], patience: float | None = None
) -> sqlite3.Connection:
    """A connection in autocommit mode to a file that exists; any thread may use it, one at a
    time. It waits `patience` seconds for a lock, or `BUSY_TIMEOUT`."""
    return sqlite3.connect(
        f"file:{urllib.parse.quote(str(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT if patience is None else patience,
        isolation_level=None,
        check_same_thread=False,
    )


def identity(path: Path) -> Identity | None:
    """Which file the path leads to now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def overloaded() -> Overloaded:
    """What a caller hears when there is `TROUBLE`."""
    return Overloaded(retry_after=RETRY_AFTER)


def reason(error: BaseException) -> str:
    """The name of a SQLite error for the log, else that of its class."""
    if isinstance(error, sqlite3.Error):
        try:
            return error.sqlite_errorname
        except AttributeError:
            return type(error).__name__
    return type(error).__name__
