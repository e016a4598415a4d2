"""Vector stores as the API and the tool ask for them: time, races, limits (R-29, R-30)."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from antiphon.engine.vector_stores import VectorStoreService
from antiphon.errors import InvalidRequestError, NotFoundError, Overloaded
from antiphon.protocol.file_search import Wish
from antiphon.protocol.vector_stores import ChangedVectorStore, NewVectorStore
from antiphon.store.base import NewFile, VectorStoreRow, Window
from antiphon.store.base.vector_stores import DAY
from tests.engine.library import FakeEmbedder, Library


def wish(*rows: VectorStoreRow, query: str = "one", **more: Any) -> Wish:
    return Wish(tuple(row.id for row in rows), (query,), more.pop("limit", 10), **more)


def new(file_id: str) -> NewFile:
    return NewFile(file_id, {}, 800, 400)


# -- expiry --------------------------------------------------------------------------------------


async def expired(library: Library) -> tuple[VectorStoreService, VectorStoreRow]:
    """A store, a second after its last day."""
    row = await library.shelf(await library.file("one"), days=1)
    async with library.reading():
        await library.read(row.id)
    library.clock.now += DAY
    return library.service(), row


async def test_an_expired_store_can_be_looked_at_and_deleted(library: Library) -> None:
    service, row = await expired(library)
    there = await service.get("p", row.id)
    assert there.is_expired(service.now())
    assert there.expires_at == library.clock.now
    (file,) = await library.files(row.id)
    assert await service.content("p", row.id, file.file_id) == ["one"]
    await service.delete("p", row.id)
    with pytest.raises(NotFoundError):
        await service.delete("p", row.id)


@pytest.mark.parametrize("what", ["search", "tool", "add", "batch", "change"])
async def test_an_expired_store_cannot_be_used(library: Library, what: str) -> None:
    """Nor brought back to life."""
    service, row = await expired(library)
    file = await library.file()
    deeds: dict[str, Callable[[], Awaitable[object]]] = {
        "search": lambda: service.search("p", wish(row)),
        "tool": lambda: service.check("p", row.id),
        "add": lambda: service.add_file("p", row.id, new(file)),
        "batch": lambda: service.add_batch("p", row.id, [new(file)], "file_ids"),
        "change": lambda: service.change("p", row.id, ChangedVectorStore(expires_after=None)),
    }
    with pytest.raises(InvalidRequestError) as caught:
        await deeds[what]()
    assert caught.value.message == f"Vector store with id '{row.id}' is expired."
    assert (await service.get("p", row.id)).is_expired(service.now())


async def test_its_files_are_swept_and_forgotten(library: Library) -> None:
    """R-104."""
    service, row = await expired(library)
    assert await library.store.vector_stores.expire(int(service.now()), 10) == 1
    assert (await service.get("p", row.id)).counts.total == 0
    async with library.reading(most=0):
        await library.read(row.id)
        while library.index.kept[row.id]:
            await library.store.runs.wait(0.1)


async def test_use_keeps_a_store_alive(library: Library) -> None:
    """A search, at most once a minute; a file that is put in; a change."""
    row = await library.shelf(days=1)
    service, began = library.service(), library.clock.now

    async def active() -> float:
        return (await service.get("p", row.id)).last_active_at - began

    library.clock.now = began + 60
    await service.search("p", wish(row))
    assert await active() == 0, "not worth a write"
    library.clock.now = began + 61
    await service.search("p", wish(row))
    assert await active() == 61
    library.clock.now = began + 100
    await service.add_file("p", row.id, new(await library.file()))
    assert await active() == 100
    library.clock.now = began + 200
    await service.change("p", row.id, ChangedVectorStore(name="x"))
    assert await active() == 200
    library.clock.now = began + 300
    async with library.reading():
        await library.read(row.id)
    assert await active() == 300


# -- searching -----------------------------------------------------------------------------------


async def test_several_stores_are_one_ranking(library: Library) -> None:
    first, second = await library.filled("one", "one two"), await library.filled("one two three")
    service = library.service()
    found = await service.search("p", wish(first, second, first, query="one two three"))
    assert [passage.text for passage in found] == ["one two three", "one two", "one"]
    assert len(library.index.questions) == 1, "scores of two questions may not be comparable"
    best = await service.search("p", wish(first, second, query="one two three", limit=1))
    assert [passage.text for passage in best] == ["one two three"]
    assert best[0].filename == "one two three.txt"


async def test_a_file_in_several_stores_is_found_once(library: Library) -> None:
    """And with it as many passages as were asked for."""
    copy = await library.file("one two three\none two\none two")
    rows = [await library.shelf(copy, await library.file(f"one {at}")) for at in range(3)]
    async with library.reading():
        for row in rows:
            await library.read(row.id)
    found = await library.service().search("p", wish(*rows, query="one two three", limit=5))
    texts = [passage.text for passage in found]
    assert texts[:3] == ["one two three", "one two", "one two"]
    assert len(texts) == 5
    assert len(set(texts[3:])) == 2


async def test_one_store_that_is_not_there(library: Library) -> None:
    """R-30: nothing is said of the others."""
    row = await library.filled("one")
    service = library.service()
    for asked, store in (("p", "vs_unknown"), ("other", row.id)):
        with pytest.raises(NotFoundError, match=f"'{store}' not found"):
            await service.search(asked, Wish((store,), ("one",), 10))
        with pytest.raises(NotFoundError, match=f"'{store}' not found"):
            await service.check(asked, store)
    await service.check("p", row.id)


async def test_nothing_passes_the_filter(library: Library) -> None:
    row = await library.filled("one")
    nothing = {"type": "or", "filters": []}
    assert await library.service().search("p", wish(row, filters=nothing)) == []
    assert library.index.questions == [], "nobody is asked"


async def test_vectors_are_asked_for_where_they_count(library: Library) -> None:
    row, embedder = await library.filled("one"), FakeEmbedder()
    service = library.service(embedder)
    assert not (await service.searched("p", wish(row))).degraded
    await service.searched("p", wish(row, vector_weight=0.0))
    embedder.trouble = [Overloaded("Busy.")]
    degraded = await service.searched("p", wish(row))
    assert degraded.degraded
    assert [passage.text for passage in degraded.passages] == ["one"]
    with_vectors, without, broken = library.index.questions
    assert with_vectors.vectors is not None
    assert with_vectors.vectors.model == "small"
    assert (without.vectors, broken.vectors) == (None, None)


@pytest.mark.parametrize("trouble", [True, False])
async def test_who_wants_vectors_alone_gets_words_if_there_are_none(
    library: Library, *, trouble: bool
) -> None:
    row, embedder = await library.filled("one"), FakeEmbedder()
    embedder.trouble = [Overloaded()]
    service = library.service(embedder if trouble else None)
    await service.searched("p", wish(row, text_weight=0.0))
    await library.service(FakeEmbedder()).searched("p", wish(row, text_weight=0.0))
    words, vectors = library.index.questions
    assert (words.weights.text, vectors.weights.text) == (1.0, 0.0)


# -- races and limits ----------------------------------------------------------------------------


async def test_a_store_may_be_full(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.store.sql_vector_stores.MOST_FILES", 1)
    row = await library.filled("one")
    with pytest.raises(InvalidRequestError, match="would have more than") as caught:
        await library.service().add_file("p", row.id, new(await library.file()))
    assert caught.value.param == "file_id"
    (file,) = await library.files(row.id)
    await library.service().add_file("p", row.id, new(file.file_id))


@pytest.mark.parametrize("what", ["put", "change", "set_attributes", "cancel_batch", "files"])
async def test_a_store_that_goes_meanwhile(
    library: Library, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the step: as if it had never been there."""
    row = await library.filled("one")
    (file,) = await library.files(row.id)
    service, stores = library.service(), library.store.vector_stores
    batch = await service.add_batch("p", row.id, [new(file.file_id)], "file_ids")
    steps: dict[str, Callable[..., Awaitable[Any]]] = {
        "put": stores.put,
        "change": stores.change,
        "files": stores.files,
        "set_attributes": stores.set_attributes,
        "cancel_batch": stores.cancel_batch,
    }
    step = steps[what]

    async def late(*given: Any) -> Any:
        await stores.delete("p", row.id)
        return await step(*given)

    monkeypatch.setattr(stores, what, late)
    deeds: dict[str, Callable[[], Awaitable[object]]] = {
        "put": lambda: service.add_file("p", row.id, new(file.file_id)),
        "change": lambda: service.change("p", row.id, ChangedVectorStore(name="x")),
        "set_attributes": lambda: service.set_attributes("p", row.id, file.file_id, {}),
        "cancel_batch": lambda: service.cancel_batch("p", row.id, batch.id),
        "files": lambda: service.files("p", row.id, Window(1), None),
    }
    with pytest.raises(NotFoundError):
        await deeds[what]()


