"""Which items of a history a model sees: compactions, thoughts, seals (spec §9; 0006)."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from antiphon.engine.carry import Carrier, foreign_seals
from antiphon.engine.sealing import Kind, Sealer, new_encryption_key
from antiphon.errors import InvalidEncryptedContent
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.reasoning import state_of
from antiphon.protocol.request import CreateResponse
from antiphon.store.memory import MemoryStore
from tests.engine.said import call, message, names, output, reasoning

FOREIGN = "gAAAAABother"


@pytest.fixture
async def sealer() -> AsyncIterator[Sealer]:
    store = MemoryStore()
    await store.open()
    made = Sealer(store, [new_encryption_key(0)])
    await made.open()
    yield made
    await store.close()


class Counted:
    """Seals that know how many they were asked to open, each time."""

    def __init__(self, sealer: Sealer) -> None:
        self.sealer = sealer
        self.asked: list[int] = []

    async def unseal(self, kind: Kind, project: str, text: str) -> Any:
        return await self.sealer.unseal(kind, project, text)

    async def unseal_all(self, kind: Kind, project: str, texts: Sequence[str]) -> list[Any]:
        self.asked.append(len(texts))
        return await self.sealer.unseal_all(kind, project, texts)


def compaction(name: str, sealed: str) -> Item:
    return {"id": f"cmp_{name}", "type": "compaction", "encrypted_content": sealed}


def ours(sealer: Sealer, name: str, *kept: Item, project: str = "p") -> Item:
    """A compaction that holds `kept`."""
    return compaction(name, sealer.seal("compaction", project, {"items": list(kept)}))


def thought(sealer: Sealer, name: str, **payload: Any) -> Item:
    return reasoning(name, sealer.seal("reasoning", "p", {"content": "raw", **payload}))


def broken(item: Item) -> Item:
    """As if its key were gone."""
    return {**item, "encrypted_content": "antiphon.1.00000000.AAAA"}


async def carried(sealer: Sealer, *items: Item, own: int = 0, all_turns: bool = False) -> list[str]:
    carrier = Carrier(sealer, "p", all_reasoning=all_turns)
    return names(await carrier.carry(list(items), own))


# -- compactions ---------------------------------------------------------------------------------


async def test_where_nothing_matters_nothing_is_copied(sealer: Sealer) -> None:
    items = [message("1"), call("c"), output("c")]
    assert await Carrier(sealer, "p").carry(items) is items


async def test_ours_stands_for_all_before_it(sealer: Sealer) -> None:
    cmp = ours(sealer, "c", message("s", "system"), message("k"))
    assert await carried(sealer, message("1"), cmp, message("2")) == ["s", "k", "2"]
    assert await carried(sealer, cmp) == ["s", "k"]
    assert await carried(sealer, message("1"), ours(sealer, "e"), message("2")) == ["2"]


async def test_of_two_the_last_one_stands(sealer: Sealer) -> None:
    old, new = ours(sealer, "a", message("old")), ours(sealer, "b", message("new"))
    items = [message("1"), old, message("2"), new, message("3")]
    for own in (0, 2, 5):
        assert await carried(sealer, *items, own=own) == ["new", "3"]


async def test_foreign_ones_and_triggers_are_left_out(sealer: Sealer) -> None:
    foreign, trigger = compaction("f", FOREIGN), {"id": "cmpt_t", "type": "compaction_trigger"}
    items = [message("1"), foreign, message("2"), trigger, message("3")]
    assert await carried(sealer, *items, own=5) == ["1", "2", "3"]
    cmp = ours(sealer, "c", message("k"))
    assert await carried(sealer, message("1"), cmp, foreign, message("2")) == ["k", "2"]
    assert await carried(sealer, message("1"), foreign, cmp, trigger, message("2")) == ["k", "2"]


async def test_one_that_was_never_finished_is_left_out(sealer: Sealer) -> None:
    """A failed response has it, empty."""
    assert await carried(sealer, message("1"), compaction("c", ""), message("2")) == ["1", "2"]


@pytest.mark.parametrize("how", ["key", "project", "kind"])
async def test_what_a_client_sends_must_open(sealer: Sealer, how: str) -> None:
    """R-29; and the answer names the item."""
    cmp = {
        "key": broken(ours(sealer, "c")),
        "project": ours(sealer, "c", project="q"),
        "kind": compaction("c", sealer.seal("reasoning", "p", {"items": []})),
    }[how]
    with pytest.raises(InvalidEncryptedContent) as caught:
        await carried(sealer, message("1"), cmp, own=1)
    assert "cmp_c" in caught.value.message


async def test_what_was_stored_here_is_shown_as_far_as_it_is_in_the_clear(sealer: Sealer) -> None:
    """Its key was dropped: what it stood for is still there."""
    old, new = ours(sealer, "a", message("old")), broken(ours(sealer, "b"))
    assert await carried(sealer, message("1"), new, message("2"), own=1) == ["1", "2"]
    assert await carried(sealer, message("1"), old, message("2"), new, message("3")) == [
        *("old", "2", "3")
    ]


# -- thoughts ------------------------------------------------------------------------------------


async def test_thoughts_are_shown_after_the_last_user_message(sealer: Sealer) -> None:
    items = [message("1"), reasoning("a"), message("2"), reasoning("b"), call("c"), output("c")]
    assert await carried(sealer, *items) == ["1", "2", "b", "c", "c"]
    assert await carried(sealer, *items, own=1) == ["1", "2", "b", "c", "c"]
    assert await carried(sealer, *items, message("3")) == ["1", "2", "c", "c", "3"]
    assert await carried(sealer, *items, message("3"), all_turns=True) == [
        *("1", "a", "2", "b", "c", "c", "3")
    ]


async def test_other_roles_end_no_turn(sealer: Sealer) -> None:
    items = [message("1"), reasoning("a"), message("d", "developer"), message("x", "assistant")]
    assert await carried(sealer, *items) == ["1", "a", "d", "x"]


async def test_without_a_user_all_thoughts_are_shown(sealer: Sealer) -> None:
    items = [message("d", "developer"), reasoning("a"), reasoning("b")]
    assert await carried(sealer, *items) == ["d", "a", "b"]


async def test_the_turn_of_a_compaction_keeps_its_thoughts(sealer: Sealer) -> None:
    cmp = ours(sealer, "c", message("1"), message("2"), reasoning("a"))
    assert await carried(sealer, cmp, output("x")) == ["1", "2", "a", "x"]
    assert await carried(sealer, cmp, message("3")) == ["1", "2", "3"]


async def test_a_sealed_thought_gets_back_what_the_backend_had_said(sealer: Sealer) -> None:
    item = thought(sealer, "a", state={"signature": "s"})
    for own in (0, 1):
        (shown,) = await Carrier(sealer, "p").carry([item], own)
        assert shown["content"] == [{"type": "reasoning_text", "text": "raw"}]
        assert state_of(shown) == {"signature": "s"}
    assert "content" not in item, "what is stored stays as it is"


async def test_a_thought_of_others_is_shown_as_it_is(sealer: Sealer) -> None:
    item = reasoning("a", FOREIGN)
    assert await Carrier(sealer, "p").carry([item], 1) == [item]


async def test_a_thought_that_does_not_open(sealer: Sealer) -> None:
    """Sent, it is refused, shown or not; stored, its text stays."""
    clear = {**broken(thought(sealer, "a")), "content": [{"type": "reasoning_text", "text": "t"}]}
    for items in ([clear], [clear, message("1")]):
        with pytest.raises(InvalidEncryptedContent):
            await Carrier(sealer, "p").carry(items, len(items))
    assert await Carrier(sealer, "p").carry([clear]) == [clear]


async def test_the_seals_of_a_context_are_opened_together(sealer: Sealer) -> None:
    """R-118: one hop beside the loop for all of them, and no more than are needed."""
    seals = Counted(sealer)
    earlier = [thought(sealer, name) for name in "ab"]
    now = [thought(sealer, name) for name in "cd"] + [reasoning("e"), reasoning("f", FOREIGN)]
    items = [message("1"), *earlier, message("2"), *now]
    shown = await Carrier(seals, "p").carry(items)
    assert seals.asked == [3]
    assert names(shown) == ["1", "2", "c", "d", "e", "f"]
    assert [item["content"][0]["text"] for item in shown[2:5]] == ["raw", "raw", "e"]
    await Carrier(seals, "p").carry(items, len(items))
    assert seals.asked == [3, 5], "what a client sends must open, shown or not"


async def test_what_was_opened_is_not_opened_again(sealer: Sealer) -> None:
    """Each turn of a tool loop carries what the turn before it has carried."""
    seals = Counted(sealer)
    carrier = Carrier(seals, "p", all_reasoning=True)
    items = [message("1"), thought(sealer, "a"), thought(sealer, "b", state={"signature": "s"})]
    first = await carrier.carry(items, len(items))
    second = await carrier.carry([*first, call("c"), thought(sealer, "c")])
    assert seals.asked == [2, 1]
    assert [state_of(item) for item in second[1:3]] == [None, {"signature": "s"}]


async def test_a_compaction_keeps_what_the_backend_wants_back(sealer: Sealer) -> None:
    """What is sealed in it is what a client may see, and the next carry restores the rest."""
    items = [message("1"), thought(sealer, "a", state={"signature": "s"}), thought(sealer, "b")]
    carrier = Carrier(sealer, "p")
    shown = await carrier.carry(items)
    for _ in range(2):
        kept = orjson.loads(orjson.dumps(shown))
        assert {key for item in kept[1:] for key in item} == {
            *("id", "type", "summary", "content", "encrypted_content")
        }
        shown = await carrier.carry([ours(sealer, "c", *kept)])
        assert [item["content"][0]["text"] for item in shown] == ["1", "raw", "raw"]
        assert [state_of(item) for item in shown] == [None, {"signature": "s"}, None]


# -- what is named -------------------------------------------------------------------------------


async def test_searches_without_a_call_id_find_what_they_found(sealer: Sealer) -> None:
    """In the order in which they were made; one that was cut off found nothing."""

    def search(name: str, status: str = "completed") -> Item:
        common = {"call_id": None, "execution": "server", "status": status}
        return {"type": "tool_search_call", "id": name, "arguments": {}, **common}

    def found(name: str) -> Item:
        return {"type": "tool_search_output", "id": name, "tools": [], "call_id": None}

    items = [search("a", "incomplete"), search("b"), search("c"), found("d"), found("e")]
    shown = await Carrier(sealer, "p").carry([*items, search("f")])
    assert [(item["id"], item["call_id"]) for item in shown] == [
        ("b", "b"),
        ("c", "c"),
        ("d", "b"),
        ("e", "c"),
    ]


def test_foreign_seals_are_named_by_their_place() -> None:
    kinds: dict[Kind, Item] = {
        "reasoning": {"type": "reasoning", "summary": [], "encrypted_content": FOREIGN},
        "compaction": {"type": "compaction", "encrypted_content": FOREIGN},
    }
    sealed_here = {**kinds["reasoning"], "encrypted_content": "antiphon.1.x.y"}
    clear = {"type": "reasoning", "summary": []}
    items = [message("1"), kinds["reasoning"], clear, sealed_here, kinds["compaction"]]
    assert foreign_seals(CreateResponse(model="m", input=items)) == [
        "input[1].encrypted_content",
        "input[4].encrypted_content",
    ]
    assert foreign_seals(CreateResponse(model="m", input="hi")) == []
