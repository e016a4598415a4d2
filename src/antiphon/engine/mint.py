"""The real source of ids, time and padding (protocol/ids.py says what each is)."""

import os
import secrets
import string
import time
from typing import Final

from antiphon.protocol.ids import PADDED_TO, make_id

_ALPHABET: Final = string.ascii_letters + string.digits
#: Padding only has to have a length: a response has one of these, made once a process. (Who
#: compresses a stream takes away what it hides, however random it is.)
_PADDINGS: Final = [
    [
        "".join(secrets.choice(_ALPHABET) for _ in range(PADDED_TO - over)).encode()
        for over in range(PADDED_TO)
    ]
    for _ in range(16)
]
_CALL_ID_LENGTH: Final = 24
#: What the system's source gave, 128 bits each: asked for one by one they cost a system call each.
_CHANCES: Final[list[str]] = []
_CHANCES_AT_ONCE: Final = 256
_DIGITS: Final = 32
# A child of a fork must not draw what its parent draws.
os.register_at_fork(after_in_child=_CHANCES.clear)


def random_hex() -> str:
    """32 hex digits, 128 random bits, of the system's source. Any thread may draw."""
    try:
        return _CHANCES.pop()
    except IndexError:
        drawn = os.urandom(_CHANCES_AT_ONCE * _DIGITS // 2).hex()
        _CHANCES.extend(drawn[at : at + _DIGITS] for at in range(_DIGITS, len(drawn), _DIGITS))
        return drawn[:_DIGITS]


class SystemMint:
    """Ids of one response: they share its partition, and sort in the order of their items, as those
    of OpenAI do, unless a process took the response over, which counts anew. Haystack puts the
    calls of a stream in the order of their ids."""

    __slots__ = ("_minted", "paddings", "partition")

    def __init__(self, partition: str | None = None) -> None:
        chance = random_hex()
        self.partition = partition or chance[:16]
        self.paddings = _PADDINGS[int(chance[16:], 16) % len(_PADDINGS)]
        self._minted = 0

    def item_id(self, prefix: str) -> str:
        """Behind the partition: its place among the ids of this mint, and 104 random bits."""
        self._minted += 1
        return make_id(prefix, self.partition, f"{self._minted:06x}{random_hex()[6:]}")

    def call_id(self) -> str:
        """``call_`` and 24 alphanumerics."""
        return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(_CALL_ID_LENGTH))

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())
