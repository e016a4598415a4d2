"""A copy of the database while it is served (R-76).

Rules
1. ``VACUUM INTO``: one read transaction, so the copy is the database of one instant; no writer
   waits for it, and it holds nothing that was deleted. The steps of SQLite's backup begin anew at
   each commit of another process: under load they never end.
2. A copy has its final name only when it is whole, checked and on the disk; nothing is overwritten,
   and what failed leaves nothing behind.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from antiphon.store import sqlite
from antiphon.store.base import StoreError


def backup(url: str, target: Path) -> int:
    """Copy the database to `target`, a file that does not exist yet and that only its owner will
    be able to read. Its size in bytes; `StoreError` says why there is none."""
    source = sqlite.path_of(url)
    if not source.exists():
        raise StoreError(f"There is no database {source}.")
    target = target.absolute()
    if target.exists():
        raise StoreError(f"{target} exists; nothing is overwritten.")
    try:
        with _unfinished(target) as copy:
            _vacuum(source, copy)
            _check(copy)
            size = copy.stat().st_size
            _flush(copy)
            _name(copy, target)
    except sqlite3.Error as error:
        reason = sqlite.reason(error)
        raise StoreError(f"No backup of {source} was made ({reason}: {error}).") from error
    except OSError as error:
        raise StoreError(f"{target} cannot be written ({error.strerror}).") from error
    _flush(target.parent)
    return size


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A private, empty file beside the target; it is gone at the end."""
    path = target.with_name(f".{target.name}.{os.getpid()}.part")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        path.with_name(path.name + "-journal").unlink(missing_ok=True)


def _vacuum(source: Path, copy: Path) -> None:
    with closing(sqlite.connect(source, "rw")) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))


def _check(copy: Path) -> None:
    with closing(sqlite.connect(copy, "ro")) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(f"The copy is damaged ({found}), and so the database may be.")


def _name(copy: Path, target: Path) -> None:
    """Unlike a rename, a link never replaces what somebody else has put there meanwhile."""
    try:
        os.link(copy, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if target.exists():
            raise
        copy.rename(target)


def _flush(path: Path) -> None:
    """What the file, or the directory, holds is on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
