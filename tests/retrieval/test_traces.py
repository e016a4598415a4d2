"""What a dropped file leaves behind, and whose turn it is to write."""

import asyncio
import fcntl
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import Overloaded
from antiphon.retrieval import connections, index_file, locks
from antiphon.retrieval.indexes import Indexes
from tests.retrieval.asking import STORE, names, search, vectors

#: Of the letters that no stemmer takes away; FTS5 leaves out what a word has in common with the one
#: before.
RARE = "qxjkvwyqxj"


def traces(folder: Path) -> set[str]:
    """The files that have the end of the word."""
    return {path.name for path in folder.iterdir() if RARE[3:].encode() in path.read_bytes()}


@pytest.mark.parametrize("chunks", [5, 3_000])
async def test_no_word_of_a_dropped_file_is_left(
    indexes: Indexes, folder: Path, chunks: int
) -> None:
    """R-104: in no segment of the full text, no free page, and not in the log."""
    for number in (1, 2, 3):
        texts = [f"{RARE if number == 2 else 'plain'} number{number} x{at}" for at in range(chunks)]
        await indexes.put(STORE, number, "t", texts, vectors(*[[1, 0]] * chunks))
    assert await search(indexes, [1, 2], RARE, asked=vectors([1, 0]))
    assert traces(folder)
    await indexes.drop(STORE, [2])
    assert traces(folder) == set()
    assert len(await search(indexes, [1, 2, 3], "plain", limit=10)) == 10
    assert await search(indexes, [1, 2, 3], RARE) == []


