"""What is known of a store's contents, and for how long (decision 0008)."""

import asyncio
import threading
from typing import Any

import pytest

from antiphon.engine import searchable
from antiphon.engine.searchable import Contents, Shelf
from antiphon.engine.vector_stores import VectorStoreService
from antiphon.errors import InvalidRequestError, NotFoundError, Overloaded
from antiphon.protocol.file_search import Wish
from antiphon.protocol.filters import matcher
from antiphon.store.base import News, VectorStoreRow
from antiphon.store.base.vector_stores import VectorStores
from tests.engine.library import Library, Troubled


class Counting(Troubled):
    """The stores, and which versions were asked for. Answers are held back while `open` is not
    set."""

    def __init__(self, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.stores: VectorStores = library.store.vector_stores
        self.asked: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.begun = asyncio.Event()
        news = self.stores.news

        async def counted(store_id: str, since: int) -> News:
            self.asked.append(since)
            self.begun.set()
            answer = await news(store_id, since)
            await self.open.wait()
            self.check()
            return answer

        monkeypatch.setattr(self.stores, "news", counted)

    async def head(self, row: VectorStoreRow) -> VectorStoreRow:
        """The store as it is now."""
        fresh = await self.stores.head("p", row.id)
        assert fresh is not None
        return fresh

    async def asking(
        self, shelf: Shelf, row: VectorStoreRow, count: int
    ) -> list[asyncio.Task[Contents]]:
        """So many that wait for the contents, whose answer is held back."""
        self.open.clear()
        tasks = [asyncio.create_task(shelf.contents(row, 0)) for _ in range(count)]
        async with asyncio.timeout(10):
            await self.begun.wait()
        return tasks

    async def contents(self, shelf: Shelf, row: VectorStoreRow, now: float) -> Contents:
        """Those of the store as it is now."""
        return await shelf.contents(await self.head(row), now)


@pytest.fixture
def counting(library: Library, monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(library, monkeypatch)


async def test_only_what_changed_is_asked_for(library: Library, counting: Counting) -> None:
    row = await library.filled("one", "two")
    shelf, now = Shelf(counting.stores), library.clock()
    first = await counting.contents(shelf, row, now)
    assert len(first.files) == 2
    assert await counting.contents(shelf, row, now) is first
    (one, two) = await library.files(row.id)
    await counting.stores.set_attributes("p", row.id, one.file_id, {"a": 1})
    second = await counting.contents(shelf, row, now)
    assert counting.asked == [-1, first.version]
    assert second.files[one.number].attributes == {"a": 1}
    assert first.files[one.number].attributes == {}, "who searches with it is not disturbed"
    await counting.stores.remove_file("p", row.id, one.file_id)
    third = await counting.contents(shelf, row, now)
    assert set(third.files) == {two.number}
    assert third.files[two.number] is first.files[two.number], "what stays is not read again"
    assert counting.asked == [-1, first.version, second.version]


async def test_a_file_that_expires_is_gone_from_that_second_on(
    library: Library, counting: Counting
) -> None:
    now = library.clock()
    files = [await library.file("x", int(now) + seconds) for seconds in (10, 20)]
    row = await library.shelf(*files, await library.file("stays"))
    async with library.reading():
        first, second, third = [file.number for file in await library.read(row.id)]
    shelf = Shelf(counting.stores)
    assert set((await counting.contents(shelf, row, now + 9)).files) == {first, second, third}
    assert set((await counting.contents(shelf, row, now + 10)).files) == {second, third}
    assert set((await counting.contents(shelf, row, now + 19.5)).files) == {second, third}
    assert set((await counting.contents(shelf, row, now + 20)).files) == {third}
    assert counting.asked == [-1], "what stays is not read again"


async def test_what_expired_is_gone_when_something_changed_too(
    library: Library, counting: Counting
) -> None:
    """What is counted is what a fresh look would count."""
    now = library.clock()
    row = await library.shelf(await library.file("x", int(now) + 10), await library.file("stays"))
    async with library.reading():
        _, stays = await library.read(row.id)
    shelf = Shelf(counting.stores)
    first = await counting.contents(shelf, row, now)
    await counting.stores.set_attributes("p", row.id, stays.file_id, {"a": "b"})
    second = await counting.contents(shelf, row, now + 10)
    assert counting.asked == [-1, first.version]
    assert set(second.files) == {stays.number}
    assert second.files[stays.number].attributes == {"a": "b"}
    fresh = await counting.contents(Shelf(counting.stores), row, now + 10)
    assert second.file_bytes == fresh.file_bytes > 0


async def test_selections_are_remembered(library: Library, counting: Counting) -> None:
    row = await library.filled("one", "two")
    one, two = await library.files(row.id)
    await counting.stores.set_attributes("p", row.id, one.file_id, {"n": 1})
    contents = await counting.contents(Shelf(counting.stores), row, 0)
    everything = await contents.select(None)
    assert everything.numbers == {one.number, two.number}
    assert await contents.select(None) is everything
    wanted = {"type": "eq", "key": "n", "value": 1}
    chosen = await contents.select(wanted)
    assert chosen.numbers == {one.number}
    assert await contents.select(dict(reversed(wanted.items()))) is chosen
    for value in range(20):
        await contents.select({"type": "eq", "key": "n", "value": value})
    assert len(contents.selections) == searchable._MOST_SELECTIONS
    assert await contents.select(None) is not everything, "forgotten, and made again"


async def test_many_files_are_filtered_in_a_thread(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-118."""
    monkeypatch.setattr(searchable, "_AT_ONCE", 1)
    row = await library.filled("one", "two")
    contents = await counting.contents(Shelf(counting.stores), row, 0)
    assert len((await contents.select({"type": "ne", "key": "a", "value": 1})).numbers) == 2


async def test_many_files_are_merged_in_a_thread(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-118."""
    threads: list[threading.Thread] = []
    merged = searchable._merged

    def watched(before: Contents, news: News, now: float) -> Contents:
        threads.append(threading.current_thread())
        return merged(before, news, now)

    monkeypatch.setattr(searchable, "_merged", watched)
    monkeypatch.setattr(searchable, "_MERGED_AT_ONCE", 1)
    small, large = await library.filled("one"), await library.filled("one", "two")
    for row in (small, large):
        await counting.contents(Shelf(counting.stores), row, 0)
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


async def test_a_large_filter_is_asked_in_a_thread(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-118: however few the files. What is remembered of it is not large."""
    threads: list[int] = []

    def watched(filters: dict[str, Any]) -> Any:
        threads.append(threading.get_ident())
        return matcher(filters)

    monkeypatch.setattr("antiphon.engine.searchable.matcher", watched)
    row = await library.filled("one")
    contents = await counting.contents(Shelf(counting.stores), row, 0)
    large = {"type": "nin", "key": "a", "value": ["x" * 200] * 1_000}
    chosen = await contents.select(large)
    assert await contents.select(large) is chosen
    await contents.select({"type": "ne", "key": "a", "value": "x"})
    here = threading.get_ident()
    assert [thread == here for thread in threads] == [False, True]
    assert {len(key) for key in contents.selections} == {32}


async def test_a_filter_that_is_asked_twice_at_once_is_remembered_once(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searchable, "_AT_ONCE", 1)
    row = await library.filled("one")
    contents = await counting.contents(Shelf(counting.stores), row, 0)
    filters = {"type": "ne", "key": "a", "value": 1}
    one, two = await asyncio.gather(contents.select(filters), contents.select(filters))
    assert one is two
    assert contents.selection_bytes == searchable._selection_bytes(one)


# -- asked for at once ------------------------------------------------------------------------


async def test_who_asks_at_once_waits_for_one_read(library: Library, counting: Counting) -> None:
    """R-118: twenty first searches are not twenty times the rows."""
    row = await counting.head(await library.filled("one", "two"))
    shelf = Shelf(counting.stores)
    tasks = await counting.asking(shelf, row, 20)
    counting.open.set()
    first, *others = await asyncio.gather(*tasks)
    assert len(first.files) == 2
    assert all(other is first for other in others)
    assert await shelf.contents(row, 0) is first
    assert counting.asked == [-1]


async def test_who_leaves_takes_the_answer_from_nobody(
    library: Library, counting: Counting
) -> None:
    row = await counting.head(await library.filled("one"))
    first, second = await counting.asking(Shelf(counting.stores), row, 2)
    first.cancel()
    await asyncio.wait([first])
    counting.open.set()
    assert len((await second).files) == 1
    assert first.cancelled()
    assert counting.asked == [-1]


async def test_an_error_reaches_all_who_wait_and_is_not_remembered(
    library: Library, counting: Counting
) -> None:
    row = await counting.head(await library.filled("one"))
    shelf = Shelf(counting.stores)
    tasks = await counting.asking(shelf, row, 3)
    counting.trouble.append(Overloaded())
    counting.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Overloaded] * 3
    assert len((await shelf.contents(row, 0)).files) == 1
    assert counting.asked == [-1, -1]


async def test_who_has_seen_a_newer_version_is_not_given_an_older_one(
    library: Library, counting: Counting
) -> None:
    row = await counting.head(await library.filled("one"))
    shelf = Shelf(counting.stores)
    (older,) = await counting.asking(shelf, row, 1)
    (file,) = await library.files(row.id)
    await counting.stores.set_attributes("p", row.id, file.file_id, {"a": 1})
    changed = await counting.head(row)
    newer = [asyncio.create_task(shelf.contents(changed, 0)) for _ in range(3)]
    await asyncio.sleep(0)
    counting.open.set()
    assert (await older).files[file.number].attributes == {}
    first, *others = await asyncio.gather(*newer)
    assert first.files[file.number].attributes == {"a": 1}
    assert all(other is first for other in others)
    assert counting.asked == [-1, row.version]
    assert await shelf.contents(row, 0) is first, "who comes with an old row is not given less"


async def test_a_store_that_goes_meanwhile_is_empty_and_not_kept(
    library: Library, counting: Counting
) -> None:
    row = await counting.head(await library.filled("one"))
    shelf = Shelf(counting.stores)
    await counting.stores.delete("p", row.id)
    tasks = await counting.asking(shelf, row, 3)
    counting.open.set()
    assert [len(contents.files) for contents in await asyncio.gather(*tasks)] == [0, 0, 0]
    assert counting.asked == [-1]
    assert not shelf._known


# -- how much is kept -------------------------------------------------------------------------


def check_sum(shelf: Shelf) -> None:
    """The running total is that of what is there, and within the bound."""
    assert shelf._bytes == sum(contents.weight for contents in shelf._known.values())
    assert shelf._bytes <= searchable._MOST_BYTES or len(shelf._known) == 1


async def test_the_store_that_was_searched_longest_ago_goes_first(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = [await library.filled("one") for _ in range(3)]
    shelf = Shelf(counting.stores)
    weight = (await counting.contents(shelf, one, 0)).weight
    monkeypatch.setattr(searchable, "_MOST_BYTES", int(2.5 * weight))
    asked = []
    for row in (two, one, three, one, two, three):
        await counting.contents(shelf, row, 0)
        check_sum(shelf)
        asked.append(len(counting.asked))
    # two, -, three (two goes), -, two (three goes), three
    assert asked == [2, 2, 3, 3, 4, 5]


async def test_one_store_may_be_larger_than_all_that_is_kept(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = await library.filled("one"), await library.filled("1", "2", "3", "4")
    shelf = Shelf(counting.stores)
    monkeypatch.setattr(searchable, "_MOST_BYTES", 1)
    for row in (small, large, large, small):
        await counting.contents(shelf, row, 0)
        assert len(shelf._known) == 1
        check_sum(shelf)
    assert len(counting.asked) == 3


async def test_empty_stores_are_bounded(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searchable, "_MOST_BYTES", 10_000)
    shelf = Shelf(counting.stores)
    for _ in range(10):
        await shelf.select(await library.shelf(), None, 0)
        check_sum(shelf)
    assert 0 < len(shelf._known) < 5


async def test_attributes_count_by_their_size(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of the store that was just asked for: it stays, though it is the oldest."""
    one, two = await library.filled("one"), await library.filled("two")
    shelf = Shelf(counting.stores)
    weights = [(await counting.contents(shelf, row, 0)).weight for row in (one, two)]
    monkeypatch.setattr(searchable, "_MOST_BYTES", sum(weights) + 500)
    (file,) = await library.files(one.id)
    await counting.stores.set_attributes("p", one.id, file.file_id, {"a": "x" * 500})
    changed = await counting.contents(shelf, one, 0)
    check_sum(shelf)
    assert changed.weight > weights[0] + 500
    assert await counting.contents(shelf, one, 0) is changed
    assert len(counting.asked) == 3
    await counting.contents(shelf, two, 0)
    assert len(counting.asked) == 4, "it gave way"


async def test_selections_count(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await library.filled("one"), await library.filled("two")
    shelf = Shelf(counting.stores)
    weights = [(await counting.contents(shelf, row, 0)).weight for row in (one, two)]
    monkeypatch.setattr(searchable, "_MOST_BYTES", sum(weights) + 5_000)
    row = await counting.head(two)
    for value in range(12):
        await shelf.select(row, {"type": "ne", "key": "a", "value": value}, 0)
        check_sum(shelf)
    await counting.contents(shelf, one, 0)
    assert len(counting.asked) == 3, "the other gave way"


async def test_selections_that_give_way_do_not_count(library: Library, counting: Counting) -> None:
    row = await counting.head(await library.filled("one"))
    shelf = Shelf(counting.stores)
    for value in range(2 * searchable._MOST_SELECTIONS):
        contents, _ = await shelf.select(row, {"type": "ne", "key": "a", "value": value}, 0)
        check_sum(shelf)
    sizes = map(searchable._selection_bytes, contents.selections.values())
    assert contents.selection_bytes == sum(sizes)


async def test_what_gave_way_while_it_was_searched_does_not_count(
    library: Library, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searchable, "_AT_ONCE", 1)
    row = await counting.head(await library.filled("one"))
    shelf = Shelf(counting.stores)
    await shelf.contents(row, 0)
    asking = asyncio.create_task(shelf.select(row, {"type": "ne", "key": "a", "value": 1}, 0))
    await asyncio.sleep(0)
    shelf.forget("p", row.id)
    _, selection = await asking
    assert len(selection.numbers) == 1
    assert (shelf._bytes, len(shelf._known)) == (0, 0)


# -- what is gone -----------------------------------------------------------------------------


async def search(service: VectorStoreService, row: VectorStoreRow, project: str = "p") -> None:
    """For anything."""
    asked = {"filters": None, "max_num_results": None, "ranking_options": None}
    await service.search(project, Wish.of(asked, (row.id,), ["one"], 10))


async def test_a_store_that_is_deleted_is_forgotten(library: Library) -> None:
    service, row = library.service(), await library.filled("one")
    await search(service, row)
    assert service._shelf._bytes > 0
    await service.delete("p", row.id)
    assert (service._shelf._bytes, len(service._shelf._known)) == (0, 0)


async def test_a_store_that_another_has_deleted_is_forgotten(library: Library) -> None:
    """By the next who asks for it, unless it is another project: that has never had it."""
    service, row = library.service(), await library.filled("one")
    await search(service, row)
    with pytest.raises(NotFoundError):
        await search(service, row, "another")
    assert len(service._shelf._known) == 1
    await library.service().delete("p", row.id)
    with pytest.raises(NotFoundError):
        await search(service, row)
    assert (service._shelf._bytes, len(service._shelf._known)) == (0, 0)


async def test_a_store_that_has_expired_is_forgotten(library: Library) -> None:
    service, row = library.service(), await library.shelf(await library.file("one"), days=1)
    await search(service, row)
    assert len(service._shelf._known) == 1
    library.clock.now += 86_400
    with pytest.raises(InvalidRequestError):
        await search(service, row)
    assert not service._shelf._known
