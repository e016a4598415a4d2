"""Names of functions for the model: one for each, valid everywhere (decision 0007).

Rules
1. The client's own functions keep their names. What else there is has its own name where that is
   valid and nobody else's, else ``owner__name``, else that with a number.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

#: What every backend takes as the name of a function.
_LONGEST: Final = 64
_FOREIGN: Final = re.compile(r"[^a-zA-Z0-9_-]")
#: Hex digits that tell two long names apart.
_DIGITS: Final = 8


class Names:
    """The names that are given in one request."""

    def __init__(self, kept: Iterable[str], wanted: Iterable[str]) -> None:
        """`kept` are the client's to choose; `wanted`: what the others are called, each as often as
        it comes."""
        self._given = set(kept)
        counted = Counter(map(valid_name, wanted))
        self._shared = {name for name, count in counted.items() if count > 1}

    def give(self, owner: str, name: str) -> str:
        """A name for `name` of `owner`."""
        wanted = valid_name(name)
        if wanted in self._given or wanted in self._shared:
            wanted = valid_name(f"{owner}__{name}")
        free, number = wanted, 2
        while free in self._given:
            free = f"{wanted[: _LONGEST - 4]}_{number}"
            number += 1
        self._given.add(free)
        return free


def valid_name(name: str) -> str:
    """The name itself, or what it becomes with characters and a length that all backends take."""
    plain = _FOREIGN.sub("_", name)
    if plain == name and 0 < len(plain) <= _LONGEST:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{plain[: _LONGEST - _DIGITS - 1]}_{digest}"
