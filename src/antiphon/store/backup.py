"""Copies of the database, and of indexes, while they are served (R-76).

Rules
1. ``VACUUM INTO``: one read transaction, so the copy is the database of one instant; no writer
   waits for it, and it holds nothing that was deleted. The steps of SQLite's backup begin anew at
   each commit of another process: under load they never end.
2. An index forgets later than the database: a copy of it has only the files that the copy of the
   database knows. The others were deleted, came later, or are nobody's (R-104).
3. A copy has its final name only when it is whole, checked and on the disk; nothing is overwritten,
   and what failed leaves nothing behind.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from antiphon.store import sqlite
from antiphon.store.base import StoreError

_STORE: Final = "SELECT 1 FROM vector_stores WHERE id = ?"
_NUMBERS: Final = "SELECT number FROM vector_store_files WHERE store_id = ?"


def backup(url: str, target: Path) -> int:
    """Copy the database to `target`, a file that does not exist yet and that only its owner will
    be able to read. Its size in bytes; `StoreError` says why there is none."""
    return copy(sqlite.path_of(url), target)


def known_files(database: Path, store_id: str) -> frozenset[int] | None:
    """The numbers of the files that a vector store has in a copied database; None: it has no such
    store. Raises `StoreError`."""
    try:
        with closing(sqlite.connect(database, "ro")) as connection:
            if connection.execute(_STORE, (store_id,)).fetchone() is None:
                return None
            return frozenset(number for (number,) in connection.execute(_NUMBERS, (store_id,)))
    except sqlite3.Error as error:
        raise StoreError(f"{database} does not know its vector stores ({error}).") from error


def copy_index(source: Path, target: Path, forget: Callable[[Path], None]) -> None:
    """The same for the index of a vector store, which must be in WAL mode wherever it is; `forget`
    takes out of the copy what it shall not have."""
    copy(source, target, forget, log=True)


def copy(
    source: Path,
    target: Path,
    forget: Callable[[Path], None] | None = None,
    *,
    log: bool = False,
) -> int:
    """Copy a file of SQLite; with a `log` its copy is in WAL mode."""
    if not source.exists():
        raise StoreError(f"There is no database {source}.")
    target = target.absolute()
    if target.exists():
        raise StoreError(f"{target} exists; nothing is overwritten.")
    try:
        with _unfinished(target) as draft:
            _vacuum(source, draft)
            if forget is not None:
                forget(draft)
            _check(draft)
            if log:
                _use_log(draft)
            size = draft.stat().st_size
            _flush(draft)
            _name(draft, target)
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


def _use_log(copy: Path) -> None:
    with closing(sqlite.connect(copy, "rw")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


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
