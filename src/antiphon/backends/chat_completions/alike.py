"""The chunks of an answer are nearly always alike but for their text, or their thought: what they
have in common is read once.

Rules
1. A chunk that begins and ends with the bytes of one that was read, and has one JSON string in
   between where that had its text, is the same JSON value but for the text.
2. So only such chunks are learned from that say nothing beside their text.
3. Where chunks always differ elsewhere, too (a random field), nothing is learned any more.
"""

import re
from typing import Any, Final

import orjson

#: Where a thought may be: not every server calls it the same.
THOUGHTS: Final = ("reasoning_content", "reasoning", "thinking")
_TEXTS: Final = frozenset({"content", *THOUGHTS})
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
#: Bytes of a chunk that is learned from: it is kept until the end.
_MOST: Final = 4096
#: So many chunks with text, one after another, that are not like the one before, end the learning.
_PATIENCE: Final = 8
#: What no JSON begins or ends with.
_NOTHING: Final = b"\0"


class Alike:
    """What a chunk that was read has in common with those that come."""

    __slots__ = ("_head", "_place", "_tail", "_unlike", "thinks")

    def __init__(self) -> None:
        #: Whether `text` is of a thought.
        self.thinks = False
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
        """`data` was read: a chunk with one `choice`, and nothing else that means something."""
        delta = choice.get("delta") or {}
        said = [field for field, value in delta.items() if value and field != "role"]
        if len(said) != 1 or said[0] not in _TEXTS or self._unlike == _PATIENCE:
            return
        self._unlike += 1
        if self._unlike == _PATIENCE:
            self.stop()
            return
        field = said[0]
        key = b'"%b"' % field.encode()
        if not isinstance(delta[field], str) or len(data) > _MOST or data.count(key) != 1:
            return
        if choice.get("finish_reason") or choice.get("logprobs"):
            return
        text = _STRING.search(data, data.find(key) + len(key))
        # Without escapes there is no other way to write the key: it is that of the text.
        if text is not None and b"\\" not in data[: text.start()] + data[text.end() :]:
            self._head, self._tail = data[: text.start()], data[text.end() :]
            self._place = slice(text.start(), text.end() - len(data))
            self.thinks = field != "content"

    def stop(self) -> None:
        """Read all chunks from now on."""
        self._head = self._tail = _NOTHING
        self._place = slice(0)
        self._unlike = _PATIENCE
