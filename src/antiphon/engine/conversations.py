"""Conversations by hand: made, read and changed between runs (spec §2.2, §9).

Rules
1. Another project's conversation, and what is in it, is unknown (R-29, R-30).
2. An item without an id gets one in the partition of its conversation, and so does one whose id is
   taken in there. Any other id is kept: that is how an item is the same here and in a response.
3. References and bare ids become copies of what they stand for, anywhere in the same project.
4. Calls and outputs may come one by one; whether they are pairs is asked when a response is made.
5. Items stay as they are while a response is made (R-64). Who adds while another adds comes behind.
"""

import time
from collections.abc import Callable
from typing import Final, Literal

from antiphon.engine.mint import SystemMint
from antiphon.engine.prompt import needs_lookup
from antiphon.errors import (
    ConversationLocked,
    ConversationNotFound,
    InvalidRequestError,
    NotFoundError,
)
from antiphon.protocol.ids import partition_of
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item
from antiphon.protocol.validation import echo
from antiphon.store.base import Conversation, ConversationBusy, ConversationMoved, Store

#: How often items are added anew because others were added first.
_MOST_ATTEMPTS: Final = 32


class ConversationService:
    """The conversations of all projects; `clock` gives Unix seconds.

    Raises `ConversationNotFound` where there is none, and `ConversationLocked` where its items must
    not change now.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self, project: str, metadata: dict[str, str], items: list[Item]
    ) -> Conversation:
        """A new conversation with its first items. Raises `NotFoundError` for a reference to
        nothing."""
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
        reference to nothing."""
        conversations = self._store.conversations
        mint = SystemMint(partition_of(conversation_id))
        named = {item["id"] for item in items if "id" in item}
        found: dict[str, Item] | None = None
        for _ in range(_MOST_ATTEMPTS):
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
        raise ConversationLocked

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

    async def _referred(self, project: str, items: list[Item]) -> dict[str, Item]:
        wanted = {item["id"] for item in items if needs_lookup(item)}
        return await self._store.items(project, wanted) if wanted else {}


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
        if "id" not in item or item["id"] in known:
            item = {**item, "id": mint.item_id(ITEM_TYPES[item["type"]].prefix)}
        known[item["id"]] = item
        fresh.append(item)
    return fresh
