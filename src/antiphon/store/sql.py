"""The SQLite store: everything in one file; here responses (design §7, decision 0003).

Rules
1. Writes go through the one `Writer`, questions through `Readers`; nothing blocks the event loop.
2. What a client is told of is durable: everything but a row that is `in_progress`.
3. An expired row is unknown from the second of its expiry, swept or not.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from antiphon.errors import Overloaded
from antiphon.protocol.items.base import Item
from antiphon.store import items, sql_conversations, sql_listing, sql_removal, sqlite, statements
from antiphon.store.base import Listing, Page, ResponseRow, Turn
from antiphon.store.chains import Chains
from antiphon.store.migrate import migrate
from antiphon.store.owner_locks import OwnerLocks
from antiphon.store.readers import Readers
from antiphon.store.sql_approvals import SqliteApprovals
from antiphon.store.sql_containers import SqliteContainers
from antiphon.store.sql_conversations import SqliteConversations
from antiphon.store.sql_files import SqliteFiles
from antiphon.store.sql_images import SqliteImages
from antiphon.store.sql_ingestions import SqliteIngestions
from antiphon.store.sql_keys import SqliteKeys
from antiphon.store.sql_prompts import SqlitePrompts
from antiphon.store.sql_runs import SqliteRuns
from antiphon.store.sql_vector_stores import SqliteVectorStores
from antiphon.store.sql_webhooks import SqliteWebhooks
from antiphon.store.watch import Watch
from antiphon.store.writer import Parameters, Value, Writer

#: How long a tombstone stays: longer than any run that could still write to it, in seconds.
TOMBSTONE: Final = 7 * 86_400
#: How long `ready` waits, in seconds: less than what those who ask wait for an answer.
PROBE_LIMIT: Final = 2.0


class SqliteStore(SqliteKeys):
    """`url` is ``sqlite+aiosqlite:///path``; `clock` gives Unix seconds."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self.path = sqlite.path_of(url)
        self._clock = clock
        self._watch = Watch(self.path)
        super().__init__(Writer(self.path, self._watch.news), Readers(self.path))
        self._chains = Chains(self._readers)
        self._locks = OwnerLocks(self.path)
        self.runs = SqliteRuns(self._writer, self._readers, self._watch, self._locks, clock)
        self.prompts = SqlitePrompts(self._writer, self._readers)
        self.approvals = SqliteApprovals(self._writer, self._readers)
        self.conversations = SqliteConversations(self._writer, self._readers)
        self.webhooks = SqliteWebhooks(self._writer, self._readers)
        self.files = SqliteFiles(self._writer, self._readers)
        self.vector_stores = SqliteVectorStores(self._writer, self._readers, clock)
        self.ingestions = SqliteIngestions(self._writer, self._readers)
        self.containers = SqliteContainers(self._writer, self._readers)
        self.images = SqliteImages(self._writer, self._readers)
        self._probe: asyncio.Future[int] | None = None

    async def open(self) -> None:
        """Check the file, bring the schema up to date, start the threads."""
        await asyncio.to_thread(migrate, self.url)
        await self._writer.start()

    async def close(self) -> None:
        """Readers go first: the last connection folds the log into the file, and must be able to
        write."""
        await self._watch.close()
        await self._readers.close()
        await self._writer.close()
        self._locks.close()

    @property
    def commits(self) -> int:
        """Transactions committed since `open`."""
        return self._writer.commits

    async def ready(self) -> bool:
        """Write a little and see (R-71); a write that takes longer than `PROBE_LIMIT` does not
        work. Who asks meanwhile waits for the same write, so at most one of them is ever queued."""
        probe = self._probe
        if probe is None or probe.done():
            try:
                probe = self._writer.write(statements.PROBE, {}, durable=False)
            except Overloaded:
                return False
            self._probe = probe
            probe.add_done_callback(asyncio.Future.exception)  # else: asyncio logs a forgotten one
        await asyncio.wait([probe], timeout=PROBE_LIMIT)
        return probe.done() and probe.exception() is None

    async def save(self, row: ResponseRow) -> bool:
        """See `Responses.save`."""
        values: Parameters = (
            row.id,
            row.project,
            row.status,
            row.created_at,
            row.expires_at,
            row.previous_response_id,
            row.body,
            row.input,
            row.kept,
            row.owner,
            row.attempt,
            row.conversation,
            row.metadata,
            row.told,
        )
        durable = row.status != "in_progress"
        weight = len(row.body) + len(row.input) + len(row.told or b"")
        if row.metadata is not None:
            step = sql_listing.saving(row, values)
            return await self._writer.run(step, durable=durable, told=False, weight=weight)
        changed = await self._writer.write(
            statements.SAVE,
            values,
            durable=durable,
            counted=row.owner is not None,
            weight=weight,
        )
        return changed > 0

    async def get(self, project: str, id: str) -> ResponseRow | None:  # noqa: A002
        """See `Responses.get`."""
        found = await self._one(statements.GET, {"project": project, "id": id, "now": self._now()})
        return ResponseRow(*found) if found else None

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Responses.delete`; a tombstone stays."""
        now = self._now()
        values: dict[str, Value] = {"project": project, "id": id, "now": now}
        values["forget_at"] = now + TOMBSTONE
        return await self._writer.run(
            lambda connection: sql_removal.delete(connection, values), durable=True
        )

    async def chain(self, project: str, id: str) -> list[Turn] | None:  # noqa: A002
        """See `Responses.chain`."""
        return await self._chains.read(project, id, self._now())

    async def items(self, project: str, ids: Collection[str]) -> dict[str, Item]:
        """See `Responses.items`. The partition leads to the response; what is not there may be in
        a conversation."""
        if not ids:
            return {}
        values: dict[str, Value] = {"project": project, "now": self._now()}

        def question(connection: sqlite3.Connection) -> dict[str, Item]:
            found = _items(connection, items.by_partition(ids), values)
            rest = [id_ for id_ in ids if id_ not in found]
            return found | sql_conversations.find(connection, project, rest)

        return await self._readers.ask(question)

    async def listed(self, project: str, listing: Listing) -> Page | None:
        """See `Responses.listed`."""
        now = self._now()
        return await self._readers.ask(
            lambda connection: sql_listing.listed(connection, project, listing, now)
        )

    async def expire(self, now: int, limit: int) -> int:
        """See `Responses.expire`."""
        return await self._writer.run(
            lambda connection: sql_removal.expire(connection, now, limit),
            durable=False,
            told=False,
        )

    async def _one(self, sql: str, values: Parameters) -> Any:
        return await self._readers.ask(
            lambda connection: connection.execute(sql, values).fetchone()
        )

    def _now(self) -> int:
        return int(self._clock())


def _items(
    connection: sqlite3.Connection, groups: Mapping[str, set[str]], values: dict[str, Value]
) -> dict[str, Item]:
    """One read for each partition; its rows are decoded one after the other."""
    found: dict[str, Item] = {}
    for partition, ids in groups.items():
        first = f"resp_{partition}"
        bounds = {**values, "first": first, "beyond": first + "g"}
        found |= items.find(ids, connection.execute(statements.PARTITION, bounds))
    return found
