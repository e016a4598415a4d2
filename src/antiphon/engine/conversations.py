"""Conversations by hand: made, read and changed between runs (spec §2.2, §9).

Rules
1. Another project's conversation, and what is in it, is unknown (R-29, R-30).
2. An item without an id gets one in the partition of its conversation, and so does one whose id is
   taken in there. Any other id is kept: that is how an item is the same here and in a response.
3. References and bare ids become copies of what they stand for, anywhere in the same project, and
   so do calls of hosted tools that do not say what came of them. An image that comes with its bytes
   is kept as it came (decision 0010).
4. Calls and outputs may come one by one; whether they are pairs is asked when a response is made.
5. Items stay as they are while a response is made (R-64). Who adds while another adds comes behind:
   in one process they queue, other processes are tried against with growing pauses.
6. Sealed contents of ours must open for the project that sends them, as in a request's `input`;
   foreign ones are kept as they are.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, Literal
from weakref import WeakValueDictionary

from antiphon.engine.carry import Seals
from antiphon.engine.mint import SystemMint
from antiphon.engine.prompt import needs_lookup, says_little
from antiphon.engine.sealing import OURS, Kind, Unverifiable
from antiphon.errors import (
    ConversationLocked,
    ConversationNotFound,
    InvalidEncryptedContent,
    InvalidRequestError,
    NotFoundError,
    Overloaded,
)
from antiphon.protocol.ids import partition_of
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item, changed
from antiphon.protocol.validation import echo
from antiphon.store.base import Conversation, ConversationBusy, ConversationMoved, Store

#: How often items are added anew because another process added others first.
_MOST_ATTEMPTS: Final = 100
#: Seconds between two attempts, times their number, and at most.
_STEP_BACK: Final = 0.001
_LONGEST_PAUSE: Final = 0.02

_SEALED: Final[tuple[Kind, ...]] = ("reasoning", "compaction")


class ConversationService:
    """The conversations of all projects; `clock` gives Unix seconds.

    Raises `ConversationNotFound` where there is none, and `ConversationLocked` where its items must
    not change now.
    """

    def __init__(self, store: Store, seals: Seals, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._seals = seals
        self._clock = clock
        #: Held by who adds to a conversation; gone when nobody does or waits.
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def create(
        self, project: str, metadata: dict[str, str], items: list[Item]
    ) -> Conversation:
        """A new conversation with its first items. Raises `NotFoundError` for a reference to
        nothing, and `InvalidEncryptedContent`."""
        await self._check_seals(project, items)
        mint = SystemMint()
        conversation = Conversation(
            id=mint.item_id("conv"),
            project=project,
            created_at=int(self._clock()),
            metadata=metadata,
        )
        found = await self._referred(project, items)
        await self._store.conversations.add(conversation, _fresh(items, {}, found, mint))
        return conversation

    async def get(self, project: str, conversation_id: str) -> Conversation:
        """One conversation."""
        found = await self._store.conversations.get(project, conversation_id)
        if found is None:
            raise ConversationNotFound(conversation_id)
        return found

    async def change(
        self, project: str, conversation_id: str, metadata: dict[str, str]
    ) -> Conversation:
        """Give it other metadata, also while it is busy."""
        if not await self._store.conversations.change(project, conversation_id, metadata):
            raise ConversationNotFound(conversation_id)
        return await self.get(project, conversation_id)

    async def delete(self, project: str, conversation_id: str) -> None:
        """Forget it and its items; a response that is being made for it ends, and is not added."""
        if not await self._store.conversations.delete(project, conversation_id):
            raise ConversationNotFound(conversation_id)

    async def add(self, project: str, conversation_id: str, items: list[Item]) -> list[Item]:
        """Add items at the end; they are answered as they are kept. Raises `NotFoundError` for a
        reference to nothing, `InvalidEncryptedContent`, and `Overloaded` when others are always
        quicker."""
        await self._check_seals(project, items)
        turn = self._turns.setdefault((project, conversation_id), asyncio.Lock())
        async with turn:
            return await self._add(project, conversation_id, items)

    async def _add(self, project: str, conversation_id: str, items: list[Item]) -> list[Item]:
        conversations = self._store.conversations
        mint = SystemMint(partition_of(conversation_id))
        named = {item["id"] for item in items if "id" in item}
        found: dict[str, Item] | None = None
        for tries in range(_MOST_ATTEMPTS):
            pause = min(tries * _STEP_BACK, _LONGEST_PAUSE)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311
            held = await conversations.holds(project, conversation_id, named)
            if held is None:
                raise ConversationNotFound(conversation_id)
            if found is None:
                found = await self._referred(project, items)
            version, there = held
            added = _fresh(items, there, found, mint)
            try:
                if await conversations.append(project, conversation_id, added, version):
                    return added
            except ConversationMoved:
                continue
            except ConversationBusy:
                raise ConversationLocked from None
        raise Overloaded(retry_after=1)

    async def item(self, project: str, conversation_id: str, item_id: str) -> Item:
        """One item. Raises `NotFoundError`."""
        found = await self._store.conversations.item(project, conversation_id, item_id)
        if found is None:
            raise await self._no_item(project, conversation_id, item_id)
        return found

    async def remove(self, project: str, conversation_id: str, item_id: str) -> Conversation:
        """Take one item out. Raises `NotFoundError`."""
        try:
            done = await self._store.conversations.remove(project, conversation_id, item_id)
        except ConversationBusy:
            raise ConversationLocked from None
        if not done:
            raise await self._no_item(project, conversation_id, item_id)
        return await self.get(project, conversation_id)

    async def page(
        self,
        project: str,
        conversation_id: str,
        *,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> tuple[list[Item], bool]:
        """At most `limit` items behind `after`, and whether there are more. Raises
        `InvalidRequestError` when there is no item `after`."""
        found = await self._store.conversations.page(
            project, conversation_id, after=after, limit=limit + 1, order=order
        )
        if found is None:
            await self.get(project, conversation_id)
            raise InvalidRequestError(f"Item with id '{echo(after)}' not found.", param="after")
        return found[:limit], len(found) > limit

    async def _no_item(self, project: str, conversation_id: str, item_id: str) -> NotFoundError:
        await self.get(project, conversation_id)
        return NotFoundError(
            f"Item with id '{echo(item_id)}' not found in conversation '{conversation_id}'."
        )

    async def _check_seals(self, project: str, items: list[Item]) -> None:
        for kind in _SEALED:
            sealed = [item for item in items if item["type"] == kind and _seal_of(item)]
            texts = [item["encrypted_content"] for item in sealed]
            outcomes = await self._seals.unseal_all(kind, project, texts) if texts else []
            for item, opened in zip(sealed, outcomes, strict=True):
                if isinstance(opened, Unverifiable):
                    raise InvalidEncryptedContent(item.get("id") or kind, "items")

    async def _referred(self, project: str, items: list[Item]) -> dict[str, Item]:
        wanted = {item["id"] for item in items if needs_lookup(item) or says_little(item)}
        return await self._store.items(project, wanted) if wanted else {}


def foreign_seals(items: list[Item]) -> list[str]:
    """Where `items` have `encrypted_content` that is not of ours, as parameter paths."""
    return [
        f"items[{index}].encrypted_content"
        for index, item in enumerate(items)
        if item["type"] in _SEALED and not _seal_of(item).startswith(OURS) and _seal_of(item)
    ]


def _seal_of(item: Item) -> str:
    return item.get("encrypted_content") or ""


def _fresh(
    items: list[Item], there: dict[str, Item], found: dict[str, Item], mint: SystemMint
) -> list[Item]:
    """What is kept of `items` in a conversation that has `there` of them, by their ids; `found`
    elsewhere."""
    known = dict(there)
    fresh: list[Item] = []
    for sent in items:
        item = sent
        if needs_lookup(item):
            original = known.get(item["id"]) or found.get(item["id"])
            if original is None:
                text = f"Item with id '{echo(item['id'])}' not found."
                raise NotFoundError(text, param="items")
            item = original
        elif says_little(item) and (kept := found.get(item["id"])) is not None:
            item = kept if kept["type"] == item["type"] else item
        if "id" not in item or item["id"] in known:
            item = changed(item, id=mint.item_id(ITEM_TYPES[item["type"]].prefix))
        known[item["id"]] = item
        fresh.append(item)
    return fresh
