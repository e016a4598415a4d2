"""What was found and read lately, so that a model that looks twice costs one request.

Rules
1. The first part of a key is the project: nobody finds what another project has looked for (R-33).
2. Bounded in entries, bytes and time; what was not used for longest goes first.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

#: Seconds that an entry is good for.
LIFE: Final = 600.0
MOST_ENTRIES: Final = 1_000
MOST_BYTES: Final = 64 * 1024 * 1024

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: V
    size: int
    until: float


class Cache(Generic[V]):
    """Values of one kind."""

    def __init__(
        self,
        size: Callable[[V], int],
        *,
        most_entries: int = MOST_ENTRIES,
        most_bytes: int = MOST_BYTES,
        life: float = LIFE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`size`: bytes of a value, roughly."""
        self._size = size
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._life = life
        self._clock = clock
        self._entries: OrderedDict[tuple[str, Hashable], _Entry[V]] = OrderedDict()
        self._bytes = 0

    def get(self, project: str, key: Hashable) -> V | None:
        """What was put there not too long ago."""
        entry = self._entries.get((project, key))
        if entry is None:
            return None
        if entry.until <= self._clock():
            self._drop((project, key))
            return None
        self._entries.move_to_end((project, key))
        return entry.value

    def put(self, project: str, key: Hashable, value: V) -> None:
        """Keep it, unless it is larger than everything together may be."""
        self._drop((project, key))
        size = self._size(value)
        if size > self._most_bytes:
            return
        self._entries[project, key] = _Entry(value, size, self._clock() + self._life)
        self._bytes += size
        while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: tuple[str, Hashable]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size
