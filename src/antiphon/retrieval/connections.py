"""Connections to index files: a few are kept open, and what goes wrong is `Overloaded`.

Rules
1. The path of an index is made of an id that was looked at, in a folder of ours, and leads to a
   regular file there, not through a link (R-97).
2. A connection is given to one thread at a time; one that met trouble is closed, and so is one
   whose file was removed or replaced, when it is given back or by `let_go`: until then the file
   takes room on the disk.
3. Only a writer that may `make` an index makes one. Without a file an index is empty; without the
   folder, once it was there, nothing is known of any (a disk that is not mounted).
4. Who writes has his turn (`locks.py`); a connection that can write is closed in one, too. What a
   removed index leaves behind is gone before there is another one of its name: SQLite would take
   the log of one for that of the other.
5. A damaged file is trouble until it is removed, by `mend` or by hand: nothing of it is guessed.
   The log names it.
6. FTS5's structure is kept flat (`levels.py`) by whoever opens a connection that can write; so one
   that finds it deep is not kept.
"""

import contextlib
import os
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import structlog

from antiphon.errors import Overloaded
from antiphon.retrieval import levels
from antiphon.retrieval.index_file import (
    LONG_LOG,
    PATIENCE,
    UNFINISHED,
    connect,
    create,
    is_damage,
    numbers,
    settled,
)
from antiphon.retrieval.locks import LOCK, turn

_log = structlog.get_logger(__name__)

#: Connections that are kept although nobody uses them: three open files each.
_IDLE: Final = 32
#: When a client that was turned away may come back, in seconds.
_RETRY_AFTER: Final = 1.0
_SUFFIX: Final = ".db"
#: What SQLite has beside an index.
_BESIDE: Final = ("-wal", "-shm")
#: Seconds that the end of the server, and who mends, wait for another process that writes.
_SHORT_PATIENCE: Final = 2.0
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
#: Seconds after which what nobody finished is removed.
_ABANDONED: Final = 3600.0
#: Errors of our own making; the others come from the surroundings: lock, full disk, damage.
_MISTAKES: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)

_Mode: TypeAlias = Literal["rw", "ro"]
#: Device and inode.
_Identity: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Open:
    store_id: str
    mode: _Mode
    identity: _Identity
    connection: sqlite3.Connection


