"""The schema and its migrations (R-74, R-75)."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from structlog.testing import capture_logs

from antiphon.store import migrate, schema, scripts
from antiphon.store.base import FileRow, NewerStoreError, StoreError
from antiphon.store.checkup import check
from antiphon.store.sql import SqliteStore
from antiphon.store.tables import metadata
from antiphon.store.triggers import TRIGGERS
from tests.store.children import ROOT, line, started
from tests.store.conversing import begin, held, run
from tests.store.rows import NOW, Clock, api_key, response
from tests.store.test_older import KNOWN_0004, SAVE_0004

HEAD = "0011"
#: The columns of revision 0001.
OLDEST = "id, project, status, created_at, expires_at, previous_response_id, deleted, body, input"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "antiphon.db"


@pytest.fixture
def url(path: Path) -> Iterator[str]:
    with capture_logs():
        yield f"sqlite+aiosqlite:///{path}"


def fingerprint(path: Path, table: str, columns: str = "*") -> str:
    with closing(sqlite3.connect(path)) as connection:
        query = f"SELECT {columns} FROM {table} ORDER BY 1"  # noqa: S608
        rows = connection.execute(query).fetchall()
    return hashlib.sha256(repr(rows).encode()).hexdigest() if rows else ""


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
        found = connection.execute(query)
        return {row[0] for row in found}


def contents(path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """What made all that there is, in one spelling, and how many rows each table has."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_master")
        made = {name: " ".join(sql.replace('"', "").split()) for name, sql in found}
        count = "SELECT count(*) FROM "
        return made, {
            table: connection.execute(count + table).fetchone()[0] for table in tables(path)
        }


