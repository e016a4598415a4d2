"""Trouble of the database: 503 while it lasts, no restart after it (R-70, R-71)."""

import asyncio
import gc
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from antiphon.errors import Overloaded
from antiphon.store import sql, sqlite, writer
from antiphon.store.base import CorruptStoreError, ResponseRow, StoreError
from antiphon.store.sql import SqliteStore
from tests.store.children import line, started, tell
from tests.store.rows import response


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "db").mkdir()
    return tmp_path / "db" / "antiphon.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(url(path))
    await made.open()
    yield made
    await made.close()


async def refused(store: SqliteStore) -> bool:
    """Whether a save answers 503 with a time to come back."""
    try:
        await store.save(response())
    except Overloaded as error:
        return error.status == 503 and error.headers()["retry-after"] == "1"
    return False


async def all_readers(store: SqliteStore, row: ResponseRow) -> None:
    """Every reader finds the row, and so is connected."""
    assert await asyncio.gather(*(store.get("alpha", row.id) for _ in range(40))) == [row] * 40


def move(source: Path, target: Path) -> None:
    source.rename(target)


def remove(path: Path) -> None:
    for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        name.unlink(missing_ok=True)


async def test_a_lock_of_another_process_is_waited_for(store: SqliteStore, path: Path) -> None:
    """R-70: readers do not even notice."""
    known = response()
    await store.save(known)
    with started("lock", path) as other:
        assert line(other) == "locked"
        row = response()
        saving = asyncio.create_task(store.save(row))
        await asyncio.sleep(0.5)
        assert not saving.done()
        assert await store.get("alpha", known.id) == known
        tell(other, "go")
        await saving
    assert await store.get("alpha", row.id) == row


async def test_a_lock_that_stays_is_503(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-70: and the store works again as soon as it is gone."""
    assert sqlite.BUSY_TIMEOUT == 10
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.2)
    store = SqliteStore(url(path))
    await store.open()
    with started("lock", path) as other:
        assert line(other) == "locked"
        start = time.monotonic()
        assert await asyncio.gather(*(refused(store) for _ in range(20))) == [True] * 20
        assert not await store.ready()
        assert time.monotonic() - start < 2
        tell(other, "go")
        assert line(other) == "free"
    assert not await refused(store)
    assert await store.ready()
    await store.close()


async def test_a_locked_database_is_soon_said_to_be_not_ready(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-71: long before the lock is given up; and questions leave no heap of writes behind."""
    assert sql.PROBE_LIMIT == 2
    monkeypatch.setattr(sql, "PROBE_LIMIT", 0.1)
    monkeypatch.setattr(writer, "MOST_QUEUED", 4096)
    with started("lock", path) as other:
        assert line(other) == "locked"
        start = time.monotonic()
        for _ in range(3):
            assert await asyncio.gather(*(store.ready() for _ in range(5))) == [False] * 5
        assert time.monotonic() - start < 2
        row = response()
        saving = asyncio.create_task(store.save(row))
        await asyncio.sleep(0)
        tell(other, "go")
        await saving
    assert await store.ready()
    assert await store.get("alpha", row.id) == row


async def test_a_late_failure_of_a_probe_is_nobodys_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "PROBE_LIMIT", 0.1)
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.3)
    forgotten: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: forgotten.append(about))
    store = SqliteStore(url(path))
    await store.open()
    with started("lock", path) as other:
        assert line(other) == "locked"
        assert not await store.ready()
        assert await refused(store)
        tell(other, "go")
        assert line(other) == "free"
    assert await store.ready()
    gc.collect()
    assert forgotten == []
    await store.close()


async def test_a_locked_database_opens(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that starts beside a long write of another one serves reads at once."""
    row = response()
    await store.save(row)
    with started("lock", path) as other:
        assert line(other) == "locked"
        second = SqliteStore(url(path))
        await second.open()
        assert await second.get("alpha", row.id) == row
        await second.close()


def test_a_full_disk_is_503_and_heals(path: Path) -> None:
    """R-71: in a process of its own, since the limit stands for the whole process."""
    with started("full", path) as process:
        assert line(process) == "saved True refused True ready False"
        assert line(process) == "readable True healed True check ok lost 0"


async def test_a_file_that_is_gone_is_503_until_it_is_back(store: SqliteStore, path: Path) -> None:
    """Writes into a deleted file would be acknowledged and lost; and nothing is recreated."""
    row = response()
    await store.save(row)
    await all_readers(store, row)
    away = path.parent.with_name("away")
    move(path.parent, away)
    assert await refused(store)
    with pytest.raises(Overloaded):
        await store.get("alpha", row.id)
    assert not await store.ready()
    assert not path.parent.exists()
    move(away, path.parent)
    assert await store.get("alpha", row.id) == row
    assert not await refused(store)


async def test_a_file_that_was_replaced_is_taken_up(store: SqliteStore, path: Path) -> None:
    """A backup that an operator puts in place is served, not the deleted file."""
    old, new = response("old"), response("new")
    await store.save(old)
    await all_readers(store, old)
    other = SqliteStore(url(path.with_name("backup.db")))
    await other.open()
    await other.save(new)
    await other.close()
    remove(path)
    move(path.with_name("backup.db"), path)
    assert await store.get("alpha", old.id) is None
    await all_readers(store, new)
    last = response("last")
    await store.save(last)
    assert await store.get("alpha", last.id) == last


def test_a_read_only_file_is_503_until_it_is_not() -> None:
    """In a process of its own, since root must become somebody else; not in pytest's directory,
    which only its owner can enter."""
    with (
        tempfile.TemporaryDirectory() as directory,
        started("rights", Path(directory) / "antiphon.db") as process,
    ):
        assert line(process) == "refused [True, True] ready False readable True"
        assert line(process) == "refused False ready True"
        assert "antiphon.db cannot be written (Permission denied)" in line(process)


async def test_trouble_is_logged_once_and_its_end_too(store: SqliteStore, path: Path) -> None:
    away = path.parent.with_name("away")
    with capture_logs() as logs:
        move(path.parent, away)
        for _ in range(3):
            assert await refused(store)
        move(away, path.parent)
        assert not await refused(store)
    assert [entry["event"] for entry in logs] == ["store_trouble", "store_healed"]
    assert logs[0]["reason"] == "SQLITE_CANTOPEN"


async def test_a_damaged_file_is_refused_and_left_alone(path: Path, store: SqliteStore) -> None:
    """R-78."""
    for _ in range(50):
        await store.save(response("x" * 1000))
    await store.close()
    content = bytearray(read(path))
    content[4096:40960] = b"\xff" * (40960 - 4096)
    write(path, bytes(content))
    with pytest.raises(CorruptStoreError, match=r"damaged .* restore a backup"):
        await SqliteStore(url(path)).open()
    assert read(path) == content


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    """R-78."""
    write(path, b"Dear diary, " * 1000)
    with pytest.raises(CorruptStoreError, match="SQLITE_NOTADB"):
        await SqliteStore(url(path)).open()
    assert read(path) == b"Dear diary, " * 1000


async def test_a_missing_directory_is_said_at_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="directory of the database does not exist"):
        await SqliteStore(url(tmp_path / "none" / "antiphon.db")).open()


async def test_the_threads_end_with_the_store(path: Path) -> None:
    before = threading.active_count()
    for _ in range(3):
        store = SqliteStore(url(path))
        await store.open()
        await store.save(response())
        await store.get("alpha", "resp_1")
        await store.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("store-")]
    assert threading.active_count() <= before + 4  # asyncio.to_thread keeps its own


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
