"""Histories that stay decoded are those of the database (store/histories.py)."""

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.store.base import Conversation
from antiphon.store.histories import Histories
from antiphon.store.sql import SqliteStore

CONVERSATION = "conv_" + "a" * 48


def item(text: str) -> dict[str, object]:
    part = {"type": "input_text", "text": text}
    id_ = "msg_" + secrets.token_hex(24)
    return {"id": id_, "type": "message", "role": "user", "content": [part]}


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[SqliteStore, SqliteStore]]:
    """Two processes on one file, as far as a store can tell."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}"
    stores = SqliteStore(url), SqliteStore(url)
    for store in stores:
        await store.open()
    await stores[0].conversations.add(Conversation(CONVERSATION, "p", 1, {}), [item("first")])
    yield stores
    for store in stores:
        await store.close()


async def texts(store: SqliteStore) -> list[object] | None:
    history = await store.conversations.history("p", CONVERSATION)
    if history is None:
        return None
    return [each["content"][0]["text"] for each in history.items]


async def append(store: SqliteStore, *said: str) -> None:
    history = await store.conversations.history("p", CONVERSATION)
    assert history is not None
    new = [item(text) for text in said]
    assert await store.conversations.append("p", CONVERSATION, new, history.version)


async def test_what_another_process_adds_and_removes_shows_at_once(
    two: tuple[SqliteStore, SqliteStore],
) -> None:
    here, there = two
    await append(here, "a", "b")
    assert await texts(here) == await texts(there) == ["first", "a", "b"]
    await append(there, "c")
    history = await there.conversations.history("p", CONVERSATION)
    assert history is not None
    assert await there.conversations.remove("p", CONVERSATION, history.items[1]["id"])
    await append(there, "d")
    assert await texts(here) == ["first", "b", "c", "d"]
    assert await here.conversations.history("q", CONVERSATION) is None
    assert await there.conversations.delete("p", CONVERSATION)
    assert await texts(here) is None


async def test_one_added_and_one_removed_look_like_nothing_but_the_version(
    two: tuple[SqliteStore, SqliteStore],
) -> None:
    here, there = two
    await append(here, "a")
    history = await here.conversations.history("p", CONVERSATION)
    assert history is not None
    await append(there, "b")
    assert await there.conversations.remove("p", CONVERSATION, history.items[0]["id"])
    assert await texts(here) == ["a", "b"]


@given(steps=st.lists(st.sampled_from(["add", "add2", "remove"]), max_size=12), data=st.data())
@settings(max_examples=30, deadline=None)
async def test_any_order_of_changes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], data: st.DataObject
) -> None:
    store = SqliteStore(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('h') / 'antiphon.db'}")
    await store.open()
    try:
        await store.conversations.add(Conversation(CONVERSATION, "p", 1, {}), [])
        expected: list[str] = []
        for number, step in enumerate(steps):
            if step == "remove" and expected:
                gone = data.draw(st.integers(0, len(expected) - 1))
                history = await store.conversations.history("p", CONVERSATION)
                assert history is not None
                id_ = history.items[gone]["id"]
                assert await store.conversations.remove("p", CONVERSATION, id_)
                del expected[gone]
            elif step != "remove":
                new = [f"{number}{place}" for place in "ab"[: len(step) - 2]]
                await append(store, *new)
                expected += new
            if data.draw(st.booleans()):
                assert await texts(store) == expected
        assert await texts(store) == expected
    finally:
        await store.close()


async def test_a_long_one_is_read_once(two: tuple[SqliteStore, SqliteStore]) -> None:
    """What came since is all that is read."""
    store = two[0]
    await append(store, *(str(number) for number in range(3000)))
    fresh = Histories(store._readers)
    spent = []
    for _ in range(6):
        start = time.process_time()
        assert await fresh.read("p", CONVERSATION) is not None
        spent.append(time.process_time() - start)
    assert min(spent[1:]) < spent[0] / 3


async def test_no_more_is_kept_than_may_be(two: tuple[SqliteStore, SqliteStore]) -> None:
    store = two[0]
    small = Histories(store._readers, most_bytes=100)
    for _ in range(2):
        history = await small.read("p", CONVERSATION)
        assert history is not None
        assert len(history.items) == 1
    assert small._kept.bytes == 0
