"""The SQLite store in a real file: durability, groups, several processes (reliability F)."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from antiphon.errors import Overloaded
from antiphon.store import writer
from antiphon.store.migrate import migrate
from antiphon.store.sql import SqliteStore
from tests.store.children import line, started
from tests.store.rows import response


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "antiphon.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(url(path))
    await made.open()
    yield made
    await made.close()


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def rows_in(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0] for row in connection.execute("SELECT id FROM responses WHERE deleted = 0")}
    finally:
        connection.close()


async def test_a_thousand_saves_take_few_commits(store: SqliteStore) -> None:
    """Design §7: group commit. The first wakes the writer; the others queue up behind it."""
    await asyncio.gather(*(store.save(response()) for _ in range(1000)))
    assert store.commits < 50


async def test_64_savers_at_once_lose_nothing(store: SqliteStore, path: Path) -> None:
    saved: set[str] = set()

    async def saver() -> None:
        for _ in range(20):
            row = response(status="in_progress")
            await store.save(row)
            await store.save(replace(row, status="completed"))
            saved.add(row.id)

    await asyncio.gather(*(saver() for _ in range(64)))
    assert len(saved) == 64 * 20
    assert rows_in(path) == saved


async def test_what_was_acknowledged_survives_a_restart(path: Path) -> None:
    """R-68: byte for byte, and what was deleted or cancelled stays so."""
    now = int(time.time())
    kept = response(expires_at=now + 1000)
    gone, cancelled = response(), response(status="cancelled")
    first = SqliteStore(url(path))
    await first.open()
    for row in (kept, gone, cancelled):
        await first.save(row)
    await first.delete("alpha", gone.id)
    await first.close()

    second = SqliteStore(url(path))
    await second.open()
    for row in (gone, cancelled):
        await second.save(replace(row, status="completed"))
    assert await second.get("alpha", kept.id) == kept
    assert await second.get("alpha", gone.id) is None
    assert await second.get("alpha", cancelled.id) == cancelled
    await second.close()


async def test_what_a_client_is_told_of_is_flushed(store: SqliteStore) -> None:
    """R-67: the pragma of the writer's connection is 2 (FULL: fsync at commit) or 1 (NORMAL)."""
    connection = store._writer._connection
    assert connection is not None
    seen = []
    for status in ("completed", "in_progress", "queued", "in_progress", "failed"):
        await store.save(response(status=status))
        seen += connection.execute("PRAGMA synchronous").fetchone()
    await store.save(response(status="in_progress"))
    await store.delete("alpha", "resp_1")
    seen += connection.execute("PRAGMA synchronous").fetchone()
    assert seen == [2, 1, 2, 1, 2, 2]


def test_a_kill_loses_nothing_that_was_acknowledged(path: Path) -> None:
    """R-67: kill -9 in the middle of the writing, again and again."""
    acknowledged: set[str] = set()
    for seconds in (0.02, 0.1, 0.25):
        with started("save", path) as process:
            acknowledged.add(line(process))
            time.sleep(seconds)
            process.kill()
            assert process.stdout is not None
            acknowledged.update(
                text.strip()
                for text in process.stdout
                if text.startswith("resp_") and text[-1] == "\n"
            )
        assert acknowledged <= rows_in(path)
    assert len(acknowledged) > 100


async def test_two_processes_share_a_file(store: SqliteStore, path: Path) -> None:
    saved: set[str] = set()
    with started("save", path) as other:
        theirs = {line(other)}
        for _ in range(50):
            row = response()
            await store.save(row)
            saved.add(row.id)
            theirs.add(line(other))
            assert await store.get("alpha", row.id) == row
        assert await store.get("alpha", next(iter(theirs))) is not None
    assert saved | theirs <= rows_in(path)


