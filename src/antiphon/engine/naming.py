"""Names of functions for the model: one for each, valid everywhere (decision 0007).

Rules
1. The client's own functions keep their names. What else there is has its own name where that is
   valid and nobody else's, else ``owner__name``, else that with a number.
"""

from collections import Counter
from collections.abc import Iterable

from antiphon.protocol.names import LONGEST, valid_name


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
            free = f"{wanted[: LONGEST - 4]}_{number}"
            number += 1
        self._given.add(free)
        return free
