"""How durable runs end that nobody makes any more, and what is stored of any end (spec §2.5)."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from antiphon.engine.follow import WINDOW
from antiphon.engine.journal import Ended
from antiphon.engine.mint import SystemMint
from antiphon.engine.progress import told_in
from antiphon.engine.webhooks import notice_of
from antiphon.errors import APIError
from antiphon.protocol.effects import Fold
from antiphon.protocol.ids import partition_of
from antiphon.protocol.items.base import Item
from antiphon.protocol.machine import ResponseMachine, fold_log
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.told import Told, kept_of, recalled
from antiphon.store.base import Batch, Ending, Job, Lease, Notice, ResponseRow, Runs

log = structlog.get_logger(__name__)

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

    def ending(self, row: ResponseRow, ended: Ended, now: int, *, is_job: bool) -> Ending:
        """The end of the run that `row` was admitted with. What is no job has an Idempotency-Key,
        and its events are kept as long as that."""
        remembered = row.created_at + REMEMBERED
        expires_at: int | None
        match row.kept:
            case "stored":
                expires_at = self.of(row.created_at)
            case "polled":
                expires_at = now + POLLED
            case "replayed":
                expires_at = remembered
        log_until = None if self.log_hours is None else now + round(self.log_hours * 3600)
        if log_until is not None and not is_job:
            log_until = max(log_until, remembered)
        notice = notice_of(row.id, ended.status, now) if is_job else None
        return ending(row, ended, expires_at, log_until, notice)


def ending(
    row: ResponseRow,
    ended: Ended,
    expires_at: int | None,
    log_until: int | None = None,
    notice: Notice | None = None,
) -> Ending:
    """What is stored of the end of a response. Of one that nobody can continue nothing is kept of
    what was told."""
    told = ended.told if row.kept == "stored" else None
    items = _appended(row, ended)
    return Ending(ended.status, ended.body, expires_at, log_until, notice, items, told)


def _appended(row: ResponseRow, ended: Ended) -> list[Item]:
    """What the conversation of a response gets when it ends: nothing when it failed (spec §9)."""
    if row.conversation is None or ended.status not in ("completed", "incomplete"):
        return []
    items: list[Item] = [*orjson.loads(row.input), *orjson.loads(ended.body)["output"]]
    kept = [item for item in items if item["type"] != "compaction_trigger"]
    return recalled(kept, ended.told)


def dead() -> APIError:
    """Why a response failed whose process is gone."""
    return APIError(
        "The server stopped while it was making this response.",
        code="server_error",
        should_retry=False,
    )


@dataclass(frozen=True, slots=True)
class Endings:
    """Ends runs from what is stored of them."""

    runs: Runs
    retention: Retention

    async def end(self, job: Job, how: Callable[[ResponseMachine], None]) -> bool:
        """End a job whose lease we have; False: it is no longer ours."""
        return await self._end(job.row, how, told_in(job.progress), is_job=True)

    async def end_leftover(self, row: ResponseRow) -> bool:
        """End as failed what a dead process made in the foreground (R-69); whether it was that."""
        return await self._end(row, lambda machine: machine.fail(dead()), {}, is_job=False)

    async def _end(
        self,
        row: ResponseRow,
        how: Callable[[ResponseMachine], None],
        told: Mapping[str, Told],
        *,
        is_job: bool,
    ) -> bool:
        fold, number = await read_log(self.runs, row.id)
        mint = SystemMint(partition_of(row.id))
        start = fold if fold is not None and number else orjson.loads(row.body)
        machine = ResponseMachine(start, mint, MachineOptions(), first=number)
        how(machine)
        # A response that has no log gets none by its end.
        events = Batch(number, machine.take() if number else [])
        ended = Ended(machine.status, machine.body(), kept_of(machine.output, told))
        end = self.retention.ending(row, ended, mint.now(), is_job=is_job)
        return await self.runs.finish(Lease(row.id, row.owner or "", row.attempt), events, end)


async def read_log(runs: Runs, response_id: str) -> tuple[Fold | None, int]:
    """What the stored events amount to, and the number of the next one. None: there are events that
    this version cannot read."""
    fold: Fold | None = Fold()
    number = 0
    while frames := await runs.read(response_id, number - 1, WINDOW):
        if fold is not None:
            try:
                fold_log(frames, fold)
            except (LookupError, TypeError, ValueError) as error:
                log.warning("log_not_readable", response_id=response_id, error=repr(error))
                fold = None
        number += len(frames)
        await asyncio.sleep(0)
    return fold, number
