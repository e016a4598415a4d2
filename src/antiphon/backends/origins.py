"""What a model server wants back with its reasoning belongs to the deployment that made it: another
one could not read it, and might refuse the whole prompt. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from antiphon.protocol.items.base import Item
from antiphon.protocol.items.reasoning import state_of

_ORIGIN: Final = "origin"
_KEPT: Final = "kept"
#: Hex digits that tell deployments of one kind apart.
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Origin:
    """One deployment."""

    name: str

    @classmethod
    def of(cls, kind: str, base_url: str) -> "Origin":
        """Of an adapter and the address of its server."""
        digest = hashlib.sha256(base_url.encode()).hexdigest()
        return cls(f"{kind}:{digest[:_DIGITS]}")

    def state(self, kept: Any) -> dict[str, Any]:
        """The `ReasoningState.state` for what is to be kept, any JSON."""
        return {_ORIGIN: self.name, _KEPT: kept}

    def kept(self, item: Item) -> Any:
        """What this deployment has left in a reasoning item; None: nothing."""
        state = state_of(item)
        if isinstance(state, dict) and state.get(_ORIGIN) == self.name:
            return state.get(_KEPT)
        return None
