"""Bytes that requests have in memory, and how many that may be for all of them together (R-118).

Rules
1. A `Held` grows before bytes come, and gives all back when nobody has it any more. That may be in
   any thread and in the middle of anything, so it only leaves a note, which who asks next reads.
2. Nobody waits for long: the memory may be that of a slow answer.
3. One project alone cannot have all.
"""

import asyncio
from collections import Counter, deque
from typing import Final

from antiphon.errors import Overloaded

#: Seconds that somebody waits, and between two looks.
_PATIENCE: Final = 5.0
_LOOK: Final = 0.05


class Held:
    """Bytes of a project, none at first."""

    __slots__ = ("_project", "_room", "_size")

    def __init__(self, room: "Room", project: str) -> None:
        self._room = room
        self._project = project
        self._size = 0

    async def take(self, size: int) -> None:
        """So many more; a size below 0 is none. Raises `Overloaded` when they are not free for a
        while."""
        size = max(0, size)
        await self._room.take(self._project, size)
        self._size += size

    def __del__(self) -> None:
        self._room.returned.append((self._project, self._size))


class Room:
    """So many bytes for all, and for one project; they belong to one loop."""

    def __init__(self, most: int, each: int) -> None:
        self._most = most
        self._each = each
        self._held: Counter[str] = Counter()
        #: What nobody has any more.
        self.returned: deque[tuple[str, int]] = deque()

    def hold(self, project: str) -> Held:
        """Somebody is going to take bytes."""
        return Held(self, project)

    async def take(self, project: str, size: int) -> None:
        """For a `Held`. Raises `Overloaded` when they are not free for a while."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while not self._is_free(project, size):
            if loop.time() >= until:
                raise Overloaded(
                    "Too many large files are in use at the moment.", retry_after=_PATIENCE
                )
            await asyncio.sleep(_LOOK)
        self._held[project] += size

    def _is_free(self, project: str, size: int) -> bool:
        while self.returned:
            owner, back = self.returned.popleft()
            self._held[owner] -= back
            if not self._held[owner]:
                del self._held[owner]
        return self._held.total() + size <= self._most and self._held[project] + size <= self._each
