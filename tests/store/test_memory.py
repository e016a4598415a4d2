"""The bounds of the memory store (lessons §1 rule 17)."""

import pytest

from antiphon.store.base import StoreError
from antiphon.store.memory import MemoryStore
from antiphon.store.registry import open_store
from antiphon.store.sql import SqliteStore
from tests.store.rows import NOW, Clock, response


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
