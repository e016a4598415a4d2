"""How much work a prompt is, roughly: is it worth a thread to keep the event loop free? (R-118)

Rules
1. It must be cheap for the usual prompt and may be wrong by some factor.
2. The walk ends as soon as the answer is known.
"""

from typing import Any, Final

from antiphon.backends.base import Prompt
from antiphon.protocol.image_references import Loaded
from antiphon.protocol.items.base import told_of
from antiphon.protocol.items.content import seen_of

#: Characters that are turned into a request in well under a millisecond; in the worst case, where
#: they have to be quoted (`protocol/untrusted.py`), in some twenty.
_HEAVY: Final = 128 * 1024
#: What an item, or an element of a list in it, costs beside its text, in characters: 512 of them
#: are heavy too. The same for a key.
_EACH: Final = 256
_KEY: Final = 16


def is_heavy(prompt: Prompt) -> bool:
    """Whether instructions and items, with what the model is told beside them, hold more than about
    128 KiB together."""
    weight = len(prompt.request.instructions or "")
    for item in prompt.items:
        if weight > _HEAVY:
            break
        weight += _EACH + _weight(item) + _weight(told_of(item))
    return weight > _HEAVY


def _weight(held: Any) -> int:
    """All text in it counts: any key of an item may be one that the model sees."""
    if isinstance(held, Loaded):
        return _weight(held.seen)
    if isinstance(held, str):
        return len(held)
    if isinstance(held, dict):
        weight, inner = len(held) * _KEY, list(seen_of(held).values())
    elif isinstance(held, list):
        weight, inner = len(held) * _EACH, held
    else:
        return 0
    for value in inner:
        if weight > _HEAVY:
            break
        weight += len(value) if type(value) is str else _weight(value)
    return weight