class Connections:
    """All index files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._was_there = os.path.isdir(self._folder)
        self._lock = threading.Lock()
        #: The one that was used last is at the end.
        self._idle: list[_Open] = []

    @contextlib.contextmanager
    def reading(self, store_id: str) -> Iterator[sqlite3.Connection | None]:
        """A connection that cannot write; None when there is no such index. What goes wrong is
        `Overloaded`."""
        with _trouble(store_id):
            self._look()
            with self._lent(store_id, "ro") as connection:
                yield connection

    @contextlib.contextmanager
    def writing(self, store_id: str, *, make: bool) -> Iterator[sqlite3.Connection | None]:
        """A connection that can write; None when there is no such index, and none is to be made.
        What goes wrong is `Overloaded`."""
        path = self._path(store_id)
        with _trouble(store_id):
            self._look()
            if make:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._was_there = True
            elif _identity(path) is None:
                yield None
                return
            with turn(path, PATIENCE):
                if make and _identity(path) is None:
                    _unlink(path, _BESIDE)
                    create(path)
                with self._lent(store_id, "rw") as connection:
                    if make and connection is None:
                        raise OSError("the index was removed at once")
                    yield connection
                    if connection is not None and _size(path, "-wal") > LONG_LOG:
                        settled(connection)

    def remove(self, store_id: str) -> None:
        """Remove the files of an index. Who reads it meanwhile does so to the end."""
        path = self._path(store_id)
        with _trouble(store_id):
            if os.path.isdir(self._folder):
                with turn(path, PATIENCE):
                    _unlink(path, ("", *_BESIDE))
                    for each in self._take(store_id):
                        each.connection.close()  # nothing is taken into a file that is gone
                    _unlink(path, (LOCK,))

    def mend(self, store_id: str) -> None:
        """See whether an index can be used, and remove it if it is damaged: what it should have is
        in the files. Other trouble is `Overloaded`."""
        path = self._path(store_id)
        with _trouble(store_id), turn(path, _SHORT_PATIENCE):
            if _identity(path) is None:
                return
            try:
                with contextlib.closing(connect(path, "rw")) as connection:
                    numbers(connection)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                _log.error("index_removed", store_id=store_id, reason=str(error))
                _unlink(path, ("", *_BESIDE))

    def stores(self) -> frozenset[str]:
        """The ids of all indexes; what nobody will finish or use any more is
        cleared away."""
        with _trouble(None):
            if not os.path.isdir(self._folder):
                return frozenset()
            ids = [path.stem for path in self._folder.glob(f"*{_SUFFIX}")]
            for path in self._folder.glob(f".*{UNFINISHED}*"):
                _clear(path)
            for path in self._folder.glob(f"*{_SUFFIX}-*"):
                if path.name.rpartition(".")[0] not in ids:
                    _clear(path)
        return frozenset(id_ for id_ in ids if _ID.fullmatch(id_))

    def let_go(self) -> None:
        """Close those that nobody uses of files that somebody removed or replaced."""
        with self._lock:
            idle = list(self._idle)
        with _trouble(None):
            for store_id in {each.store_id for each in idle if not self._is_there(each)}:
                self._close(store_id, 0.0)

    def has(self, store_id: str) -> bool:
        """There is a file of that name."""
        return os.path.lexists(self._path(store_id))

    def close(self) -> None:
        """Close those that nobody uses."""
        for store_id in {each.store_id for each in self._idle}:
            if not self._close(store_id, _SHORT_PATIENCE):
                for each in self._take(store_id):
                    each.connection.close()  # not the last: who has the turn has one, too

    def _look(self) -> None:
        """Raises OSError when the folder has gone."""
        if os.path.isdir(self._folder):
            self._was_there = True
        elif self._was_there:
            raise OSError("the folder is away")

    def _path(self, store_id: str) -> Path:
        if not _ID.fullmatch(store_id):
            raise ValueError(f"{store_id!r} is no id of a vector store")
        return self._folder / f"{store_id}{_SUFFIX}"

    @contextlib.contextmanager
    def _lent(self, store_id: str, mode: _Mode) -> Iterator[sqlite3.Connection | None]:
        opened = self._open(store_id, mode)
        if opened is None:
            yield None
            return
        good = False
        try:
            yield opened.connection
            deep = mode == "rw" and levels.deep(opened.connection)
            good = not deep and self._is_there(opened)
        finally:
            if good:
                self._keep(opened)
            else:
                opened.connection.close()

    def _is_there(self, opened: _Open) -> bool:
        with contextlib.suppress(OSError):
            return _identity(self._path(opened.store_id)) == opened.identity
        return False

    def _open(self, store_id: str, mode: _Mode) -> _Open | None:
        path = self._path(store_id)
        identity = _identity(path)
        for kept in self._take(store_id, mode):
            if kept.identity == identity:
                return kept
            kept.connection.close()
        if identity is None:
            return None
        try:
            connection = connect(path, mode)
        except sqlite3.OperationalError:
            if _identity(path) is None:
                return None
            raise
        now = _identity(path)
        if now == identity:
            return _Open(store_id, mode, identity, connection)
        connection.close()
        if now is not None:
            raise OSError("the index was replaced while it was opened")
        return None

    def _take(self, store_id: str, mode: _Mode | None = None) -> Iterator[_Open]:
        """Those of an index that are idle, one by one; they are the caller's then."""
        while True:
            with self._lock:
                fits = (
                    at
                    for at, each in enumerate(self._idle)
                    if each.store_id == store_id and mode in (None, each.mode)
                )
                at = next(fits, None)
                if at is None:
                    return
                taken = self._idle.pop(at)
            yield taken

    def _keep(self, opened: _Open) -> None:
        with self._lock:
            self._idle.append(opened)
            oldest = self._idle[0].store_id if len(self._idle) > _IDLE else None
        if oldest is not None:
            self._close(oldest, 0.0)

    def _close(self, store_id: str, patience: float) -> bool:
        """Close what is idle of an index; False when somebody writes to it. Readers first: the last
        writer takes the log into the file, and removes it."""
        path = self._path(store_id)
        there: _Identity | None = None
        with contextlib.suppress(OSError):
            there = _identity(path)
        writers = []
        for each in self._take(store_id):
            if each.mode == "rw" and each.identity == there:
                writers.append(each)
            else:
                each.connection.close()
        if not writers:
            return True
        try:
            with turn(path, patience):
                for each in writers:
                    each.connection.close()
        except sqlite3.OperationalError:
            with self._lock:
                self._idle += writers
            return False
        return True


def _identity(path: Path) -> _Identity | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise OSError("the index is not a regular file")
    return status.st_dev, status.st_ino


def _size(path: Path, suffix: str) -> int:
    try:
        return path.with_name(path.name + suffix).stat().st_size
    except FileNotFoundError:
        return 0


def _unlink(path: Path, suffixes: Iterable[str]) -> None:
    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _clear(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if time.time() - path.lstat().st_mtime > _ABANDONED:
            path.unlink()


@contextlib.contextmanager
def _trouble(store_id: str | None) -> Iterator[None]:
    try:
        yield
    except _MISTAKES:
        raise
    except (sqlite3.Error, OSError) as error:
        _log.error("index_unusable", store_id=store_id, reason=f"{type(error).__name__}: {error}")
        raise Overloaded(retry_after=_RETRY_AFTER) from error
