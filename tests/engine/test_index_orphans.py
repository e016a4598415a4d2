"""Indexes and rows that do not agree: what goes, what is read again (R-104)."""

import pytest
from structlog.testing import capture_logs

from antiphon.engine.orphans import GRACE, IndexOrphans
from antiphon.errors import Overloaded
from antiphon.store.base import NewFile, VectorStoreRow
from tests.engine.library import Library


class Rounds:
    """Rounds over the indexes of a library."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.orphans = IndexOrphans(library.index, library.store.vector_stores, library.clock)

    async def again(self, later: int = GRACE) -> list[str]:
        """One round so many seconds later: what the log says, and of what."""
        self.library.clock.now += later
        with capture_logs() as logs:
            await self.orphans.collect()
        return [f"{entry['event']} {entry['store_id']}" for entry in logs]


@pytest.fixture
def rounds(library: Library) -> Rounds:
    return Rounds(library)


async def numbers(library: Library, row: VectorStoreRow) -> set[int]:
    return {file.number for file in await library.files(row.id)}


async def test_what_no_row_knows_goes_after_an_hour(library: Library, rounds: Rounds) -> None:
    """Not at the start, and never the index of a store that came meanwhile; a damaged index keeps
    no other from it."""
    bad, row = await library.filled("one"), await library.filled("two")
    for store_id in (bad.id, row.id, "vs_stranger"):
        await library.index.put(store_id, 4711, "t", ["x"], None)
    library.index.damaged[bad.id] = Overloaded("Damaged.")
    trouble = f"index_not_compared {bad.id}"
    assert await rounds.again() == [trouble]
    assert await rounds.again(GRACE - 1) == [trouble]
    assert set(library.index.kept) == {bad.id, row.id, "vs_stranger"}
    assert 4711 in library.index.kept[row.id]
    said = await rounds.again(1)
    assert sorted(said) == sorted(
        [trouble, f"orphan_removed {row.id}", "orphan_removed vs_stranger"]
    )
    assert set(library.index.kept) == {bad.id, row.id}
    assert set(library.index.kept[row.id]) == await numbers(library, row)
    assert await rounds.again() == [trouble]


async def test_what_gets_its_row_late_stays(library: Library, rounds: Rounds) -> None:
    """An older database that was restored uses a number once more."""
    row = await library.filled("one")
    await library.index.put(row.id, 2, "t", ["x"], None)
    assert await rounds.again() == []
    file = NewFile(await library.file("two"), {}, 800, 400)
    await library.store.vector_stores.put("p", row.id, [file], None, int(library.clock()))
    async with library.reading():
        await library.read(row.id)
    assert await numbers(library, row) == {1, 2}
    assert await rounds.again() == []
    assert set(library.index.kept[row.id]) == {1, 2}


async def test_what_is_lost_is_read_again(library: Library, rounds: Rounds) -> None:
    """A file that is gone, and a whole index: from the bytes, at the first round."""
    row, other = await library.filled("one", "two"), await library.filled("three")
    kept = {store_id: dict(files) for store_id, files in library.index.kept.items()}
    first, _ = sorted(kept[row.id])
    del library.index.kept[row.id][first]
    del library.index.kept[other.id]
    said = await rounds.again()
    assert sorted(said) == sorted([f"index_incomplete {one.id}" for one in (row, other)])
    assert [file.status for file in await library.files(row.id)] == ["in_progress", "completed"]
    async with library.reading():
        await library.read(row.id)
        await library.read(other.id)
    assert library.index.kept == kept
    assert await rounds.again() == []
