"""Ids: prefix + 48 hex digits (spec §3.1). All ids of one response share its first 16 digits.

Rules
1. Pure: randomness comes in through a `Mint`. At least 128 bits of it are in every id (R-32).
2. The shared part (`partition`) leads from an item id to the response that holds the item.
3. What we mint has OpenAI's prefixes; what clients send may have any id.
"""

import re
from collections.abc import Sequence
from typing import Final, Protocol

#: The characters that OpenAI allows in ids (error text in spec §1, `previous_response_id`).
ID_PATTERN = re.compile(r"[A-Za-z0-9_-]+\Z")
#: Deltas are padded to a multiple of this many characters, as OpenAI's `obfuscation` does.
PADDED_TO: Final = 16
_OURS = re.compile(r"[a-z]+_([0-9a-f]{16})[0-9a-f]{32}\Z")


class Mint(Protocol):
    """Everything that is not a function of the input: ids, time, padding."""

    def item_id(self, prefix: str) -> str:
        """A new id with `prefix` (no underscore) in the partition of this response."""
        ...

    def call_id(self) -> str:
        """A new ``call_`` id: 24 alphanumerics."""
        ...

    def now(self) -> int:
        """Unix time in seconds."""
        ...

    @property
    def paddings(self) -> Sequence[bytes]:
        """For the `obfuscation` field of a delta, by its length modulo `PADDED_TO`: random
        alphanumerics that fill it up to a multiple of that."""
        ...


def make_id(prefix: str, partition: str, random: str) -> str:
    """Join the parts of an id: `partition` is 16 hex digits, `random` 32."""
    return f"{prefix}_{partition}{random}"


def partition_of(id_: str) -> str | None:
    """The partition of an id that we minted, else None."""
    match = _OURS.match(id_)
    return match.group(1) if match else None
