"""Conversations in SQLite (`store.base.conversations`).

Rules
1. `refusal` and `extend` are parts of the transactions that admit and end a response: what was
   asked about a conversation still holds when it is written to.
2. Items are numbered by the versions that they make, so a number is never used again and their
   order is that in which they came.
3. Reads are decoded in the reader's thread, and read no more than what is asked for.
"""

import sqlite3
from collections.abc import Collection, Iterable
from typing import Final, Literal, TypeAlias

import orjson

from antiphon.protocol.items.base import Item
from antiphon.protocol.told import kept, recalled, told_before
from antiphon.store import conversation_statements as sql
from antiphon.store.base import Conversation, ConversationBusy, ConversationMoved, History
from antiphon.store.histories import Histories
from antiphon.store.readers import Readers
from antiphon.store.writer import Value, Writer

#: Why nothing was written: what the caller raises.
Refusal: TypeAlias = type[ConversationBusy] | type[ConversationMoved]
#: The id of an item, the item and what was told of it, both encoded.
Encoded: TypeAlias = tuple[str, bytes, bytes | None]

#: Where a page begins that is behind no item: no number is there.
_ENDS: Final = {"asc": 0, "desc": 2**63 - 1}


def encoded(items: Iterable[Item]) -> list[Encoded]:
    """Items as they are stored."""
    return [(item["id"], orjson.dumps(item), kept(told_before([item]))) for item in items]


def size(items: list[Encoded]) -> int:
    """Bytes."""
    return sum(len(item) + len(told or b"") for _, item, told in items)


def refusal(
    connection: sqlite3.Connection,
    project: str,
    id: str,  # noqa: A002
    version: int | None,
) -> Refusal | None:
    """Why nothing may be made of this conversation as it was at `version`; None: it may."""
    found = _version(connection, project, id)
    if found is None or version not in (None, found):
        return ConversationMoved
    return ConversationBusy if _is_busy(connection, id) else None


def extend(
    connection: sqlite3.Connection,
    project: str,
    id: str,  # noqa: A002
    items: list[Encoded],
) -> bool:
    """Add items at the end of a conversation; whether it is there."""
    version = _version(connection, project, id)
    if version is None:
        return False
    if items:
        _put(connection, project, id, items, version)
    return True


def find(connection: sqlite3.Connection, project: str, ids: Iterable[str]) -> dict[str, Item]:
    """The items with these ids in the conversations of a project."""
    found: dict[str, Item] = {}
    for id_ in ids:
        row = connection.execute(sql.FIND, {"project": project, "item_id": id_}).fetchone()
        if row is not None:
            item, told = row
            (found[id_],) = recalled([orjson.loads(item)], told)
    return found


