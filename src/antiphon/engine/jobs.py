"""Durable runs: claimed from the queue, made here, given up, taken over (design §5).

Rules
1. A job is made by whoever claimed it; every write is fenced by its lease. Who has lost a job stops
   its work and says nothing more.
2. To cancel is to take the lease, fold the log and end it: the same for a job of this process, of
   another, and of nobody. The first terminal state stays (R-57).
3. What a dead process leaves goes on: jobs are queued again, at most `attempts` times; other
   responses are ended as `failed` (R-65, R-69).
4. At shutdown jobs go back into the queue as they are; another process, or the next one, goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import orjson
import structlog

from antiphon.engine.durable import DurableLog
from antiphon.engine.endings import Retention
from antiphon.engine.follow import WINDOW
from antiphon.engine.journal import Durable
from antiphon.engine.leases import Leases
from antiphon.engine.metrics import QUEUE_LENGTH, RECOVERED
from antiphon.engine.mint import SystemMint
from antiphon.engine.plan import Planner
from antiphon.engine.progress import Progress
from antiphon.engine.run import Run
from antiphon.errors import APIError
from antiphon.protocol.effects import Fold
from antiphon.protocol.ids import partition_of
from antiphon.protocol.machine import MachineOptions, ResponseMachine, fold_log
from antiphon.protocol.request import parse_request
from antiphon.store.base import Batch, Job, Lease, ResponseRow, Runs, Store

log = structlog.get_logger(__name__)

_DEAD: Final = "The server stopped while it was making this response."
#: Seconds between two looks at the queue, and at what is ours, at least.
_PAUSE: Final = 0.05
_CHECK: Final = 0.25
_IDLE_CHECKS: Final = 8
_RETRY: Final = 0.5
#: Seconds for which a look at the queue waits to be woken.
_WAIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Settings of durable runs; times in seconds."""

    #: Jobs that this process makes at once; 0: none.
    most: int = 16
    lease: float = 10.0
    #: Processes that may die over one job.
    attempts: int = 3
    run_timeout: float = 3600.0
    #: Quiet seconds after which a log gets one more ``response.in_progress``.
    event_heartbeat: float = 120.0


@dataclass(slots=True)
class _Live:
    """A durable run of this process."""

    run: Run
    task: asyncio.Task[None]
    log: DurableLog
    #: The next number when it last said something, and when that was.
    number: int
    since: float


