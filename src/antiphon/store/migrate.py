"""The schema: bring a database file up to date, safely and only forward at start (R-74, R-75).

Rules
1. One migration run is one transaction that begins with the write lock: of several processes that
   start at once one migrates and the others find the work done; a kill leaves the old schema.
2. The scripts are in the package (`store/migrations`), so an installed server can migrate itself;
   `alembic.ini` at the root of the repository points there for developers.
3. A database from a newer version is refused, a damaged one too (R-78), and one that has tables of
   another program and none of ours; none of them is touched.
4. Alembic is loaded when an old schema has to change (`scripts.py`). An empty file gets the newest
   one at once (`schema.py`), and every other start does without, too: it would keep 10 MB.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from antiphon.store import schema, sqlite
from antiphon.store.base import CorruptStoreError, NewerStoreError, StoreError
from antiphon.store.tables import metadata
from antiphon.store.triggers import TRIGGERS
from antiphon.store.turns import Turns

#: Files larger than this are not checked at start: it would take minutes (R-78).
LARGEST_CHECKED: Final = 1024**3
_SCRIPTS: Final = Path(__file__).with_name("migrations")

_log = structlog.get_logger(__name__)


def migrate(url: str, revision: str = "head") -> None:
    """Make the file fit to be served: it exists, is sound, in WAL mode and at `revision`. Raises
    `StoreError`."""
    path = sqlite.path_of(url)
    sqlite.create(path)
    turns = Turns(path)
    with _explained(path), closing(turns), turns.turn():
        with closing(sqlite.connect(path, "rw")) as connection:
            _check(connection, path)
            _check_owner(connection, path)
            _use_wal(connection)
            if revision == "head" and not _named(connection, "table"):
                schema.create(connection, revisions()[0])
        if _is_behind(path, revision):
            from antiphon.store import scripts  # noqa: PLC0415

            scripts.upgrade(path, _SCRIPTS, revision)
        if revision == "head":
            with closing(sqlite.connect(path, "rw")) as connection:
                if gone := missing(connection):
                    raise CorruptStoreError(_damaged(path, f"it has no {gone}"))


def downgrade(url: str, revision: str) -> None:
    """Go back to `revision`; what only the newer schema has is lost. Stop the servers first."""
    from antiphon.store import scripts  # noqa: PLC0415

    path = sqlite.path_of(url)
    turns = Turns(path)
    with _explained(path), closing(turns), turns.turn():
        scripts.downgrade(path, _SCRIPTS, revision)


def current_revision(url: str) -> str | None:
    """The revision of the database; None: it has no schema yet, or there is no file."""
    path = sqlite.path_of(url)
    with _explained(path):
        return _current(path)


def is_current(url: str) -> bool:
    """Whether the schema of the database is that of this version, or a newer one that another
    version has just made of it (R-74, R-122). Cheap enough to be asked again and again."""
    path = sqlite.path_of(url)
    with _explained(path):
        current = _current(path)
    return current is not None and current not in revisions()[1:]


@cache
def revisions() -> tuple[str, ...]:
    """All that this version knows, the newest first: the names of the scripts begin with them."""
    names = (path.name for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))
    return tuple(sorted((name.partition("_")[0] for name in names), reverse=True))


def _is_behind(path: Path, revision: str) -> bool:
    current = _current(path)
    if current is not None and current not in revisions():
        raise NewerStoreError(
            f"The database {path} has schema {current}, which this version of antiphon does not "
            "know. Start the version that made it, or a newer one."
        )
    return current != (revisions()[0] if revision == "head" else revision)


def _current(path: Path) -> str | None:
    if not path.exists():
        return None
    with closing(sqlite.connect(path, "rw")) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
        if known.fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size > LARGEST_CHECKED:
        _log.info("quick_check_skipped", path=str(path), bytes=path.stat().st_size)
        return
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise CorruptStoreError(_damaged(path, str(found).splitlines()[-1]))


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Alembic makes its table with the first of ours, and keeps it for ever."""
    tables = _named(connection, "table")
    if tables and "alembic_version" not in tables:
        raise StoreError(
            f"The database {path} belongs to another program: it has tables ({min(tables)}), but "
            "none that says which schema of antiphon it has. It was left as it is."
        )


def missing(connection: sqlite3.Connection) -> str | None:
    """What somebody has dropped of what the newest revision promises: ``table jobs``."""
    for kind, promised in (("table", metadata.tables.keys()), ("trigger", TRIGGERS.keys())):
        if gone := promised - _named(connection, kind):
            return f"{kind} {min(gone)}"
    return None


def _named(connection: sqlite3.Connection, kind: str) -> set[str]:
    """All of a kind but those of SQLite."""
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = ?", (kind,))
    return {name for (name,) in found if not name.startswith("sqlite_")}


def _use_wal(connection: sqlite3.Connection) -> None:
    """Waits itself: SQLite's busy handler is not asked when the mode changes."""
    end = time.monotonic() + sqlite.BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not sqlite.reason(error).startswith("SQLITE_BUSY") or time.monotonic() > end:
                raise
            time.sleep(0.05)


def _damaged(path: Path, why: str) -> str:
    return (
        f"The database {path} is damaged ({why}). It was left as it is: restore a backup, or move "
        "it away to start with an empty one."
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say in words for the operator what the driver found."""
    try:
        yield
    except DBAPIError as error:
        raise _refusal(path, error.orig or error) from error
    except sqlite3.Error as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: BaseException) -> StoreError:
    why = sqlite.reason(error)
    if why.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CorruptStoreError(_damaged(path, why))
    return StoreError(f"The database {path} cannot be used ({why}: {error}).")
