"""Backups of a database that is in use (R-76)."""

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from antiphon.store import backup as backups
from antiphon.store.backup import backup
from antiphon.store.base import StoreError
from antiphon.store.sql import SqliteStore
from tests.store.children import line, started
from tests.store.rows import batch, ending, log_of, response, start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "db").mkdir()
    return tmp_path / "db" / "antiphon.db"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "monday.db"


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def save(path: Path, count: int = 5) -> list[str]:
    rows = [response(str(n)) for n in range(count)]

    async def save_all() -> None:
        store = SqliteStore(url(path))
        await store.open()
        for row in rows:
            await store.save(row)
        await store.close()

    asyncio.run(save_all())
    return [row.id for row in rows]


def test_a_backup_under_load_has_what_was_acknowledged_before(path: Path, target: Path) -> None:
    """R-76: made while another process writes as fast as it can, which goes on."""
    with started("save", path) as child:
        before = {line(child) for _ in range(200)}
        size = backup(url(path), target)
        after = {line(child) for _ in range(200)}
    assert size == target.stat().st_size > 0
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        copied = {row[0] for row in connection.execute("SELECT id FROM responses")}
    assert before <= copied
    assert after
    assert names(target.parent) == ["monday.db"]


async def test_a_backup_can_be_served(path: Path, target: Path) -> None:
    """With log, queue and triggers; what runs is taken over by whoever serves the copy."""
    store = SqliteStore(url(path))
    await store.open()
    done, lease = await start(store)
    await store.runs.finish(lease, batch(2, 9), ending())
    await store.runs.beat("one")
    job, lease = await start(store)
    await store.runs.append(lease, batch(2, 5))
    root = response()
    child = response(previous=root.id)
    for row in (root, child):
        await store.save(row)
    backup(url(path), target)
    await store.runs.append(lease, batch(5, 9))
    await store.close()
    restored = SqliteStore(url(target))
    await restored.open()
    assert await log_of(restored, done.row.id) == list(range(9))
    await restored.runs.release("one", died=True)
    (again,) = await restored.runs.claim("two", 5)
    assert again.row.id == job.row.id
    assert await log_of(restored, job.row.id) == list(range(5))
    assert await restored.chain("alpha", child.id) is not None
    assert await restored.delete("alpha", root.id)
    assert await restored.chain("alpha", child.id) is None
    await restored.close()


def test_only_its_owner_can_read_it(path: Path, target: Path) -> None:
    save(path)
    mask = os.umask(0)
    try:
        backup(url(path), target)
    finally:
        os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten(path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what somebody puts there while the copy is made."""
    save(path)
    target.write_bytes(b"precious")
    with pytest.raises(StoreError, match="exists"):
        backup(url(path), target)
    check = backups._check
    target.unlink()

    def check_slowly(copy: Path) -> None:
        check(copy)
        target.write_bytes(b"precious")

    monkeypatch.setattr(backups, "_check", check_slowly)
    with pytest.raises(StoreError, match="File exists"):
        backup(url(path), target)
    assert target.read_bytes() == b"precious"
    assert names(target.parent) == ["monday.db"]


def test_a_damaged_database_makes_no_backup(path: Path, target: Path) -> None:
    save(path, 200)
    content = bytearray(path.read_bytes())
    content[8192:40960] = b"\xff" * (40960 - 8192)
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="No backup"):
        backup(url(path), target)
    assert names(target.parent) == []


def test_a_copy_that_is_damaged_gets_no_name(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(path, 200)
    vacuum = backups._vacuum

    def vacuum_badly(source: Path, copy: Path) -> None:
        vacuum(source, copy)
        content = bytearray(copy.read_bytes())
        content[-8192:] = b"\xff" * 8192
        copy.write_bytes(bytes(content))

    monkeypatch.setattr(backups, "_vacuum", vacuum_badly)
    with pytest.raises(StoreError):
        backup(url(path), target)
    assert names(target.parent) == []


def test_a_file_system_without_links(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = save(path)

    def link(source: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", link)
    backup(url(path), target)
    with closing(sqlite3.connect(target)) as connection:
        assert len(connection.execute("SELECT id FROM responses").fetchall()) == len(ids)


def test_what_cannot_be_is_said(path: Path, target: Path) -> None:
    with pytest.raises(StoreError, match="There is no database"):
        backup(url(path), target)
    assert names(path.parent) == []
    with pytest.raises(StoreError, match="memory"):
        backup("memory://", target)
    sqlite3.connect(path).close()
    with pytest.raises(StoreError, match="No such file"):
        backup(url(path), target.parent / "none" / "monday.db")


def test_a_lock_of_a_writer_is_no_hindrance(path: Path, target: Path) -> None:
    ids = save(path)
    with started("lock", path) as other:
        assert line(other) == "locked"
        began = time.monotonic()
        backup(url(path), target)
        assert time.monotonic() - began < 5
    with closing(sqlite3.connect(target)) as connection:
        assert len(connection.execute("SELECT id FROM responses").fetchall()) == len(ids)
