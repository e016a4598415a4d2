"""When to try an upstream again, and when to leave it alone. No I/O; time is passed in.

Rules
1. Only what happened before the first byte of an answer is tried again (R-40); callers see to that.
2. One breaker per backend and key. Failures are 5xx, timeouts and broken connections; a 4xx proves
   that the backend lives, so one caller's mistakes never lock out others (R-50).
3. An open breaker lets one probe through after `cool_down`; its outcome decides.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from antiphon.errors import Overloaded

#: Longer waits of an upstream are capped: SDKs do not wait longer than 120 s anyway.
_LONGEST_WAIT = 3600.0


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """`failures` in a row open the breaker for `cool_down` seconds."""

    failures: int = 5
    cool_down: float = 10.0


class CircuitBreaker:
    """Counts failures in a row of one backend."""

    __slots__ = ("_clock", "_failures", "_open_until", "_probing", "_settings")

    def __init__(
        self, settings: BreakerSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_resting(self) -> bool:
        """Whether nobody may call now."""
        return self._open_until is not None and self._open_until > self._clock()

    def admit(self) -> bool:
        """Let a call through or raise `Overloaded`; whether it is the probe. End each admitted call
        with `release`."""
        if self._open_until is None:
            return False
        wait = self._open_until - self._clock()
        if wait > 0 or self._probing:
            raise Overloaded(retry_after=max(1.0, wait))
        self._probing = True
        return True

    def release(self, *, is_probe: bool) -> None:
        """The admitted call is over, with or without an outcome. After the probe, and nobody else,
        another one may start: calls from before the breaker opened end at any time."""
        if is_probe:
            self._probing = False

    def accepted(self) -> None:
        """The backend answered: it lives. One more failure opens a breaker that was open."""
        if self._open_until is not None:
            self._open_until = None
            self._failures = self._settings.failures - 1

    def succeeded(self) -> None:
        """The backend did what was asked."""
        self._open_until = None
        self._failures = 0

    def failed(self) -> None:
        """5xx, timeout or a broken connection."""
        self._failures += 1
        if self._failures >= self._settings.failures:
            self._open_until = self._clock() + self._settings.cool_down


def backoff(attempt: int, first: float = 0.25) -> float:
    """Seconds before retry number `attempt` (from 1): about `first`, doubled each time."""
    return float(first * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that `retry-after-ms` or `Retry-After` ask for, 0 to 3600; None when unreadable.

    `now` is Unix time: the header may be a date.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if value.replace(".", "", 1).isascii() and value.replace(".", "", 1).isdigit():
            return min(float(value) * unit, _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, until - now), _LONGEST_WAIT)
