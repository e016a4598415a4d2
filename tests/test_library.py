"""The sweep of a server, and where its limits hold (R-102, R-104)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from antiphon.app.folder import MARK
from antiphon.app.library import Library
from antiphon.config import Config
from antiphon.errors import Overloaded
from antiphon.settings import Settings
from antiphon.store.base import FileListing, NewFile, VectorStoreRow, Window
from antiphon.store.sql import SqliteStore
from tests.blobs.putting import pieces

HOUR = 3_600
NOW = 1_000


class World:
    """A library with one file, which a vector store has."""

    def __init__(self, folder: Path, min_free: int = 0) -> None:
        url = f"sqlite+aiosqlite:///{folder / 'antiphon.db'}"
        settings = Settings(
            _env_file=None,
            database_url=url,
            data_dir=folder / "data",
            min_free_disk=min_free,
        )
        self.data = folder / "data"
        self.store = SqliteStore(url)
        self.library = Library(settings, Config(), self.store)
        self.index = self.library._places.index

    async def fill(self) -> None:
        """Read the file."""
        files = self.library.files
        async with files.arriving("p") as arrival:
            await arrival.take(pieces(b"xylophone"))
            file = await files.add("p", arrival, "a.txt", "assistants", None)
        stores = self.store.vector_stores
        row = VectorStoreRow("vs_1", "p", NOW, "", None, {}, None, NOW)
        await stores.add(row, [NewFile(file.id, {}, 800, 400)])
        await self.store.runs.beat("one")
        (claimed,) = await self.store.ingestions.claim("one", 1, NOW)
        await self.index.put("vs_1", claimed.number, "a", ["xylophone"], None)
        await self.store.ingestions.complete(claimed, 9, NOW)

    async def completed(self) -> int:
        """How many files of the store can be found."""
        row = await self.store.vector_stores.get("p", "vs_1")
        assert row is not None
        return row.counts.completed

    async def swept(self, later: float = HOUR) -> list[str]:
        """What the log says of a sweep so many seconds after the last round."""
        self.library._collected -= later
        with capture_logs() as logs:
            await self.library.sweep(NOW, 10)
        return [entry["event"] for entry in logs]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.store.open()
    await made.library.open()
    await made.fill()
    yield made
    await made.library.aclose()
    await made.store.close()


async def test_nothing_is_lost_while_the_folder_is_away(world: World, tmp_path: Path) -> None:
    """R-104: a disk that is not mounted; the round is made up for as soon as it is back."""
    away = tmp_path / "away"
    world.data.rename(away)
    for empty in (False, True):
        if empty:
            world.data.mkdir()  # the place where it is mounted
        assert await world.swept() == ["folder_away"]
        assert await world.completed() == 1
    world.data.rmdir()
    away.rename(world.data)
    mark = (world.data / MARK).read_text()
    (world.data / MARK).write_text("another")
    assert await world.swept(0) == ["folder_away"]
    (world.data / MARK).write_text(mark)
    await world.index.remove("vs_1")
    assert await world.swept(0) == ["index_incomplete"]
    assert await world.completed() == 0
    assert await world.swept(0) == []


async def test_indexes_are_not_empty_while_the_folder_is_away(world: World, tmp_path: Path) -> None:
    (file,), _ = await world.store.vector_stores.files("p", "vs_1", Window(1)) or ([], False)
    number = file.number
    away = tmp_path / "away"
    world.data.rename(away)
    world.data.mkdir()
    with pytest.raises(Overloaded):
        await world.index.texts("vs_1", number)
    with pytest.raises(Overloaded):
        await world.index.put("vs_1", number + 1, "b", ["zebra"], None)
    world.data.rmdir()
    away.rename(world.data)
    assert await world.index.texts("vs_1", number) == ["xylophone"]


async def test_nothing_is_stored_where_the_folder_should_be(world: World, tmp_path: Path) -> None:
    """What was acknowledged would be hidden when the disk is back; and no file is missing."""
    away = tmp_path / "away"
    world.data.rename(away)
    world.data.mkdir()  # the place where it is mounted
    files = world.library.files
    (row,), _ = await files.listed("p", FileListing())
    with pytest.raises(Overloaded):
        [piece async for piece in files.content(row, 0, row.bytes)]
    async with files.arriving("p") as arrival:
        with pytest.raises(Overloaded):
            await arrival.take(pieces(b"zebra"))
    with pytest.raises(Overloaded):
        async with files.blobs.local(row.id):
            pass
    world.data.rmdir()
    away.rename(world.data)
    assert [piece async for piece in files.content(row, 0, row.bytes)] == [b"xylophone"]


@pytest.mark.parametrize(
    "broken", ["files", "vector_stores", "containers", "images", "indexes", "blobs", None]
)
async def test_no_step_of_a_sweep_keeps_another_from_its_work(
    world: World, monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    steps: list[str] = []

    def step(name: str, answer: int | None) -> Callable[..., Awaitable[int | None]]:
        async def call(*_: int) -> int | None:
            steps.append(name)
            if name == broken:
                raise Overloaded("No right to do so.")
            return answer

        return call

    library = world.library
    monkeypatch.setattr(library._orphans, "sweep", step("files", 3))
    monkeypatch.setattr(world.store.vector_stores, "expire", step("vector_stores", 2))
    monkeypatch.setattr(library.containers, "sweep", step("containers", 1))
    monkeypatch.setattr(library.images, "sweep", step("images", 0))
    monkeypatch.setattr(library._index_orphans, "collect", step("indexes", None))
    monkeypatch.setattr(library._orphans, "collect", step("blobs", 9))
    with capture_logs() as logs:
        assert await library.sweep(NOW, 10) == (2 if broken == "files" else 3)
        assert steps == ["files", "vector_stores", "containers", "images", "indexes", "blobs"]
        await library.sweep(NOW, 10)
    assert steps[6:] == ["files", "vector_stores", "containers", "images"], (
        "the others come once an hour"
    )
    said = [(entry["step"], entry["error"]) for entry in logs]
    assert set(said) == ({(broken, "No right to do so.")} if broken else set())


async def test_the_end_waits_for_what_is_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-104."""
    (blob,) = (world.data / "files").glob("*/*")
    blobs = world.library._places.blobs
    delete = blobs.delete

    async def slow(id_: str) -> None:
        await asyncio.sleep(0.05)
        await delete(id_)

    monkeypatch.setattr(blobs, "delete", slow)
    world.library.files.remove_later([blob.name])
    await world.library.aclose()
    assert not blob.exists()


async def test_free_space_is_kept_of_files_and_of_indexes(tmp_path: Path) -> None:
    library = World(tmp_path, min_free=10**18).library
    with pytest.raises(Overloaded, match="too little space"):
        await library._places.index.put("vs_1", 1, "a", ["a"], None)
    with pytest.raises(Overloaded, match="too little space"):
        await library._places.blobs.put("file-1", pieces(b"a"))
    await library.aclose()
