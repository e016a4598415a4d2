"""The rows of the memory store, with all that belongs to each of them.

Rules
1. Bounded by number, size and time; the oldest goes first (lessons §1 rule 17). Its log and its job
   are parts of it, so they go with it.
2. A deleted row stays as a tombstone with nothing in it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from antiphon.protocol.emitter import Frame
from antiphon.protocol.ids import partition_of
from antiphon.store.base import RUNNING, Batch, Job, Lease, ResponseRow


@dataclass(slots=True)
class Entry:
    """A response, its events, and what is needed to make it."""

    row: ResponseRow
    #: Unix seconds: never later than the time to live of the store allows.
    expires_at: float
    deleted: bool = False
    log: list[Frame] = field(default_factory=list)
    log_bytes: int = 0
    log_until: int | None = None
    #: None: it is no job.
    request: bytes | None = None
    progress: bytes = b""
    deaths: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        parts = (self.row.body, self.row.input, self.request or b"", self.progress)
        beside = len(self.row.metadata or "") + len(self.row.told or b"")
        return self.log_bytes + sum(map(len, parts)) + beside

    @property
    def runs(self) -> bool:
        """Whether it still changes."""
        return not self.deleted and self.row.status in RUNNING

    def as_job(self) -> Job | None:
        """A copy for who makes it."""
        if self.request is None:
            return None
        return Job(replace(self.row), self.request, self.progress, self.deaths)

    def add(self, events: Batch) -> None:
        """Append events; those that are there, since their answer never arrived, are not added."""
        new = events.frames[max(0, len(self.log) - events.first) :]
        self.log += new
        self.log_bytes += sum(len(body) for _, body in new)

    def forget_log(self) -> None:
        """The log is over before the response."""
        self.log, self.log_bytes, self.log_until = [], 0, None


class Rows:
    """At most `most_rows` entries of `most_bytes` in all, each for at most `ttl` seconds, in the
    order in which they came; `clock` gives Unix seconds."""

    def __init__(
        self, *, most_rows: int, most_bytes: int, ttl: int, clock: Callable[[], float]
    ) -> None:
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._ttl = ttl
        self._clock = clock
        self._bytes = 0
        self._entries: dict[str, Entry] = {}
        self._partitions: dict[str, str] = {}
        #: Responses that went before their time, for want of room.
        self.evicted = 0

    def __iter__(self) -> Iterator[Entry]:
        """All but the deleted ones."""
        return (entry for entry in self._entries.values() if not entry.deleted)

    def get(self, id: str) -> Entry | None:  # noqa: A002
        """Whatever is kept under this id, a tombstone too."""
        return self._entries.get(id)

    def there(self, id: str) -> Entry | None:  # noqa: A002
        """A response that is neither deleted nor expired."""
        entry = self._entries.get(id)
        if entry is None or entry.deleted or entry.expires_at <= self._clock():
            return None
        return entry

    def held(self, lease: Lease) -> Entry | None:
        """The response that this lease still allows to write to."""
        entry = self._entries.get(lease.response_id)
        if entry is None or not entry.runs:
            return None
        right = (entry.row.owner or "", entry.row.attempt) == (lease.owner, lease.attempt)
        return entry if right else None

    def holder(self, partition: str) -> str | None:
        """The id of the response whose items have this partition."""
        return self._partitions.get(partition)

    def put(self, row: ResponseRow) -> Entry:
        """Insert or replace a row; the other parts of its entry stay."""
        entry = self._entries.get(row.id)
        if entry is None:
            entry = self._entries[row.id] = Entry(_emptied(row), 0)
            partition = partition_of(row.id)
            if partition is not None:
                self._partitions[partition] = row.id
        with self.changing(entry):
            entry.row, entry.expires_at = replace(row), self._end_of(row.expires_at)
        return entry

    @contextmanager
    def changing(self, entry: Entry) -> Iterator[None]:
        """What is done to an entry inside may change its size."""
        self._bytes -= entry.size
        yield
        self._bytes += entry.size
        while len(self._entries) > self._most_rows or self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))
            self.evicted += 1

    def delete(self, id: str) -> None:  # noqa: A002
        """Leave a tombstone."""
        entry = self._entries[id]
        self._bytes -= entry.size
        self._entries[id] = Entry(_emptied(entry.row), entry.expires_at, deleted=True)

    def expire(self, now: int, limit: int) -> int:
        """Remove what is over at `now`: at most `limit` entries and logs."""
        due = [id_ for id_, entry in self._entries.items() if entry.expires_at <= now][:limit]
        for id_ in due:
            self._drop(id_)
        logs = [entry for entry in self if entry.log_until is not None and entry.log_until <= now]
        for entry in logs[: limit - len(due)]:
            with self.changing(entry):
                entry.forget_log()
        return min(limit, len(due) + len(logs))

    def _end_of(self, expires_at: int | None) -> float:
        end = self._clock() + self._ttl
        return end if expires_at is None else min(end, expires_at)

    def _drop(self, id: str) -> None:  # noqa: A002
        entry = self._entries.pop(id)
        self._bytes -= entry.size
        self._partitions.pop(partition_of(id) or "", None)


def _emptied(row: ResponseRow) -> ResponseRow:
    return replace(row, body=b"", input=b"", metadata=None, told=None)
