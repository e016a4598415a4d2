"""What a model server wants back with its reasoning belongs to the deployment that made it: another
one could not read it, and might refuse the whole prompt. Pure.

Rules
1. A deployment is an adapter, an address, and an account there: servers seal thoughts for one
   organisation, so what two keys get at one address is not the same.
2. The operator's account is the name of the variable that holds its key. So nothing is lost when a
   backend gets another name or another key; should that be a key of somebody else, the server
   refuses the thoughts and is asked without them (`Ask.anew`). A backend with `headers` may be
   somebody else by these, which nobody but the server understands: there, and without a variable,
   the name of the backend is the account.
3. A client's own key is an account, of which only a digest is kept. Another key of the same
   organisation is another account: who changes it loses thoughts, and no answer.
"""

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
    def of(cls, kind: str, base_url: str, account: str = "") -> "Origin":
        """Of an adapter, the address of its server, and an account there."""
        digest = hashlib.sha256(f"{base_url}\0{account}".encode()).hexdigest()
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


#: Made nothing, and is shown nothing.
NOBODY: Final = Origin("")