class Jobs:
    """The durable runs of one process."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        retention: Retention,
        options: JobOptions,
        foreground: Callable[[], Set[str]] = frozenset,
    ) -> None:
        """`foreground`: ids of the other responses that this process makes."""
        self.owner = f"proc_{SystemMint().partition}"
        #: No job is begun any more.
        self.stopping = False
        self._store = store
        self._runs: Runs = store.runs
        self._planner = planner
        self._retention = retention
        self._options = options
        self._foreground = foreground
        self._live: dict[str, _Live] = {}
        self._claimed: dict[str, asyncio.Task[None]] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._leases = Leases(self._runs, self.owner, options.lease, self._bury)
        self._loops: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._lost: set[str] = set()
        self._cancelling: dict[str, asyncio.Task[bool]] = {}

    # -- life --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Set right what others left, then work until `close`."""
        await self._leases.open()
        self._loops = [asyncio.create_task(self._check_on(), name="own-runs")]
        if self._options.most:
            self._loops.append(asyncio.create_task(self._claim_on(), name="claims"))

    async def hand_back(self) -> None:
        """Begin nothing more, and put what runs back into the queue (R-73)."""
        self.stopping = True
        tasks = list(self._claimed.values())
        for live in list(self._live.values()):
            if live.run.progress is not None:
                live.run.abandon(live.task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Leave: nobody has to wait for our lease to end."""
        await self.hand_back()
        await asyncio.gather(*self._cancelling.values(), return_exceptions=True)
        for task in [*self._loops, *self._endings]:
            task.cancel()
        await asyncio.gather(*self._loops, *self._endings, return_exceptions=True)
        await self._leases.close()
        try:
            await self._runs.release(self.owner, died=False)
        except APIError as error:
            log.warning("release_failed", error=error.message)

    def poke(self) -> None:
        """There is something in the queue, or room for it."""
        self._wake.set()

    def live(self, response_id: str) -> DurableLog | None:
        """The log of a run of this process."""
        live = self._live.get(response_id)
        return live.log if live is not None else None

    def run_of(self, response_id: str) -> "tuple[Run, asyncio.Task[None]] | None":
        """A durable run of this process."""
        live = self._live.get(response_id)
        return (live.run, live.task) if live is not None else None

    def foreground(self) -> "list[tuple[asyncio.Task[None], Run]]":
        """The durable runs of foreground requests: nobody else can go on with them."""
        found = [(live.task, live.run) for live in self._live.values()]
        return [(task, run) for task, run in found if run.progress is None]

    # -- making ------------------------------------------------------------------------------

    def journal(self, row: ResponseRow, lease: Lease, first: int) -> Durable:
        """Where a run of `row` writes to; `first` is the next number of its log."""
        events = DurableLog(
            self._runs, lease, first=first, on_lost=lambda: self.abandon(lease.response_id)
        )
        mint = SystemMint()
        return Durable(
            events, lambda status, body: self._retention.ending(row, status, body, mint.now())
        )

    def begin(self, run: Run, journal: Durable) -> asyncio.Task[None]:
        """Set a durable run going."""
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(run.run(), name=run.id)
        number = run.machine.next_number
        self._live[run.id] = _Live(run, task, journal.log, number, loop.time())
        task.add_done_callback(lambda _: self._ended(run.id, journal))
        return task

    def _ended(self, response_id: str, journal: Durable) -> None:
        """A task that was cancelled before its first step has closed nothing itself."""
        self._live.pop(response_id, None)
        journal.close()

    def abandon(self, response_id: str) -> None:
        """Stop a run of this process, if there is one: it is somebody else's, or over."""
        live = self._live.get(response_id)
        if live is not None:
            live.run.abandon(live.task)

    async def _claim_on(self) -> None:
        while not self.stopping:
            self._wake.clear()
            free = self._options.most - len(self._claimed)
            try:
                jobs = await self._runs.claim(self.owner, free) if free else []
                QUEUE_LENGTH.set(await self._runs.queued())
            except APIError as error:
                log.warning("claim_failed", error=error.message)
                jobs = []
                await asyncio.sleep(_RETRY)
            for job in jobs:
                self._claimed[job.row.id] = asyncio.create_task(self._make(job))
            if not jobs:
                await self._something_to_do()

    async def _something_to_do(self) -> None:
        """Until we are poked, or the queue is not empty and there is room."""
        while not self._wake.is_set():
            poked = asyncio.create_task(self._wake.wait())
            waiting = asyncio.create_task(self._runs.wait(_WAIT))
            await asyncio.wait((poked, waiting), return_when=asyncio.FIRST_COMPLETED)
            poked.cancel()
            waiting.cancel()
            if self._wake.is_set():
                return
            await asyncio.sleep(_PAUSE)
            if len(self._claimed) < self._options.most and await self._is_queued():
                return

    async def _is_queued(self) -> bool:
        try:
            return await self._runs.queued() > 0
        except APIError:
            return False

    async def _make(self, job: Job) -> None:
        """All that becomes of a claimed job."""
        try:
            await self._work(job)
        except Exception:
            log.exception("job_crashed", response_id=job.row.id)
            await self._end(job, lambda machine: machine.fail(APIError(should_retry=False)))
        finally:
            self._claimed.pop(job.row.id, None)
            if self.stopping:
                await asyncio.shield(self._give_back(job))
            self.poke()

    async def _give_back(self, job: Job) -> None:
        """Into the queue, unless it has ended or is somebody else's."""
        try:
            await self._runs.hand_back(job.lease)
        except APIError as error:
            log.warning("job_not_handed_back", response_id=job.row.id, error=error.message)

    async def _work(self, job: Job) -> None:
        row = job.row
        if job.deaths:
            RECOVERED.labels("queued").inc()
        if job.deaths >= self._options.attempts:
            await self._end(job, lambda machine: machine.fail(_dead()))
            return
        mint = SystemMint(partition_of(row.id))
        try:
            request = await asyncio.to_thread(parse_request, job.request)
            plan = await self._planner.plan(request, row.project, mint, orjson.loads(row.input))
        except APIError as error:
            problem = error
            await self._end(job, lambda machine: machine.fail(problem))
            return
        fold, number = await read_log(self._runs, row.id)
        journal = self.journal(row, job.lease, number)
        run = Run(
            id=row.id,
            project=row.project,
            backend=plan.backend,
            prompt=plan.prompt(),
            machine=ResponseMachine(fold, mint, plan.machine_options(), first=number),
            journal=journal,
            timeout=self._options.run_timeout,
            answer_schema=plan.answer_schema,
            tools=plan.tools,
            progress=Progress.decode(job.progress),
        )
        task = self.begin(run, journal)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            run.abandon(task)
            await asyncio.wait([task])
            raise

    # -- ending ------------------------------------------------------------------------------

    async def cancel(self, project: str, response_id: str) -> bool:
        """Cancel a background response, whoever makes it; False: it is over, or there is none.
        All who ask at once share one attempt: each would take the lease from the others."""
        task = self._cancelling.get(response_id)
        if task is None:
            task = asyncio.create_task(self._cancel(project, response_id), name="cancel")
            self._cancelling[response_id] = task
            task.add_done_callback(lambda _: self._cancelling.pop(response_id))
        return await asyncio.shield(task)

    async def _cancel(self, project: str, response_id: str) -> bool:
        job = await self._runs.take(project, response_id, self.owner)
        if job is None:
            return False
        self.abandon(response_id)
        try:
            return await self._try_to_end(job, ResponseMachine.cancel)
        except APIError:
            # The lease is ours, so nobody else will do it.
            self._later(self._end(job, ResponseMachine.cancel))
            raise

    async def _end(self, job: Job, how: Callable[[ResponseMachine], None]) -> None:
        """End a job that is ours, as often as it takes."""
        while True:
            try:
                await self._try_to_end(job, how)
            except APIError as error:
                log.warning("end_waits", response_id=job.row.id, error=error.message)
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _try_to_end(self, job: Job, how: Callable[[ResponseMachine], None]) -> bool:
        fold, number = await read_log(self._runs, job.row.id)
        mint = SystemMint(partition_of(job.row.id))
        machine = ResponseMachine(fold, mint, MachineOptions(), first=number)
        how(machine)
        frames = machine.take()
        ending = self._retention.ending(job.row, machine.status, machine.body(), mint.now())
        return await self._runs.finish(job.lease, Batch(number, frames), ending)

    async def _bury(self, owner: str) -> None:
        """Set right what a dead process left; ``""``: what nobody owns."""
        rows = await self._runs.release(owner, died=True)
        for row in rows:
            await self._end_leftover(row)
        if rows:
            log.warning("ended_interrupted_responses", count=len(rows))
        self.poke()

    async def _end_leftover(self, row: ResponseRow) -> None:
        """End a foreground response whose process is gone (R-69)."""
        fold, number = await read_log(self._runs, row.id)
        mint = SystemMint(partition_of(row.id))
        start = fold if number else orjson.loads(row.body)
        machine = ResponseMachine(start, mint, MachineOptions(), first=number)
        machine.fail(_dead())
        body = machine.body()
        if number:  # it has a log, which its followers read
            ending = self._retention.ending(row, machine.status, body, mint.now())
            lease = Lease(row.id, row.owner or "", row.attempt)
            await self._runs.finish(lease, Batch(number, machine.take()), ending)
        else:
            await self._store.save(replace(row, status=machine.status, body=body))
        await self._runs.forget_key(row.id)
        RECOVERED.labels("failed").inc()

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    # -- what is ours ------------------------------------------------------------------------

    async def _check_on(self) -> None:
        """Give up what is no longer ours, say that quiet runs live, hand back what was lost."""
        for check in count():
            await asyncio.sleep(_CHECK)
            if not self._live and not self._lost and check % _IDLE_CHECKS:
                continue  # only the answer to a claim that got lost could be found
            self._beat_quiet_runs()
            ours = [live for live in self._live.values() if live.run.machine.status in _UNDER_WAY]
            try:
                owned = await self._runs.owned(self.owner)
                for live in ours:
                    if live.run.id not in owned and live.run.machine.status in _UNDER_WAY:
                        live.run.abandon(live.task)
                await self._find_lost(owned)
            except APIError as error:
                log.warning("own_runs_unknown", error=error.message)

    def _beat_quiet_runs(self) -> None:
        now = asyncio.get_running_loop().time()
        for live in list(self._live.values()):
            number = live.run.machine.next_number
            if number != live.number:
                live.number, live.since = number, now
            elif now - live.since >= self._options.event_heartbeat:
                live.since = now
                live.run.beat()

    async def _find_lost(self, owned: Set[str]) -> None:
        """What is ours twice in a row but is not being made goes back into the queue: the answer to
        a claim can get lost."""
        if self._endings:
            return
        lost = owned - self._live.keys() - self._claimed.keys() - self._cancelling.keys()
        lost -= self._foreground()
        for response_id in lost & self._lost:
            row = await self._runs.find(response_id)
            if row is not None and row.owner == self.owner:
                await self._runs.hand_back(Lease(row.id, self.owner, row.attempt))
        self._lost = lost


_UNDER_WAY: Final = ("queued", "in_progress")


def _dead() -> APIError:
    return APIError(_DEAD, code="server_error", should_retry=False)


async def read_log(runs: Runs, response_id: str) -> tuple[Fold, int]:
    """What the stored events amount to, and the number of the next one."""
    fold, number = Fold(), 0
    while frames := await runs.read(response_id, number - 1, WINDOW):
        fold_log(frames, fold)
        number += len(frames)
        await asyncio.sleep(0)
    return fold, number
