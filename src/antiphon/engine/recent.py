"""What only one connection remembers: responses with `store: false` (spec §2.6).

Rules
1. Each lane remembers its newest response, and nobody else can see it.
2. A continuation that failed makes it forget the response that was to be continued, unless another
   lane made that one.
3. All lanes together remember at most `limit` bytes of what was sent and answered: then the lane
   that was quiet for longest is forgotten.
"""

from dataclasses import dataclass, field

from antiphon.protocol.items.base import Item


@dataclass(frozen=True, slots=True)
class _Kept:
    id: str
    items: list[Item]
    #: Bytes, those of the responses before it included.
    size: int


@dataclass(slots=True)
class Recent:
    """The newest unstored response of each lane of a connection; the nameless lane is ""."""

    limit: int = 64 * 1024 * 1024
    #: The lane that was quiet for longest comes first.
    _kept: dict[str, _Kept] = field(default_factory=dict)

    def put(
        self, lane: str, response_id: str, items: list[Item], *, size: int = 0, after: str = ""
    ) -> None:
        """Remember a response with all that a continuation of it sees: history, input, output. Its
        request and its answer have `size` bytes, and it continues the response `after`."""
        size += sum(kept.size for kept in self._kept.values() if kept.id == after)
        self._kept.pop(lane, None)
        self._kept[lane] = _Kept(response_id, items, size)
        total = sum(kept.size for kept in self._kept.values())
        while total > self.limit:
            total -= self._kept.pop(next(iter(self._kept))).size

    def find(self, response_id: str) -> list[Item] | None:
        """What a continuation of this response sees."""
        for kept in self._kept.values():
            if kept.id == response_id:
                return kept.items
        return None

    def evict(self, lane: str, response_id: str) -> None:
        """Forget a response of this lane."""
        if lane in self._kept and self._kept[lane].id == response_id:
            del self._kept[lane]
