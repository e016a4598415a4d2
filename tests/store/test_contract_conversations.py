"""What every store does with conversations and their items (spec §2.2): one suite, each store."""

import asyncio
import secrets
import time
from dataclasses import replace

import orjson
import pytest

from antiphon.protocol.items.base import Item
from antiphon.store.base import Batch, Conversation, ConversationMoved, History, Store
from tests.store.conversing import (
    admit,
    begin,
    ended,
    finish,
    heard,
    held,
    lease_of,
    run,
    said,
    turn,
    version_of,
)
from tests.store.rows import NOW, message, response

LONG = 10_000


# -- conversations and their items


async def test_what_is_stored_is_read_back(store: Store) -> None:
    made = await begin(store, "a", "b")
    assert await store.conversations.get("alpha", made.id) == made
    history = await store.conversations.history("alpha", made.id)
    assert history == History(said("a", "b"), history.version if history else -1)
    assert await store.conversations.item("alpha", made.id, "msg_b") == said("b")[0]
    assert await store.conversations.item("alpha", made.id, "msg_c") is None


async def test_an_empty_one_is_there(store: Store) -> None:
    made = await begin(store)
    assert await held(store, made) == []
    page = await store.conversations.page("alpha", made.id, after=None, limit=5, order="desc")
    assert page == []


async def test_what_was_read_is_the_readers_own(store: Store) -> None:
    given = said("a")
    made = Conversation("conv_1", "alpha", NOW, {"k": "v"})
    await store.conversations.add(made, given)
    given[0]["content"].clear()
    made.metadata.clear()
    for _ in range(2):
        read = await store.conversations.get("alpha", "conv_1")
        assert read is not None
        assert read.metadata == {"k": "v"}
        read.metadata.clear()
        item = await store.conversations.item("alpha", "conv_1", "msg_a")
        assert item == said("a")[0]
        item.clear()


async def test_its_metadata_is_replaced(store: Store) -> None:
    made = await begin(store, "a")
    version = await version_of(store, made)
    assert await store.conversations.change("alpha", made.id, {"new": "x"})
    assert await store.conversations.get("alpha", made.id) == replace(made, metadata={"new": "x"})
    assert await version_of(store, made) == version, "no item has changed"
    assert not await store.conversations.change("alpha", "conv_0", {})


async def test_that_of_another_project_is_unknown(store: Store) -> None:
    """R-29."""
    made, ours = await begin(store, "a"), store.conversations
    assert await ours.get("beta", made.id) is None
    assert await ours.history("beta", made.id) is None
    assert await ours.holds("beta", made.id, ["msg_a"]) is None
    assert await ours.item("beta", made.id, "msg_a") is None
    assert await ours.page("beta", made.id, after=None, limit=5, order="asc") is None
    assert await ours.page("beta", made.id, after="msg_a", limit=5, order="asc") is None
    assert not await ours.change("beta", made.id, {})
    assert not await ours.append("beta", made.id, said("b"), await version_of(store, made))
    assert not await ours.remove("beta", made.id, "msg_a")
    assert not await ours.delete("beta", made.id)
    assert await held(store, made) == ["a"]
    assert await ours.get("alpha", made.id) == made


async def test_it_tells_which_of_some_items_it_holds(store: Store) -> None:
    made, other = await begin(store, "a", "b", "c"), await begin(store, "x")
    ids = ["msg_c", "msg_x", "msg_a", "msg_0"]
    version = await version_of(store, made)
    [a, c] = said("a", "c")
    assert await store.conversations.holds("alpha", made.id, ids) == (
        version,
        {"msg_a": a, "msg_c": c},
    )
    assert await store.conversations.holds("alpha", made.id, []) == (version, {})
    assert await store.conversations.holds("alpha", "conv_0", ids) is None
    await store.conversations.remove("alpha", made.id, "msg_a")
    version = await version_of(store, made)
    assert await store.conversations.holds("alpha", made.id, ids) == (version, {"msg_c": c})
    empty = await begin(store)
    assert await store.conversations.holds("alpha", empty.id, ids) == (
        await version_of(store, empty),
        {},
    )
    assert await held(store, other) == ["x"]


