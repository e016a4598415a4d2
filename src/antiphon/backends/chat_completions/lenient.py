"""Chunks that are not quite JSON, as Python's own servers write them: the second, slower reading.

Rules
1. A character that was split in the middle of its surrogate pair is joined when the next chunk
   brings the other half at the same place; a half that stays alone becomes U+FFFD.
2. NaN and infinite numbers become the log probability that OpenAI gives to the impossible.
"""

import json
import math
from typing import Any

from antiphon.backends.values import UNLIKELY


class LenientReader:
    """Reads the chunks of one answer, in order."""

    __slots__ = ("_halves",)

    def __init__(self) -> None:
        self._halves: dict[tuple[str | int, ...], str] = {}

    def loads(self, data: bytes) -> Any:
        """The JSON value. Raises ValueError; RecursionError when it is nested too deeply."""
        value = json.loads(data.decode(), parse_constant=_constant, parse_float=_finite)
        return self._whole(value, ())

    def _whole(self, value: Any, path: tuple[str | int, ...]) -> Any:
        match value:
            case str():
                return self._joined(value, path)
            case list():
                return [self._whole(inner, (*path, i)) for i, inner in enumerate(value)]
            case dict():
                return {
                    _mended(key): self._whole(inner, (*path, key)) for key, inner in value.items()
                }
            case _:
                return value

    def _joined(self, text: str, path: tuple[str | int, ...]) -> str:
        if not text:
            return text
        text = self._halves.pop(path, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            self._halves[path] = text[-1]
            text = text[:-1]
        return _mended(text)


def _mended(text: str) -> str:
    """Two halves are one character in UTF-16; what is left alone cannot be decoded."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _constant(_: str) -> float:
    return UNLIKELY


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else UNLIKELY
