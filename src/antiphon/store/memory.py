"""A store that forgets: for tests, and for `memory://`.

Rules
1. Same contract as the SQL store (tests/store/test_contract.py runs on both).
2. Bounded by number, size and time; the oldest response goes first (lessons §1 rule 17).
3. What has large tables and many questions has no second implementation: it is in SQL (`_sql`).
"""

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from antiphon.protocol.items.base import Item
from antiphon.store import items, memory_listing
from antiphon.store.base import Listing, Page, ResponseRow, Turn
from antiphon.store.memory_approvals import MemoryApprovals
from antiphon.store.memory_conversations import MemoryConversations
from antiphon.store.memory_images import MemoryImages
from antiphon.store.memory_keys import MemoryKeys
from antiphon.store.memory_prompts import MemoryPrompts
from antiphon.store.memory_rows import Rows
from antiphon.store.memory_runs import MemoryRuns
from antiphon.store.memory_sql import MemorySql
from antiphon.store.memory_webhooks import MemoryWebhooks
from antiphon.store.sql_containers import SqliteContainers
from antiphon.store.sql_files import SqliteFiles
from antiphon.store.sql_ingestions import SqliteIngestions
from antiphon.store.sql_vector_stores import SqliteVectorStores


class MemoryStore(MemoryKeys):
    """Keeps at most `most_rows` responses of `most_bytes` in all, each for at most `ttl` seconds,
    and as many conversations of as many bytes; `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        most_rows: int = 10_000,
        most_bytes: int = 256 * 1024 * 1024,
        ttl: int = 86_400,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._rows = Rows(most_rows=most_rows, most_bytes=most_bytes, ttl=ttl, clock=clock)
        self.prompts = MemoryPrompts()
        self.approvals = MemoryApprovals()
        self.webhooks = MemoryWebhooks()
        self.conversations = MemoryConversations(self._rows, most=most_rows, most_bytes=most_bytes)
        self.runs = MemoryRuns(self._rows, self.conversations, self.webhooks, clock)
        self._sql = MemorySql(self.runs.news)
        self.files = SqliteFiles(self._sql, self._sql)
        self.vector_stores = SqliteVectorStores(self._sql, self._sql, clock)
        self.ingestions = SqliteIngestions(self._sql, self._sql)
        self.containers = SqliteContainers(self._sql, self._sql)
        self.images = MemoryImages(self._sql, self._rows, self.conversations)

    @property
    def evicted(self) -> int:
        """Responses and conversations that went before their time, for want of room."""
        return self._rows.evicted + self.conversations.evicted

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Forget what is in SQL; the rest goes by itself."""
        self._sql.close()

    async def ready(self) -> bool:
        """Always."""
        return True

    async def save(self, row: ResponseRow) -> bool:
        """See `Responses.save`."""
        old = self._rows.get(row.id)
        if old is not None:
            lease = (old.row.project, old.row.owner, old.row.attempt)
            if not old.runs or lease != (row.project, row.owner, row.attempt):
                return row.owner is None
        self._rows.put(row)
        return True

    async def get(self, project: str, id: str) -> ResponseRow | None:  # noqa: A002
        """See `Responses.get`."""
        row = self._live(project, id)
        return replace(row) if row else None

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Responses.delete`."""
        if self._live(project, id) is None:
            return False
        self._rows.delete(id)
        self.runs.drop_keys(lambda _, made: made == id)
        self.runs.news()
        return True

    async def chain(self, project: str, id: str) -> list[Turn] | None:  # noqa: A002
        """See `Responses.chain`."""
        turns: list[Turn] = []
        seen: set[str] = set()
        step: str | None = id
        while step is not None:
            row = self._live(project, step)
            if row is None or row.kept != "stored" or step in seen:
                return None
            seen.add(step)
            turns.append(items.turn(row.id, row.input, row.body, row.told))
            step = row.previous_response_id
        turns.reverse()
        return turns

    async def items(self, project: str, ids: Collection[str]) -> dict[str, Item]:
        """See `Responses.items`."""
        found: dict[str, Item] = {}
        for partition, wanted in items.by_partition(ids).items():
            row = self._live(project, self._rows.holder(partition) or "")
            if row is not None and row.kept == "stored":
                found |= items.find(wanted, [(row.input, row.body, row.told)])
        return found | self.conversations.find(project, set(ids) - found.keys())

    async def listed(self, project: str, listing: Listing) -> Page | None:
        """See `Responses.listed`."""
        live = (self._live(project, entry.row.id) for entry in self._rows)
        stored = (row for row in live if row is not None and row.kept == "stored")
        return memory_listing.listed(stored, listing)

    async def expire(self, now: int, limit: int) -> int:
        """See `Responses.expire`."""
        removed = self._rows.expire(now, limit)
        keys = self.runs.drop_keys(lambda key, _: key.expires_at <= now)
        used = self.approvals.expire(now, max(0, limit - removed - keys))
        return min(limit, removed + keys + used)

    def _live(self, project: str, id: str) -> ResponseRow | None:  # noqa: A002
        entry = self._rows.there(id)
        if entry is None or entry.row.project != project or entry.row.kept == "replayed":
            return None
        return entry.row
