"""Runs in memory (`store.base.runs`): the same contract, within one process.

Rules
1. No method waits for anything but `wait`, so each is one step that no other comes between.
2. There is no other process: nobody is known to be dead.
"""

from collections.abc import Callable
from dataclasses import replace

from antiphon.protocol.emitter import Frame
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
from antiphon.store.bell import Bell
from antiphon.store.memory_conversations import MemoryConversations
from antiphon.store.memory_rows import Entry, Rows
from antiphon.store.memory_webhooks import MemoryWebhooks


class MemoryRuns:
    """See `Runs`; `clock` gives Unix seconds."""

    def __init__(
        self,
        rows: Rows,
        conversations: MemoryConversations,
        webhooks: MemoryWebhooks,
        clock: Callable[[], float],
    ) -> None:
        self._rows = rows
        self._conversations = conversations
        self._webhooks = webhooks
        self._clock = clock
        self._bell = Bell()
        self._beats: dict[str, int] = {}
        #: By project and key: the key and what it made.
        self._keys: dict[tuple[str, str], tuple[IdempotencyKey, str]] = {}

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
        if key is not None and (twin := self._twin(row.project, key.key)) is not None:
            return twin
        if job is not None and len(self._waiting()) >= most_queued:
            raise QueueFull
        if row.conversation is not None:
            self._conversations.check(row.project, row.conversation, version)
        entry = self._rows.put(row)
        with self._rows.changing(entry):
            entry.add(events)
            entry.request = job
        if key is not None:
            self._keys[row.project, key.key] = key, row.id
        self._bell.ring()
        return None

    async def claim(self, owner: str, most: int) -> list[Job]:
        """See `Runs.claim`."""
        waiting = [entry for entry in self._waiting() if self._rows.there(entry.row.id)]
        jobs = [_take(entry, owner) for entry in waiting[:most]]
        return [job for job in jobs if job is not None]

    async def take(self, project: str, id: str, owner: str) -> Job | None:  # noqa: A002
        """See `Runs.take`."""
        entry = self._rows.there(id)
        if entry is None or not entry.runs or entry.row.project != project:
            return None
        self._bell.ring()
        return _take(entry, owner)

    async def hand_back(self, lease: Lease) -> bool:
        """See `Runs.hand_back`."""
        entry = self._rows.held(lease)
        if entry is None or entry.request is None:
            return False
        entry.row.owner = None
        self._bell.ring()
        return True

    async def append(self, lease: Lease, events: Batch, snapshot: Snapshot | None = None) -> bool:
        """See `Runs.append`."""
        entry = self._rows.held(lease)
        if entry is None:
            return False
        with self._rows.changing(entry):
            entry.add(events)
            if snapshot is not None:
                entry.row.status, entry.row.body = snapshot.status, snapshot.body
                if entry.request is not None:
                    entry.progress = snapshot.progress
        self._bell.ring()
        return True

    async def finish(self, lease: Lease, events: Batch, ending: Ending) -> bool:
        """See `Runs.finish`."""
        entry = self._rows.held(lease)
        if entry is None:
            return False
        with self._rows.changing(entry):
            entry.add(events)
            entry.log_until = ending.log_until
            entry.request, entry.progress = None, b""
        end = replace(entry.row, status=ending.status, body=ending.body, told=ending.told)
        self._rows.put(replace(end, expires_at=ending.expires_at))
        if entry.row.conversation is not None:
            self._conversations.extend(entry.row.project, entry.row.conversation, ending.appended)
        if ending.notice is not None:
            self._webhooks.enqueue(entry.row.project, ending.notice)
        self._bell.ring()
        return True

    async def read(self, response_id: str, after: int, most_bytes: int) -> list[Frame]:
        """See `Runs.read`."""
        entry = self._rows.there(response_id)
        if entry is None or (entry.log_until or self._clock() + 1) <= self._clock():
            return []
        found: list[Frame] = []
        size = 0
        for frame in entry.log[after + 1 :]:
            if size >= most_bytes:
                break
            found.append(frame)
            size += len(frame[1])
        return found

    async def status(self, response_id: str) -> str | None:
        """See `Runs.status`."""
        entry = self._rows.there(response_id)
        return entry.row.status if entry else None

    async def find(self, response_id: str) -> ResponseRow | None:
        """See `Runs.find`."""
        entry = self._rows.there(response_id)
        return replace(entry.row) if entry else None

    async def twin(self, project: str, key: str) -> Twin | None:
        """See `Runs.twin`."""
        return self._twin(project, key)

    async def forget_key(self, response_id: str) -> None:
        """See `Runs.forget_key`."""
        self.drop_keys(lambda _, made: made == response_id)

    async def beat(self, owner: str) -> None:
        """See `Runs.beat`."""
        self._beats[owner] = self._beats.get(owner, 0) + 1

    async def owned(self, owner: str) -> set[str]:
        """See `Runs.owned`."""
        return {entry.row.id for entry in self._rows if entry.runs and entry.row.owner == owner}

    async def owners(self) -> dict[str, int]:
        """See `Runs.owners`."""
        owning = {entry.row.owner for entry in self._rows if entry.runs}
        return {owner: 0 for owner in owning if owner is not None} | self._beats

    async def is_dead(self, owner: str) -> bool:  # noqa: ARG002
        """See `Runs.is_dead`."""
        return False

    async def release(
        self, owner: str, *, died: bool, beat: int | None = None
    ) -> list[ResponseRow]:
        """See `Runs.release`."""
        if beat is None or self._beats.get(owner) == beat:
            self._beats.pop(owner, None)
        left = []
        for entry in self._rows:
            if not entry.runs or entry.row.owner in self._beats:
                continue
            if entry.request is None:
                left.append(replace(entry.row))
            elif entry.row.owner is not None:
                entry.row.owner = None
                entry.deaths += died
        self._bell.ring()
        return left

    async def queued(self) -> int:
        """See `Runs.queued`."""
        return len(self._waiting())

    async def wait(self, seconds: float) -> None:
        """See `Runs.wait`."""
        await self._bell.wait(seconds)

    def news(self) -> None:
        """Something changed that others wait for."""
        self._bell.ring()

    def drop_keys(self, over: Callable[[IdempotencyKey, str], bool]) -> int:
        """Forget the keys of which `over`, asked with the key and its response's id, says so; how
        many there were."""
        keys = [place for place, (key, made) in self._keys.items() if over(key, made)]
        for place in keys:
            del self._keys[place]
        return len(keys)

    def _twin(self, project: str, name: str) -> Twin | None:
        key, made = self._keys.get((project, name), (None, ""))
        if key is None or key.expires_at <= self._clock() or self._rows.there(made) is None:
            return None
        return Twin(made, key.fingerprint)

    def _waiting(self) -> list[Entry]:
        """The jobs that nobody has, in the order in which they came."""
        return [
            entry
            for entry in self._rows
            if entry.request is not None and entry.runs and entry.row.owner is None
        ]


def _take(entry: Entry, owner: str) -> Job | None:
    if entry.request is None:
        return None
    entry.row.owner = owner
    entry.row.attempt += 1
    return entry.as_job()
