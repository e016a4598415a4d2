"""Several processes and one index: they write and read at once, and may be killed."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from antiphon.retrieval.indexes import Indexes
from tests.retrieval.asking import STORE, names, opened, search, vectors

_LIMIT = 60.0


@contextlib.asynccontextmanager
async def writer(
    folder: Path, first: int, count: int, chunks: int, *more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """See `tests.retrieval.writer`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.retrieval.writer", str(folder)),
        *map(str, (first, count, chunks)),
        *more,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> bytes:
    """The next line."""
    assert process.stdout is not None
    return await asyncio.wait_for(process.stdout.readline(), _LIMIT)


async def test_two_processes_write_while_one_reads(indexes: Indexes, folder: Path) -> None:
    async with writer(folder, 100, 20, 5) as one, writer(folder, 200, 20, 5) as other:
        for number in range(20):
            await indexes.put(STORE, number, "t", ["shared"], vectors([1, 0]))
            found = await search(indexes, [number], "shared", asked=vectors([1, 0]))
            assert [each.number for each in found] == [number]
        assert await asyncio.wait_for(one.wait(), _LIMIT) == 0
        assert await asyncio.wait_for(other.wait(), _LIMIT) == 0
    everything = {*range(20), *range(100, 120), *range(200, 220)}
    assert await indexes.numbers(STORE) == everything
    for number in everything:
        found = await search(indexes, [number], f"number{number}", asked=vectors([1, number]))
        assert {each.number for each in found} == {number}
    assert len(await search(indexes, everything, "shared", limit=1000)) == 20 + 2 * 20 * 5


async def test_what_was_put_is_there_after_kill_9(indexes: Indexes, folder: Path) -> None:
    async with writer(folder, 1, 1000, 3) as process:
        for _ in range(5):
            last = int(await said(process))
        process.kill()
    numbers = await indexes.numbers(STORE)
    assert numbers >= set(range(1, last + 1))
    for number in numbers:
        assert len(await indexes.texts(STORE, number)) == 3
        found = await search(indexes, numbers, f"number{number}", asked=vectors([1, number]))
        assert len([each for each in found if each.number == number]) == 3


async def test_kill_9_in_the_middle_of_a_put_leaves_the_old_state(
    indexes: Indexes, folder: Path
) -> None:
    await indexes.put(STORE, 1, "old", ["ancient"], vectors([1, 0]))
    async with writer(folder, 1, 1, 4_000, "halfway") as process:
        assert await said(process) == b"halfway\n"
        assert await indexes.texts(STORE, 1) == ["ancient"]
        process.kill()
    assert await indexes.texts(STORE, 1) == ["ancient"]
    found = await search(indexes, [1], "ancient shared", asked=vectors([1, 0]))
    assert [(each.number, each.position) for each in found] == [(1, 0)]
    await indexes.put(STORE, 1, "new", ["recent"], None)
    assert await indexes.texts(STORE, 1) == ["recent"]


async def test_who_reads_a_removed_index_does_not_bring_it_back(
    indexes: Indexes, folder: Path
) -> None:
    await indexes.put(STORE, 1, "t", ["word"], vectors([1, 0]))
    other = Indexes(folder)
    assert await search(other, [1], "word", asked=vectors([1, 0]))
    await indexes.remove(STORE)
    assert await search(other, [1], "word", asked=vectors([1, 0])) == []
    await other.drop(STORE, [1])
    await other.aclose()
    assert names(folder) == set()


async def test_a_removed_store_is_let_go_by_all(indexes: Indexes, folder: Path) -> None:
    """R-104: until then it takes room on the disk, and its vectors in memory."""
    other = Indexes(folder)
    for store in (STORE, "vs_2"):
        await indexes.put(store, 1, "t", ["word"], vectors([1, 0]))
        await other.put(store, 2, "t", ["word"], None)
    assert await search(other, [1], "word", asked=vectors([1, 0]))
    await indexes.remove(STORE)
    await indexes.let_go()
    await indexes.numbers("vs_2")
    assert {path for path in opened(folder) if "vs_1" in path}
    await other.let_go()
    assert {path for path in opened(folder) if "vs_1" in path} == set()
    assert {path for path in opened(folder) if "vs_2" in path}, "which is there"
    assert other._matrices.bytes == 0
    assert await other.numbers("vs_2") == {1, 2}
    await other.aclose()


async def test_who_reads_while_a_store_is_removed_closes_it(indexes: Indexes, folder: Path) -> None:
    """R-104."""
    await indexes.put(STORE, 1, "t", ["word"], None)
    with indexes._connections.reading(STORE) as connection:
        assert connection is not None
        await indexes.remove(STORE)
        assert connection.execute("SELECT count(*) FROM chunks").fetchone() == (1,)
    assert opened(folder) == set()


async def test_an_index_made_anew_is_not_taken_for_the_old_one(
    indexes: Indexes, folder: Path
) -> None:
    await indexes.put(STORE, 1, "t", ["old"], vectors([1, 0]))
    other = Indexes(folder)
    assert await search(other, [1], "old", asked=vectors([1, 0]))
    await indexes.remove(STORE)
    await indexes.put(STORE, 1, "t", ["young"], vectors([0, 1]))
    found = await search(other, [1], "young", asked=vectors([0, 1]))
    assert [(each.text, each.score) for each in found] == [("young", 1.0)]
    await other.put(STORE, 2, "t", ["more"], None)
    await other.aclose()
    assert await indexes.numbers(STORE) == {1, 2}


async def test_who_makes_an_index_at_the_same_time_makes_one(folder: Path) -> None:
    many = [Indexes(folder) for _ in range(8)]
    await asyncio.gather(
        *(index.put(STORE, at, "t", ["word"], None) for at, index in enumerate(many))
    )
    assert await many[0].numbers(STORE) == set(range(8))
    for index in many:
        await index.aclose()
    assert names(folder) == {"vs_1.db", "vs_1.db-writer"}
