"""``antiphon backup --indexes``: copies that belong together (docs/deploying.md; R-76, R-104)."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from antiphon.retrieval.indexes import Indexes
from antiphon.store.base import FileRow, NewFile, VectorStoreRow
from antiphon.store.sql import SqliteStore
from tests.api.command import antiphon

STORE = "vs_1"


async def filled(store: SqliteStore, indexes: Indexes) -> dict[str, int]:
    """Two stores, the first with the files "kept", "deleted" and "later", the last of which is in
    no row yet: their numbers."""
    for id_ in (STORE, "vs_2"):
        await store.vector_stores.add(VectorStoreRow(id_, "p", 1, "s", None, {}, None, 1), [])
    numbers = {"later": 9}
    for name in ("kept", "deleted"):
        await store.files.add(FileRow(name, "p", 1, None, 1, "a.txt", "assistants"))
        put = await store.vector_stores.put("p", STORE, [NewFile(name, {}, 800, 400)], None, 1)
        assert put is not None
        numbers[name] = put[0].number
    for name, number in numbers.items():
        await indexes.put(STORE, number, "title", [f"A zebra that is {name}."], None)
    await store.files.delete("p", "deleted")
    await indexes.put("vs_gone", 10, "title", ["A zebra of nobody."], None)
    return numbers


@contextmanager
def library(folder: Path) -> Iterator[dict[str, int]]:
    """The database and the indexes of a server that has forgotten nothing yet: the numbers of
    `filled`."""
    with asyncio.Runner() as runner:
        store = SqliteStore(f"sqlite+aiosqlite:///{folder}/antiphon.db")
        indexes = Indexes(folder / "data" / "vector_stores")
        runner.run(store.open())
        try:
            yield runner.run(filled(store, indexes))
        finally:
            runner.run(indexes.aclose())
            runner.run(store.close())


def test_a_copied_index_has_what_the_copied_database_knows(tmp_path: Path) -> None:
    """Neither what was deleted, nor what came later; what is only in a log too."""
    with library(tmp_path) as numbers:
        done = antiphon(tmp_path, "backup", "copy.db", "--indexes", "copies")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "copies: indexes: 1"
    copies = tmp_path / "copies"
    assert [path.name for path in copies.iterdir()] == ["vs_1.db"]
    whole = (copies / "vs_1.db").read_bytes()
    assert [b"that is " + name in whole for name in (b"kept", b"deleted", b"later")] == [
        *(True, False, False)
    ]
    with closing(sqlite3.connect(copies / "vs_1.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    copy = Indexes(copies)
    assert asyncio.run(copy.numbers(STORE)) == {numbers["kept"]}
    asyncio.run(copy.aclose())


def test_an_index_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    """It is damaged, or there already; nothing is overwritten."""
    with library(tmp_path):
        (tmp_path / "data/vector_stores/vs_2.db").write_bytes(b"no index" * 1000)
        done = antiphon(tmp_path, "backup", "copy.db", "--indexes", "copies")
        again = antiphon(tmp_path, "backup", "copy2.db", "--indexes", "copies")
    assert done.returncode == again.returncode == 1
    assert done.stdout.splitlines()[-1] == "copies: indexes: 1"
    assert "vs_2.db" in done.stderr
    assert "vs_1.db exists" in again.stderr
    assert "Traceback" not in done.stderr + again.stderr
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["vs_1.db"]


def test_a_folder_that_is_none_is_said_before_anything_is_copied(tmp_path: Path) -> None:
    with library(tmp_path):
        (tmp_path / "copies").write_text("precious")
        for folder in ("copies", "copies/below"):
            done = antiphon(tmp_path, "backup", "copy.db", "--indexes", folder)
            assert (done.returncode, done.stdout) == (2, "")
            (line,) = done.stderr.splitlines()
            assert line.startswith("antiphon: ")
            assert folder in line
            assert not (tmp_path / "copy.db").exists()
    assert (tmp_path / "copies").read_text() == "precious"
