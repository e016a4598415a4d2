"""Thinking that goes back to where it came from. Pure.

Rules
1. Kept with the reasoning of a turn: the blocks of the whole turn so far, unchanged and in order,
   the model that thought them, and a digest of all that stood before them: tools, system, messages.
2. They are given back only by the same deployment, for the same model, behind the same prefix. The
   API refuses them elsewhere (newer models bind them to the conversation); without them it thinks
   anew.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import orjson

from antiphon.backends.origins import Origin
from antiphon.protocol.deltas import ReasoningState
from antiphon.protocol.items.base import Item

#: A block of content, as the API has it.
Block: TypeAlias = dict[str, Any]

#: Bytes of the digest of a prefix.
_DIGEST: Final = 16


class Prefix:
    """The digest of a conversation that grows."""

    __slots__ = ("_count", "_hash")

    def __init__(self, head: Any) -> None:
        """`head`: what stands before the first message, any JSON."""
        self._hash = hashlib.blake2b(orjson.dumps(head), digest_size=_DIGEST)
        self._count = 0

    def after(self, messages: Sequence[Any]) -> str:
        """Of all these messages, which are the same as before and more; the last one of before is
        whole."""
        for message in messages[self._count :]:
            self._hash.update(orjson.dumps(message))
        self._count = len(messages)
        return self._hash.hexdigest()


class Memory:
    """The thoughts of one deployment and one model. `signed`: it signs what it wants back. `prefix`
    is known when the request is made."""

    __slots__ = ("_model", "_origin", "prefix", "signed")

    def __init__(self, origin: Origin, model: str, *, signed: bool = True) -> None:
        self._origin = origin
        self._model = model
        self.signed = signed
        self.prefix = ""

    def state(self, blocks: Sequence[Block]) -> ReasoningState:
        """What is kept of a turn."""
        kept = {"model": self._model, "prefix": self.prefix, "blocks": list(blocks)}
        return ReasoningState(self._origin.state(kept))

    def recall(self, item: Item, prefix: str) -> list[Block]:
        """What may go back of an item."""
        kept = self._origin.kept(item)
        if not isinstance(kept, dict):
            return []
        if kept["model"] != self._model or kept["prefix"] != prefix:
            return []
        blocks: list[Block] = kept["blocks"]
        return blocks
