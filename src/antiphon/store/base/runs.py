"""The port to runs that outlive a request: leases, the event log, the queue (design §5).

Rules
1. A run belongs to a lease: (owner, attempt). Every write names it, and is refused (False) when the
   response was taken over, ended or deleted since: late writes change nothing (R-57, R-59).
2. An owner is a process. It is gone when the store is sure of it (`is_dead`: on one machine a lock
   tells), or when others saw its `beat` stand still for long by their own monotonic clocks: no wall
   clock decides about a lease (R-77).
3. What is written together is committed together: row, events, job, key, notice.
4. Events are rows of the store until `log_until`; their numbers are contiguous and never reused.
"""

from dataclasses import dataclass, field
from typing import Protocol

from antiphon.protocol.emitter import Frame
from antiphon.protocol.items.base import Item
from antiphon.store.base.responses import ResponseRow


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a response."""

    response_id: str
    owner: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events with contiguous numbers, of which the first is `first`; may be empty."""

    first: int
    frames: list[Frame]


@dataclass(slots=True)
class Job:
    """A background response that somebody has to make. `row.owner` and `row.attempt` are the
    lease of who got it."""

    row: ResponseRow
    #: The body of the POST.
    request: bytes
    #: What the engine wrote down at the last step (`Snapshot.progress`); empty before the first.
    progress: bytes
    #: Processes that died while they had it.
    deaths: int

    @property
    def lease(self) -> Lease:
        """The right to make it."""
        return Lease(self.row.id, self.row.owner or "", self.row.attempt)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is: what GET shows, and what the next owner needs."""

    status: str
    body: bytes
    progress: bytes


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """`fingerprint` tells one body from another; times in Unix seconds."""

    key: str
    fingerprint: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Twin:
    """The request that has the same key: what it made, and the fingerprint of its body."""

    response_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A terminal event for webhooks: ``evt_…``, ``response.completed``, Unix seconds, the JSON."""

    id: str
    type: str
    created_at: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """The terminal state of a run. `log_until`: its events are kept until then; None: as long as
    the response itself."""

    status: str
    body: bytes
    expires_at: int | None
    log_until: int | None
    notice: Notice | None
    #: Items that its conversation gets, if that is still there, with what was told of them.
    appended: list[Item] = field(default_factory=list)
    #: See `ResponseRow.told`.
    told: bytes | None = None


class QueueFull(Exception):
    """As many background responses wait as may (R-116)."""


class Runs(Protocol):
    """Leases, events, queue, idempotency keys."""

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
        """Commit a new run, durably: its row, its first events, its place in the queue (`job`: the
        body of the POST), its key. All or nothing: `QueueFull` when `most_queued` jobs have no
        owner, the `Twin` when the key is taken by a response that still exists; and for a row
        that names a conversation, `ConversationMoved` when that is not there, is another project's
        or no longer of `version`, and `ConversationBusy`, which comes after it, when another
        response of it runs."""
        ...

    async def claim(self, owner: str, most: int) -> list[Job]:
        """Become the owner of at most `most` jobs that have none, oldest first; `attempt` grows."""
        ...

    async def take(self, project: str, id: str, owner: str) -> Job | None:  # noqa: A002
        """Become the owner of a job, whoever has it; None: it has ended, is unknown, or is no
        background response."""
        ...

    async def hand_back(self, lease: Lease) -> bool:
        """Put a job back into its place in the queue: nobody owns it then."""
        ...

    async def append(self, lease: Lease, events: Batch, snapshot: Snapshot | None = None) -> bool:
        """Add events (safe from a kill, not from a power cut) and, with them, a new snapshot."""
        ...

    async def finish(self, lease: Lease, events: Batch, ending: Ending) -> bool:
        """Commit the end, durably: last events, row, what its conversation gets, notices to every
        endpoint of the project that wants the type; the job is gone."""
        ...

    async def read(self, response_id: str, after: int, most_bytes: int) -> list[Frame]:
        """Events with a number above `after`, in order; a few more than `most_bytes` at most."""
        ...

    async def status(self, response_id: str) -> str | None:
        """The status of any response that is neither deleted nor expired."""
        ...

    async def find(self, response_id: str) -> ResponseRow | None:
        """The same row, whatever it is kept for: for the twins of a request."""
        ...

    async def twin(self, project: str, key: str) -> Twin | None:
        """Who has this Idempotency-Key now."""
        ...

    async def forget_key(self, response_id: str) -> None:
        """The key of the request that made this may be used again: it was answered with an
        error."""
        ...

    async def beat(self, owner: str) -> None:
        """Say that `owner` is alive; the first time also makes it known."""
        ...

    async def owned(self, owner: str) -> set[str]:
        """The unfinished responses of `owner`, deleted ones not."""
        ...

    async def owners(self) -> dict[str, int]:
        """All known owners, and how often each has said that it is alive."""
        ...

    async def is_dead(self, owner: str) -> bool:
        """Whether the store is sure that the process is gone; False: it cannot say."""
        ...

    async def release(
        self, owner: str, *, died: bool, beat: int | None = None
    ) -> list[ResponseRow]:
        """Forget an owner, if `beat` is still its last heartbeat; then set right what nobody owns
        any more: all unfinished responses whose owner is not known. Jobs go back to the queue
        (`died` counts against them); the others are returned as they are: the caller ends them."""
        ...

    async def queued(self) -> int:
        """How many jobs have no owner."""
        ...

    async def wait(self, seconds: float) -> None:
        """Until somebody, in any process, has committed something; at most so many."""
        ...
