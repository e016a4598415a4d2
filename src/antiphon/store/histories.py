"""Histories of conversations in SQLite, of which the newest stay decoded.

Rules
1. Every question asks the database: for the version, and for the items that came since the version
   that is remembered. As many as the version has grown: nothing went, and they are the rest. Else
   something was removed, and all is read again. So it does not matter which process changes one;
   those of 0004 know no conversations and change none (R-74).
2. A history shares its items with the one that it continues, so nobody changes them.
"""

import sqlite3
from dataclasses import dataclass

import orjson

from antiphon.protocol.items.base import Item
from antiphon.protocol.told import recalled
from antiphon.store import conversation_statements as sql
from antiphon.store.base import History
from antiphon.store.kept import MOST_BYTES, Kept
from antiphon.store.readers import Readers
from antiphon.store.writer import Value


@dataclass(frozen=True, slots=True)
class _News:
    """The version now, what came since another one, and its bytes."""

    version: int
    items: list[Item]
    size: int


class Histories:
    """Reads histories; keeps at most `most_bytes` of them decoded."""

    def __init__(self, readers: Readers, most_bytes: int = MOST_BYTES) -> None:
        self._readers = readers
        self._kept: Kept[tuple[History, int]] = Kept(most_bytes)

    async def read(self, project: str, id: str) -> History | None:  # noqa: A002
        """See `Conversations.history`."""
        place = project, id
        before, size = self._kept.get(place) or (History([], 0), 0)
        news = await self._ask(place, before.version)
        if before.version and news is not None and news.version - before.version != len(news.items):
            before, size = History([], 0), 0
            news = await self._ask(place, 0)
        if news is None:
            self._kept.drop(place)
            return None
        history = History([*before.items, *news.items], news.version)
        self._kept.put(place, (history, size + news.size), size + news.size)
        return history

    async def _ask(self, place: tuple[str, str], after: int) -> _News | None:
        values: dict[str, Value] = {"project": place[0], "id": place[1], "after": after}
        return await self._readers.ask(lambda connection: _news(connection, values))


def _news(connection: sqlite3.Connection, values: dict[str, Value]) -> _News | None:
    """One query, so items and version belong together."""
    rows = connection.execute(sql.HISTORY, values).fetchall()
    if not rows:
        return None
    found = [(item, told) for _, item, told in rows if item is not None]
    size = sum(len(item) + len(told or b"") for item, told in found)
    return _News(rows[0][0], [_item(*one) for one in found], size)


def _item(item: bytes, told: bytes | None) -> Item:
    return recalled([orjson.loads(item)], told)[0]
