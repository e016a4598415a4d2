"""EventLog: append once, read in order, from any sequence number (design §1).

Rules
1. Frames are appended in the order of their sequence numbers; a reader gets those that are ready
   in one list, so that one write carries them, up to `_AT_ONCE`: a write that a slow reader does
   not take is memory, too.
2. A foreground log has one reader. What it has read is forgotten, and the run waits (`room`) when
   the reader falls `limit` bytes behind: a slow client slows its own upstream, not our memory
   (reliability R-117).
3. A log that nobody will read (`keep=False`: a JSON answer) keeps nothing.
"""

import asyncio
from collections.abc import AsyncGenerator

from antiphon.protocol.emitter import Frame, size_of

#: Bytes of events that a reader may lie behind before the run waits. Objects, the encoded copy and
#: the buffers below take several times as much: together they stay below the 4 MiB of R-117.
BACKLOG_LIMIT = 256 * 1024
#: Frames that a reader gets at once; some ten thousand bytes of short ones.
_AT_ONCE = 128


class EventLog:
    """The frames of one response."""

    def __init__(self, *, keep: bool = True, limit: int = BACKLOG_LIMIT) -> None:
        self._keep = keep
        self._limit = limit
        self._frames: list[Frame] = []
        #: Sequence number of `_frames[0]`.
        self._first = 0
        self._backlog = 0
        self._closed = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def append(self, frames: list[Frame]) -> None:
        """Add frames and wake the reader."""
        if not self._keep or not frames:
            return
        self._frames.extend(frames)
        self._backlog += size_of(frames)
        self._wake_reader()

    def close(self) -> None:
        """No frame will follow."""
        self._closed = True
        self._wake_reader()

    async def room(self) -> None:
        """Wait until the reader has caught up with the limit."""
        while self._backlog > self._limit and not self._closed:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    async def read(
        self, *, after: int = -1, idle: float | None = None
    ) -> AsyncGenerator[list[Frame], None]:
        """Frames with a sequence number above `after`; an empty list after `idle` quiet seconds."""
        position = after + 1
        alarm = _Alarm(idle)
        try:
            while True:
                frames = self._take(position)
                if frames:
                    position += len(frames)
                    yield frames
                elif self._closed:
                    return
                elif not await self._wait(alarm):
                    yield []
        finally:
            alarm.stop()

    def _take(self, position: int) -> list[Frame]:
        skipped = position - self._first
        if skipped < 0:
            raise LookupError(f"frame {position} was forgotten; the log begins at {self._first}")
        frames = self._frames[skipped : skipped + _AT_ONCE]
        if not frames:
            return frames
        gone = skipped + len(frames)
        self._backlog -= size_of(self._frames[:gone])
        del self._frames[:gone]
        self._first += gone
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
        return frames

    async def _wait(self, alarm: "_Alarm") -> bool:
        """Whether something came before the idle time was over."""
        waiter = self._reader = alarm.watched()
        try:
            await waiter
        except _Idle:
            return False
        finally:
            self._reader = None
        return True

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class _Idle(Exception):
    """The idle time is over."""


class _Alarm:
    """Ends waits that last for `idle` seconds; None: no wait is too long. One timer serves them
    all: it looks when the present wait began. One a wait would cost a tenth of a slow token."""

    __slots__ = ("_began", "_idle", "_loop", "_timer", "_waiter")

    def __init__(self, idle: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._began = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watched(self) -> asyncio.Future[None]:
        """The next wait, which begins now; it ends with `_Idle` when it is too long."""
        waiter = self._waiter = self._loop.create_future()
        if self._idle is not None:
            self._began = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._idle, self._look, self._idle)
        return waiter

    def stop(self) -> None:
        """There is no further wait."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, idle: float) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return  # the next wait has a timer of its own
        left = self._began + idle - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look, idle)
        else:
            waiter.set_exception(_Idle())
