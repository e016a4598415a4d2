"""Conversations in memory (`store.base.conversations`): the same contract, within one process.

Rules
1. Bounded by number and size; the oldest goes first (lessons §1 rule 17).
2. Items are kept encoded: what goes in and out is a copy, and its size is known.
"""

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import orjson

from antiphon.protocol.items.base import Item
from antiphon.protocol.told import kept as encoded_told
from antiphon.protocol.told import recalled, told_before
from antiphon.store.base import Conversation, ConversationBusy, ConversationMoved, History
from antiphon.store.memory_rows import Rows


@dataclass(slots=True)
class _Kept:
    """A conversation; its items by id, in the order in which they came."""

    about: Conversation
    version: int = 0
    items: dict[str, bytes] = field(default_factory=dict)
    #: What the model was told of some of them.
    told: dict[str, bytes] = field(default_factory=dict)
    #: What all of it takes.
    bytes: int = 0


class MemoryConversations:
    """See `Conversations`. At most `most`, of `most_bytes` in all; `rows` tell which are busy."""

    def __init__(self, rows: Rows, *, most: int, most_bytes: int) -> None:
        self._rows = rows
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        #: In the order in which they came.
        self._kept: dict[str, _Kept] = {}
        #: Conversations that went for want of room.
        self.evicted = 0

    def check(self, project: str, id: str, version: int | None) -> None:  # noqa: A002
        """Raises `ConversationMoved` or `ConversationBusy` when nothing may be made of this
        conversation as it was at `version`."""
        kept = self._mine(project, id)
        if kept is None or version not in (None, kept.version):
            raise ConversationMoved
        self._check_free(id)

    def extend(self, project: str, id: str, items: Iterable[Item]) -> None:  # noqa: A002
        """Add items at the end of a conversation, if it is there."""
        kept = self._mine(project, id)
        if kept is not None:
            given = list(items)
            new = {item["id"]: orjson.dumps(item) for item in given}
            told = {item["id"]: encoded for item in given if (encoded := _told(item)) is not None}
            kept.items |= new
            kept.told |= told
            kept.version += len(new)
            self._grow(kept, sum(map(_size, (*new.items(), *told.items()))))

    def has(self, project: str, id: str) -> bool:  # noqa: A002
        """Whether it is there."""
        return self._mine(project, id) is not None

    def find(self, project: str, ids: Set[str]) -> dict[str, Item]:
        """The items with these ids in the conversations of a project."""
        found: dict[str, Item] = {}
        for kept in self._kept.values():
            if kept.about.project == project:
                for id_ in kept.items.keys() & ids - found.keys():
                    (found[id_],) = recalled([orjson.loads(kept.items[id_])], kept.told.get(id_))
        return found

    async def add(self, conversation: Conversation, items: list[Item]) -> None:
        """See `Conversations.add`."""
        kept = self._kept[conversation.id] = _Kept(_copy(conversation))
        self._grow(kept, sum(map(_size, conversation.metadata.items())))
        self.extend(conversation.project, conversation.id, items)

    async def get(self, project: str, id: str) -> Conversation | None:  # noqa: A002
        """See `Conversations.get`."""
        kept = self._mine(project, id)
        return _copy(kept.about) if kept else None

    async def change(self, project: str, id: str, metadata: dict[str, str]) -> bool:  # noqa: A002
        """See `Conversations.change`."""
        kept = self._mine(project, id)
        if kept is None:
            return False
        old, kept.about.metadata = kept.about.metadata, dict(metadata)
        self._grow(kept, sum(map(_size, metadata.items())) - sum(map(_size, old.items())))
        return True

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Conversations.delete`."""
        if self._mine(project, id) is None:
            return False
        self._drop(id)
        return True

    async def history(self, project: str, id: str) -> History | None:  # noqa: A002
        """See `Conversations.history`."""
        kept = self._mine(project, id)
        if kept is None:
            return None
        items: list[Item] = []
        for id_, item in kept.items.items():
            items += recalled([orjson.loads(item)], kept.told.get(id_))
        return History(items, kept.version)

    async def holds(
        self,
        project: str,
        id: str,  # noqa: A002
        ids: Collection[str],
    ) -> tuple[int, dict[str, Item]] | None:
        """See `Conversations.holds`."""
        kept = self._mine(project, id)
        if kept is None:
            return None
        there = {id_: orjson.loads(kept.items[id_]) for id_ in ids if id_ in kept.items}
        return kept.version, there

    async def append(
        self,
        project: str,
        id: str,  # noqa: A002
        items: list[Item],
        version: int,
    ) -> bool:
        """See `Conversations.append`."""
        if self._mine(project, id) is None:
            return False
        self.check(project, id, version)
        self.extend(project, id, items)
        return True

    async def remove(self, project: str, id: str, item_id: str) -> bool:  # noqa: A002
        """See `Conversations.remove`."""
        kept = self._mine(project, id)
        if kept is None:
            return False
        self._check_free(id)
        item = kept.items.pop(item_id, None)
        if item is None:
            return False
        kept.version += 1
        told = kept.told.pop(item_id, b"")
        self._grow(kept, -_size((item_id, item + told)) - len(item_id) * bool(told))
        return True

    async def item(self, project: str, id: str, item_id: str) -> Item | None:  # noqa: A002
        """See `Conversations.item`."""
        kept = self._mine(project, id)
        item = kept.items.get(item_id) if kept else None
        return orjson.loads(item) if item is not None else None

    async def page(
        self,
        project: str,
        id: str,  # noqa: A002
        *,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> list[Item] | None:
        """See `Conversations.page`."""
        kept = self._mine(project, id)
        if kept is None or (after is not None and after not in kept.items):
            return None
        ids = iter(kept.items) if order == "asc" else reversed(kept.items)
        if after is not None:
            next(id_ for id_ in ids if id_ == after)
        return [orjson.loads(kept.items[id_]) for id_ in islice(ids, limit)]

    def _mine(self, project: str, id: str) -> _Kept | None:  # noqa: A002
        kept = self._kept.get(id)
        return kept if kept is not None and kept.about.project == project else None

    def _check_free(self, id: str) -> None:  # noqa: A002
        if any(entry.runs and entry.row.conversation == id for entry in self._rows):
            raise ConversationBusy

    def _grow(self, kept: _Kept, by: int) -> None:
        kept.bytes += by
        self._bytes += by
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))
            self.evicted += 1

    def _drop(self, id: str) -> None:  # noqa: A002
        self._bytes -= self._kept.pop(id).bytes


def _told(item: Item) -> bytes | None:
    return encoded_told(told_before([item]))


def _size(pair: tuple[str, str | bytes]) -> int:
    return len(pair[0]) + len(pair[1])


def _copy(conversation: Conversation) -> Conversation:
    return replace(conversation, metadata=dict(conversation.metadata))