def triggers(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        return dict(connection.execute(query).fetchall())


async def seed(url: str) -> None:
    store = SqliteStore(url)
    await store.open()
    for n in range(20):
        await store.save(response(str(n)))
    await store.add_key(api_key())
    await store.close()


def test_a_fresh_file_gets_the_newest_schema(url: str, path: Path) -> None:
    assert migrate.current_revision(url) is None
    migrate.migrate(url)
    assert migrate.current_revision(url) == HEAD
    assert tables(path) == {*metadata.tables, "alembic_version"}


def test_a_fresh_file_is_what_all_migrations_would_make(
    url: str, path: Path, tmp_path: Path
) -> None:
    """So nobody can tell how old a database is; its first rows are there, too."""
    migrate.migrate(url)
    old = tmp_path / "old.db"
    for revision in ("0001", "head"):
        migrate.migrate(f"sqlite+aiosqlite:///{old}", revision)
    assert contents(path) == contents(old)
    for table in tables(path):  # in the same order: it decides between equals
        query = f"SELECT name FROM pragma_index_list('{table}')"  # noqa: S608
        with closing(sqlite3.connect(path)) as new, closing(sqlite3.connect(old)) as other:
            assert new.execute(query).fetchall() == other.execute(query).fetchall()
    for query in ("SELECT number FROM removals", "SELECT length(id) FROM database_id"):
        with closing(sqlite3.connect(path)) as new, closing(sqlite3.connect(old)) as other:
            assert new.execute(query).fetchall() == other.execute(query).fetchall()


def test_who_comes_second_finds_the_schema_made(url: str, path: Path) -> None:
    """Where there are no locks on files, two may have seen that it is empty."""
    migrate.migrate(url)
    made = contents(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.create(connection, HEAD)
    assert contents(path) == made


def test_the_migrations_make_what_the_tables_say(url: str, path: Path) -> None:
    migrate.migrate(url, "0001")
    migrate.migrate(url)
    with scripts.engine(path).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    assert triggers(path) == TRIGGERS


async def test_an_old_database_is_upgraded_at_start(url: str) -> None:
    migrate.migrate(url, "0001")
    await seed(url)
    assert migrate.current_revision(url) == HEAD


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004"])
async def test_down_and_up_again_keeps_the_rows(url: str, path: Path, revision: str) -> None:
    """R-75: what the older version knows, byte for byte; and the rest as it was made."""
    await seed(url)
    old, before = fingerprint(path, "responses", OLDEST), fingerprint(path, "responses")
    assert before
    migrate.downgrade(url, revision)
    assert migrate.current_revision(url) == revision
    assert triggers(path) == {}
    assert fingerprint(path, "responses", OLDEST) == old
    migrate.migrate(url)
    assert migrate.current_revision(url) == HEAD
    assert fingerprint(path, "responses") == before


async def test_the_rows_of_0004_are_served(url: str, path: Path) -> None:
    """R-74: with nothing in the new columns."""
    migrate.migrate(url, "0004")
    row = replace(response(), owner="one", attempt=2)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(SAVE_0004, astuple(row)[:KNOWN_0004])
    store = SqliteStore(url, clock=Clock())
    await store.open()
    assert await store.get("alpha", row.id) == row
    made = await begin(store, "a")
    await run(store, made)
    await store.close()


async def test_down_from_0005_and_up_again_keeps_what_0004_knows(url: str, path: Path) -> None:
    """R-75: a response of a conversation, too; the conversation itself is lost, as `downgrade`
    says."""
    await seed(url)
    store = SqliteStore(url, clock=Clock())
    await store.open()
    made = await begin(store, "a")
    row = await run(store, made)
    await store.close()
    known = OLDEST + ", kept, owner, attempt, log_until"
    before = fingerprint(path, "responses", known)
    migrate.downgrade(url, "0004")
    assert fingerprint(path, "responses", known) == before
    store = SqliteStore(url, clock=Clock())
    await store.open()
    assert fingerprint(path, "responses", known) == before
    assert await store.runs.find(row.id) == replace(row, conversation=None)
    assert await held(store, made) is None
    await store.close()


async def test_down_from_0007_and_up_again_has_no_files(url: str, path: Path) -> None:
    """R-75: what 0006 knows is kept, and files can be added again."""
    await seed(url)
    known = OLDEST + ", kept, owner, attempt, log_until, conversation, metadata"
    before = fingerprint(path, "responses", known)
    for _ in range(2):
        store = SqliteStore(url, clock=Clock())
        await store.open()
        row = FileRow("file-1", "alpha", NOW, None, 5, "a.txt", "vision")
        assert await store.files.add(row)
        assert await store.files.get("alpha", row.id, NOW) == row
        await store.close()
        migrate.downgrade(url, "0006")
        assert tables(path) & {"files", "uploads", "upload_parts"} == set()
        assert fingerprint(path, "responses", known) == before


def test_the_names_of_the_scripts_say_which_revisions_there_are() -> None:
    """Alembic, which would have to be asked otherwise, is loaded only to migrate."""
    walked = ScriptDirectory(str(ROOT / "src/antiphon/store/migrations")).walk_revisions()
    assert migrate.revisions() == tuple(script.revision for script in walked)


async def test_migrating_again_changes_nothing(url: str, path: Path) -> None:
    await seed(url)
    before = [fingerprint(path, table) for table in ("responses", "api_keys", "alembic_version")]
    migrate.migrate(url)
    after = [fingerprint(path, table) for table in ("responses", "api_keys", "alembic_version")]
    assert before == after


def test_all_the_way_down(url: str, path: Path) -> None:
    migrate.migrate(url)
    migrate.downgrade(url, "base")
    assert tables(path) == {"alembic_version"}
    migrate.migrate(url)
    assert migrate.current_revision(url) == HEAD


def test_several_processes_start_at_once(path: Path) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(started("migrate", path)) for _ in range(4)]
        assert [line(process) for process in processes] == [HEAD] * 4
        assert [process.wait() for process in processes] == [0] * 4


def test_a_kill_before_the_commit_leaves_the_old_schema(url: str, path: Path) -> None:
    """R-75: one transaction; the next start does the work."""
    with started("die", path) as process:
        assert process.wait() == -9
    assert migrate.current_revision(url) == "0001"
    migrate.migrate(url)
    assert migrate.current_revision(url) == HEAD


async def test_a_database_from_the_future_is_refused(url: str, path: Path) -> None:
    migrate.migrate(url)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerStoreError, match=r"schema 9999.*newer"):
        await SqliteStore(url).open()
    assert migrate.current_revision(url) == "9999"


@pytest.mark.parametrize("name", ["responses", "recipes"])
def test_tables_of_someone_else_are_refused_and_kept(url: str, path: Path, name: str) -> None:
    """R-78: another program's file is not adopted without a word; not even its mode is changed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE {name} (mine TEXT)")
        connection.execute(f"INSERT INTO {name} VALUES ('precious')")  # noqa: S608
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"another program: it has tables \({name}\)"):
        migrate.migrate(url)
    assert path.read_bytes() == before
    assert "another program" in next(f.text for f in check(url) if f.level == "error")


@pytest.mark.parametrize("what", ["table jobs", *(f"trigger {name}" for name in TRIGGERS)])
def test_what_somebody_dropped_is_named(url: str, path: Path, what: str) -> None:
    """R-78: in one line at start, not by every request; a trigger would be missed by none."""
    migrate.migrate(url)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"DROP {what}")
    with pytest.raises(StoreError, match=f"no {what}"):
        migrate.migrate(url)
    assert [f"no {what}" in f.text for f in check(url) if f.level == "error"] == [True]


def test_the_alembic_command_uses_the_same_scripts(url: str, path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "ANTIPHON_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert migrate.current_revision(url) == HEAD
