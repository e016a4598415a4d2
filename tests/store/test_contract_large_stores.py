"""Vector stores with many files: what must not be done for all of them at once (R-104, R-118)."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from antiphon.store import sql_vector_stores, vector_store_statements
from antiphon.store.base import Counts, FileBatch, Store, StoreFull
from antiphon.store.base.vector_stores import DAY
from antiphon.store.sql import SqliteStore
from tests.store.rows import NOW
from tests.store.test_contract_vector_stores import (
    claim,
    file,
    known,
    new,
    read,
    state,
    vector_store,
)


async def gone_store(store: Store, count: int) -> tuple[str, list[str]]:
    """A deleted one, with files of which one was read."""
    files = [await file(store) for _ in range(count)]
    row = await vector_store(store, files[:1])
    await read(store)
    batch = FileBatch(f"vsfb_{row.id}", row.id, NOW)
    await store.vector_stores.put("alpha", row.id, [new(id_) for id_ in files[1:]], batch, NOW)
    assert await store.vector_stores.delete("alpha", row.id)
    return row.id, files


async def test_a_deleted_store_is_cleared_in_steps(store: Store) -> None:
    """R-104: nobody sees what is left of it, and nothing is left of it in the end."""
    gone, files = await gone_store(store, 5)
    stores, ingestions = store.vector_stores, store.ingestions
    assert await claim(store) == []
    assert await stores.numbers(gone) == frozenset()
    assert (await stores.news(gone, -1)).files == []
    assert [await ingestions.clear(gone, 2) for _ in range(4)] == [2, 2, 2, 0]
    assert [(left.store_id, left.number) for left in await ingestions.leftovers(10)] == [
        (gone, None)
    ], "no leftover for each file"
    other = await vector_store(store, files)
    assert await ingestions.clear(other.id, 2) == 0, "it is not gone"
    assert (await known(store, other)).counts == Counts(in_progress=5)


async def test_who_reads_for_a_store_that_is_gone(store: Store) -> None:
    """R-57: its row is still there; the word on it comes too late all the same."""
    row = await vector_store(store, [await file(store) for _ in range(3)])
    done, failed, waiting = await claim(store)
    await store.vector_stores.delete("alpha", row.id)
    (first,) = await store.ingestions.leftovers(10)
    await store.ingestions.forgotten([first.id])
    assert not await store.ingestions.complete(done, 1, NOW)
    assert not await store.ingestions.fail(failed, "server_error", "x")
    assert not await store.ingestions.put_off(waiting, NOW)
    assert [(left.store_id, left.number) for left in await store.ingestions.leftovers(10)] == [
        (row.id, None)
    ]


async def test_leftovers_are_not_taken_for_others(store: Store) -> None:
    """R-104: who says late that he has forgotten takes nothing from who has new ones."""
    for _ in range(3):
        await gone_store(store, 1)
    seen = [left.id for left in await store.ingestions.leftovers(10)]
    await store.ingestions.forgotten(seen)
    after = [(await gone_store(store, 1))[0] for _ in range(3)]
    await store.ingestions.forgotten(seen)
    assert [left.store_id for left in await store.ingestions.leftovers(10)] == after


async def test_a_store_is_full(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever went is not counted any more."""
    monkeypatch.setattr(sql_vector_stores, "MOST_FILES", 2)
    ids = [await file(store) for _ in range(4)]
    row = await vector_store(store, ids[:1])

    async def put(*files: str) -> list[str]:
        found = await store.vector_stores.put("alpha", row.id, [new(i) for i in files], None, NOW)
        return [one.file_id for one in found or ()]

    assert await put(ids[1], ids[1], ids[0]) == [ids[1], ids[0]], "each once; one was there"
    with pytest.raises(StoreFull):
        await put(ids[2])
    assert (await known(store, row)).counts.total == 2
    await store.vector_stores.remove_file("alpha", row.id, ids[0])
    await put(ids[2])
    with pytest.raises(StoreFull):
        await put(ids[3], ids[0])
    await store.files.delete("alpha", ids[1])
    await put(ids[3])
    assert (await known(store, row)).counts.total == 2


async def test_what_was_put_in_is_what_is_there(store: Store) -> None:
    ids = [await file(store) for _ in range(2)]
    row = await vector_store(store)
    batch = FileBatch("vsfb_1", row.id, NOW)
    put = await store.vector_stores.put("alpha", row.id, [new(i, n=1) for i in ids], batch, NOW)
    assert put == [await state(store, row, id_) for id_ in ids]


async def test_attributes_of_a_file_that_is_not_there_are_no_news(store: Store) -> None:
    row = await vector_store(store)
    assert not await store.vector_stores.set_attributes("alpha", row.id, "file-x", {"a": 1})
    assert (await known(store, row)).version == 0


