"""Waiting for news inside a process.

Rules
1. Nothing falls between a look and the wait after it: a wait that begins within `RECENT` of news,
   which its caller may not have seen, is over after `PAUSE` at most.
"""

import asyncio
import time
from typing import Final

#: How old news may be, in seconds, that somebody who begins to wait has not seen.
RECENT: Final = 1.0
#: How long it is then waited for more, in seconds.
PAUSE: Final = 0.05


class Bell:
    """Wakes all who wait."""

    def __init__(self) -> None:
        self._rung_at = -RECENT
        self._next: asyncio.Future[None] | None = None
        #: How many wait now.
        self.waiting = 0

    def ring(self) -> None:
        """There is news."""
        self._rung_at = time.monotonic()
        bell, self._next = self._next, None
        if bell is not None:
            bell.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Until the next ring; at most so many seconds."""
        if time.monotonic() - self._rung_at < RECENT:
            seconds = min(seconds, PAUSE)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self.waiting += 1
        try:
            await asyncio.wait([self._next], timeout=seconds)
        finally:
            self.waiting -= 1
