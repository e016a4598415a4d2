"""The folder of files and its database: nobody else's files are orphans (R-104)."""

import asyncio
import json
from pathlib import Path

import pytest

from antiphon.app.folder import MARK, Folder
from antiphon.store.base import FileRow, StoreError
from antiphon.store.checkup import identity
from antiphon.store.migrate import migrate
from antiphon.store.sql import SqliteStore
from tests.api.command import antiphon


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def database(path: Path, files: int = 0) -> str:
    """A new one: its URL."""

    async def fill() -> None:
        store = SqliteStore(url(path))
        await store.open()
        for number in range(files):
            row = FileRow(f"file-{number}", "p", 1, None, 1, "a.txt", "assistants")
            await store.files.add(row)
        await store.close()

    asyncio.run(fill())
    return url(path)


def test_each_database_has_an_id_of_its_own(tmp_path: Path) -> None:
    one, two = identity(database(tmp_path / "1.db")), identity(database(tmp_path / "2.db", 1))
    assert one is not None
    assert two is not None
    assert one.id != two.id
    assert (one.has_files, two.has_files) == (False, True)
    migrate(url(tmp_path / "old.db"), "0006")
    assert identity(url(tmp_path / "old.db")) is None
    assert identity(url(tmp_path / "none.db")) is None


def test_a_folder_is_that_of_one_database(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    first = Folder(folder, database(tmp_path / "1.db"))
    known = identity(url(tmp_path / "1.db"))
    assert known is not None
    for _ in range(2):
        assert first.claim() == known.id
    assert [path.name for path in folder.iterdir()] == [MARK]
    assert (folder / MARK).read_text() == f"{known.id}\n"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("2.db", "none.db"):
        other = url(tmp_path / name) if name == "none.db" else database(tmp_path / name)
        with pytest.raises(StoreError, match=f"another database.*{known.id}.*ANTIPHON_DATA_DIR"):
            Folder(folder, other).claim()
    first.claim()


def test_a_folder_that_nobody_knows(tmp_path: Path) -> None:
    """Where there are files, and nothing says that they belong together; the text says how to."""
    used = Folder(tmp_path / "lost", database(tmp_path / "1.db", files=1))
    with pytest.raises(StoreError, match="bring the folder back"):
        used.claim()
    assert not used.path.exists()
    Folder(used.path, used.database_url, has_blobs=False).check()  # they are in a bucket
    found = Folder(tmp_path / "found", database(tmp_path / "2.db"))
    (found.path / "files").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"`echo [0-9a-f]{32} > ") as caught:
        found.claim()
    words = str(caught.value).split("`")[1].split()
    (found.path / MARK).write_text(words[1] + "\n")
    found.claim()


def test_a_folder_that_is_away(tmp_path: Path) -> None:
    """Nothing need be in it when a server starts; one that was claimed does not begin anew."""
    folder = Folder(tmp_path / "data", database(tmp_path / "1.db"), has_blobs=False)
    folder.claim()
    folder.check(claimed=True)
    folder.path.rename(tmp_path / "away")
    folder.check()
    with pytest.raises(StoreError, match="bring the folder back"):
        folder.check(claimed=True)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot be used"):
            Folder(path, database(tmp_path / "1.db")).claim()


def test_a_temporary_one_is_nobodys(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "x", None)
    assert folder.claim() is None
    assert not folder.path.exists()


@pytest.mark.parametrize(
    "arguments", [["serve"], ["serve", "--check"], ["worker"], ["files", "list"]], ids=" ".join
)
def test_a_second_database_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    """R-132: in one line, and nothing is removed."""
    database(tmp_path / "antiphon.db")
    (tmp_path / "data" / "files").mkdir(parents=True)
    (tmp_path / "data" / MARK).write_text("another")
    done = antiphon(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is that of another database" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_doctor_says_so(tmp_path: Path) -> None:
    database(tmp_path / "antiphon.db")
    for mark, code in ((None, 0), ("another", 1)):
        if mark is not None:
            (tmp_path / "data").mkdir()
            (tmp_path / "data" / MARK).write_text(mark)
        done = antiphon(tmp_path, "doctor", "--json")
        assert done.returncode == code
        errors = [one["text"] for one in json.loads(done.stdout) if one["level"] == "error"]
        assert ["another database" in text for text in errors] == [True] * code
