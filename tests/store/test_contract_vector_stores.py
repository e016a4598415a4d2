"""Vector stores, their files, and the work on them: one suite, run on each store (R-29, R-104)."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from antiphon.store.base import (
    Counts,
    FileBatch,
    FileRow,
    Ingestion,
    NewFile,
    Searchable,
    Store,
    StoreChange,
    StoreFile,
    UnknownFile,
    VectorStoreRow,
    Window,
)
from antiphon.store.base.vector_stores import DAY
from antiphon.store.sql import SqliteStore
from tests.store.rows import NOW

ALL = Window(100, newest_first=False)


async def file(store: Store, *, project: str = "alpha", expires_at: int | None = None) -> str:
    id_ = f"file-{secrets.token_hex(16)}"
    await store.files.add(FileRow(id_, project, NOW, expires_at, 10, "a.txt", "assistants"))
    return id_


def new(file_id: str, **attributes: str | float | bool) -> NewFile:
    return NewFile(file_id, attributes, 800, 400)


async def vector_store(
    store: Store, files: Sequence[str] = (), *, project: str = "alpha", days: int | None = None
) -> VectorStoreRow:
    id_ = f"vs_{secrets.token_hex(16)}"
    row = VectorStoreRow(id_, project, NOW, "Books", None, {"a": "b"}, days, NOW)
    await store.vector_stores.add(row, [new(id_) for id_ in files])
    return row


async def known(store: Store, row: VectorStoreRow) -> VectorStoreRow:
    found = await store.vector_stores.get(row.project, row.id)
    assert found is not None
    return found


async def state(store: Store, row: VectorStoreRow, file_id: str) -> StoreFile:
    found = await store.vector_stores.file(row.project, row.id, file_id)
    assert found is not None
    return found


async def claim(store: Store, owner: str = "one", most: int = 10) -> list[Ingestion]:
    return await store.ingestions.claim(owner, most, NOW)


async def read(store: Store, owner: str = "one") -> list[Ingestion]:
    """Claim and complete all there is."""
    claimed = await claim(store, owner, 100)
    for one in claimed:
        assert await store.ingestions.complete(one, 7, NOW)
    return claimed


async def test_a_store_is_what_was_added(store: Store) -> None:
    first, second = await file(store), await file(store)
    row = await vector_store(store, [first, second], days=3)
    found = await known(store, row)
    assert found.counts == Counts(in_progress=2)
    assert found.expires_at == NOW + 3 * DAY
    assert (found.name, found.metadata, found.usage_bytes) == ("Books", {"a": "b"}, 0)
    assert await store.vector_stores.head("alpha", row.id) == row
    await read(store)
    found = await known(store, row)
    assert (found.counts, found.usage_bytes) == (Counts(completed=2), 14)


async def test_another_projects_store_is_unknown(store: Store) -> None:
    """R-29, R-30: whatever is asked of it."""
    mine = await file(store)
    row = await vector_store(store, [mine])
    stores = store.vector_stores
    batch = FileBatch("vsfb_1", row.id, NOW)
    assert await stores.put("alpha", row.id, [new(mine)], batch, NOW)
    assert await stores.get("beta", row.id) is None
    assert await stores.head("beta", row.id) is None
    assert await stores.listed("beta", ALL) == ([], False)
    assert not await stores.change("beta", row.id, StoreChange("x"), NOW)
    assert not await stores.delete("beta", row.id)
    theirs = await file(store, project="beta")
    assert await stores.put("beta", row.id, [new(theirs)], None, NOW) is None
    assert await stores.file("beta", row.id, mine) is None
    assert await stores.files("beta", row.id, ALL) is None
    assert not await stores.set_attributes("beta", row.id, mine, {"a": 1})
    assert not await stores.remove_file("beta", row.id, mine)
    assert await stores.batch("beta", row.id, "vsfb_1") is None
    assert not await stores.cancel_batch("beta", row.id, "vsfb_1")
    assert (await state(store, row, mine)).status == "in_progress"


async def test_a_file_of_another_project_cannot_be_put_in(store: Store) -> None:
    """R-30: as one that is not there, and then nothing is put in."""
    mine, theirs = await file(store), await file(store, project="beta")
    row = await vector_store(store)
    for stranger in (theirs, "file-nowhere", await file(store, expires_at=NOW)):
        with pytest.raises(UnknownFile) as caught:
            await store.vector_stores.put("alpha", row.id, [new(mine), new(stranger)], None, NOW)
        assert caught.value.file_id == stranger
        assert await store.vector_stores.files("alpha", row.id, ALL) == ([], False)
        with pytest.raises(UnknownFile):
            await vector_store(store, [stranger])
    assert await store.vector_stores.listed("alpha", ALL) == ([row], False)


async def test_pages(store: Store) -> None:
    rows = [await vector_store(store) for _ in range(5)]
    ids = [row.id for row in rows]

    async def page(window: Window) -> tuple[list[str], bool]:
        found = await store.vector_stores.listed("alpha", window)
        assert found is not None
        return [row.id for row in found[0]], found[1]

    assert await page(Window(2)) == ([ids[4], ids[3]], True)
    assert await page(Window(2, after=ids[3])) == ([ids[2], ids[1]], True)
    assert await page(Window(5, after=ids[1])) == ([ids[0]], False)
    assert await page(Window(2, newest_first=False)) == (ids[:2], True)
    assert await page(Window(9, newest_first=False, after=ids[1])) == (ids[2:], False)
    assert await page(Window(9, newest_first=False, after=ids[0], before=ids[3])) == (
        ids[1:3],
        False,
    )
    assert await page(Window(9, before=ids[3])) == ([ids[4]], False)
    assert await page(Window(2, before=ids[1])) == ([ids[3], ids[2]], True), "just before it"
    assert await page(Window(2, newest_first=False, before=ids[3])) == (ids[1:3], True)
    assert await store.vector_stores.listed("alpha", Window(9, after="vs_no")) is None


async def test_pages_of_files_by_state_and_batch(store: Store) -> None:
    ids = [await file(store) for _ in range(4)]
    row = await vector_store(store, ids[:2])
    await read(store)
    batch = FileBatch("vsfb_1", row.id, NOW)
    put = await store.vector_stores.put("alpha", row.id, [new(i) for i in ids[2:]], batch, NOW)
    assert put is not None
    assert [one.file_id for one in put] == ids[2:]

    async def page(window: Window = ALL, **more: str) -> list[str]:
        found = await store.vector_stores.files("alpha", row.id, window, **more)  # type: ignore[arg-type]
        assert found is not None
        return [one.file_id for one in found[0]]

    assert await page() == ids
    assert await page(Window(2)) == [ids[3], ids[2]]
    assert await page(Window(2, after=ids[2])) == [ids[1], ids[0]]
    assert await page(Window(2, before=ids[0])) == [ids[2], ids[1]]
    assert await page(status="completed") == ids[:2]
    assert await page(batch_id="vsfb_1") == ids[2:]
    assert await page(batch_id="vsfb_1", status="completed") == []
    assert await store.vector_stores.files("alpha", row.id, Window(2, after="file-x")) is None


async def test_change(store: Store) -> None:
    row = await vector_store(store, days=3)
    stores = store.vector_stores
    assert await stores.change("alpha", row.id, StoreChange(name="New"), NOW + 5)
    found = await known(store, row)
    assert (found.name, found.metadata, found.expires_days) == ("New", {"a": "b"}, 3)
    assert found.last_active_at == NOW + 5
    assert await stores.change("alpha", row.id, StoreChange(metadata={}, expires_days=0), NOW)
    found = await known(store, row)
    assert (found.name, found.metadata, found.expires_at) == ("New", {}, None)
    await stores.touch("alpha", row.id, NOW + 90)
    assert (await known(store, row)).last_active_at == NOW + 90


async def test_projects_take_turns(store: Store) -> None:
    """R-118: nobody waits for all that another project has put in."""
    await vector_store(store, [await file(store) for _ in range(5)])
    await vector_store(store, [await file(store, project="beta")], project="beta")
    await vector_store(store, [await file(store, project="gamma")], project="gamma")
    assert [one.project for one in await claim(store, most=4)] == [
        *("alpha", "beta", "gamma", "alpha")
    ]
    await vector_store(store, [await file(store, project="beta")], project="beta")
    assert [one.project for one in await claim(store, most=1)] == ["beta"]


async def test_who_was_served_last_waits(store: Store) -> None:
    await vector_store(store, [await file(store) for _ in range(3)])
    await vector_store(store, [await file(store, project="beta") for _ in range(3)], project="beta")
    served = [(await claim(store, most=1))[0].project for _ in range(4)]
    assert served == ["alpha", "beta", "alpha", "beta"]


async def test_a_claim_is_for_one(store: Store) -> None:
    one = await file(store)
    row = await vector_store(store, [one])
    await store.runs.beat("one")
    (claimed,) = await claim(store)
    assert (claimed.filename, claimed.attempt, claimed.deaths) == ("a.txt", 1, 0)
    assert (claimed.chunk_size, claimed.chunk_overlap) == (800, 400)
    assert await claim(store, "two") == []
    assert await store.ingestions.complete(claimed, 5, NOW)
    assert not await store.ingestions.complete(claimed, 5, NOW), "it is said once"
    assert not await store.ingestions.fail(claimed, "server_error", "no")
    found = await state(store, row, one)
    assert (found.status, found.usage_bytes, found.error) == ("completed", 5, None)


async def test_failure_and_putting_off(store: Store) -> None:
    one = await file(store)
    row = await vector_store(store, [one])
    (claimed,) = await claim(store)
    assert await store.ingestions.put_off(claimed, NOW + 10)
    assert await claim(store) == []
    (again,) = await store.ingestions.claim("one", 1, NOW + 10)
    assert (again.tries, again.attempt, again.deaths) == (1, 2, 0)
    assert not await store.ingestions.fail(claimed, "server_error", "too late"), "R-57"
    assert await store.ingestions.fail(again, "invalid_file", "It is broken.")
    found = await state(store, row, one)
    assert (found.status, found.error) == ("failed", ("invalid_file", "It is broken."))
    assert (await known(store, row)).counts == Counts(failed=1)


async def test_what_was_handed_back_is_anybodys(store: Store) -> None:
    await vector_store(store, [await file(store)])
    await claim(store)
    await store.ingestions.hand_back("one")
    (again,) = await claim(store, "two")
    assert (again.owner, again.attempt, again.deaths) == ("two", 2, 0)


async def test_what_a_dead_owner_had_is_anybodys(tmp_path: Path) -> None:
    """R-65: who is not known to `Runs` is dead."""
    store = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await store.open()
    await vector_store(store, [await file(store)])
    await store.runs.beat("one")
    (claimed,) = await claim(store)
    await store.runs.beat("two")
    assert await claim(store, "two") == []
    await store.runs.release("one", died=True)
    (again,) = await claim(store, "two")
    assert (again.owner, again.attempt, again.deaths) == ("two", 2, 1)
    assert not await store.ingestions.complete(claimed, 1, NOW)
    assert await store.ingestions.leftovers(10) == [], "the other one needs the chunks"
    await store.close()


async def test_what_its_index_has_lost_is_read_again(store: Store) -> None:
    """R-104: what is completed, in this store, and nothing else; as if it came now."""
    row = await vector_store(store, [await file(store) for _ in range(3)])
    done, lost, failed = await claim(store, most=3)
    for one in (done, lost):
        await store.ingestions.complete(one, 9, NOW)
    await store.ingestions.fail(failed, "server_error", "Broken.")
    assert await store.vector_stores.completed(row.id) == {done.number, lost.number}
    await store.vector_stores.read_again("vs_other", [done.number])
    await store.vector_stores.read_again(row.id, [lost.number, failed.number, 4711])
    assert await store.vector_stores.completed(row.id) == {done.number}
    again = await state(store, row, lost.file_id)
    assert (again.status, again.usage_bytes) == ("in_progress", 0)
    (claimed,) = await claim(store, most=3)
    assert claimed == replace(lost, attempt=lost.attempt + 1)
    assert await store.ingestions.complete(claimed, 9, NOW)
    assert await store.vector_stores.completed(row.id) == {done.number, lost.number}


async def test_a_batch(store: Store) -> None:
    ids = [await file(store) for _ in range(3)]
    row = await vector_store(store)
    batch = FileBatch("vsfb_1", row.id, NOW)
    await store.vector_stores.put("alpha", row.id, [new(i) for i in ids], batch, NOW)
    (first,) = await claim(store, most=1)
    await store.ingestions.complete(first, 1, NOW)
    (second,) = await claim(store, most=1)
    found = await store.vector_stores.batch("alpha", row.id, "vsfb_1")
    assert found == FileBatch("vsfb_1", row.id, NOW, counts=Counts(in_progress=2, completed=1))
    assert await store.vector_stores.batch("alpha", "vs_other", "vsfb_1") is None
    assert await store.vector_stores.cancel_batch("alpha", row.id, "vsfb_1")
    found = await store.vector_stores.batch("alpha", row.id, "vsfb_1")
    assert found == FileBatch(
        "vsfb_1", row.id, NOW, cancelled=True, counts=Counts(completed=1, cancelled=2)
    )
    assert not await store.ingestions.complete(second, 1, NOW), "cancelled in the meantime"
    assert [left.number for left in await store.ingestions.leftovers(10)] == [second.number]
    assert await store.vector_stores.numbers(row.id) == {first.number}
    assert await claim(store) == []


async def test_put_in_again_is_another_file(store: Store) -> None:
    """A new number: nothing of the first time can be taken for it."""
    one = await file(store)
    row = await vector_store(store, [one])
    (claimed,) = await claim(store)
    put = await store.vector_stores.put("alpha", row.id, [new(one, a="b")], None, NOW)
    assert put is not None
    (again,) = put
    assert again.number > claimed.number
    assert not await store.ingestions.complete(claimed, 1, NOW)
    # Once when it was replaced, once when its reader came too late, whose chunks may be newer.
    late = await store.ingestions.leftovers(10)
    assert [left.number for left in late] == [claimed.number] * 2
    (claimed,) = await claim(store)
    assert await store.ingestions.complete(claimed, 3, NOW)
    assert (await known(store, row)).counts == Counts(completed=1)


async def test_a_file_that_is_over_is_unknown(store: Store) -> None:
    """Before it is swept, and the same when it is: in no page, no count and no place of a list."""
    stores = store.vector_stores
    over, lasting = await file(store, expires_at=2), await file(store, expires_at=NOW * 9)
    row, other = await vector_store(store), await vector_store(store)
    theirs = await vector_store(store, [await file(store, project="beta")], project="beta")
    batch = FileBatch("vsfb_1", row.id, 1)
    await stores.put("alpha", row.id, [new(over), new(lasting)], batch, 1)
    await stores.put("alpha", other.id, [new(over)], None, 1)
    assert len(await read(store)) == 4

    async def check() -> None:
        assert await stores.file("alpha", row.id, over) is None
        assert await stores.file("alpha", row.id, lasting) is not None
        for window in (ALL, Window(1), Window(1, newest_first=False)):
            for more in ({}, {"status": "completed"}, {"batch_id": "vsfb_1"}):
                page = await stores.files("alpha", row.id, window, **more)  # type: ignore[arg-type]
                assert page is not None
                assert ([one.file_id for one in page[0]], page[1]) == ([lasting], False)
        assert await stores.files("alpha", row.id, Window(9, after=over)) is None
        found = await known(store, row)
        assert (found.counts, found.usage_bytes) == (Counts(completed=1), 7)
        assert (await known(store, other)).counts == Counts()
        assert (await known(store, theirs)).counts == Counts(completed=1)
        page_of_stores = await stores.listed("alpha", ALL)
        assert page_of_stores is not None
        assert [one.counts.total for one in page_of_stores[0]] == [1, 0]
        made = await stores.batch("alpha", row.id, "vsfb_1")
        assert made is not None
        assert made.counts == Counts(completed=1)
        assert not await stores.set_attributes("alpha", row.id, over, {"a": 1})
        assert not await stores.remove_file("alpha", row.id, over)

    await check()
    assert await store.files.delete("alpha", over)
    await check()


async def test_news(store: Store) -> None:
    one, two = await file(store), await file(store, expires_at=NOW + 100)
    row = await vector_store(store, [one, two])
    assert (await store.vector_stores.news(row.id, -1)).files == []
    first, second = await read(store)
    everything = await store.vector_stores.news(row.id, -1)
    assert everything.files == [
        Searchable(first.number, one, "a.txt", {}, None),
        Searchable(second.number, two, "a.txt", {}, NOW + 100),
    ]
    assert everything.version == (await known(store, row)).version
    nothing = await store.vector_stores.news(row.id, everything.version)
    assert (nothing.files, nothing.present) == ([], None)
    await store.vector_stores.set_attributes("alpha", row.id, two, {"year": 2026, "ok": True})
    changed = await store.vector_stores.news(row.id, everything.version)
    assert changed.present is None
    assert [(file.file_id, file.attributes) for file in changed.files] == [
        (two, {"year": 2026, "ok": True})
    ]
    await store.vector_stores.remove_file("alpha", row.id, one)
    left = await store.vector_stores.news(row.id, changed.version)
    assert left.files == [], "not all of it again"
    assert left.present == frozenset({second.number})
    await store.vector_stores.delete("alpha", row.id)
    gone = await store.vector_stores.news(row.id, left.version)
    assert (gone.files, gone.present) == ([], frozenset())


async def test_a_deleted_file_is_in_no_store(store: Store) -> None:
    """R-104: its chunks are to be forgotten, wherever they are."""
    one, two = await file(store), await file(store)
    rows = [await vector_store(store, [one, two]) for _ in range(2)]
    claimed = await read(store)
    before = [(await known(store, row)).version for row in rows]
    assert await store.files.delete("alpha", one)
    for row, version in zip(rows, before, strict=True):
        assert (await known(store, row)).counts == Counts(completed=1)
        assert (await known(store, row)).version > version
        assert await store.vector_stores.file("alpha", row.id, one) is None
    leftovers = await store.ingestions.leftovers(10)
    gone = {(c.store_id, c.number) for c in claimed if c.file_id == one}
    assert {(left.store_id, left.number) for left in leftovers} == gone
    await store.ingestions.forgotten([left.id for left in leftovers])
    assert await store.ingestions.leftovers(10) == []


async def test_a_deleted_store_leaves_its_files_and_nothing_else(store: Store) -> None:
    """R-104."""
    one = await file(store)
    row = await vector_store(store, [one])
    await store.vector_stores.put("alpha", row.id, [], FileBatch("vsfb_1", row.id, NOW), NOW)
    assert await store.vector_stores.delete("alpha", row.id)
    assert not await store.vector_stores.delete("alpha", row.id)
    assert await store.vector_stores.numbers(row.id) == frozenset()
    assert await store.vector_stores.ids() == frozenset()
    assert [(left.store_id, left.number) for left in await store.ingestions.leftovers(10)] == [
        (row.id, None)
    ]
    assert await claim(store) == []
    assert await store.files.get("alpha", one, NOW) is not None


async def test_an_expired_store_loses_its_files(store: Store) -> None:
    one = await file(store)
    row = await vector_store(store, [one], days=1)
    other = await vector_store(store, [one])
    assert await store.vector_stores.expire(NOW + DAY - 1, 10) == 0
    assert await store.vector_stores.expire(NOW + DAY, 10) == 1
    assert await store.vector_stores.numbers(row.id) == frozenset()
    assert len(await store.vector_stores.numbers(other.id)) == 1
    assert (await known(store, row)).is_expired(NOW + DAY)


async def test_numbers_are_never_used_twice(store: Store) -> None:
    """Decision 0008: chunks are known by them."""
    one = await file(store)
    row = await vector_store(store, [one])
    (before,) = await store.vector_stores.numbers(row.id)
    await store.vector_stores.remove_file("alpha", row.id, one)
    await store.vector_stores.put("alpha", row.id, [new(one)], None, NOW)
    (after,) = await store.vector_stores.numbers(row.id)
    assert after > before


async def test_who_comes_too_late_for_a_store_leaves_no_index(store: Store) -> None:
    """R-104: he may have made it anew after it was removed."""
    row = await vector_store(store, [await file(store)])
    (claimed,) = await claim(store)
    await store.vector_stores.delete("alpha", row.id)
    (first,) = await store.ingestions.leftovers(10)
    await store.ingestions.forgotten([first.id])
    assert not await store.ingestions.complete(claimed, 1, NOW)
    (second,) = await store.ingestions.leftovers(10)
    assert (second.store_id, second.number) == (row.id, None)


async def test_an_expired_store_is_not_revived_by_its_use(store: Store) -> None:
    row = await vector_store(store, [await file(store)], days=1)
    (claimed,) = await claim(store)
    then = NOW + DAY
    assert await store.ingestions.complete(claimed, 1, then)
    await store.vector_stores.touch("alpha", row.id, then)
    assert (await known(store, row)).last_active_at == NOW
    await store.vector_stores.touch("alpha", row.id, then - 1)
    assert (await known(store, row)).last_active_at == then - 1


async def test_leftovers_behind_one(store: Store) -> None:
    row = await vector_store(store, [await file(store) for _ in range(3)])
    numbers = [one.number for one in await read(store)]
    files, _ = await store.vector_stores.files("alpha", row.id, ALL) or ([], False)
    for one in files:
        await store.vector_stores.remove_file("alpha", row.id, one.file_id)
    first, second = await store.ingestions.leftovers(2)
    (third,) = await store.ingestions.leftovers(2, second.id)
    assert [left.number for left in (first, second, third)] == numbers


async def test_who_saw_a_death_is_claimed_alone(tmp_path: Path) -> None:
    """It may be the reason: its next death must count against no other."""
    store = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await store.open()
    await vector_store(store, [await file(store) for _ in range(4)])
    await store.runs.beat("one")
    first, second = await claim(store, most=2)
    await store.runs.beat("two")
    await store.runs.release("one", died=True)
    assert await store.ingestions.claim("two", 4, NOW, alone=False) == []
    (again,) = await claim(store, "two", 4)
    assert (again.number, again.deaths) == (first.number, 1)
    assert await store.ingestions.claim("two", 3, NOW, alone=False) == []
    await store.ingestions.complete(again, 1, NOW)
    (other,) = await claim(store, "two", 4)
    assert (other.number, other.deaths) == (second.number, 1)
    await store.ingestions.complete(other, 1, NOW)
    assert [one.deaths for one in await claim(store, "two", 4)] == [0, 0]
    await store.close()
