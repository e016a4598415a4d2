"""What an operator should know about the database (``antiphon doctor``).

Rules
1. It only asks: the server may run, and nothing is repaired or created.
2. ``error``: a server cannot work with it, or rows are damaged. ``warning``: somebody should look.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from antiphon.store import migrate, sqlite
from antiphon.store.base import StoreError
from antiphon.store.owner_locks import OwnerLocks

#: A larger log is not folded into the file any more: some reader stands in the way, in bytes.
LARGE_LOG: Final = 256 * 1024**2
#: Every server sweeps more often than this, in seconds.
OVERDUE: Final = 3600

_RUNNING: Final = "status IN ('queued', 'in_progress') AND deleted = 0"
_IS_JOB: Final = "id IN (SELECT response_id FROM jobs)"
_UNFINISHED: Final = f"""
    SELECT owner, count(*) FROM responses WHERE {_RUNNING} AND owner IS NOT NULL GROUP BY owner
"""  # noqa: S608
_STUCK: Final = f"""
    SELECT count(*) FROM responses WHERE {_RUNNING} AND NOT {_IS_JOB}
        AND (owner IS NULL OR owner NOT IN (SELECT id FROM owners))
"""  # noqa: S608
_QUEUE: Final = f"""
    SELECT count(*), min(created_at) FROM responses WHERE {_RUNNING} AND owner IS NULL AND {_IS_JOB}
"""  # noqa: S608
_OVERDUE: Final = "SELECT count(*), min(expires_at) FROM responses WHERE expires_at <= ?"
_ORPHANS: Final = """
    SELECT count(DISTINCT response_id) FROM events
        WHERE response_id NOT IN (SELECT id FROM responses)
"""
_FOREIGN: Final = """
    SELECT 1 FROM sqlite_master WHERE type = 'table'
        AND NOT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'alembic_version')
"""
_NAMED: Final = "SELECT 1 FROM sqlite_master WHERE name = 'database_id'"
_IDENTITY: Final = """
    SELECT id, EXISTS (SELECT 1 FROM files) OR EXISTS (SELECT 1 FROM upload_parts) FROM database_id
