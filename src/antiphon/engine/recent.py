"""What only one connection remembers: responses with `store: false` (spec §2.6).

Rules
1. Each lane remembers its newest response, and nobody else can see it.
2. A continuation that failed makes it forget the response that was to be continued, unless another
   lane made that one.
"""

from dataclasses import dataclass, field

from antiphon.protocol.items.base import Item


@dataclass(slots=True)
class Recent:
    """The newest unstored response of each lane of a connection; the nameless lane is ""."""

    _kept: dict[str, tuple[str, list[Item]]] = field(default_factory=dict)

    def put(self, lane: str, response_id: str, items: list[Item]) -> None:
        """Remember a response with all that a continuation of it sees: history, input, output."""
        self._kept[lane] = response_id, items

    def find(self, response_id: str) -> list[Item] | None:
        """What a continuation of this response sees."""
        for kept, items in self._kept.values():
            if kept == response_id:
                return items
        return None

    def evict(self, lane: str, response_id: str) -> None:
        """Forget a response of this lane."""
        if self._kept.get(lane, ("",))[0] == response_id:
            del self._kept[lane]
