"""What is stored of the end of a durable run: how long it is kept, and who is told (spec §2.5)."""

from dataclasses import dataclass
from typing import Final

import orjson

from antiphon.engine.webhooks import notice_of
from antiphon.store.base import Ending, ResponseRow

_DAY: Final = 86_400
#: Seconds that a background response with `store: false` is kept after its end (spec §1).
POLLED: Final = 600
#: Seconds for which an Idempotency-Key is remembered (R-79).
REMEMBERED: Final = _DAY


@dataclass(frozen=True, slots=True)
class Retention:
    """`days` that a stored response is kept, `log_hours` that its events are; None: for ever."""

    days: int | None
    log_hours: float | None

    def of(self, created_at: int) -> int | None:
        """When a stored response expires."""
        return None if self.days is None else created_at + self.days * _DAY

    def ending(self, row: ResponseRow, status: str, body: bytes, now: int) -> Ending:
        """The end of the run that `row` was admitted with."""
        background = orjson.loads(row.body)["background"]
        expires_at: int | None
        match row.kept:
            case "stored":
                expires_at = self.of(row.created_at)
            case "polled":
                expires_at = now + POLLED
            case "replayed":
                expires_at = row.created_at + REMEMBERED
        log_until = None if self.log_hours is None else now + round(self.log_hours * 3600)
        notice = notice_of(row.id, status, now) if background else None
        return Ending(status, body, expires_at, log_until, notice)
