"""What can be wrong with the files of indexes, and what is said about it."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing

from antiphon.errors import Overloaded
from antiphon.retrieval import index_file
from antiphon.retrieval.indexes import Indexes
from tests.retrieval.asking import STORE, names, search, vectors


@pytest.mark.parametrize(
    "id_", ["", ".", "..", "../x", "a/b", "a\0b", "vs_ü", "x" * 129, "/etc/passwd", "vs_1.db"]
)
async def test_an_id_that_is_none_leads_nowhere(indexes: Indexes, folder: Path, id_: str) -> None:
    """R-97."""
    for call in (indexes.numbers(id_), indexes.remove(id_), indexes.put(id_, 1, "t", ["x"], None)):
        with pytest.raises(ValueError, match="no id"):
            await call
    assert names(folder) == set()


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, however long it is read" * 500)


def _holes(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (size - 4096))


def _other_format(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def _short_vectors(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE vectors SET rows = x'0102030405'")
    connection.execute("UPDATE state SET mark = 1")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _holes, _other_format, _link, _short_vectors])
async def test_a_damaged_index_is_trouble_until_it_is_removed(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    index = Indexes(folder)
    await index.put(STORE, 1, "t", ["word"] * 100, vectors(*[[1, 0]] * 100))
    await index.put("vs_2", 1, "t", ["word"], None)
    await index.aclose()
    damage(folder / "vs_1.db")
    index = Indexes(folder)
    for _ in range(2):
        with structlog.testing.capture_logs() as lines, pytest.raises(Overloaded) as caught:
            await search(index, [1], "word", asked=vectors([1, 0]))
        assert [(line["event"], line["store_id"]) for line in lines] == [("index_unusable", STORE)]
        assert str(folder) not in caught.value.message
    assert await index.numbers("vs_2") == {1}
    await index.remove(STORE)
    assert await search(index, [1], "word") == []
    await index.put(STORE, 2, "t", ["word"], None)
    assert await index.numbers(STORE) == {2}
    await index.aclose()


@pytest.mark.parametrize("damage", [_garbage, _holes])
async def test_a_damaged_index_is_removed_by_whoever_asks_what_it_has(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    """`engine.orphans` does, and has the files read again that are not there."""
    index = Indexes(folder)
    await index.put(STORE, 1, "t", ["word"] * 100, None)
    await index.aclose()
    damage(folder / "vs_1.db")
    index = Indexes(folder)
    with structlog.testing.capture_logs() as lines:
        assert await index.numbers(STORE) == frozenset()
    assert [line["event"] for line in lines] == ["index_unusable", "index_removed"]
    assert names(folder) == {"vs_1.db-writer"}
    await index.put(STORE, 1, "t", ["word"], None)
    assert await search(index, [1], "word")
    await index.aclose()


@pytest.mark.parametrize("trouble", [_other_format, _link])
async def test_what_is_no_damage_is_not_removed(
    folder: Path, trouble: Callable[[Path], None]
) -> None:
    index = Indexes(folder)
    await index.put(STORE, 1, "t", ["word"], None)
    await index.aclose()
    trouble(folder / "vs_1.db")
    before = names(folder)
    index = Indexes(folder)
    with pytest.raises(Overloaded):
        await index.numbers(STORE)
    await index.aclose()
    assert names(folder) == before


def test_a_new_index_is_whole_before_it_has_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if what is in a log could not be taken into it."""
    opened: list[sqlite3.Connection] = []

    def kept(connection: sqlite3.Connection) -> contextlib.nullcontext[sqlite3.Connection]:
        opened.append(connection)
        return contextlib.nullcontext(connection)

    with monkeypatch.context() as patch:
        patch.setattr(contextlib, "closing", kept)
        index_file.create(folder / "vs_1.db")
    with contextlib.closing(
        sqlite3.connect(f"file:{folder / 'vs_1.db'}?immutable=1", uri=True)
    ) as alone:
        assert alone.execute("SELECT count(*) FROM files").fetchone() == (0,)
    opened.pop().close()


async def test_what_to_do_with_an_index_of_another_version_is_logged(folder: Path) -> None:
    index = Indexes(folder)
    await index.put(STORE, 1, "t", ["word"], None)
    await index.aclose()
    _other_format(folder / "vs_1.db")
    index = Indexes(folder)
    with structlog.testing.capture_logs() as lines, pytest.raises(Overloaded):
        await search(index, [1], "word")
    assert "format 99" in lines[0]["reason"]
    assert "add its files again" in lines[0]["reason"]
    await index.aclose()


async def test_where_the_disk_is_nearly_full_nothing_is_put(folder: Path) -> None:
    """The file is put off; what makes room is allowed."""
    index = Indexes(folder, min_free=1 << 62)
    with structlog.testing.capture_logs() as lines, pytest.raises(Overloaded, match="space"):
        await index.put(STORE, 1, "t", ["word"], None)
    assert [line["event"] for line in lines] == ["index_disk_full"]
    assert names(folder) == set()
    await index.aclose()
    index = Indexes(folder, min_free=1)
    await index.put(STORE, 1, "t", ["word"], None)
    await index.aclose()
    index = Indexes(folder, min_free=1 << 62)
    await index.drop(STORE, [1])
    assert await index.numbers(STORE) == frozenset()
    await index.remove(STORE)
    assert names(folder) == set()
    await index.aclose()


async def test_a_large_file_leaves_no_long_log(indexes: Indexes, folder: Path) -> None:
    text = " ".join(f"word{at}" for at in range(400))
    await indexes.put(STORE, 1, "t", [f"{at} {text}" for at in range(4_000)], None)
    assert (folder / "vs_1.db").stat().st_size > 12 << 20
    assert (folder / "vs_1.db-wal").stat().st_size <= 8 << 20


async def test_a_put_that_breaks_off_leaves_the_old_state(indexes: Indexes) -> None:
    await indexes.put(STORE, 1, "t", ["old"], None)
    with pytest.raises(ValueError, match="chunks"):
        await indexes.put(STORE, 1, "t", ["new"] * ((1 << 20) + 1), None)
    with pytest.raises(ValueError, match="number"):
        await indexes.put(STORE, 1 << 43, "t", ["new"], None)
    assert await indexes.texts(STORE, 1) == ["old"]


async def test_a_folder_that_cannot_be_made_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "in_the_way").touch()
    index = Indexes(tmp_path / "in_the_way" / "stores")
    with pytest.raises(Overloaded):
        await index.put(STORE, 1, "t", ["word"], None)
    await index.aclose()


async def test_what_was_abandoned_is_cleared_away(indexes: Indexes, folder: Path) -> None:
    """R-104: left by who was killed while it made an index, or opened one that was removed."""
    await indexes.put(STORE, 1, "t", ["word"], None)
    old = time.time() - 7200
    for name in (".abc.new", ".abc.new-wal", "vs_9.db-shm", "vs_9.db-wal"):
        _make(folder / name, old)
    _make(folder / ".def.new", time.time())
    os.utime(folder / "vs_1.db-wal", (old, old))
    assert await indexes.stores() == {STORE}
    assert names(folder) == {
        ".def.new",
        *(f"vs_1.db{end}" for end in ("", "-wal", "-shm", "-writer")),
    }


def _make(path: Path, modified: float) -> None:
    path.touch()
    os.utime(path, (modified, modified))