async def test_what_is_not_there(library: Library) -> None:
    """Each in its words, wherever it is asked for (R-29)."""
    service, row = library.service(), await library.shelf()
    with pytest.raises(NotFoundError, match="No such File object: file-1") as caught:
        await service.create("p", NewVectorStore(file_ids=["file-1"]))
    assert caught.value.param == "file_ids"
    with pytest.raises(NotFoundError, match="No such File object: file-1"):
        await service.add_file("p", row.id, new("file-1"))
    assert [one.id for one in (await service.page("p", Window(10)))[0]] == [row.id]
    with pytest.raises(InvalidRequestError, match="'after': there is no such vector store"):
        await service.page("p", Window(10, after="vs_1"))
    with pytest.raises(InvalidRequestError, match="'before': there is no such file"):
        await service.files("p", row.id, Window(10, before="file-1"), None)
    deeds: list[Callable[[str], Awaitable[object]]] = [
        lambda store: service.file("p", store, "file-1"),
        lambda store: service.content("p", store, "file-1"),
        lambda store: service.set_attributes("p", store, "file-1", {}),
        lambda store: service.remove_file("p", store, "file-1"),
    ]
    for deed in deeds:
        with pytest.raises(NotFoundError, match=f"'file-1' in vector store '{row.id}'"):
            await deed(row.id)
        with pytest.raises(NotFoundError, match="id 'vs_1' not found"):
            await deed("vs_1")
    with pytest.raises(NotFoundError, match="id 'vs_1' not found"):
        await service.batch("p", "vs_1", "vsfb_1")
    with pytest.raises(NotFoundError, match="id 'vs_1' not found"):
        await service.get("p", "vs_1")


