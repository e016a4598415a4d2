"""What ``antiphon doctor`` hears about the database."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from antiphon.store import checkup, migrate
from antiphon.store.base import StoreError
from antiphon.store.checkup import check
from antiphon.store.sql import SqliteStore
from tests.store.children import line, started
from tests.store.rows import NOW, Clock, batch, enqueue, response, start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "antiphon.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(url, clock=Clock())
    await made.open()
    yield made
    await made.close()


def texts(url: str, level: str) -> list[str]:
    return [found.text for found in check(url, clock=Clock()) if found.level == level]


async def test_a_database_without_its_id(store: SqliteStore, path: Path, url: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM database_id")
    with pytest.raises(StoreError, match=r"has lost its id .*restore a backup") as caught:
        checkup.identity(url)
    assert "\n" not in str(caught.value)


async def test_all_is_well(store: SqliteStore, url: str) -> None:
    """While it is served, and with rows in every state."""
    await store.runs.beat("one")
    await start(store)
    await enqueue(store)
    await store.save(replace(response(status="in_progress"), owner="one"))
    await store.save(response())
    assert texts(url, "error") == texts(url, "warning") == []
    said = " ".join(texts(url, "ok"))
    assert "schema 0011, the newest" in said
    assert "The file is sound" in said
    assert "Process one (alive) has unfinished responses: 2." in said
    assert "Background responses that wait: 1, the oldest since 0 s." in said
    assert "Webhook deliveries that wait: 0." in said


async def test_the_dead_and_what_they_left(store: SqliteStore, path: Path, url: str) -> None:
    with started("log", path) as child:
        owner = line(child)
        line(child)
        child.kill()
    await store.runs.append((await start(store, "silent"))[1], batch(2, 3))
    await store.save(response(status="in_progress"))
    assert texts(url, "warning") == [
        f"Process {owner} (dead) has unfinished responses: 1. Any other that runs takes over.",
        "Process silent (unknown) has unfinished responses: 1, but never said that it is alive.",
        "Unfinished responses of nobody: 1. Any server that runs ends them.",
    ]


async def test_what_is_not_swept(store: SqliteStore, url: str) -> None:
    await store.save(response(expires_at=NOW - 60))
    assert texts(url, "warning") == []
    assert "Expired responses that are not swept yet: 1." in texts(url, "ok")
    await store.save(response(expires_at=NOW - 7300))
    assert texts(url, "warning") == [
        "Expired responses that are not swept yet: 2, the oldest for 2 h."
    ]


async def test_a_log_without_a_response(store: SqliteStore, path: Path, url: str) -> None:
    await start(store)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM responses")
    assert texts(url, "warning") == ["Logs of no response: 1."]


async def test_a_large_write_ahead_log(
    store: SqliteStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(response())
    monkeypatch.setattr(checkup, "LARGE_LOG", 1)
    assert ["write-ahead log" in text for text in texts(url, "warning")] == [True]


def test_a_schema_that_is_old_new_or_missing(path: Path, url: str) -> None:
    assert "There is no database" in texts(url, "warning")[0]
    assert not path.exists()
    sqlite3.connect(path).close()
    path.touch()
    assert "has no schema yet" in texts(url, "warning")[0]
    migrate.migrate(url, "0002")
    assert "schema 0002, the newest is 0011" in texts(url, "warning")[0]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "of a newer version" in texts(url, "error")[0]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
    assert "has no schema yet" in texts(url, "warning")[0]


async def test_damage(store: SqliteStore, path: Path, url: str) -> None:
    for _ in range(50):
        await store.save(response("x" * 1000))
    await store.close()
    content = bytearray(read(path))
    content[-8192:] = b"\xff" * 8192
    write(path, bytes(content))
    assert [text.split(" (")[0] for text in texts(url, "error")] == ["The file is damaged"]
    assert read(path) == content
    write(path, b"Dear diary, " * 1000)
    assert "SQLITE_NOTADB" in texts(url, "error")[0]


def test_a_store_that_is_no_file_is_refused() -> None:
    with pytest.raises(StoreError):
        check("memory://")


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