async def test_items_come_at_the_end(store: Store) -> None:
    made = await begin(store, "a")
    before = await version_of(store, made)
    assert await store.conversations.append("alpha", made.id, said("c", "b"), before)
    assert await held(store, made) == ["a", "c", "b"]
    assert await version_of(store, made) > before


async def test_nothing_is_added_to_what_the_caller_did_not_see(store: Store) -> None:
    made = await begin(store, "a")
    seen = await version_of(store, made)
    assert await store.conversations.append("alpha", made.id, said("b"), seen)
    with pytest.raises(ConversationMoved):
        await store.conversations.append("alpha", made.id, said("c"), seen)
    assert await held(store, made) == ["a", "b"]
    assert not await store.conversations.append("alpha", "conv_0", said("c"), seen)


async def test_of_two_who_add_at_once_one_must_look_again(store: Store) -> None:
    made = await begin(store)
    seen = await version_of(store, made)
    answers = await asyncio.gather(
        *(store.conversations.append("alpha", made.id, said(text), seen) for text in "abcdef"),
        return_exceptions=True,
    )
    assert answers.count(True) == 1
    assert sum(isinstance(answer, ConversationMoved) for answer in answers) == 5
    assert len(await held(store, made) or ()) == 1


async def test_an_item_goes_and_the_others_stay_in_their_order(store: Store) -> None:
    """The place of one that went is nobody's again: the order is that of coming."""
    made = await begin(store, "a", "b", "c")
    seen = await version_of(store, made)
    assert await store.conversations.remove("alpha", made.id, "msg_c")
    assert not await store.conversations.remove("alpha", made.id, "msg_c")
    assert not await store.conversations.remove("alpha", "conv_0", "msg_c")
    with pytest.raises(ConversationMoved):
        await store.conversations.append("alpha", made.id, said("d"), seen)
    now = await version_of(store, made)
    assert await store.conversations.append("alpha", made.id, said("d"), now)
    assert await store.conversations.remove("alpha", made.id, "msg_a")
    assert await store.conversations.append(
        "alpha", made.id, said("a"), await version_of(store, made)
    )
    assert await held(store, made) == ["b", "d", "a"]


async def test_a_page_begins_behind_an_item(store: Store) -> None:
    made = await begin(store, *"abcdefg")

    async def page(after: str | None, limit: int, *, newest: bool) -> list[str] | None:
        found = await store.conversations.page(
            "alpha", made.id, after=after, limit=limit, order="desc" if newest else "asc"
        )
        return heard(found)

    assert await page(None, 3, newest=False) == ["a", "b", "c"]
    assert await page("msg_c", 3, newest=False) == ["d", "e", "f"]
    assert await page("msg_f", 3, newest=False) == ["g"]
    assert await page("msg_g", 3, newest=False) == []
    assert await page(None, 3, newest=True) == ["g", "f", "e"]
    assert await page("msg_e", 10, newest=True) == ["d", "c", "b", "a"]
    assert await page("msg_a", 10, newest=True) == []
    assert await page("msg_x", 3, newest=True) is None
    await store.conversations.remove("alpha", made.id, "msg_d")
    assert await page("msg_c", 2, newest=False) == ["e", "f"]
    other = await begin(store, "x")
    assert await page("msg_x", 3, newest=True) is None, "an item of another conversation"
    assert await held(store, other) == ["x"]


async def test_pages_of_a_conversation_that_is_unknown(store: Store) -> None:
    for after in (None, "msg_a"):
        found = await store.conversations.page(
            "alpha", "conv_0", after=after, limit=5, order="desc"
        )
        assert found is None


