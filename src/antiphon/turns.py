"""Places that projects share: nobody waits for all that another project has asked for (R-118).

Rules
1. Of those who wait, the project that has the fewest places is next; one that gives a place back
   still counts as having it. Within a project it is first come, first served.
2. Who gives up leaves no place taken (R-58).
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncGenerator


class Turns:
    """So many places; they belong to one loop."""

    def __init__(self, most: int, each: int | None = None) -> None:
        """`each`: places that one project may have at a time; None: all."""
        self._free = most
        self._each = most if each is None else each
        self._taken: Counter[str] = Counter()
        #: Who waits, by project; the project whose turn it is comes first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, project: str) -> AsyncGenerator[None, None]:
        """Wait for a place, and have it for as long as the context lasts."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(project, deque()).append(place)
        self._grant()
        try:
            await place
            yield
        finally:
            if not place.cancelled():
                self._give_back(project)

    def _give_back(self, project: str) -> None:
        self._free += 1
        self._grant()
        self._taken[project] -= 1
        if not self._taken[project]:
            del self._taken[project]
        self._grant()

    def _grant(self) -> None:
        while self._free:
            able = (project for project in self._waiting if self._taken[project] < self._each)
            project = min(able, key=self._taken.__getitem__, default=None)
            if project is None:
                return
            places = self._waiting.pop(project)
            place = places.popleft()
            if places:
                self._waiting[project] = places
            if not place.done():  # who waited for it has not given up
                self._free -= 1
                self._taken[project] += 1
                place.set_result(None)