async def test_expired_stores_are_emptied_in_steps(store: Store) -> None:
    rows = [await vector_store(store, [await file(store) for _ in range(3)], days=1) for _ in "ab"]
    expire = store.vector_stores.expire
    assert [await expire(NOW + DAY, 4) for _ in range(3)] == [4, 2, 0]
    assert [(await known(store, row)).counts.total for row in rows] == [0, 0]


async def test_a_new_file_is_news(store: Store) -> None:
    """Who waits to read it need not look at the clock."""
    one = await file(store)
    waiting = asyncio.create_task(store.runs.wait(30))
    await asyncio.sleep(0)
    await vector_store(store, [one])
    await asyncio.wait_for(waiting, 10)


# -- SQLite ---------------------------------------------------------------------------------------


@pytest.fixture
async def on_disk(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await made.open()
    yield made
    await made.close()


async def test_what_nobody_can_read_now_costs_no_write(on_disk: SqliteStore) -> None:
    """Neither what waits until it is tried again, nor expired stores without files."""
    await vector_store(on_disk, [await file(on_disk)], days=1)
    (claimed,) = await claim(on_disk)
    await on_disk.ingestions.put_off(claimed, NOW + 10)
    assert await on_disk.vector_stores.expire(NOW + DAY, 10) == 1
    await vector_store(on_disk, [await file(on_disk)])
    (claimed,) = await claim(on_disk)
    await on_disk.ingestions.put_off(claimed, NOW + 10)
    commits = on_disk.commits
    assert await claim(on_disk) == []
    assert await on_disk.vector_stores.expire(NOW + DAY, 10) == 0
    assert on_disk.commits == commits


async def test_attributes_weigh(on_disk: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-70: what waits for the writer is weighed."""
    weights: list[int] = []
    run = on_disk._writer.run

    def weighed(*args: object, weight: int = 0, **options: object) -> object:
        weights.append(weight)
        return run(*args, weight=weight, **options)  # type: ignore[arg-type]

    one = await file(on_disk)
    row = await vector_store(on_disk)
    monkeypatch.setattr(on_disk._writer, "run", weighed)
    await on_disk.vector_stores.put("alpha", row.id, [new(one, text="x" * 10_000)], None, NOW)
    assert 10_000 < weights[0] < 20_000


_PAGES = [
    (newest_first, status, batch)
    for newest_first in (True, False)
    for status in (True, False)
    for batch in (True, False)
]


@pytest.mark.parametrize(("newest_first", "status", "batch"), _PAGES)
async def test_a_page_of_files_is_found_in_an_index(
    on_disk: SqliteStore, newest_first: bool, status: bool, batch: bool
) -> None:
    """R-118: not sorted out of all files of the store."""
    sql = vector_store_statements.files_page(newest_first=newest_first, status=status, batch=batch)
    plan, *lookup = await plan_of(on_disk, sql)
    index = "batch" if batch else "status" if status else "place"
    assert f"USING INDEX vector_store_files_by_{index} (" in plan
    assert "SEARCH files USING INDEX sqlite_autoindex_files_1 (id=?)" in lookup
    assert not [step for step in lookup if "SORT" in step or "B-TREE" in step]


async def test_sweeps_and_claims_read_no_table(on_disk: SqliteStore) -> None:
    for sql in (
        vector_store_statements.EXPIRED,
        vector_store_statements.DELETE_FILES,
        vector_store_statements.COMPLETED,
        vector_store_statements.CLAIMABLE,
        vector_store_statements.BATCH_COUNTS,
        vector_store_statements.COUNTS,
        vector_store_statements.OVER_COUNTS,
        vector_store_statements.FILE,
    ):
        plan = await plan_of(on_disk, sql)
        assert not [step for step in plan if re.match("SCAN (?!.*INDEX)", step)], plan


async def test_counts_look_at_what_is_over_alone(on_disk: SqliteStore) -> None:
    """R-118: not at all files of the project, or of the batch."""
    first, second, *_ = await plan_of(on_disk, vector_store_statements.OVER_COUNTS)
    assert "files USING INDEX files_by_expiry (" in first
    assert "USING INDEX vector_store_files_by_file (" in second
    for sql in (vector_store_statements.COUNTS, vector_store_statements.BATCH_COUNTS):
        plan, *_ = await plan_of(on_disk, sql)
        assert "USING COVERING INDEX" in plan


async def plan_of(store: SqliteStore, sql: str) -> Sequence[str]:
    """The steps that SQLite would take."""
    names = set(re.findall(r":([a-z_]+)", sql))
    found = await store._readers.ask(
        lambda connection: connection.execute(
            f"EXPLAIN QUERY PLAN {sql}", dict.fromkeys(names, 1)
        ).fetchall()
    )
    return [row[3] for row in found]
