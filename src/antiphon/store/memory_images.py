"""Images of the memory store (`store.base.images`): who needs them is in no table."""

import sqlite3
from itertools import islice, starmap

from antiphon.store import image_statements as sql
from antiphon.store.base.images import UNCLAIMED, ImageRow
from antiphon.store.memory_conversations import MemoryConversations
from antiphon.store.memory_rows import Rows
from antiphon.store.memory_sql import MemorySql
from antiphon.store.sql_images import SqliteImages


class MemoryImages(SqliteImages):
    """See `Images`. All are looked at each time: there cannot be many."""

    def __init__(self, tables: MemorySql, rows: Rows, conversations: MemoryConversations) -> None:
        super().__init__(tables, tables)
        self._rows = rows
        self._conversations = conversations

    async def expire(self, now: int, limit: int) -> tuple[list[str], int]:
        """See `Images.expire`."""
        rows = await self._readers.ask(lambda c: c.execute(sql.ALL).fetchall())
        unneeded = (row for row in starmap(ImageRow, rows) if not self._is_needed(row, now))
        gone = [row.blob for row in islice(unneeded, limit)]

        def step(connection: sqlite3.Connection) -> None:
            connection.executemany(sql.DROP, [{"blob": blob} for blob in gone])

        await self._writer.run(step, durable=True, told=False)
        return gone, len(gone)

    def _is_needed(self, row: ImageRow, now: int) -> bool:
        if row.conversation_id and self._conversations.has(row.project, row.conversation_id):
            return True
        made_by = self._rows.get(row.response_id)
        if made_by is None:
            return row.created_at + UNCLAIMED > now
        return not made_by.deleted