"""
_OUTBOX: Final = "SELECT count(*) FROM webhook_deliveries"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis."""

    level: Literal["ok", "warning", "error"]
    text: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database it is, and whether there are files of it somewhere."""

    id: str
    has_files: bool


def identity(url: str) -> Identity | None:
    """None: it is not made yet, or by a version that knew no files. Raises `StoreError`."""
    path = sqlite.path_of(url)
    if not path.exists():
        return None
    try:
        with closing(sqlite.connect(path, "rw")) as connection:
            connection.execute("PRAGMA query_only = ON")
            if connection.execute(_NAMED).fetchone() is None:
                return None
            found = connection.execute(_IDENTITY).fetchone()
    except sqlite3.Error as error:
        raise StoreError(_unreadable(path, error)) from error
    if found is None:
        raise StoreError(
            f"The database {path} has lost its id (its table database_id is empty): restore a"
            " backup, or insert the id that is in the file database-id of ANTIPHON_DATA_DIR."
        )
    return Identity(found[0], bool(found[1]))


def check(url: str, *, clock: Callable[[], float] = time.time) -> list[Finding]:
    """Everything there is to say about the database; `clock` gives Unix seconds. `StoreError` when
    the URL names none."""
    path = sqlite.path_of(url)
    if not path.parent.is_dir():
        return [Finding("error", f"There is no folder {path.parent} for the database.")]
    if not path.exists():
        return [Finding("warning", f"There is no database {path} yet: the first start makes it.")]
    try:
        with closing(sqlite.connect(path, "rw")) as connection:
            connection.execute("PRAGMA query_only = ON")
            findings = [_library(), *_schema(connection, path), _soundness(connection)]
            if all(finding.level != "error" for finding in findings) and _is_newest(connection):
                findings += _contents(connection, path, int(clock()))
    except sqlite3.Error as error:
        return [Finding("error", _unreadable(path, error))]
    return [*findings, _log_file(path)]


def _unreadable(path: Path, error: sqlite3.Error) -> str:
    return f"The database {path} cannot be read ({sqlite.reason(error)}: {error})."


def _library() -> Finding:
    return Finding("ok", f"SQLite {sqlite3.sqlite_version}.")


def _revision(connection: sqlite3.Connection) -> str | None:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
    if known.fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _is_newest(connection: sqlite3.Connection) -> bool:
    return _revision(connection) == migrate.revisions()[0]


def _schema(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    revision, known = _revision(connection), migrate.revisions()
    if revision is None and connection.execute(_FOREIGN).fetchone() is not None:
        yield Finding("error", f"{path} belongs to another program: it has tables, none of ours.")
    elif revision is None:
        yield Finding("warning", f"{path} has no schema yet: the first start makes it.")
    elif revision == known[0] and (gone := migrate.missing(connection)):
        yield Finding("error", f"{path} has schema {revision}, but no {gone}: restore a backup.")
    elif revision == known[0]:
        yield Finding("ok", f"{path} has schema {revision}, the newest.")
    elif revision in known:
        yield Finding(
            "warning",
            f"{path} has schema {revision}, the newest is {known[0]}: the next start, or"
            " `antiphon migrate`, brings it up to date.",
        )
    else:
        yield Finding("error", f"{path} has schema {revision}, of a newer version of antiphon.")


def _soundness(connection: sqlite3.Connection) -> Finding:
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found == "ok":
        return Finding("ok", "The file is sound.")
    return Finding("error", f"The file is damaged ({found}): restore a backup.")


def _contents(connection: sqlite3.Connection, path: Path, now: int) -> Iterator[Finding]:
    yield from _owners(connection, path)
    stuck = _number(connection, _STUCK)
    if stuck:
        yield Finding(
            "warning", f"Unfinished responses of nobody: {stuck}. Any server that runs ends them."
        )
    waiting, since = connection.execute(_QUEUE).fetchone()
    age = f", the oldest since {max(0, now - since)} s" if waiting else ""
    yield Finding("ok", f"Background responses that wait: {waiting}{age}.")
    yield _sweep(connection, now)
    orphans = _number(connection, _ORPHANS)
    if orphans:
        yield Finding("warning", f"Logs of no response: {orphans}.")
    yield Finding("ok", f"Webhook deliveries that wait: {_number(connection, _OUTBOX)}.")


def _owners(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    """Who makes responses, and how many."""
    locks = OwnerLocks(path)
    unfinished: dict[str, int] = dict(connection.execute(_UNFINISHED))
    known = {row[0] for row in connection.execute("SELECT id FROM owners")}
    for owner in sorted(known | unfinished.keys()):
        state = locks.state(owner)
        has = f"Process {owner} ({state}) has unfinished responses: {unfinished.get(owner, 0)}"
        if state == "dead":
            yield Finding("warning", f"{has}. Any other that runs takes over.")
        elif owner in known:
            yield Finding("ok", f"{has}.")
        else:
            yield Finding("warning", f"{has}, but never said that it is alive.")


def _sweep(connection: sqlite3.Connection, now: int) -> Finding:
    expired, since = connection.execute(_OVERDUE, (now,)).fetchone()
    text = f"Expired responses that are not swept yet: {expired}"
    if expired and now - since > OVERDUE:
        return Finding("warning", f"{text}, the oldest for {(now - since) // 3600} h.")
    return Finding("ok", f"{text}.")


def _log_file(path: Path) -> Finding:
    log = path.with_name(path.name + "-wal")
    size = log.stat().st_size if log.exists() else 0
    text = f"The write-ahead log has {size / 1024**2:.0f} MiB"
    if size > LARGE_LOG:
        return Finding("warning", f"{text}: some reader of the file never ends.")
    return Finding("ok", f"{text}.")


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
