"""Runs in SQLite (`store.base.runs`): leases, the event log, the queue, keys.

Rules
1. What must hold together is one step of the writer, and the lease is part of each statement in it.
2. Flushed to the disk is what a client is told of: `admit` and `finish`. Events are in the file, so
   they survive a kill; a power cut may take the newest, and with them nothing but progress.
3. A lease that a power cut takes back is taken again: the process that had it is gone as well.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from typing import TypeAlias

from antiphon.protocol.emitter import Frame, size_of
from antiphon.store import frames, sql_conversations, sql_listing
from antiphon.store import run_statements as sql
from antiphon.store.base import (
    Batch,
    Ending,
    IdempotencyKey,
    Job,
    Lease,
    QueueFull,
    ResponseRow,
    Snapshot,
    Twin,
)
from antiphon.store.owner_locks import OwnerLocks
from antiphon.store.readers import Readers
from antiphon.store.sql_webhooks import enqueue
from antiphon.store.watch import Watch
from antiphon.store.writer import Value, Writer

_Refusal: TypeAlias = type[QueueFull] | sql_conversations.Refusal


class SqliteRuns:
    """See `Runs`; `clock` gives Unix seconds."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        watch: Watch,
        locks: OwnerLocks,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._watch = watch
        self._locks = locks
        self._clock = clock

    async def admit(
        self,
        row: ResponseRow,
        events: Batch,
        *,
        job: bytes | None,
        key: IdempotencyKey | None,
        most_queued: int,
        version: int | None = None,
    ) -> Twin | None:
        """See `Runs.admit`."""
        now = self._now()

        def step(connection: sqlite3.Connection) -> Twin | _Refusal | None:
            if key is not None and (twin := _twin(connection, row.project, key.key, now)):
                return twin
            if refusal := _refusal(connection, row, version, None if job is None else most_queued):
                return refusal
            connection.execute(sql.ADMIT, asdict(row))
            sql_listing.note(connection, row)
            if events.frames:
                connection.execute(sql.ADD_EVENTS, _held(_lease_of(row)) | _batch(events))
            if job is not None:
                values = {"id": row.id, "project": row.project, "request": job}
                connection.execute(sql.ADD_JOB, values)
            if key is not None:
                connection.execute(
                    sql.PUT_KEY, asdict(key) | {"project": row.project, "response_id": row.id}
                )
            return None

        weight = len(row.body) + len(row.input) + len(job or b"") + _size(events)
        answer = await self._writer.run(step, durable=True, weight=weight)
        if isinstance(answer, type):
            raise answer
        return answer

    async def claim(self, owner: str, most: int) -> list[Job]:
        """See `Runs.claim`."""
        now = self._now()

        def step(connection: sqlite3.Connection) -> list[Job]:
            waiting = connection.execute(sql.WAITING, {"most": most, "now": now}).fetchall()
            taken = [_take(connection, project, id_, owner, now) for project, id_ in waiting]
            return [job for job in taken if job is not None]

        return await self._writer.run(step, durable=False, told=False)

    async def take(self, project: str, id: str, owner: str) -> Job | None:  # noqa: A002
        """See `Runs.take`."""
        now = self._now()
        return await self._writer.run(
            lambda connection: _take(connection, project, id, owner, now), durable=False
        )

    async def hand_back(self, lease: Lease) -> bool:
        """See `Runs.hand_back`."""
        held = _held(lease)

        def step(connection: sqlite3.Connection) -> bool:
            if connection.execute(sql.HAND_BACK, held).rowcount == 0:
                return False
            connection.execute(sql.HAND_BACK_JOB, {"id": lease.response_id})
            return True

        return await self._writer.run(step, durable=False)

    async def append(self, lease: Lease, events: Batch, snapshot: Snapshot | None = None) -> bool:
        """See `Runs.append`."""
        held, weight = _held(lease), _size(events)
        if snapshot is None and events.frames:
            changed = await self._writer.write(
                sql.ADD_EVENTS, held | _batch(events), durable=False, told=True, weight=weight
            )
            return changed > 0

        def step(connection: sqlite3.Connection) -> bool:
            if not _append(connection, held, events):
                return False
            if snapshot is not None:
                shown = {"new_status": snapshot.status, "body": snapshot.body}
                connection.execute(sql.SNAPSHOT, held | shown)
                connection.execute(
                    sql.PROGRESS, {"id": lease.response_id, "progress": snapshot.progress}
                )
            return True

        if snapshot is not None:
            weight += len(snapshot.body) + len(snapshot.progress)
        return await self._writer.run(step, durable=False, weight=weight)

    async def finish(self, lease: Lease, events: Batch, ending: Ending) -> bool:
        """See `Runs.finish`. What the conversation gets is encoded in the writer's thread, since it
        may be tens of megabytes (R-118); until then nobody changes the items."""
        held = _held(lease)
        end: dict[str, Value] = {
            "new_status": ending.status,
            "body": ending.body,
            "expires_at": ending.expires_at,
            "log_until": ending.log_until,
            "told": ending.told,
        }

        def step(connection: sqlite3.Connection) -> bool:
            if not _append(connection, held, events):
                return False
            project, conversation = connection.execute(sql.HELD, held).fetchone()
            connection.execute(sql.FINISH, held | end)
            if conversation is not None:
                appended = sql_conversations.encoded(ending.appended)
                sql_conversations.extend(connection, project, conversation, appended)
            connection.execute(sql.DROP_JOB, {"id": lease.response_id})
            if ending.notice is not None:
                enqueue(connection, project, ending.notice)
            return True

        # An estimate: the output is in both. The input was weighed when it was admitted.
        shown = len(ending.body) + len(ending.told or b"")
        weight = _size(events) + shown * (2 if ending.appended else 1)
        return await self._writer.run(step, durable=True, weight=weight)

    async def read(self, response_id: str, after: int, most_bytes: int) -> list[Frame]:
        """See `Runs.read`: cut into frames in the reader's thread."""
        values = {"id": response_id, "after": after, "now": self._now()}

        def question(connection: sqlite3.Connection) -> list[Frame]:
            with closing(connection.execute(sql.READ, values)) as batches:
                return frames.window(batches, after, most_bytes)

        return await self._readers.ask(question)

    async def status(self, response_id: str) -> str | None:
        """See `Runs.status`."""
        values = {"id": response_id, "now": self._now()}
        found = await self._readers.ask(lambda c: c.execute(sql.STATUS, values).fetchone())
        return found[0] if found else None

    async def find(self, response_id: str) -> ResponseRow | None:
        """See `Runs.find`."""
        values = {"id": response_id, "now": self._now()}
        found = await self._readers.ask(lambda c: c.execute(sql.FIND, values).fetchone())
        return ResponseRow(*found) if found else None

    async def twin(self, project: str, key: str) -> Twin | None:
        """See `Runs.twin`."""
        now = self._now()
        return await self._readers.ask(lambda connection: _twin(connection, project, key, now))

    async def forget_key(self, response_id: str) -> None:
        """See `Runs.forget_key`."""
        await self._writer.write(sql.DROP_KEY, {"id": response_id}, durable=False)

    async def beat(self, owner: str) -> None:
        """See `Runs.beat`; with the first one comes the lock."""
        if not self._locks.holds(owner):
            await asyncio.to_thread(self._locks.hold, owner)
        await self._writer.write(sql.BEAT, {"owner": owner}, durable=False)

    async def owned(self, owner: str) -> set[str]:
        """See `Runs.owned`."""
        return await self._readers.ask(
            lambda connection: {row[0] for row in connection.execute(sql.OWNED, {"owner": owner})}
        )

    async def owners(self) -> dict[str, int]:
        """See `Runs.owners`."""
        return await self._readers.ask(lambda connection: dict(connection.execute(sql.OWNERS)))

    async def is_dead(self, owner: str) -> bool:
        """See `Runs.is_dead`: a few system calls, which wait for nothing."""
        return self._locks.state(owner) == "dead"

    async def release(
        self, owner: str, *, died: bool, beat: int | None = None
    ) -> list[ResponseRow]:
        """See `Runs.release`."""

        def step(connection: sqlite3.Connection) -> list[ResponseRow] | None:
            dropped = connection.execute(sql.DROP_OWNER, {"owner": owner, "beat": beat})
            if beat and not dropped.rowcount:
                return None  # it lives
            connection.execute(sql.HAND_BACK_ALL)
            connection.execute(sql.HAND_BACK_ALL_JOBS, {"died": int(died)})
            return [ResponseRow(*row) for row in connection.execute(sql.LEFT)]

        left = await self._writer.run(step, durable=False)
        if left is None:
            return []
        await asyncio.to_thread(self._locks.forget, owner)
        return left

    async def queued(self) -> int:
        """See `Runs.queued`."""
        return await self._readers.ask(_queued)

    async def wait(self, seconds: float) -> None:
        """See `Runs.wait`."""
        await self._watch.wait(seconds)

    def _now(self) -> int:
        return int(self._clock())


