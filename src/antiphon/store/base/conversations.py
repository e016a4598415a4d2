"""The port to conversations: lists of items that outlive responses (spec §2.2, §9).

Rules
1. A conversation has a version, which grows with each change to its items. A run is planned with
   what the conversation held, and is admitted only if it still does (`Runs.admit`).
2. It is busy while a response that names it runs: no other is admitted, and its items stay as they
   are (R-64). Nothing else holds it, so a crash cannot leave it locked.
3. The items of a run are appended in the transaction that ends it (`Ending.appended`).
4. Ids are unique within a conversation: the caller sees to it.
5. What the model was told of an item (`protocol/told.py`) is kept beside it, and comes back with
   `history` alone.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from antiphon.protocol.items.base import Item


class ConversationBusy(Exception):
    """A response that belongs to it is being made."""


class ConversationMoved(Exception):
    """It is gone, or no longer holds what the caller saw."""


@dataclass(slots=True)
class Conversation:
    """``conv_…``; `created_at` in Unix seconds."""

    id: str
    project: str
    created_at: int
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class History:
    """All items of a conversation, oldest first, and the version that they are of."""

    items: list[Item]
    version: int


class Conversations(Protocol):
    """Conversations and their items."""

    async def add(self, conversation: Conversation, items: list[Item]) -> None:
        """Store a new conversation with its first items."""
        ...

    async def get(self, project: str, id: str) -> Conversation | None:  # noqa: A002
        """One conversation."""
        ...

    async def change(self, project: str, id: str, metadata: dict[str, str]) -> bool:  # noqa: A002
        """Replace its metadata; whether it is there."""
        ...

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """Forget it and its items, busy or not; whether it was there."""
        ...

    async def history(self, project: str, id: str) -> History | None:  # noqa: A002
        """All that it holds."""
        ...

    async def holds(
        self,
        project: str,
        id: str,  # noqa: A002
        ids: Collection[str],
    ) -> tuple[int, dict[str, Item]] | None:
        """Its version, and by their ids those of `ids` that it holds: what `append` asks for, at
        the same cost whatever else it holds."""
        ...

    async def append(
        self,
        project: str,
        id: str,  # noqa: A002
        items: list[Item],
        version: int,
    ) -> bool:
        """Add items at the end; whether it is there. Raises `ConversationBusy`, and
        `ConversationMoved` when it is no longer of `version`."""
        ...

    async def remove(self, project: str, id: str, item_id: str) -> bool:  # noqa: A002
        """Take one item out; whether it was there. Raises `ConversationBusy`."""
        ...

    async def item(self, project: str, id: str, item_id: str) -> Item | None:  # noqa: A002
        """One item."""
        ...

    async def page(
        self,
        project: str,
        id: str,  # noqa: A002
        *,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
    ) -> list[Item] | None:
        """At most `limit` items in that order, behind the one with the id `after`; None when there
        is no conversation or no such item."""
        ...
