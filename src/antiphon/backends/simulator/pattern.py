"""A string that a regular expression matches, for the patterns that people write in schemas.

Rules
1. Known: literals, ``.``, classes, ``\\d \\w \\s`` and their kin, groups, alternatives, counted and
   open repetitions, ``^ $ \\b``. Anything else (look-around, back references, ``\\p``) is refused.
2. The first alternative, the first character of a class, as few repetitions as the wanted length
   allows.
"""

import re
from typing import Final


class UnsupportedPatternError(ValueError):
    """This module cannot make a string for the pattern."""


_CLASSES: Final = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_ANCHORS: Final = ("b", "B", "A", "Z", "z")
_COUNT: Final = re.compile(r"\{(\d{1,4})(,(\d{0,4}))?\}")
#: Candidates for negated classes.
_LETTERS: Final = "a0A-_ .x1"
_MOST_REPEATS: Final = 64
_MAX_LENGTH: Final = 10_000


def example(pattern: str, least: int = 0, most: int = _MAX_LENGTH) -> str:
    """A string of `least` to `most` characters that `pattern` matches."""
    for repeats in range(_MOST_REPEATS):
        text = _Reader(pattern, repeats).read()
        if len(text) >= least:
            if len(text) > most:
                break
            return text
    raise UnsupportedPatternError(pattern)


class _Reader:
    """Reads the pattern once; open repetitions are done `repeats` times more than needed."""

    def __init__(self, pattern: str, repeats: int) -> None:
        self._pattern = pattern
        self._at = 0
        self._repeats = repeats

    def read(self) -> str:
        text = self._alternatives()
        if self._at < len(self._pattern):
            raise UnsupportedPatternError(self._pattern)
        return text

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        if self._at >= len(self._pattern):
            raise UnsupportedPatternError(self._pattern)
        self._at += 1
        return self._pattern[self._at - 1]

    def _alternatives(self) -> str:
        first = self._sequence()
        while self._peek() == "|":
            self._at += 1
            self._sequence()
        return first

    def _sequence(self) -> str:
        parts: list[str] = []
        size = 0
        while self._peek() not in ("", "|", ")"):
            part = self._atom()
            part *= self._times()
            parts.append(part)
            size += len(part)
            if size > _MAX_LENGTH:
                raise UnsupportedPatternError(self._pattern)
        return "".join(parts)

    def _atom(self) -> str:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        if char in "^$":
            return ""
        if char in "*+?{":
            raise UnsupportedPatternError(self._pattern)
        return "a" if char == "." else char

    def _group(self) -> str:
        if self._peek() == "?":
            if self._pattern[self._at : self._at + 2] != "?:":
                raise UnsupportedPatternError(self._pattern)
            self._at += 2
        text = self._alternatives()
        if self._next() != ")":
            raise UnsupportedPatternError(self._pattern)
        return text

    def _escape(self) -> str:
        char = self._next()
        if char in _ANCHORS:
            return ""
        known = _CLASSES.get(char) or _CONTROLS.get(char)
        if known is not None:
            return known
        if char.isalnum():
            raise UnsupportedPatternError(self._pattern)
        return char

    def _class(self) -> str:
        negated = self._peek() == "^"
        if negated:
            self._at += 1
        chosen: list[str] = []
        start = self._at
        while self._peek() != "]" or (self._at == start and not negated):
            char = self._next()
            chosen.append(self._escape() if char == "\\" else char)
        end = self._at
        self._at += 1
        if not negated:
            return chosen[0]
        for letter in _LETTERS:
            if re.fullmatch(f"[^{self._pattern[start:end]}]", letter):
                return letter
        raise UnsupportedPatternError(self._pattern)

    def _times(self) -> int:
        char = self._peek()
        counted = _COUNT.match(self._pattern, self._at)
        if char in ("*", "+", "?") and char:
            self._at += 1
            least, most = (1 if char == "+" else 0), (1 if char == "?" else _MOST_REPEATS + 1)
        elif counted:
            self._at = counted.end()
            least = int(counted[1])
            most = least if counted[2] is None else int(counted[3] or least + _MOST_REPEATS)
        else:
            return 1
        if self._peek() == "?":  # lazy: the same strings
            self._at += 1
        return min(least + self._repeats, most)
