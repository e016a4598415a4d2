"""The real source of ids, time and padding (protocol/ids.py says what each is)."""

import secrets
import string
import time
from typing import Final

from antiphon.protocol.ids import make_id

_ALPHABET: Final = string.ascii_letters + string.digits
#: Padding only has to have a length; a slice of one random pool per process is enough.
_POOL: Final = "".join(secrets.choice(_ALPHABET) for _ in range(4096))
_STEP: Final = 61
_CALL_ID_LENGTH: Final = 24


class SystemMint:
    """Ids of one response: they share its partition."""

    __slots__ = ("_offset", "partition")

    def __init__(self, partition: str | None = None) -> None:
        self.partition = partition or secrets.token_hex(8)
        self._offset = secrets.randbelow(len(_POOL))

    def item_id(self, prefix: str) -> str:
        """128 random bits behind the partition."""
        return make_id(prefix, self.partition, secrets.token_hex(16))

    def call_id(self) -> str:
        """``call_`` and 24 alphanumerics."""
        return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(_CALL_ID_LENGTH))

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())

    def noise(self, length: int) -> str:
        """`length` characters of the pool, from a place that moves."""
        start = self._offset = (self._offset + _STEP) % (len(_POOL) - length)
        return _POOL[start : start + length]
