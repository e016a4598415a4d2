"""Conversations between runs: ids, copies, and who comes first (engine/conversations.py)."""

import time
from collections.abc import Collection
from typing import Final

import pytest

from antiphon.engine.conversations import ConversationService
from antiphon.errors import ConversationLocked, ConversationNotFound, NotFoundError
from antiphon.protocol.items.base import Item
from antiphon.store.base import History
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_conversations import MemoryConversations
from antiphon.store.memory_rows import Rows

NOW: Final = 1_700_000_000
MIB: Final = 1024 * 1024


def said(text: str, **fields: str) -> Item:
    part = {"type": "input_text", "text": text}
    return {"type": "message", "role": "user", "content": [part], **fields}


def text_of(item: Item) -> str:
    text: str = item["content"][0]["text"]
    return text


class Crowd(MemoryConversations):
    """Somebody else is quicker: `times` times an item with the id ``theirs`` is added, or the
    conversation deleted, right after it was read. Whoever adds reads no more than he must: to read
    all would cost more with each item."""

    def __init__(self) -> None:
        rows = Rows(most_rows=10, most_bytes=MIB, ttl=60, clock=time.time)
        super().__init__(rows, most=10, most_bytes=MIB)
        self.times = 0
        self.deletes = False

    async def holds(
        self,
        project: str,
        id: str,  # noqa: A002
        ids: Collection[str],
    ) -> tuple[int, dict[str, Item]] | None:
        found = await super().holds(project, id, ids)
        if found is not None and self.deletes:
            await self.delete(project, id)
        elif found is not None and self.times > 0:
            self.times -= 1
            version, _ = found
            theirs = "theirs" if version == 0 else f"theirs_{self.times}"
            await self.append(project, id, [said("theirs", id=theirs)], version)
        return found

    async def history(self, project: str, id: str) -> History | None:  # noqa: A002
        raise AssertionError(f"all of {id} is read")


class CrowdedStore(MemoryStore):
    """A store with a `Crowd`."""

    def __init__(self) -> None:
        super().__init__()
        self.crowd = Crowd()
        self.conversations = self.crowd


@pytest.fixture
def store() -> CrowdedStore:
    return CrowdedStore()


@pytest.fixture
def service(store: CrowdedStore) -> ConversationService:
    return ConversationService(store, clock=lambda: NOW)


async def items_of(service: ConversationService, id_: str) -> list[Item]:
    items, has_more = await service.page("p", id_, after=None, limit=100, order="asc")
    assert not has_more
    return items


async def test_who_was_overtaken_comes_behind(
    service: ConversationService, store: CrowdedStore
) -> None:
    """R-64: and an id that was taken meanwhile is not given twice."""
    made = await service.create("p", {}, [])
    assert made.created_at == NOW
    store.crowd.times = 3
    added = await service.add("p", made.id, [said("mine", id="theirs"), said("mine")])
    kept = await items_of(service, made.id)
    assert [text_of(item) for item in kept] == ["theirs"] * 3 + ["mine"] * 2
    assert kept[3:] == added
    assert len({item["id"] for item in kept}) == 5


async def test_who_is_always_overtaken_is_told_to_come_again(
    service: ConversationService, store: CrowdedStore
) -> None:
    """Nobody waits for ever; nothing of it is kept."""
    made = await service.create("p", {}, [])
    store.crowd.times = 1_000
    with pytest.raises(ConversationLocked):
        await service.add("p", made.id, [said("mine")])
    assert store.crowd.times > 900
    assert "mine" not in [text_of(item) for item in await items_of(service, made.id)]


async def test_what_is_deleted_meanwhile_is_unknown(
    service: ConversationService, store: CrowdedStore
) -> None:
    made = await service.create("p", {}, [])
    store.crowd.deletes = True
    with pytest.raises(ConversationNotFound) as caught:
        await service.add("p", made.id, [said("mine")])
    assert caught.value.message == f"Conversation with id '{made.id}' not found."


async def test_a_reference_means_what_is_in_the_same_conversation_first(
    service: ConversationService,
) -> None:
    """Many clients choose the same ids."""
    await service.create("p", {}, [said("elsewhere", id="m")])
    made = await service.create("p", {}, [said("here", id="m")])
    await service.create("p", {}, [said("anywhere", id="m")])
    [copy] = await service.add("p", made.id, [{"type": "item_reference", "id": "m"}])
    assert text_of(copy) == "here"
    assert copy["id"] != "m"


async def test_what_is_said_of_an_unknown_item_is_short_and_printable(
    service: ConversationService,
) -> None:
    """R-24."""
    made = await service.create("p", {}, [])
    with pytest.raises(NotFoundError) as caught:
        await service.item("p", made.id, "x\n" * 1_000)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600
