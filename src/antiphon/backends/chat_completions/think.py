"""Splits a chain of thought in tags from the text after it, without I/O.

Rules
1. Only a tag at the very start (after blanks) counts: a model may write *about* tags later.
2. A tag may be cut anywhere; what may still become a tag is held back.
3. Blanks next to the tags belong to the template, not to the model: they are dropped. Those that
   may stand there are kept as they came: a model that says nothing else for ever is no rare thing.
4. With `opened` the template has written the opening tag; the text starts inside. A repeated
   opening tag is dropped all the same.
"""

from typing import Literal, NamedTuple, TypeAlias

_OPEN = "<think>"
_CLOSE = "</think>"

State: TypeAlias = Literal["start", "inside", "after", "text"]


class Piece(NamedTuple):
    """A piece of the stream: chain of thought or visible text."""

    reasoning: bool
    text: str


class ThinkSplitter:
    """Feed it the text of one answer."""

    __slots__ = ("_blanks", "_held", "_opened", "_said", "_state")

    def __init__(self, *, opened: bool = False) -> None:
        self._state: State = "start"
        self._opened = opened
        self._said = False  # some reasoning was given out
        self._held = ""
        self._blanks: list[str] = []  # behind what is held

    @property
    def finished(self) -> bool:
        """From here on all is visible text: feeding is no longer needed."""
        return self._state == "text"

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain with this text."""
        if text.isspace() and (self._state == "inside" or not (self._held or self.finished)):
            self._blanks.append(text)
            return []
        self._unite(text)
        pieces: list[Piece] = []
        if self._state == "start":
            self._start()
        if self._state == "inside":
            self._inside(pieces)
        if self._state == "after":
            self._held = self._held.lstrip()
            if self._held:
                self._state = "text"
        if self._state == "text" and self._held:
            pieces.append(Piece(False, self._held))
            self._held = ""
        return pieces

    def close(self) -> list[Piece]:
        """What was held back, now that no more text comes."""
        self._unite("")
        held, self._held = self._held, ""
        if self._state == "inside":
            held = held.rstrip()
            return [Piece(True, held)] if held else []
        return [Piece(False, held)] if held and self._state != "after" else []

    def _unite(self, text: str) -> None:
        self._held = "".join((self._held, *self._blanks, text))
        self._blanks.clear()

    def _start(self) -> None:
        begin = self._held.lstrip()
        if begin.startswith(_OPEN):
            self._held = begin[len(_OPEN) :]
            self._state = "inside"
        elif not _OPEN.startswith(begin):
            self._state = "inside" if self._opened else "text"

    def _inside(self, pieces: list[Piece]) -> None:
        if not self._said:
            self._held = self._held.lstrip()
        thought, closed, rest = self._held.partition(_CLOSE)
        if closed:
            thought = thought.rstrip()
            self._held = rest
            self._state = "after"
        else:
            kept = _kept(thought)
            thought, self._held = thought[: len(thought) - kept], thought[len(thought) - kept :]
        if thought:
            self._said = True
            pieces.append(Piece(True, thought))


def _kept(text: str) -> int:
    """How many characters at the end may be blanks before, or the start of, a closing tag."""
    for length in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if _CLOSE.startswith(text[-length:]):
            text = text[:-length]
            break
    else:
        length = 0
    return length + len(text) - len(text.rstrip())
