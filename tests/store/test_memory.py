"""The bounds of the memory store (lessons §1 rule 17)."""

import pytest

from antiphon.store.base import Conversation, StoreError
from antiphon.store.memory import MemoryStore
from antiphon.store.registry import open_store
from antiphon.store.sql import SqliteStore
from tests.store.conversing import begin, finish, held, run, said, version_of
from tests.store.rows import NOW, Clock, response


async def add(store: MemoryStore, conversation: Conversation, text: str) -> bool:
    version = await version_of(store, conversation)
    return await store.conversations.append("alpha", conversation.id, said(text), version)


async def test_the_oldest_goes_when_there_are_too_many() -> None:
    store = MemoryStore(most_rows=2, clock=Clock())
    rows = [response(str(n)) for n in range(3)]
    for row in rows:
        await store.save(row)
    assert [await store.get("alpha", row.id) for row in rows] == [None, rows[1], rows[2]]
    assert store.evicted == 1


async def test_the_oldest_goes_when_they_are_too_large() -> None:
    store = MemoryStore(most_bytes=2000, clock=Clock())
    small, large = response(), response(status="in_progress")
    large.body = b"x" * 1200
    for row in (small, large, large, large):
        await store.save(row)
    assert await store.get("alpha", large.id) == large
    assert await store.get("alpha", small.id) == small
    large.body = b"x" * 1700
    await store.save(large)
    assert await store.get("alpha", small.id) is None
    assert await store.get("alpha", large.id) == large


async def test_the_oldest_conversation_goes_when_there_are_too_many() -> None:
    store = MemoryStore(most_rows=2, clock=Clock())
    made = [await begin(store, text) for text in "abc"]
    assert [await held(store, each) for each in made] == [None, ["b"], ["c"]]
    assert await store.items("alpha", ["msg_a", "msg_b"]) == {"msg_b": said("b")[0]}
    assert store.evicted == 1


async def test_the_oldest_conversation_goes_when_they_are_too_large() -> None:
    """What was removed makes room again; a run whose conversation went ends all the same."""
    store = MemoryStore(most_bytes=4000, clock=Clock())
    first, second = await begin(store, "x" * 400), await begin(store, "b")
    row = await run(store, first)
    for _ in range(9):
        assert await add(store, second, "y" * 300)
        assert await store.conversations.remove("alpha", second.id, "msg_" + "y" * 300)
    assert await store.conversations.get("alpha", first.id) == first
    assert await add(store, second, "y" * 1000)
    assert await store.conversations.get("alpha", first.id) is None
    assert await held(store, second) == ["b", "y" * 1000]
    assert await finish(store, row, "late")
    assert await held(store, second) == ["b", "y" * 1000]


async def test_metadata_of_conversations_takes_room() -> None:
    store = MemoryStore(most_bytes=2000, clock=Clock())
    first, second = await begin(store), await begin(store)
    for _ in range(9):
        assert await store.conversations.change("alpha", second.id, {"k": "v" * 1000})
    assert await store.conversations.get("alpha", first.id) == first
    assert await store.conversations.change("alpha", second.id, {"k": "v" * 1999})
    assert await store.conversations.get("alpha", first.id) is None


async def test_every_row_has_an_end() -> None:
    clock = Clock()
    store = MemoryStore(ttl=60, clock=clock)
    row = response(expires_at=None)
    await store.save(row)
    clock.now = NOW + 60
    assert await store.get("alpha", row.id) is None
    assert await store.expire(NOW + 60, 10) == 1


def test_the_url_chooses_the_store() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)
    assert isinstance(open_store("sqlite+aiosqlite:///./antiphon.db"), SqliteStore)
    assert isinstance(open_store("sqlite:////var/lib/antiphon.db"), SqliteStore)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+asyncpg://db/antiphon", "No store for postgresql"),
        ("antiphon.db", "No store for antiphon.db"),
        ("", "No store for"),
        ("sqlite://", "memory://"),
        ("sqlite+aiosqlite:///:memory:", "memory://"),
        ("sqlite:///a.db?mode=ro", "nothing more"),
        ("sqlite://host/a.db", "nothing more"),
    ],
)
def test_other_urls_are_refused_in_words(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        open_store(url)
