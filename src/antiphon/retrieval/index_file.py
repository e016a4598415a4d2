"""The index of one vector store: a SQLite file with its chunks, their words, and their vectors.

Rules
1. A file is put in one transaction, in the place of what its number had; durable when it returns.
   The server and its workers may do so at the same time, and read.
2. A chunk's id is ``number << 20 | position``.
3. Each file and the whole index have a `mark`, a random number that changes with them: what has
   still the same mark is still the same. (``data_version`` says so to one connection only.)
4. What a file had is nowhere in the folder when it is dropped (R-104). FTS5 deletes words by noting
   that they are gone; its `secure-delete` (SQLite 3.42) writes over them, and elsewhere segments
   are merged: all of a small index, of a large one as much as one drop is worth. What that leaves
   of levels is taken away when the index is opened for writing (`levels.py`). The log of SQLite is
   taken into the file then, and emptied; who drops hears when somebody reads it for too long.
5. Words are kept without the text that they are from (`words.py`, rule 2, says what that takes).
6. An index is made whole and then linked to its name: nobody meets half a schema.
"""

import contextlib
import json
import os
import sqlite3
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from antiphon.retrieval import levels
from antiphon.retrieval.words import TOKENIZER, clean, indexed

#: Bits of a chunk's id for its position in its file.
POSITION_BITS: Final = 20
_MOST_CHUNKS: Final = 1 << POSITION_BITS
_MOST_NUMBER: Final = 1 << (63 - POSITION_BITS)
#: Characters of a title; names of files are at most half as long.
_MOST_TITLE: Final = 512
#: Of what ends with this nobody made an index yet.
UNFINISHED: Final = ".new"
#: ``user_version``: of the tables, and of what `indexed` makes of a text.
_FORMAT: Final = 2
#: Seconds that a statement waits for another process to end its transaction; a large file takes
#: some ten.
PATIENCE: Final = 60.0
#: Bytes that the log keeps when it begins anew; a longer one is emptied.
LONG_LOG: Final = 8 * 1024 * 1024
#: Milliseconds for which is waited for those who read the log.
_SETTLING: Final = 1_000
#: Chunks of an index whose words are all merged after a drop: some 40 ms. Pages of 4 KiB that are
#: merged of a larger one: some 150 ms.
_SMALL: Final = 2_000
_MERGED: Final = 2_000

_SCHEMA: Final = f"""
CREATE TABLE state (mark INTEGER NOT NULL);
CREATE TABLE files (
    number INTEGER PRIMARY KEY, mark INTEGER NOT NULL, count INTEGER NOT NULL, title TEXT NOT NULL
);
CREATE TABLE chunks (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE VIRTUAL TABLE words USING fts5 (
    text, title, content='', tokenize="{TOKENIZER}"
);
CREATE TABLE vectors (
    number INTEGER PRIMARY KEY, model TEXT NOT NULL, dimensions INTEGER NOT NULL,
    rows BLOB NOT NULL
);
INSERT INTO state VALUES (random());
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Packed:
    """Vectors as they are kept: one float16 after the other, little endian."""

    model: str
    dimensions: int
    rows: bytes


def create(path: Path) -> None:
    """Make an empty index, if there is none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(UNFINISHED, ".", path.parent)  # 0600, and so what SQLite adds
    os.close(handle)
    try:
        with contextlib.closing(connect(Path(name), "rw", made=False)) as connection:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT")
            if sqlite3.sqlite_version_info >= (3, 42):
                connection.execute("INSERT INTO words (words, rank) VALUES ('secure-delete', 1)")
            connection.execute("PRAGMA journal_mode = WAL")  # last: nothing is in a log
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)
    _sync(path.parent)