class SqliteConversations:
    """See `Conversations`."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers
        self._histories = Histories(readers)

    async def add(self, conversation: Conversation, items: list[Item]) -> None:
        """See `Conversations.add`."""
        row = {
            "id": conversation.id,
            "project": conversation.project,
            "created_at": conversation.created_at,
            "metadata": orjson.dumps(conversation.metadata).decode(),
            "version": 0,
        }
        first = encoded(items)

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(sql.ADD, row)
            _put(connection, conversation.project, conversation.id, first, 0)

        await self._writer.run(step, durable=True, told=False, weight=size(first))

    async def get(self, project: str, id: str) -> Conversation | None:  # noqa: A002
        """See `Conversations.get`."""
        named = {"project": project, "id": id}
        row = await self._readers.ask(lambda c: c.execute(sql.GET, named).fetchone())
        if row is None:
            return None
        created_at, metadata = row
        return Conversation(id, project, created_at, orjson.loads(metadata))

    async def change(self, project: str, id: str, metadata: dict[str, str]) -> bool:  # noqa: A002
        """See `Conversations.change`."""
        new = orjson.dumps(metadata).decode()
        values = {"project": project, "id": id, "new": new}
        return await self._writer.write(sql.CHANGE, values, durable=True) > 0

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Conversations.delete`."""

        def step(connection: sqlite3.Connection) -> bool:
            if connection.execute(sql.DELETE, {"project": project, "id": id}).rowcount == 0:
                return False
            connection.execute(sql.DELETE_ITEMS, {"id": id})
            return True

        return await self._writer.run(step, durable=True, told=False)

    async def history(self, project: str, id: str) -> History | None:  # noqa: A002
        """See `Conversations.history`."""
        return await self._histories.read(project, id)

    async def holds(
        self,
        project: str,
        id: str,  # noqa: A002
        ids: Collection[str],
    ) -> tuple[int, dict[str, Item]] | None:
        """See `Conversations.holds`. The version is read first: what comes or goes after it moves
        the conversation on from it."""
        named = {"project": project, "id": id}

        def question(connection: sqlite3.Connection) -> tuple[int, dict[str, Item]] | None:
            version = _version(connection, project, id)
            if version is None:
                return None
            rows = {
                id_: connection.execute(sql.ITEM, named | {"item_id": id_}).fetchone()
                for id_ in ids
            }
            return version, {id_: orjson.loads(row[1]) for id_, row in rows.items() if row}

        return await self._readers.ask(question)

    async def append(
        self,
        project: str,
        id: str,  # noqa: A002
        items: list[Item],
        version: int,
    ) -> bool:
        """See `Conversations.append`."""
        new = encoded(items)

        def step(connection: sqlite3.Connection) -> bool | Refusal:
            if _version(connection, project, id) is None:
                return False
            return refusal(connection, project, id, version) or extend(connection, project, id, new)

        return _answer(await self._writer.run(step, durable=True, told=False, weight=size(new)))

    async def remove(self, project: str, id: str, item_id: str) -> bool:  # noqa: A002
        """See `Conversations.remove`."""
        named = {"project": project, "id": id, "item_id": item_id}

        def step(connection: sqlite3.Connection) -> bool | Refusal:
            version = _version(connection, project, id)
            if version is None:
                return False
            if _is_busy(connection, id):
                return ConversationBusy
            if connection.execute(sql.REMOVE, named).rowcount == 0:
                return False
            connection.execute(sql.BUMP, {"id_": id, "version": version + 1})
            return True

        return _answer(await self._writer.run(step, durable=True, told=False))

    async def item(self, project: str, id: str, item_id: str) -> Item | None:  # noqa: A002
        """See `Conversations.item`."""
        named = {"project": project, "id": id, "item_id": item_id}
        row = await self._readers.ask(lambda c: c.execute(sql.ITEM, named).fetchone())
        return orjson.loads(row[1]) if row else None

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
        named = {"project": project, "id": id}

        def question(connection: sqlite3.Connection) -> list[Item] | None:
            if after is None:
                start = _ENDS[order] if _version(connection, project, id) is not None else None
            else:
                row = connection.execute(sql.ITEM, named | {"item_id": after}).fetchone()
                start = row[0] if row else None
            if start is None:
                return None
            values = {"id": id, "after": start, "limit": limit}
            return [orjson.loads(row[0]) for row in connection.execute(sql.PAGES[order], values)]

        return await self._readers.ask(question)


def _version(connection: sqlite3.Connection, project: str, id: str) -> int | None:  # noqa: A002
    found = connection.execute(sql.VERSION, {"project": project, "id": id}).fetchone()
    return found[0] if found else None


def _is_busy(connection: sqlite3.Connection, id: str) -> bool:  # noqa: A002
    return connection.execute(sql.BUSY, {"id": id}).fetchone() is not None


def _put(
    connection: sqlite3.Connection,
    project: str,
    id: str,  # noqa: A002
    items: list[Encoded],
    version: int,
) -> None:
    """Number the items from `version` on, which is where it goes with them."""
    of: dict[str, Value] = {"conversation_id": id, "project": project}
    rows = [
        of | {"number": number, "item_id": item_id, "item": item, "told": told}
        for number, (item_id, item, told) in enumerate(items, version + 1)
    ]
    connection.executemany(sql.PUT, rows)
    connection.execute(sql.BUMP, {"id_": id, "version": version + len(items)})


def _answer(answer: bool | Refusal) -> bool:
    if isinstance(answer, type):
        raise answer
    return answer
