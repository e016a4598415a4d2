"""A limit for each of many short waits, and one for all of it, for the price of one timer.

`asyncio.timeout` around each read costs 3 to 7 µs, more than reading and mapping a chunk together
(decision 0002). Here a wait costs two assignments: the timer looks now and then how long the
present wait has lasted. Between waits time does not count, so a slow consumer is no timeout.
"""

import asyncio
import math
from collections.abc import Callable
from types import TracebackType
from typing import Self


class IdleTimer:
    """Use it as a context manager; `expire` is called once: when a wait exceeds `limit` seconds, or
    at `until` on the clock of the loop."""

    __slots__ = ("_expire", "_limit", "_loop", "_since", "_timer", "_until", "expired")

    def __init__(self, limit: float, expire: Callable[[], object], until: float = math.inf) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._expire = expire
        self._until = until
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.expired = False

    def __enter__(self) -> Self:
        self._look()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer:
            self._timer.cancel()

    def begin(self) -> None:
        """A wait begins."""
        self._since = self._loop.time()

    def end(self) -> None:
        """The wait is over."""
        self._since = None

    def allow(self, limit: float) -> None:
        """From now on a wait may last `limit` seconds."""
        if limit == self._limit:
            return
        self._limit = limit
        if self._timer and not self.expired:
            self._timer.cancel()
            self._look()

    def _look(self) -> None:
        now = self._loop.time()
        since = now if self._since is None else self._since
        left = min(since + self._limit, self._until) - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.expired = True
            self._expire()