def _lease_of(row: ResponseRow) -> Lease:
    return Lease(row.id, row.owner or "", row.attempt)


def _held(lease: Lease) -> dict[str, Value]:
    return {"id": lease.response_id, "owner": lease.owner, "attempt": lease.attempt}


def _batch(events: Batch) -> dict[str, Value]:
    return {"first": events.first, "frames": frames.joined(events.frames)}


def _size(events: Batch) -> int:
    return size_of(events.frames)


def _twin(connection: sqlite3.Connection, project: str, key: str, now: int) -> Twin | None:
    values = {"project": project, "key": key, "now": now}
    found = connection.execute(sql.TWIN, values).fetchone()
    return Twin(*found) if found else None


def _queued(connection: sqlite3.Connection) -> int:
    return int(connection.execute(sql.QUEUED).fetchone()[0])


def _refusal(
    connection: sqlite3.Connection, row: ResponseRow, version: int | None, most_queued: int | None
) -> _Refusal | None:
    """Why this response is not admitted; `most_queued` is that of a job."""
    if most_queued is not None and _queued(connection) >= most_queued:
        return QueueFull
    if row.conversation is None:
        return None
    return sql_conversations.refusal(connection, row.project, row.conversation, version)


def _take(
    connection: sqlite3.Connection,
    project: str,
    id: str,  # noqa: A002
    owner: str,
    now: int,
) -> Job | None:
    values = {"project": project, "id": id, "owner": owner, "now": now}
    if connection.execute(sql.TAKE, values).rowcount == 0:
        return None
    connection.execute(sql.TAKE_JOB, {"id": id, "owner": owner})
    *row, request, progress, deaths = connection.execute(sql.JOB, {"id": id}).fetchone()
    return Job(ResponseRow(*row), request, progress, deaths)


def _append(connection: sqlite3.Connection, held: dict[str, Value], events: Batch) -> bool:
    """Whether the lease holds; then the events are added."""
    if not events.frames:
        return connection.execute(sql.HELD, held).fetchone() is not None
    return connection.execute(sql.ADD_EVENTS, held | _batch(events)).rowcount > 0
