"""What only one connection remembers: responses with `store: false` (spec §2.6).

Rules
1. Each lane remembers its newest response, and nobody else can see it.
2. A continuation that failed makes it forget the response that was to be continued, unless another
   lane made that one.
3. All lanes together remember items of at most `limit` bytes, wherever these were before: then the
   lane that was quiet for longest is forgotten. What alone is larger is not remembered. Lanes that
   share a history each count it.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import orjson

from antiphon.protocol.items.base import Item, told_of

#: More items than these are measured in a thread, so that others get their turn in between (R-118).
_FEW: Final = 8


@dataclass(frozen=True, slots=True)
class Remembered:
    """A response: `items` are all that a continuation sees, `size` their bytes as JSON."""

    id: str
    items: list[Item]
    size: int


async def measure(items: list[Item]) -> int:
    """Their bytes as JSON, with what was told of them."""
    return await asyncio.to_thread(_measure, items) if len(items) > _FEW else _measure(items)


def _measure(items: Iterable[Item]) -> int:
    size = 0
    for item in items:
        size += len(orjson.dumps(item))
        if (told := told_of(item)) is not None:
            size += len(orjson.dumps(told))
    return size


@dataclass(slots=True)
class Recent:
    """The newest unstored response of each lane of a connection; the nameless lane is ""."""

    limit: int = 64 * 1024 * 1024
    #: The lane that was quiet for longest comes first.
    _kept: dict[str, Remembered] = field(default_factory=dict)

    def put(self, lane: str, response: Remembered) -> None:
        """Remember a response as the newest of its lane, if it fits."""
        self._kept.pop(lane, None)
        if response.size > self.limit:
            return
        self._kept[lane] = response
        total = sum(kept.size for kept in self._kept.values())
        while total > self.limit:
            total -= self._kept.pop(next(iter(self._kept))).size

    def find(self, response_id: str) -> Remembered | None:
        """The response, if a lane remembers it."""
        for kept in self._kept.values():
            if kept.id == response_id:
                return kept
        return None

    def evict(self, lane: str, response_id: str) -> None:
        """Forget a response of this lane."""
        if lane in self._kept and self._kept[lane].id == response_id:
            del self._kept[lane]
