"""Files that are being read when processes die, stop, or work together (R-57, R-65, R-104)."""

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.api.meaning import Meaning
from tests.api.raw import eventually
from tests.api.shelves import IDLE, Shelves
from tests.api.talk import client_of
from tests.live import LiveProgram, LiveServer, serve, work

FILES: Final = 100
KILLS: Final = 4
LEASE: Final = {"ANTIPHON_LEASE": "1"}
#: The simulator is enough.
TOML: Final = ""
DEADLY: Final = "tests.durability.deadly_reader"


def ask(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """What a database says."""
    with closing(sqlite3.connect(path, timeout=10)) as database:
        return database.execute(sql).fetchall()


def rows(folder: Path, columns: str, where: str = "") -> list[tuple[Any, ...]]:
    """Of all files of stores, in order."""
    return ask(
        folder / "antiphon.db",
        f"SELECT {columns} FROM vector_store_files {where} ORDER BY number",  # noqa: S608
    )


def done(folder: Path) -> int:
    """How many files are completed."""
    return sum(status == "completed" for (status,) in rows(folder, "status"))


@contextmanager
def library(folder: Path) -> Iterator[Shelves]:
    """A server that reads nothing itself."""
    with serve(folder, TOML, {**LEASE, **IDLE}) as server, client_of(server) as client:
        yield Shelves(client, folder)


def fill(shelves: Shelves, count: int, words: int = 400) -> tuple[str, list[str]]:
    """A store and its files, of which each has a word of its own, in each of several chunks."""
    filler = "Some text goes on and on. "
    files = [
        shelves.file(f"unique{number}word. {filler * words}", f"{number}.txt")
        for number in range(count)
    ]
    return shelves.store(*files), files


def assert_whole(shelves: Shelves, store: str, files: list[str]) -> None:
    """All completed, and each exactly once where it is looked for."""
    counts = shelves.get(f"/{store}")["file_counts"]
    assert counts["completed"] == counts["total"] == len(files), counts
    assert not any(owner for (owner,) in rows(shelves.folder, "owner")), "nobody's any more"
    known = {number for (number,) in rows(shelves.folder, "number")}
    index = shelves.index(store)
    assert {number for (number,) in ask(index, "SELECT number FROM files")} == known
    per_file = ask(index, "SELECT id >> 20, count(*), max(id & 1048575) FROM chunks GROUP BY 1")
    assert {number for number, _, _ in per_file} == known
    assert all(count == last + 1 for _, count, last in per_file), "each chunk once"
    assert len({count for _, count, _ in per_file}) == 1, "the files have the same length"
    for number, file in enumerate(files):
        (found,) = shelves.search(store, f"unique{number}word")
        assert found["file_id"] == file


Killable = Callable[[Path], AbstractContextManager[LiveProgram]]


def a_server(folder: Path) -> AbstractContextManager[LiveServer]:
    return serve(folder, TOML, LEASE)


def a_worker(folder: Path) -> AbstractContextManager[LiveProgram]:
    return work(folder, TOML, LEASE)


@pytest.mark.parametrize("start", [a_server, a_worker], ids=["server", "worker"])
def test_killed_again_and_again(tmp_path: Path, start: Killable) -> None:
    """``kill -9``: what was read stays, what was being read is read again, nothing is there twice.
    A death counts against the files that were in flight, and against no other (R-65)."""
    with library(tmp_path) as shelves:
        store, files = fill(shelves, FILES)
    for kill in range(1, KILLS + 1):
        with start(tmp_path) as program:
            assert eventually(lambda n=kill: done(tmp_path) >= n * 15, 30)  # type: ignore[misc]
            program.kill()
        before = rows(tmp_path, "number, status")
    with a_server(tmp_path) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        shelves.read(store)
        assert_whole(shelves, store, files)
    after = dict(rows(tmp_path, "number, status"))
    assert all(after[number] == status for number, status in before if status == "completed")
    deaths = [count for (count,) in rows(tmp_path, "deaths")]
    assert sum(deaths) <= 2 * KILLS, "two at once"
    attempts = rows(tmp_path, "attempt, deaths")
    assert all(attempt == 1 + died for attempt, died in attempts)


def test_two_read_together(tmp_path: Path) -> None:
    """No file is read twice, and both do something."""
    with library(tmp_path) as shelves:
        with work(tmp_path, TOML, LEASE), work(tmp_path, TOML, LEASE):
            store, files = fill(shelves, 40)
            owners: set[str] = set()

            def all_read() -> bool:
                owners.update(owner for (owner,) in rows(tmp_path, "owner") if owner)
                return done(tmp_path) == len(files)

            assert eventually(all_read, 30)
        assert_whole(shelves, store, files)
    assert set(rows(tmp_path, "attempt, deaths")) == {(1, 0)}
    assert len(owners) == 2


def test_a_deadly_file_harms_no_other(tmp_path: Path) -> None:
    """Whoever reads it dies. It fails after three deaths; what was read beside it does not, for it
    is read alone from the second time on."""
    with library(tmp_path) as shelves:
        before = [shelves.file("Before."), shelves.file("Also before.")]
        deadly = shelves.file("Deadly.", "deadly.txt")
        after = [shelves.file(f"After {number}.") for number in range(3)]
        store = shelves.store(*before, deadly, *after)
    for _ in range(3):
        with serve(tmp_path, TOML, LEASE, DEADLY) as server:
            server.process.wait(20)
            server.kill()
    with serve(tmp_path, TOML, LEASE, DEADLY) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        counts = shelves.read(store)["file_counts"]
        assert (counts["completed"], counts["failed"]) == (5, 1)
        failed = shelves.get(f"/{store}/files/{deadly}")
        assert failed["last_error"]["code"] == "server_error"
        assert "interrupted 3 times" in failed["last_error"]["message"]
        assert shelves.found(store, "before after") == {*before, *after}
    assert max(deaths for (deaths,) in rows(tmp_path, "deaths", "WHERE status = 'completed'")) <= 1


def test_who_was_taken_for_dead_comes_back(tmp_path: Path) -> None:
    """R-57: his word comes too late, and the chunks of the other one stay."""
    with Meaning() as meaning, library(tmp_path) as shelves:
        toml = meaning.toml()
        meaning.held.clear()
        with work(tmp_path, toml, LEASE) as first:
            file = shelves.file("The cat sleeps.")
            store = shelves.store(file)
            assert eventually(lambda: meaning.asked == 1, 10)
            first.process.send_signal(signal.SIGSTOP)
            try:
                meaning.held.set()
                with work(tmp_path, toml, LEASE):
                    shelves.read(store)
                    marks = ask(shelves.index(store), "SELECT mark FROM files")
                assert shelves.found(store, "cat") == {file}
            finally:
                first.process.send_signal(signal.SIGCONT)
            assert eventually(lambda: ask(shelves.index(store), "SELECT mark FROM files") != marks)
        assert shelves.found(store, "cat") == {file}
        assert shelves.get(f"/{store}")["file_counts"]["completed"] == 1
        assert len(shelves.chunks(store)) == 1


def test_a_lost_index_is_made_again(tmp_path: Path) -> None:
    """R-104: at the next start, from the bytes; nothing else is removed there."""
    with a_server(tmp_path) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        store, files = fill(shelves, 2, 1)
        shelves.read(store)
        server.kill()
    index = shelves.index(store)
    stranger = index.with_name("vs_stranger.db")
    index.rename(stranger)
    for rest in index.parent.glob(f"{store}*"):
        rest.unlink()
    with a_server(tmp_path) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        assert eventually(lambda: index.exists() and len(shelves.chunks(store)) == 2, 10)
        shelves.read(store)
        assert shelves.found(store, "unique1word") == {files[1]}
        assert stranger.exists()


def test_an_index_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    """Of the files that it had, without anybody's help."""
    with a_server(tmp_path) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        store, files = fill(shelves, 2, 1)
        shelves.read(store)
        server.kill()
    for path in shelves.index(store).parent.glob(f"{store}*"):
        path.unlink()
    shelves.index(store).write_bytes(b"no index" * 1000)
    with a_server(tmp_path) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)

        def is_found() -> bool:
            reply = shelves.ask("POST", f"/{store}/search", json={"query": "unique1word"})
            found = reply.json()["data"] if reply.status_code == 200 else []
            return [one["file_id"] for one in found] == [files[1]]

        assert eventually(is_found, 20)
        assert eventually(lambda: len(shelves.chunks(store)) == 2), "the other file as well"


