"""How calls of one upstream end, and whose failure that was (reliability R-50). No I/O.

Rules
1. Each call that was begun and not left by its client has one outcome.
2. What the upstream failed to do counts against it: 5xx, broken connections, silence, and streams
   that are cut, garbled or end too early. What it says about a request (4xx, also inside a stream)
   proves that it lives.
"""

from typing import Final, Literal, TypeAlias, get_args

from antiphon.backends.base import Health
from antiphon.backends.resilience import BreakerSettings, CircuitBreaker
from antiphon.errors import APIError, RateLimitError, UpstreamTimeout

#: See `Health`.
Outcome: TypeAlias = Literal["ok", "refused", "limited", "failed", "late"]
#: The first status of those that are a server's own failure.
_OWN: Final = 500


class RefusedError(Exception):
    """One attempt failed. `broken`: the upstream's own failure, not its answer to the request."""

    def __init__(self, error: APIError, *, broken: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.broken = broken

    @property
    def outcome(self) -> Outcome:
        """Of the call, if this is how it ends."""
        return outcome_of(self.error, broken=self.broken)

    @property
    def may_pass(self) -> bool:
        """The same request may succeed a moment later."""
        rate = isinstance(self.error, RateLimitError) and self.error.should_retry is not False
        return self.broken or rate


def outcome_of(error: APIError, *, broken: bool | None = None) -> Outcome:
    """Of a call that ends with `error`. `broken`: see `RefusedError`; None: its status tells."""
    if error.status >= _OWN if broken is None else broken:
        return "late" if isinstance(error, UpstreamTimeout) else "failed"
    return "limited" if isinstance(error, RateLimitError) else "refused"


class Record:
    """The outcomes of all calls, and the breaker that they open and close."""

    __slots__ = ("_counts", "breaker")

    def __init__(self, settings: BreakerSettings) -> None:
        self.breaker = CircuitBreaker(settings)
        self._counts: dict[str, int] = dict.fromkeys(get_args(Outcome), 0)

    def count(self, outcome: Outcome) -> None:
        """A call has ended."""
        self._counts[outcome] += 1
        match outcome:
            case "ok":
                self.breaker.succeeded()
            case "failed" | "late":
                self.breaker.failed()
            case _:
                self.breaker.accepted()

    def health(self) -> Health:
        """See `Backend.health`."""
        return Health(self.breaker.is_resting, dict(self._counts))
