"""Where a run's events and states go: kept for nobody, as a row, or as a durable log (design §1).

Rules
1. Commit before you tell: `finish` shows the last frames when the terminal state is in the store
   (R-67). It raises `APIError` when that cannot be: then the run must end otherwise.
2. A stored stream has its row before its first event: whoever knows an id can GET it. So has every
   run of a conversation, which is busy as long as that says so: such a row was admitted.
3. A durable run never fails because of the store: it waits until the store is well again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from antiphon.engine.durable import DurableLog
from antiphon.engine.log import EventLog
from antiphon.engine.progress import Progress
from antiphon.errors import APIError
from antiphon.protocol.emitter import Frame
from antiphon.protocol.machine import ResponseMachine
from antiphon.store.base import Batch, Ending, Lease, ResponseRow, Snapshot, Store


@dataclass(frozen=True, slots=True)
class Ended:
    """How a response ended: its status, its body, and what the model was told (`ResponseRow`)."""

    status: str
    body: bytes
    told: bytes | None = None


class Journal(Protocol):
    """What a run writes to."""

    async def begin(self, machine: ResponseMachine, progress: Progress | None) -> None:
        """Before the first event is shown."""
        ...

    def append(self, frames: list[Frame]) -> None:
        """More events."""
        ...

    async def room(self) -> None:
        """Wait while the readers, or the store, are too far behind."""
        ...

    async def checkpoint(self, machine: ResponseMachine, progress: Progress) -> None:
        """A step is done: `progress` is what the next owner needs to go on from here. It may be
        written down a little later, as it is then: it always fits the events that were said."""
        ...

    async def finish(self, frames: list[Frame], ended: Ended) -> None:
        """The terminal state, then the last frames."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


@dataclass(slots=True)
class Passing:
    """A foreground run: its one reader, and its row if it is stored."""

    log: EventLog
    #: Its row but for status and body, and where it goes; None: it is not stored.
    row: ResponseRow | None
    store: Store
    #: Whether there is a reader that learns the id before the end.
    streamed: bool
    #: Whether the row is there already.
    begun: bool = False
    #: For a row that was admitted: all that is stored of the end.
    ending: Callable[[Ended], Ending] | None = None

    async def begin(self, machine: ResponseMachine, progress: Progress | None) -> None:  # noqa: ARG002
        """See `Journal`."""
        if self.streamed and self.row is not None and not self.begun:
            await self._save(Ended(machine.status, machine.body()))
            self.row.body = b""  # the end has another
            self.begun = True

    def append(self, frames: list[Frame]) -> None:
        """See `Journal`."""
        self.log.append(frames)

    async def room(self) -> None:
        """See `Journal`."""
        await self.log.room()

    async def checkpoint(self, machine: ResponseMachine, progress: Progress) -> None:
        """Nobody takes over a foreground run."""

    async def finish(self, frames: list[Frame], ended: Ended) -> None:
        """See `Journal`."""
        if not await self._save(ended):
            raise APIError("The response was ended by somebody else.", should_retry=False)
        self.log.append(frames)

    async def _save(self, ended: Ended) -> bool:
        row = self.row
        if row is None:
            return True
        if self.ending is not None:
            lease = Lease(row.id, row.owner or "", row.attempt)
            return await self.store.runs.finish(lease, Batch(0, []), self.ending(ended))
        row.status, row.body, row.told = ended.status, ended.body, ended.told
        return await self.store.save(row)

    def close(self) -> None:
        """See `Journal`."""
        self.log.close()


@dataclass(slots=True)
class Durable:
    """A run that outlives its requests."""

    log: DurableLog
    #: All that is stored of the end.
    ending: Callable[[Ended], Ending]

    async def begin(self, machine: ResponseMachine, progress: Progress | None) -> None:
        """The row is there already; now it says that somebody is at work."""
        self.log.append(machine.take())
        await self.checkpoint(machine, progress or Progress())

    def append(self, frames: list[Frame]) -> None:
        """See `Journal`."""
        self.log.append(frames)

    async def room(self) -> None:
        """See `Journal`."""
        await self.log.room()

    async def checkpoint(self, machine: ResponseMachine, progress: Progress) -> None:
        """See `Journal`."""
        await self.log.checkpoint(
            lambda: Snapshot(machine.status, machine.body(), progress.encode())
        )

    async def finish(self, frames: list[Frame], ended: Ended) -> None:
        """See `Journal`."""
        await self.log.finish(frames, self.ending(ended))

    def close(self) -> None:
        """See `Journal`."""
        self.log.close()