async def test_a_drop_tells_when_somebody_reads_for_too_long(
    indexes: Indexes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-104: it is dropped, but its log stays until the drop is asked for again."""
    monkeypatch.setattr(index_file, "_SETTLING", 1)
    for number in (1, 2, 3):
        await indexes.put(STORE, number, "t", [RARE], None)
    with closing(index_file.connect(folder / "vs_1.db", "ro")) as reader:
        with index_file.snapshot(reader):
            assert index_file.numbers(reader) == {1, 2, 3}
            with pytest.raises(Overloaded, match="log"):
                await indexes.drop(STORE, [1, 2, 3])
            assert index_file.numbers(reader) == {1, 2, 3}
        assert await indexes.numbers(STORE) == frozenset()
        assert traces(folder)
        await indexes.drop(STORE, [1, 2, 3])
    assert traces(folder) == set()


def hold(path: Path) -> int:
    """Take the turn of a writer, as another process would."""
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


async def test_a_writer_waits_for_its_turn_and_readers_do_not(
    indexes: Indexes, folder: Path
) -> None:
    """R-78."""
    await indexes.put(STORE, 1, "t", ["first"], None)
    other = hold(folder / "vs_1.db-writer")
    put = asyncio.create_task(indexes.put(STORE, 2, "t", ["second"], None))
    await indexes.put("vs_2", 3, "t", ["third"], None)
    assert await search(indexes, [1, 2], "first second")
    await asyncio.wait([put], timeout=0.05)
    assert not put.done()
    assert await indexes.numbers(STORE) == {1}
    os.close(other)
    async with asyncio.timeout(10):
        await put
    assert await indexes.numbers(STORE) == {1, 2}


async def test_one_store_has_one_writer_at_a_time(indexes: Indexes, folder: Path) -> None:
    """R-118: however many of its writers wait for another process."""
    await indexes.put(STORE, 1, "t", ["first"], None)
    other = hold(folder / "vs_1.db-writer")
    waiting = [
        asyncio.create_task(indexes.put(STORE, number, "t", ["more"], None)) for number in (2, 3, 4)
    ]
    async with asyncio.timeout(10):
        await indexes.put("vs_2", 5, "t", ["other"], None)
    waiting[1].cancel()
    await asyncio.wait([waiting[1]])
    os.close(other)
    async with asyncio.timeout(10):
        await asyncio.gather(waiting[0], waiting[2])
    assert await indexes.numbers(STORE) == {1, 2, 4}


async def test_others_come_in_between_when_many_files_are_dropped(
    indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-118: they have waited for a few files."""
    for number in range(20):
        await indexes.put(STORE, number, "t", ["word"], None)
    order: list[str] = []
    started = threading.Event()
    real_put, real_drop = index_file.put, index_file.forget

    def put(*args: Any) -> None:
        order.append("put")
        real_put(*args)

    def drop(*args: Any) -> None:
        order.append("drop")
        started.set()
        real_drop(*args)

    monkeypatch.setattr(index_file, "put", put)
    monkeypatch.setattr(index_file, "forget", drop)
    dropping = asyncio.create_task(indexes.drop(STORE, range(20)))
    await asyncio.to_thread(started.wait, 10)
    await indexes.put(STORE, 99, "t", ["new"], None)
    assert not dropping.done()
    await dropping
    assert order == ["drop", "put", *["drop"] * 4]
    assert await indexes.numbers(STORE) == {99}


async def test_a_turn_that_does_not_come_is_trouble(
    indexes: Indexes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await indexes.put(STORE, 1, "t", ["word"], None)
    monkeypatch.setattr(connections, "PATIENCE", 0.01)
    other = hold(folder / "vs_1.db-writer")
    for call in (
        indexes.put(STORE, 2, "t", ["word"], None),
        indexes.drop(STORE, [1]),
        indexes.remove(STORE),
    ):
        with pytest.raises(Overloaded):
            await call
    os.close(other)
    assert await indexes.numbers(STORE) == {1}


async def test_the_last_checkpoint_has_its_turn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-78: that of who closes a connection, too."""
    index = Indexes(folder)
    await index.put(STORE, 1, "t", ["word"], None)
    other = hold(folder / "vs_1.db-writer")
    closing = asyncio.create_task(index.aclose())
    await asyncio.wait([closing], timeout=0.1)
    assert names(folder) >= {"vs_1.db-wal"}
    os.close(other)
    await closing
    assert names(folder) == {"vs_1.db", "vs_1.db-writer"}


async def test_connections_of_a_busy_index_are_kept(
    indexes: Indexes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing them would be a checkpoint out of turn."""
    monkeypatch.setattr(connections, "_IDLE", 1)
    await indexes.put(STORE, 1, "t", ["word"], None)
    other = hold(folder / "vs_1.db-writer")
    for at in range(2, 6):
        async with asyncio.timeout(10):
            await indexes.put(f"vs_{at}", at, "t", ["word"], None)
    assert names(folder) >= {"vs_1.db-wal"}
    os.close(other)
    await indexes.put("vs_9", 9, "t", ["word"], None)
    await indexes.put("vs_8", 8, "t", ["word"], None)
    assert "vs_1.db-wal" not in names(folder)


def test_a_lock_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited for it takes that of the file that is there now."""
    index, lock = tmp_path / "x.db", tmp_path / "x.db-writer"
    removed: list[Path] = []
    taken = locks._lock

    def late(file: int, until: float) -> bool:
        if not removed:
            lock.unlink()
            removed.append(lock)
        return taken(file, until)

    monkeypatch.setattr(locks, "_lock", late)
    with locks.turn(index, 0), pytest.raises(sqlite3.OperationalError), locks.turn(index, 0):
        pytest.fail("two have it")


def test_a_lock_that_cannot_be_looked_at_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-78."""
    with monkeypatch.context() as broken:
        broken.setattr(locks, "_is_there", lambda *_: (_ for _ in ()).throw(PermissionError))
        with pytest.raises(PermissionError), locks.turn(tmp_path / "x.db", 0):
            pytest.fail("nobody knows whose it is")
    with locks.turn(tmp_path / "x.db", 0):
        assert (tmp_path / "x.db-writer").exists()


def test_where_there_are_no_locks_one_goes_without(tmp_path: Path) -> None:
    with locks.turn(tmp_path / "none" / "x.db", 0):
        assert list(tmp_path.iterdir()) == []


async def test_a_log_without_its_index_is_not_taken_for_that_of_the_next(folder: Path) -> None:
    """Left by who was killed while it removed an index."""
    index = Indexes(folder)
    await index.put(STORE, 1, "t", ["old"], None)
    log = (folder / "vs_1.db-wal").read_bytes()
    await index.remove(STORE)
    (folder / "vs_1.db-wal").write_bytes(log)
    await index.put(STORE, 2, "t", ["new"], None)
    assert await index.numbers(STORE) == {2}
    await index.aclose()