def test_an_index_that_cannot_be_used_is_in_nobodys_way(tmp_path: Path) -> None:
    """Its files are put off and its search is 503; other stores work, and lose what they must."""
    with a_server(tmp_path) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        bad, files = fill(shelves, 2, 1)
        good, others = fill(shelves, 2, 1)
        shelves.read(bad)
        shelves.read(good)
        server.kill()
    with closing(sqlite3.connect(shelves.index(bad))) as index:
        index.execute("PRAGMA user_version = 99")  # of a later version
    with a_server(tmp_path) as server, client_of(server) as client:
        shelves = Shelves(client, tmp_path)
        reply = shelves.ask("POST", f"/{bad}/search", json={"query": "unique1word"})
        assert reply.status_code == 503
        assert str(tmp_path) not in reply.text, "R-129"
        shelves.delete(f"/{bad}/files/{files[0]}")
        shelves.delete(f"/{good}/files/{others[0]}")
        assert eventually(lambda: len(shelves.chunks(good)) == 1, 10)
        shelves.post(f"/{bad}/files", {"file_id": files[0]})
        shelves.post(f"/{good}/files", {"file_id": others[0]})
        shelves.read(good)
        assert len(shelves.search(good, "unique0word")) == 1
        assert shelves.get(f"/{bad}/files/{files[0]}")["status"] == "in_progress"
        shelves.delete(f"/{bad}")
        assert eventually(lambda: not shelves.index(bad).exists(), 10)


def test_an_orderly_end_is_no_death(tmp_path: Path) -> None:
    """SIGTERM: what was being read is somebody else's at once."""
    with Meaning() as meaning, library(tmp_path) as shelves:
        meaning.held.clear()
        store = shelves.store(shelves.file("The cat sleeps."))
        with work(tmp_path, meaning.toml(), LEASE):
            assert eventually(lambda: meaning.asked == 1, 10)
            began = time.monotonic()
        assert time.monotonic() - began < 8
        assert rows(tmp_path, "status, owner, deaths") == [("in_progress", None, 0)]
        meaning.held.set()
        with work(tmp_path, meaning.toml(), LEASE):
            assert shelves.read(store)["file_counts"]["completed"] == 1
    assert rows(tmp_path, "attempt, deaths") == [(2, 0)]
