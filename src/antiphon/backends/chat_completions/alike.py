"""The chunks of an answer are nearly always alike but for their text: what they have in common is
read once.

Rules
1. A chunk that begins and ends with the bytes of one that was read, and has one JSON string in
   between where that had its text, is the same JSON value but for the text.
2. So only such chunks are learned from that say nothing beside their text but what may be left out
   when it is said again: how the answer ended, and its usage.
3. Where chunks differ elsewhere, too (a random field), learning is given up soon.
"""

from typing import Any, Final

import orjson

_KEY: Final = b'"content"'
#: Chunks with text, one after another, that are not like the one before: then no more is learned.
_PATIENCE: Final = 8
#: What no JSON begins with.
_NOTHING: Final = b"\0"
#: Fields of a delta that are there beside its text, or are empty.
_BESIDE: Final = frozenset({"content", "role"})


class Alike:
    """What a chunk that was read has in common with those that come."""

    __slots__ = ("_head", "_place", "_tail", "_unlike")

    def __init__(self) -> None:
        self._head = self._tail = _NOTHING
        #: Where the text stands between the two.
        self._place = slice(0)
        self._unlike = 0

    def text(self, data: bytes) -> str | None:
        """The text of a chunk that is like the one learned from; None: it has to be read."""
        if data.startswith(self._head) and data.endswith(self._tail):
            try:
                text = orjson.loads(data[self._place])
            except orjson.JSONDecodeError:
                return None
            if isinstance(text, str):
                self._unlike = 0
                return text
        return None

    def learn(self, data: bytes, choice: dict[str, Any]) -> None:
        """`data` was read, a chunk with one `choice`."""
        delta = choice.get("delta") or {}
        text = delta.get("content")
        if not text or not isinstance(text, str) or self._unlike > _PATIENCE:
            return
        self._unlike += 1
        if any(value for key, value in delta.items() if key not in _BESIDE):
            return
        if data.count(_KEY) != 1:  # log probabilities have one, too
            return
        encoded = orjson.dumps(text)
        at = data.find(b'"', data.find(_KEY) + len(_KEY))
        head, tail = data[:at], data[at + len(encoded) :]
        # Without escapes there is no other way to write the key: it is that of the text.
        if data.startswith(encoded, at) and b"\\" not in head + tail:
            self._head, self._tail = head, tail
            self._place = slice(at, -len(tail))

    def stop(self) -> None:
        """Read all chunks from now on."""
        self._head, self._unlike = _NOTHING, _PATIENCE + 1
