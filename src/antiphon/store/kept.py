"""What was decoded and stays so: bounded by bytes; who was not needed for longest goes first.

Whether it still holds is asked of the database by who keeps it (`Chains`, `Histories`), each time.
"""

from collections import OrderedDict
from typing import Final, Generic, TypeVar

#: Stored bytes of what stays decoded, at most; in memory they are about three times as much.
MOST_BYTES: Final = 16 * 1024 * 1024

#: Project and id.
Place = tuple[str, str]
T = TypeVar("T")


class Kept(Generic[T]):
    """At most `most_bytes` of values, each of which says how many it has."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._values: OrderedDict[Place, tuple[T, int]] = OrderedDict()
        self.bytes = 0

    def __contains__(self, place: Place) -> bool:
        return place in self._values

    def get(self, place: Place) -> T | None:
        """What is kept there."""
        found = self._values.get(place)
        if found is None:
            return None
        self._values.move_to_end(place)
        return found[0]

    def put(self, place: Place, value: T, size: int) -> None:
        """Keep a value, unless it alone would drive out all others."""
        self.drop(place)
        if size > self._most_bytes:
            return
        self._values[place] = value, size
        self.bytes += size
        while self.bytes > self._most_bytes:
            _, (_, gone) = self._values.popitem(last=False)
            self.bytes -= gone

    def drop(self, place: Place) -> None:
        """Forget one."""
        found = self._values.pop(place, None)
        if found is not None:
            self.bytes -= found[1]

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
        self.bytes = 0