def connect(path: Path, mode: Literal["rw", "ro"], *, made: bool = True) -> sqlite3.Connection:
    """A connection in autocommit mode to a file that exists; any thread may use it, one at a time.
    Who only reads neither makes a file nor removes one, not even when it disconnects."""
    connection = sqlite3.connect(
        f"file:{urllib.parse.quote(str(path))}?mode={mode}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    fine = False
    try:
        connection.executescript(
            "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"
            f"PRAGMA journal_size_limit = {LONG_LOG}; PRAGMA cache_size = -8192;"
        )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if made and version != _FORMAT:
            raise sqlite3.DatabaseError(
                f"an index of format {version}, not {_FORMAT}: remove the vector store, or the file"
                " of the index, and add its files again"
            )
        if made and mode == "rw" and levels.deep(connection):
            with _transaction(connection):
                levels.lower(connection)
        fine = True
    finally:
        if not fine:
            connection.close()
    return connection


def put(
    connection: sqlite3.Connection,
    number: int,
    title: str,
    chunks: Sequence[str],
    vectors: Packed | None,
) -> None:
    """See `Index.put`."""
    if not 0 <= number < _MOST_NUMBER or len(chunks) > _MOST_CHUNKS:
        raise ValueError("no number of a file, or too many chunks")
    title = clean(title[:_MOST_TITLE])
    first = number << POSITION_BITS
    rows = [(first | position, clean(text)) for position, text in enumerate(chunks)]
    with _transaction(connection):
        _forget(connection, number)
        connection.execute(
            "INSERT INTO files VALUES (?, random(), ?, ?)", (number, len(rows), title)
        )
        connection.executemany("INSERT INTO chunks VALUES (?, ?)", rows)
        connection.executemany(
            "INSERT INTO words (rowid, text, title) VALUES (?, ?, ?)", _words(rows, title)
        )
        if vectors is not None:
            _put_vectors(connection, number, vectors)


def _put_vectors(connection: sqlite3.Connection, number: int, vectors: Packed) -> None:
    """Of a parameter SQLite makes copies, of what is written into a blob none."""
    connection.execute(
        "INSERT INTO vectors VALUES (?, ?, ?, zeroblob(?))",
        (number, vectors.model, vectors.dimensions, len(vectors.rows)),
    )
    with connection.blobopen("vectors", "rows", number) as blob:
        blob.write(vectors.rows)


def drop(connection: sqlite3.Connection, numbers: Iterable[int]) -> bool:
    """Forget files, and erase what they had; see `erased`."""
    forget(connection, numbers)
    return erased(connection)


def forget(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Forget files, one transaction each; nobody finds them any more."""
    for number in numbers:
        with _transaction(connection):
            _forget(connection, number)


def erased(connection: sqlite3.Connection) -> bool:
    """Write over the words of what was dropped (rule 4); False when the log still has some."""
    secure = "SELECT count(*) FROM words_config WHERE k = 'secure-delete' AND v"
    if not connection.execute(secure).fetchone()[0]:
        (chunks,) = connection.execute("SELECT coalesce(sum(count), 0) FROM files").fetchone()
        merge = ("optimize", None) if chunks <= _SMALL else ("merge", -_MERGED)
        connection.execute("INSERT INTO words (words, rank) VALUES (?, ?)", merge)
    return settled(connection)


def settled(connection: sqlite3.Connection) -> bool:
    """Take the log into the file, and empty it; False when that cannot be done soon."""
    connection.execute(f"PRAGMA busy_timeout = {_SETTLING}")
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:  # what was written is written
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")
    return not busy


def is_damage(error: sqlite3.Error) -> bool:
    """What SQLite says of a file that will not get better."""
    code = vars(error).get("sqlite_errorcode", sqlite3.SQLITE_OK)  # ours have none
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def marks(connection: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, int]:
    """File → its mark."""
    rows = connection.execute(
        "SELECT number, mark FROM files WHERE number IN (SELECT value FROM json_each(?))",
        (json.dumps(list(numbers)),),
    )
    return dict(rows.fetchall())


def numbers(connection: sqlite3.Connection) -> frozenset[int]:
    """See `Index.numbers`; the words are looked at, too, so that damage is found."""
    connection.execute("SELECT 1 FROM words WHERE words MATCH 'x' LIMIT 1").fetchone()
    return frozenset(number for (number,) in connection.execute("SELECT number FROM files"))


def texts(connection: sqlite3.Connection, number: int) -> list[str]:
    """See `Index.texts`."""
    return [text for _, text in _chunks(connection, number)]


def texts_of(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, str]:
    """Chunk → text."""
    rows = connection.execute(
        "SELECT id, text FROM chunks WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(ids)),),
    )
    return dict(rows.fetchall())


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything that is read in it is of the same moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("UPDATE state SET mark = random()")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _forget(connection: sqlite3.Connection, number: int) -> None:
    row = connection.execute("SELECT title FROM files WHERE number = ?", (number,)).fetchone()
    if row is None:
        return
    rows = _chunks(connection, number)
    connection.executemany(
        "INSERT INTO words (words, rowid, text, title) VALUES ('delete', ?, ?, ?)",
        _words(rows, row[0]),
    )
    connection.execute("DELETE FROM chunks WHERE id BETWEEN ? AND ?", _range(number))
    connection.execute("DELETE FROM vectors WHERE number = ?", (number,))
    connection.execute("DELETE FROM files WHERE number = ?", (number,))


def _chunks(connection: sqlite3.Connection, number: int) -> list[tuple[int, str]]:
    return connection.execute(
        "SELECT id, text FROM chunks WHERE id BETWEEN ? AND ? ORDER BY id", _range(number)
    ).fetchall()


def _range(number: int) -> tuple[int, int]:
    return number << POSITION_BITS, (number + 1 << POSITION_BITS) - 1


def _words(rows: Iterable[tuple[int, str]], title: str) -> Iterator[tuple[int, str, str]]:
    title = indexed(title)
    return ((id_, indexed(text), title) for id_, text in rows)


def _sync(folder: Path) -> None:
    """The name of a file is as durable as the file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
