"""DurableLog: the events of a run that outlives its requests (design §5).

Rules
1. An event is shown only after its group commit: no reader ever sees what a crash can unsay.
2. The newest events are also kept in memory, up to `TAIL` bytes, for those who follow live. Who is
   further behind reads the store: slow readers cost the run nothing and hold no memory.
3. While the store is in trouble the run waits (`room`), and what it said is committed later.
4. A refused commit means that the run is somebody else's now, or over: `lost` is set, once.
5. Events, and the snapshot or the ending that belongs to them, are one commit (R-66, R-67). What is
   asked for goes with the next batch, whoever writes it; a snapshot is made when that batch is
   taken, so all who wait for their turn share one.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

import structlog

from antiphon.errors import APIError
from antiphon.protocol.emitter import Frame, size_of
from antiphon.store.base import Batch, Ending, Lease, Runs, Snapshot

log = structlog.get_logger(__name__)

#: Bytes of committed events that are kept for live readers.
TAIL: Final = 128 * 1024
#: Bytes of events that may wait for their commit before the run waits.
MOST_PENDING: Final = 256 * 1024
#: Seconds in which events gather before a commit, and how many need no longer wait (design §5).
GATHER: Final = 0.005
_ENOUGH: Final = 64
#: Seconds between two tries while the store is in trouble.
_RETRY: Final = 0.5


class DurableLog:
    """Appends to the log of the response that `lease` names; `first` is its next number."""

    def __init__(self, runs: Runs, lease: Lease, *, first: int) -> None:
        self.response_id = lease.response_id
        self._runs = runs
        self._lease = lease
        #: Called when the run turns out to be somebody else's, or over.
        self.on_lost: Callable[[], None] | None = None
        self._pending: list[Frame] = []
        self._pending_bytes = 0
        #: The number of `_pending[0]`: everything below it is committed.
        self._next = first
        #: Makes a snapshot. How many were asked for, and how many of these are committed.
        self._snapshot: Callable[[], Snapshot] | None = None
        self._asked = self._kept = 0
        #: The end, once the run is there and until it is committed.
        self._ending: Ending | None = None
        self._tail: deque[Frame] = deque()
        self._tail_bytes = 0
        self._flusher: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.lost = False
        self.closed = False

    # -- the run's side ----------------------------------------------------------------------

    def append(self, frames: list[Frame]) -> None:
        """Add frames; they are committed and shown a few milliseconds later."""
        if not frames:
            return
        self._pending += frames
        self._pending_bytes += size_of(frames)
        if self._pending_bytes > MOST_PENDING:
            self._room.clear()
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush(), name="log-flush")

    async def room(self) -> None:
        """Wait while too much is not committed."""
        await self._room.wait()

    async def checkpoint(self, snapshot: Callable[[], Snapshot]) -> None:
        """Commit all that was said, and with it how far the run is by then. Nothing more is done
        by a run that is lost: its task is being cancelled, but could begin something until then."""
        self._snapshot = snapshot
        self._asked += 1
        mine = self._asked
        await asyncio.sleep(0)  # calls that end at once need only one
        await self._persist(lambda: self._kept >= mine)
        if self.lost:
            raise asyncio.CancelledError

    async def finish(self, frames: list[Frame], ending: Ending) -> None:
        """Commit the last frames with the terminal state, then show them."""
        self._pending += frames
        self._ending = ending
        await self._persist(lambda: self._ending is None)

    def close(self) -> None:
        """No frame of this run will follow."""
        if self._flusher is not None:
            self._flusher.cancel()
        self.closed = True
        self._room.set()
        self._wake()

    async def _flush(self) -> None:
        while self._pending and not self.lost:
            if len(self._pending) < _ENOUGH:
                await asyncio.sleep(GATHER)
            end = self._next + len(self._pending)
            await self._persist(lambda: self._next >= end)  # noqa: B023
        self._flusher = None

    async def _persist(self, is_done: Callable[[], bool]) -> None:
        """Commit until `is_done`, whoever does it; as often as it takes."""
        async with self._writing:
            while not (self.lost or is_done()):
                try:
                    await self._commit()
                except APIError as error:
                    log.warning("events_wait", response_id=self.response_id, error=error.message)
                    await asyncio.sleep(_RETRY)

    async def _commit(self) -> None:
        """All that is pending, with what was asked for."""
        batch, asked = Batch(self._next, self._pending.copy()), self._asked
        if self._ending is not None:
            accepted = await self._runs.finish(self._lease, batch, self._ending)
            self._ending = None
        elif self._snapshot is not None and asked > self._kept:
            accepted = await self._runs.append(self._lease, batch, self._snapshot())
        else:
            accepted = await self._runs.append(self._lease, batch)
        if accepted:
            self._kept = asked
            self._show(batch.frames)
        else:
            self._lose()

    def _show(self, frames: list[Frame]) -> None:
        """They are committed: readers may have them."""
        size = size_of(frames)
        del self._pending[: len(frames)]
        self._pending_bytes -= size
        if self._pending_bytes <= MOST_PENDING:
            self._room.set()
        self._next += len(frames)
        self._tail.extend(frames)
        self._tail_bytes += size
        while self._tail_bytes > TAIL:
            self._tail_bytes -= len(self._tail.popleft()[1])
        self._wake()

    def _lose(self) -> None:
        self.lost = True
        self._room.set()
        if self.on_lost is not None:
            self.on_lost()

    # -- the readers' side -------------------------------------------------------------------

    def since(self, number: int) -> list[Frame] | None:
        """The frames from `number` on; None: the first of them is no longer here."""
        skipped = number - (self._next - len(self._tail))
        return None if skipped < 0 else list(islice(self._tail, skipped, None))

    async def news(self, idle: float) -> bool:
        """Whether something came within `idle` seconds."""
        try:
            async with asyncio.timeout(idle):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
