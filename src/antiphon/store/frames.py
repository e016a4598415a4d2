"""Batches of frames as one value: their bodies joined by newlines.

Rules
1. A body is made by orjson, so it holds no raw newline, and it begins with its type
   (`protocol.emitter`): nothing else needs to be kept.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from antiphon.protocol.emitter import Frame

_TYPE: Final = len(b'{"type":"')


def joined(frames: Sequence[Frame]) -> bytes:
    """One value for a batch that is not empty."""
    return b"\n".join([body for _, body in frames])


def window(batches: Iterable[tuple[int, bytes]], after: int, most_bytes: int) -> list[Frame]:
    """The frames above `after` in (first, value) pairs, until they are `most_bytes` or more."""
    found: list[Frame] = []
    size = 0
    for first, value in batches:
        bodies = value.split(b"\n")
        for body in bodies[max(0, after + 1 - first) :]:
            if size >= most_bytes:
                return found
            found.append((body[_TYPE : body.index(b'"', _TYPE)].decode(), body))
            size += len(body)
    return found