async def test_a_deleted_one_is_gone_with_its_items(store: Store) -> None:
    made, other = await begin(store, "a"), await begin(store, "b")
    assert await store.conversations.delete("alpha", made.id)
    assert not await store.conversations.delete("alpha", made.id)
    assert await store.conversations.get("alpha", made.id) is None
    assert await held(store, made) is None
    assert await store.conversations.item("alpha", made.id, "msg_a") is None
    assert await store.items("alpha", ["msg_a", "msg_b"]) == {"msg_b": said("b")[0]}
    assert await held(store, other) == ["b"]


async def test_a_long_one_is_paged_without_reading_it(store: Store) -> None:
    """Ten pages cost less than the whole: reading all for each would cost ten times as much."""
    made = await begin(store, *(f"{number:05}" for number in range(LONG)))
    started = time.perf_counter()
    history = await store.conversations.history("alpha", made.id)
    whole = time.perf_counter() - started
    assert history is not None
    assert len(history.items) == LONG
    middle = f"msg_{LONG // 2:05}"
    started = time.perf_counter()
    for _ in range(10):
        assert await store.conversations.holds("alpha", made.id, {middle}) is not None
    assert time.perf_counter() - started < whole
    started = time.perf_counter()
    for _ in range(10):
        page = await store.conversations.page(
            "alpha", made.id, after=middle, limit=20, order="desc"
        )
        assert page is not None
        assert [item["id"] for item in page[:2]] == [f"msg_{LONG // 2 - n:05}" for n in (1, 2)]
        assert len(page) == 20
    assert time.perf_counter() - started < whole
    assert await store.conversations.delete("alpha", made.id)


# -- items by their ids


async def test_items_of_conversations_are_found_by_any_id(store: Store) -> None:
    """Minted in the partition of the conversation, of a response, or chosen by a client."""
    minted: Item = message(f"msg_{secrets.token_hex(24)}", "minted")
    made = await begin(store, "mine")
    version = await version_of(store, made)
    await store.conversations.append("alpha", made.id, [minted], version)
    row = await run(store, made)
    assert await finish(store, row, "answer")
    ids: list[str] = ["msg_mine", minted["id"], "msg_answer", "msg_0"]
    found = await store.items("alpha", ids)
    assert set(found) == set(ids[:3])
    assert found[minted["id"]] == minted
    assert heard([found["msg_answer"]]) == ["answer"]
    assert await store.items("alpha", []) == {}


async def test_items_of_another_project_are_not_found(store: Store) -> None:
    """R-29, R-30; and one's own with the same id is."""
    made = await begin(store, "a", "b")
    await begin(store, "b", project="beta")
    assert await store.items("beta", ["msg_a"]) == {}
    assert await store.items("beta", ["msg_a", "msg_b"]) == {"msg_b": said("b")[0]}
    await store.conversations.remove("alpha", made.id, "msg_a")
    assert await store.items("alpha", ["msg_a"]) == {}


async def test_items_are_found_beside_those_of_responses(store: Store) -> None:
    row = response("hi")
    await store.save(row)
    made = await begin(store, "a")
    (input_item,) = orjson.loads(row.input)
    assert set(await store.items("alpha", [input_item["id"], "msg_a"])) == {
        input_item["id"],
        "msg_a",
    }
    await store.conversations.delete("alpha", made.id)
    assert set(await store.items("alpha", [input_item["id"], "msg_a"])) == {input_item["id"]}


async def test_what_was_not_to_be_stored_is_found_in_its_conversation_only(store: Store) -> None:
    """`store: false` is about the response: its conversation keeps what was said."""
    made = await begin(store)
    row = replace(turn(made), kept="replayed")
    (item,) = orjson.loads(row.input)
    assert await admit(store, row) is None
    assert await store.items("alpha", [item["id"]]) == {}
    end = replace(ended(), appended=[item])
    assert await store.runs.finish(lease_of(row), Batch(2, []), end)
    assert await store.items("alpha", [item["id"]]) == {item["id"]: item}
    assert await store.get("alpha", row.id) is None
