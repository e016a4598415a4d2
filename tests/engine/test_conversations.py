"""Conversations between runs: ids, copies, and who comes first (engine/conversations.py)."""

import asyncio
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import pytest

from antiphon.engine.conversations import ConversationService
from antiphon.engine.sealing import Kind, Sealer
from antiphon.errors import (
    ConversationNotFound,
    InvalidEncryptedContent,
    NotFoundError,
    Overloaded,
)
from antiphon.protocol.items.base import Item, Seen, told_of
from antiphon.store.base import History
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_conversations import MemoryConversations
from antiphon.store.memory_rows import Rows
from antiphon.store.sql import SqliteStore

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
        self.reads = 0
        self.deletes = False

    async def holds(
        self,
        project: str,
        id: str,  # noqa: A002
        ids: Collection[str],
    ) -> tuple[int, dict[str, Item]] | None:
        self.reads += 1
        found = await super().holds(project, id, ids)
        await asyncio.sleep(0)
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
    return ConversationService(store, Sealer(store), clock=lambda: NOW)


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
    with pytest.raises(Overloaded) as caught:
        await service.add("p", made.id, [said("mine")])
    assert caught.value.retry_after == 1
    assert store.crowd.times >= 900
    assert "mine" not in [text_of(item) for item in await items_of(service, made.id)]


async def test_within_a_process_they_queue(
    service: ConversationService, store: CrowdedStore
) -> None:
    """R-64: nobody overtakes, nobody tries twice; they come in the order in which they asked."""
    made = await service.create("p", {}, [])
    texts = [str(number) for number in range(20)]
    await asyncio.gather(*(service.add("p", made.id, [said(text)]) for text in texts))
    assert [text_of(item) for item in await items_of(service, made.id)] == texts
    assert store.crowd.reads == 20
    assert not service._turns


async def test_many_who_add_at_once_all_do(tmp_path: Path) -> None:
    """R-64: no response is made, so nobody is refused; also when there are two processes."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}"
    stores = [SqliteStore(url) for _ in range(2)]
    for store in stores:
        await store.open()
    try:
        services = [ConversationService(store, Sealer(store)) for store in stores]
        made = await services[0].create("p", {}, [])
        names = {str(number) for number in range(50)}
        adding = [
            services[number % 2].add("p", made.id, [said(name, id="theirs")])
            for number, name in enumerate(names)
        ]
        added = [item for (item,) in await asyncio.gather(*adding)]
        kept = await items_of(services[0], made.id)
        assert {text_of(item) for item in kept} == names
        assert sorted(item["id"] for item in kept) == sorted(item["id"] for item in added)
        assert len({item["id"] for item in kept}) == 50
        assert not services[0]._turns
    finally:
        for store in stores:
            await store.close()


async def test_a_seal_of_ours_must_open_for_who_sends_it(
    service: ConversationService, store: CrowdedStore
) -> None:
    """Spec §9: as in a request's `input`; nothing of it is kept otherwise."""
    sealer = Sealer(store)
    await sealer.open()
    made = await service.create("p", {}, [])
    kinds: tuple[Kind, Kind] = ("reasoning", "compaction")
    for kind, other in zip(kinds, kinds[::-1], strict=True):
        seal = sealer.seal(kind, "p", {"items": []})
        item: Item = {"type": kind, "id": "x_1", "encrypted_content": seal}
        if kind == "reasoning":
            item["summary"] = []
        [kept] = await service.add("p", made.id, [item])
        assert kept["encrypted_content"] == seal
        strangers = (
            seal[:-4],
            sealer.seal(kind, "q", {"items": []}),
            sealer.seal(other, "p", {"items": []}),
            "antiphon.2.00000000.AAAA",
        )
        for text in strangers:
            bad = [said("hi"), {**item, "encrypted_content": text}]
            for call in (service.add("p", made.id, bad), service.create("p", {}, bad)):
                with pytest.raises(InvalidEncryptedContent) as caught:
                    await call
                assert caught.value.param == "items"
                assert "item x_1 could" in caught.value.message
    assert len(await items_of(service, made.id)) == 2


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


async def test_a_hosted_call_that_is_added_has_what_came_of_it() -> None:
    """openai-agents adds all items of a run to its conversation."""
    store = MemoryStore()
    service = ConversationService(store, Sealer(store), clock=lambda: NOW)
    call: Item = {"id": "fs_" + "0" * 48, "type": "file_search_call", "queries": ["q"]}
    call |= {"status": "completed", "results": None}
    await service.create("p", {}, [Seen(call, None, "A page.")])
    for project, told in (("p", "A page."), ("another", None)):
        made = await service.create(project, {}, [said("q"), call])
        await service.add(project, made.id, [call])
        history = await store.conversations.history(project, made.id)
        assert history is not None
        first, again = history.items[1:]
        assert [first["id"], told_of(first), told_of(again)] == [call["id"], told, told]
        assert again["id"] != first["id"]


async def test_what_is_said_of_an_unknown_item_is_short_and_printable(
    service: ConversationService,
) -> None:
    """R-24."""
    made = await service.create("p", {}, [])
    with pytest.raises(NotFoundError) as caught:
        await service.item("p", made.id, "x\n" * 1_000)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600
