"""Text that is safe to write to a log: bounded, on one line, without keys.

Rules
1. No control character, ANSI sequence or bidi mark of a client reaches a line (R-24, R-130).
2. No key: whatever looks like one is starred (R-130).
3. A trace has at most `MAX_TRACE` characters, no local variables, no source text, and traces are
   rate-limited: an error path must not be a way to stall the server (R-119).
"""

import re
import traceback
from collections.abc import Callable
from time import monotonic

#: R-119.
MAX_TRACE = 8 * 1024
_MAX_MESSAGE = 200
_MAX_FRAMES = 24
_KEY = re.compile(r"\b(sk-|Bearer\s+|whsec_)[A-Za-z0-9_\-.=+/]{6,}", re.IGNORECASE)


def printable(text: str, limit: int = 200) -> str:
    """`text` on one line: every character that is not printable is escaped, the rest is cut off
    after `limit` characters."""
    text = text[:limit]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def without_keys(text: str) -> str:
    """`text` with everything that looks like an API key starred."""
    return _KEY.sub(r"\1****", text)


def trace(exc: BaseException) -> str:
    """Where `exc` and its causes were raised: innermost last, one line a frame, at most
    `MAX_TRACE` characters. Messages are cut short: they may quote what a client sent."""
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen and len(seen) < 4:
        seen.add(id(current))
        frames = [
            f"  {frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(current.__traceback__)
        ]
        if len(frames) > _MAX_FRAMES:
            frames[_MAX_FRAMES // 2 : -_MAX_FRAMES // 2] = ["  …"]
        # Keys first: escaped, the line break before one would hide where it begins.
        message = printable(without_keys(str(current)[:_MAX_MESSAGE]), _MAX_MESSAGE)
        lines[:0] = [*frames, f"{type(current).__name__}: {message}"]
        current = current.__cause__ or current.__context__
    return "\n".join(lines)[-MAX_TRACE:]


class TraceBudget:
    """How many traces may be written: `burst` at once, then one each `interval` seconds."""

    def __init__(
        self, burst: int = 20, interval: float = 1.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._burst = burst
        self._interval = interval
        self._clock = clock
        self._left = float(burst)
        self._at = clock()
        #: Traces that were not written since the last one that was.
        self.suppressed = 0

    def take(self) -> bool:
        """Whether a trace may be written now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) / self._interval)
        self._at = now
        if self._left < 1:
            self.suppressed += 1
            return False
        self._left -= 1
        return True
