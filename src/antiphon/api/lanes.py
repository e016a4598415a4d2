"""The lanes of one WebSocket: what runs beside what, and what waits (spec §2.6).

Rules
1. In a lane one event after another, in the order in which they came; the nameless lane is one
   like the others. Between lanes there is no order.
2. A connection has at most `most_named` names, `most_running` events at work, and `most_waiting`
   that wait, which are together no larger than `most_bytes`: more are refused at once.
3. A lane without an event costs its name.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from antiphon.errors import RateLimitError
from antiphon.protocol.socket import Create, too_many_streams


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Of one connection. The first two are OpenAI's (spec §2.6)."""

    most_named: int = 32
    most_running: int = 16
    most_waiting: int = 64
    most_bytes: int = 64 * 1024 * 1024


class Lanes:
    """Brings each event to its turn."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        turn: Callable[[Create, int], Awaitable[None]],
        idle: Callable[[], None],
        limits: LaneLimits,
    ) -> None:
        """`turn` answers one event of so many bytes; `idle` is told when nothing is left to do."""
        self._group = group
        self._turn = turn
        self._idle = idle
        self._limits = limits
        self._running = asyncio.Semaphore(limits.most_running)
        self._names: set[str] = set()
        #: Events of the lanes that have any, with their sizes in bytes; the first one is at work.
        self._events: dict[str, deque[tuple[Create, int]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._bytes = 0

    @property
    def busy(self) -> bool:
        """Whether anything is at work or waits."""
        return bool(self._events)

    def add(self, event: Create, size: int) -> None:
        """Take an event of `size` bytes. Raises `InvalidRequestError` when the lane cannot be,
        `RateLimitError` when too much waits."""
        limits, name = self._limits, event.stream_id
        is_new = bool(name) and name not in self._names
        if is_new and len(self._names) >= limits.most_named:
            raise too_many_streams(limits.most_named)
        # A single event is never too large to wait: it came in, and others may be at work.
        too_large = self._waiting and self._bytes + size > limits.most_bytes
        if self._waiting >= limits.most_waiting or too_large:
            raise RateLimitError(
                f"Too many events wait on this WebSocket connection: at most {limits.most_waiting} "
                f"and {limits.most_bytes} bytes. Wait for responses to end.",
            )
        if is_new:
            self._names.add(name)
        self._waiting += 1
        self._bytes += size
        if name in self._events:
            self._events[name].append((event, size))
            return
        self._events[name] = deque([(event, size)])
        task = self._group.create_task(self._work(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Drop what waits and end what is at work."""
        for task in self._tasks:
            task.cancel()

    async def _work(self, name: str) -> None:
        """All turns of a lane until it has no event."""
        events = self._events[name]
        while events:
            async with self._running:
                event, size = events[0]
                self._waiting -= 1
                self._bytes -= size
                await self._turn(event, size)
            del event
            events.popleft()
        del self._events[name]
        if not self._events:
            self._idle()