async def test_a_mistaken_write_fails_alone(store: SqliteStore) -> None:
    """The others of its group are saved, together with what came before and after it."""
    good = [response() for _ in range(20)]
    bad = response()
    bad.created_at = 2**70
    rows = [*good[:10], bad, *good[10:]]
    results = await asyncio.gather(*(store.save(row) for row in rows), return_exceptions=True)
    assert results[:10] == results[11:] == [True] * 10
    assert isinstance(results[10], OverflowError)
    for row in good:
        assert await store.get("alpha", row.id) == row


async def test_a_caller_that_leaves_does_not_stop_the_write(store: SqliteStore) -> None:
    """R-34: and the connection answers the next caller with its own row."""
    rows = [response(str(n)) for n in range(20)]
    for row in rows:
        task = asyncio.create_task(store.save(row))
        await asyncio.sleep(0)
        task.cancel()
    await store.save(response())
    reads = [asyncio.create_task(store.get("alpha", row.id)) for row in rows]
    await asyncio.sleep(0)
    for read in reads[::2]:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    assert [await store.get("alpha", row.id) for row in rows] == rows


async def test_close_writes_what_is_queued(path: Path) -> None:
    store = SqliteStore(url(path))
    await store.open()
    saves = [asyncio.create_task(store.save(response())) for _ in range(100)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*saves)
    assert len(rows_in(path)) == 100
    assert not path.with_name(path.name + "-wal").exists()


async def test_a_closed_store_turns_callers_away(path: Path) -> None:
    store = SqliteStore(url(path))
    with pytest.raises(Overloaded):
        await store.save(response())
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(Overloaded):
        await store.save(response())
    with pytest.raises(Overloaded):
        await store.get("alpha", "resp_1")
    assert not await store.ready()


async def test_too_much_in_the_queue_is_turned_away(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lessons §1 rule 5: back-pressure, not memory without end; and it passes."""
    monkeypatch.setattr(writer, "MOST_QUEUED", 20_000)
    rows = [response("x" * 1000) for _ in range(50)]
    results = await asyncio.gather(*(store.save(row) for row in rows), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Overloaded)]
    assert 0 < len(refused) < 50
    assert all(error.retry_after for error in refused)
    await store.save(response())


async def test_a_chain_is_linear_in_space(store: SqliteStore, path: Path) -> None:
    """Store rule 3: 400 turns of 1 KB take less than 800 KB."""
    empty = path.with_name("empty.db")
    migrate(f"sqlite+aiosqlite:///{empty}")
    previous = None
    for _ in range(400):
        row = response("x" * 400, previous=previous)
        await store.save(row)
        previous = row.id
    assert previous is not None
    await store.close()
    assert len(content_of(path)) - len(content_of(empty)) < 800_000


async def test_the_text_of_a_deleted_response_is_gone(store: SqliteStore, path: Path) -> None:
    """R-59: not only from the row, also from the file."""
    row = response("unmistakable " * 1000)
    await store.save(row)
    await store.delete("alpha", row.id)
    await store.close()
    assert b"unmistakable" not in content_of(path)


async def test_the_file_is_private(store: SqliteStore, path: Path) -> None:
    await store.save(response())
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


async def test_the_event_loop_stays_free_while_a_chain_is_read(store: SqliteStore) -> None:
    rows = [response("x" * 200) for _ in range(1000)]
    for before, row in pairwise(rows):
        row.previous_response_id = before.id
    await asyncio.gather(*(store.save(row) for row in rows))
    longest = []
    for _ in range(3):  # the machine may be busy elsewhere: the best round counts
        reading = asyncio.create_task(store.chain("alpha", rows[-1].id))
        longest.append(0.0)
        while not reading.done():
            start = time.perf_counter()
            await asyncio.sleep(0)
            longest[-1] = max(longest[-1], time.perf_counter() - start)
        assert len(await reading or ()) == 1000
    assert min(longest) < 0.1


async def test_a_relative_path_is_that_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("sqlite+aiosqlite:///./here.db")
    await store.open()
    monkeypatch.chdir("/")
    await store.save(response())
    await store.close()
    assert len(rows_in(tmp_path / "here.db")) == 1