async def test_files_in_and_out(library: Library) -> None:
    row, service = await library.filled("one"), library.service()
    (file,) = (await service.files("p", row.id, Window(10), "completed"))[0]
    changed = await service.set_attributes("p", row.id, file.file_id, {"a": True})
    assert changed.attributes == {"a": True}
    again = await service.add_file("p", row.id, new(file.file_id))
    assert again.number > file.number
    assert await service.content("p", row.id, file.file_id) == [], "not before it is read"
    await service.remove_file("p", row.id, file.file_id)
    assert await library.files(row.id) == []


async def test_when_it_expires_can_change(library: Library) -> None:
    row, service = await library.shelf(), library.service()
    week: Any = {"anchor": "last_active_at", "days": 7}
    assert (await service.change("p", row.id, ChangedVectorStore(expires_after=week))).expires_days
    kept = await service.change("p", row.id, ChangedVectorStore(name="x"))
    assert (kept.expires_days, kept.name) == (7, "x")
    never = await service.change("p", row.id, ChangedVectorStore(expires_after=None))
    assert never.expires_at is None


async def test_a_batch_of_another_store(library: Library) -> None:
    first, second = await library.filled("one"), await library.filled("two")
    (file,) = await library.files(first.id)
    service = library.service()
    batch = await service.add_batch("p", first.id, [new(file.file_id)], "file_ids")
    for deed in (service.batch, service.cancel_batch):
        with pytest.raises(NotFoundError, match=f"'{batch.id}' in vector store '{second.id}'"):
            await deed("p", second.id, batch.id)
    with pytest.raises(NotFoundError, match="No file batch"):
        await service.files("p", second.id, Window(1), None, batch.id)
    async with library.reading():
        await library.read(first.id)
    done = await service.cancel_batch("p", first.id, batch.id)
    assert not done.cancelled, "there was nothing left to cancel"
