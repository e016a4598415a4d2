"""The last passage of a JSON text: what a mark behind it cites. Pure, and linear.

Rules
1. A passage begins after the last quote that is a string's own, line break (raw or escaped) or end
   of a sentence that something follows. ``3.5`` ends no sentence; ``Dr. Who`` does.
2. White space and line breaks around it do not belong to it; the sentence's full stop does.
"""

import re
from typing import Final

#: JSON in pieces. Each takes as much as it can and gives nothing back: linear.
_PIECE: Final = re.compile(
    r"""(?P<quote>")
    |(?P<line>\\[nr]|[\n\r])
    |(?P<stop>[.!?…]++(?:\\"|[)\]’”»])*+(?=\s|\\[nrt])|[。！？]++[)）’”」』]*+)
    |(?P<gap>\s|\\t)
    |\\\S|[.!?…]++|[^\s"\\.!?…。！？]++|.""",
    re.VERBOSE | re.DOTALL,
)


def last_passage(said: str, base: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of the last passage of `said`, which itself begins at `base`; None
    if there is no letter or digit in it."""
    start = end = 0
    fresh = True
    for piece in _PIECE.finditer(said):
        match piece.lastgroup:
            case "quote":
                start = end = piece.end()
                fresh = True
            case "line":
                fresh = True
            case "stop":
                end = piece.end()
                fresh = True
            case None:
                start = piece.start() if fresh else start
                end = piece.end()
                fresh = False
    if not any(character.isalnum() for character in said[start:end]):
        return None
    return base + start, base + end
