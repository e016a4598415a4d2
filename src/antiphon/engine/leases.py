"""Who is alive: this process says so, and finds out about the others (design §5, R-65, R-77).

Rules
1. One heartbeat for all runs of a process.
2. Another process is gone when the store is sure of it, or when its heartbeat has stood still for
   `seconds` of our own monotonic clock: nobody's wall clock matters.
3. Silence counts only while we can speak ourselves: a database that is locked silences everybody.
4. What a dead process leaves is set right once, by whoever comes first; to be wrong about a death
   costs work, never data: every write is fenced.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from antiphon.engine.metrics import DATABASE_WAIT
from antiphon.errors import APIError
from antiphon.store.base import Runs

log = structlog.get_logger(__name__)

#: Seconds between two looks at the others, at most.
_LOOK: Final = 1.0
#: Heartbeats in the time of a lease.
_BEATS: Final = 4
#: Looks between two reconciliations that are not caused by a death.
_EVERY: Final = 60


class Leases:
    """Keeps `owner` alive, and calls `bury` for each owner that has died; also with its last
    heartbeat, if it only fell silent."""

    def __init__(
        self,
        runs: Runs,
        owner: str,
        seconds: float,
        bury: Callable[[str, int | None], Awaitable[None]],
    ) -> None:
        self.owner = owner
        self._runs = runs
        self._seconds = seconds
        self._bury = bury
        #: Owner → its last heartbeat that we saw, and since when it is that one.
        self._seen: dict[str, tuple[int, float]] = {}
        #: Since when we try to say that we live; None: it has been said.
        self._beating_since: float | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Become known, set right what was left, then do both for ever."""
        await self._beat()
        await self._bury("", None)
        await self._look()
        self._tasks = [
            asyncio.create_task(self._beat_on(), name="heartbeat"),
            asyncio.create_task(self._look_on(), name="lease-watch"),
        ]

    async def close(self) -> None:
        """Stop both."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / _BEATS)
            try:
                with DATABASE_WAIT.time():
                    await self._beat()
            except APIError as error:
                log.warning("heartbeat_failed", error=error.message)

    async def _beat(self) -> None:
        """Say that we live. While we cannot, others cannot either (a lock, a full disk): what we
        took for silence begins anew."""
        loop = asyncio.get_running_loop()
        began = self._beating_since = self._beating_since or loop.time()  # over all tries
        await self._runs.beat(self.owner)
        self._beating_since = None
        if loop.time() - began > self._seconds / _BEATS:
            self._seen.clear()

    async def _look_on(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(min(_LOOK, self._seconds / _BEATS))
            looks += 1
            try:
                await self._look()
                if looks % _EVERY == 0:
                    await self._bury("", None)
            except APIError as error:
                log.warning("lease_watch_failed", error=error.message)

    async def _look(self) -> None:
        """Bury who has died."""
        now = asyncio.get_running_loop().time()
        owners = await self._runs.owners()
        owners.pop(self.owner, None)
        self._seen = {owner: seen for owner, seen in self._seen.items() if owner in owners}
        began = self._beating_since
        if began is not None and now - began > self._seconds / _BEATS:
            self._seen.clear()
        for owner, beat in owners.items():
            last, since = self._seen.setdefault(owner, (beat, now))
            if beat != last:
                self._seen[owner] = (beat, now)
            elif await self._runs.is_dead(owner):
                log.warning("owner_died", owner=owner)
                await self._bury(owner, None)
            elif now - since >= self._seconds:
                log.warning("owner_fell_silent", owner=owner, seconds=round(now - since, 1))
                await self._bury(owner, beat)
