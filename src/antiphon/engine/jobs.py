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
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

import orjson
import structlog

from antiphon.engine.durable import DurableLog
from antiphon.engine.endings import Endings, Retention, dead, read_log
from antiphon.engine.journal import Durable
from antiphon.engine.leases import Leases
from antiphon.engine.metrics import QUEUE_LENGTH, RECOVERED
from antiphon.engine.mint import SystemMint
from antiphon.engine.plan import Accepted, Plan, Planner
from antiphon.engine.progress import Progress
from antiphon.engine.run import Run
from antiphon.errors import APIError, Overloaded
from antiphon.protocol.ids import partition_of
from antiphon.protocol.items.base import Item
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.request import CreateResponse, parse_request
from antiphon.store.base import RUNNING, Job, Lease, ResponseRow, Runs, Store

log = structlog.get_logger(__name__)

_ELSEWHERE: Final = "The response was deleted, or ended by another process."
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


class OtherRun(Protocol):
    """A run of a foreground request, which belongs to its connection."""

    @property
    def run(self) -> Run:
        """What is made."""
        ...

    @property
    def task(self) -> asyncio.Task[None]:
        """What makes it."""
        ...

    def is_stored(self) -> bool:
        """Whether its row says that it is ours."""
        ...


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
        foreground: "Callable[[], Mapping[str, OtherRun]]" = dict,
    ) -> None:
        """`foreground`: the other responses that this process makes, by id."""
        self.owner = f"proc_{SystemMint().partition}"
        #: No job is begun any more.
        self.stopping = False
        self._runs: Runs = store.runs
        self._planner = planner
        self._endings = Endings(store.runs, retention)
        self._options = options
        self._foreground = foreground
        self._live: dict[str, _Live] = {}
        self._claimed: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._leases = Leases(self._runs, self.owner, options.lease, self._bury)
        self._loops: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._lost: set[str] = set()
        self._admitting: set[str] = set()
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
        claimed = list(self._claimed.values())
        for _, task in claimed:
            task.cancel()
        await asyncio.gather(*(task for _, task in claimed), return_exceptions=True)
        for job, _ in claimed:
            await self._give_back(job)

    async def close(self, patience: float) -> None:
        """Leave: nobody has to wait for our lease to end. Runs of foreground requests have
        `patience` seconds to end."""
        await self.hand_back()
        if others := [task for task, _ in self.foreground()]:
            await asyncio.wait(others, timeout=patience)
        for live in list(self._live.values()):
            live.run.abandon(live.task)
        await asyncio.gather(*(live.task for live in self._live.values()), return_exceptions=True)
        await asyncio.gather(*self._cancelling.values(), return_exceptions=True)
        for task in [*self._loops, *self._ending]:
            task.cancel()
        await asyncio.gather(*self._loops, *self._ending, return_exceptions=True)
        await self._leases.close()
        try:
            await self._set_right(await self._runs.release(self.owner, died=False))
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

    @property
    def count(self) -> int:
        """How many durable runs this process makes."""
        return len(self._live)

    @contextlib.contextmanager
    def admitting(self, response_id: str) -> Iterator[None]:
        """A response becomes ours meanwhile."""
        self._admitting.add(response_id)
        try:
            yield
        finally:
            self._admitting.discard(response_id)

    def foreground(self) -> "list[tuple[asyncio.Task[None], Run]]":
        """The durable runs of foreground requests: nobody else can go on with them."""
        found = [(live.task, live.run) for live in self._live.values()]
        return [(task, run) for task, run in found if run.progress is None]

    # -- making ------------------------------------------------------------------------------

    def journal(self, row: ResponseRow, first: int, *, is_job: bool) -> Durable:
        """Where a run of `row`, whose lease is ours, writes to; `first` is the next number of its
        log."""
        mint, retention = SystemMint(), self._endings.retention
        return Durable(
            DurableLog(self._runs, Lease(row.id, self.owner, row.attempt), first=first),
            lambda ended: retention.ending(row, ended, mint.now(), is_job=is_job),
        )

    def begin(self, run: Run, journal: Durable) -> asyncio.Task[None]:
        """Set a durable run going."""
        self.abandon(run.id)  # an earlier one, of which the lease was lost without a word
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(run.run(), name=run.id)
        journal.log.on_lost = lambda: run.abandon(task)
        live = _Live(run, task, journal.log, run.machine.next_number, loop.time())
        self._live[run.id] = live
        task.add_done_callback(lambda _: self._ended(live))
        return task

    def _ended(self, live: _Live) -> None:
        """A task that was cancelled before its first step has closed nothing itself."""
        if self._live.get(live.run.id) is live:
            del self._live[live.run.id]
        live.log.close()

    def abandon(self, response_id: str) -> None:
        """Stop a run of this process, if there is one: it is somebody else's, or over."""
        live = self._live.get(response_id)
        if live is not None:
            live.run.abandon(live.task)

    async def _claim_on(self) -> None:
        while not self.stopping:
            self._wake.clear()
            if not await self._claim():
                await self._something_to_do()

    async def _claim(self) -> bool:
        """Begin as many jobs as there is room for; whether there were any."""
        free = self._options.most - len(self._claimed)
        try:
            jobs = await self._runs.claim(self.owner, free) if free else []
        except APIError as error:
            log.warning("claim_failed", error=error.message)
            await asyncio.sleep(_RETRY)
            return False
        for job in jobs:
            if self.stopping:
                await self._give_back(job)
            else:
                self._claimed[job.row.id] = job, asyncio.create_task(self._make(job))
        return bool(jobs)

    async def _something_to_do(self) -> None:
        """Until we are poked, or the queue is not empty and there is room."""
        while not self._wake.is_set():
            poked = asyncio.create_task(self._wake.wait())
            waiting = asyncio.create_task(self._runs.wait(_WAIT))
            try:
                await asyncio.wait((poked, waiting), return_when=asyncio.FIRST_COMPLETED)
            finally:
                poked.cancel()
                waiting.cancel()
            if self._wake.is_set():
                return
            await asyncio.sleep(_PAUSE)
            if await self._is_queued() and len(self._claimed) < self._options.most:
                return

    async def _is_queued(self) -> bool:
        try:
            queued = await self._runs.queued()
        except APIError:
            return False
        QUEUE_LENGTH.set(queued)
        return queued > 0

    async def _make(self, job: Job) -> None:
        """All that becomes of a claimed job."""
        try:
            await self._work(job)
        except Exception:
            log.exception("job_crashed", response_id=job.row.id)
            await self._end(job, lambda machine: machine.fail(APIError(should_retry=False)))
        finally:
            if self._claimed.get(job.row.id, (None,))[0] is job:
                del self._claimed[job.row.id]
            self.poke()

    async def _give_back(self, job: Job) -> None:
        """Into the queue, unless it has ended or is somebody else's."""
        try:
            await self._runs.hand_back(job.lease)
        except APIError as error:
            log.warning("job_not_handed_back", response_id=job.row.id, error=error.message)

    async def _work(self, job: Job) -> None:
        if job.deaths:
            RECOVERED.labels("queued").inc()
        if job.deaths >= self._options.attempts:
            await self._end(job, lambda machine: machine.fail(dead()))
            return
        try:
            run, journal = await self._prepare(job)
        except APIError as error:
            problem = error
            await self._end(job, lambda machine: machine.fail(problem))
            return
        task = self.begin(run, journal)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            run.abandon(task)
            await asyncio.wait([task])
            raise

    async def _prepare(self, job: Job) -> tuple[Run, Durable]:
        """The run that goes on with a job. Trouble of the store is waited out."""
        row = job.row
        request, own_items = await asyncio.to_thread(_parse, job)
        mint = SystemMint(partition_of(row.id))
        plan: Plan | None = None
        while True:
            try:
                plan = plan or await self._planner.plan(
                    request, row.project, mint, accepted=Accepted(row.id, own_items)
                )
                fold, number = await read_log(self._runs, row.id)
            except Overloaded as error:
                log.warning("job_waits", response_id=row.id, error=error.message)
                await asyncio.sleep(_RETRY)
            else:
                break
        if fold is None or not number:  # nothing: it was deleted meanwhile
            raise APIError("The events of this response cannot be read.", should_retry=False)
        journal = self.journal(row, number, is_job=True)
        machine = ResponseMachine(fold, mint, plan.machine_options(), first=number)
        run = plan.run(machine, journal, self._options.run_timeout, Progress.decode(job.progress))
        return run, journal

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
            return await self._endings.end(job, ResponseMachine.cancel)
        except APIError:
            # The lease is ours, so nobody else will do it.
            self._later(self._end(job, ResponseMachine.cancel))
            raise

    async def _end(self, job: Job, how: Callable[[ResponseMachine], None]) -> None:
        """End a job that is ours, as often as it takes."""
        while True:
            try:
                await self._endings.end(job, how)
            except APIError as error:
                log.warning("end_waits", response_id=job.row.id, error=error.message)
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _bury(self, owner: str, beat: int | None) -> None:
        """Set right what a dead process left; ``""``: what nobody owns."""
        await self._set_right(await self._runs.release(owner, died=True, beat=beat))
        self.poke()

    async def _set_right(self, rows: list[ResponseRow]) -> None:
        """End the foreground responses of a process that is gone; their keys are free again."""
        for row in rows:
            try:
                if await self._endings.end_leftover(row):
                    await self._runs.forget_key(row.id)
                    RECOVERED.labels("failed").inc()
            except (LookupError, TypeError, ValueError):  # not even its row can be read
                log.exception("leftover_not_ended", response_id=row.id)
        if rows:
            log.warning("ended_interrupted_responses", count=len(rows))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # -- what is ours ------------------------------------------------------------------------

    async def _check_on(self) -> None:
        """Give up what is no longer ours, say that quiet runs live, hand back what was lost."""
        for check in count():
            await asyncio.sleep(_CHECK)
            others = [other for other in self._foreground().values() if other.is_stored()]
            if not (self._live or self._lost or others) and check % _IDLE_CHECKS:
                continue  # only the answer to a claim that got lost could be found
            self._beat_quiet_runs()
            ours = [live for live in self._live.values() if live.run.machine.status in RUNNING]
            try:
                owned = await self._runs.owned(self.owner)
                for live in ours:
                    if live.run.id not in owned and live.run.machine.status in RUNNING:
                        live.run.abandon(live.task)
                for other in others:
                    if other.run.id not in owned:
                        other.run.stop(other.task, APIError(_ELSEWHERE, should_retry=False))
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
        a claim can get lost. What is no job ends: its own end could not be stored."""
        if self._ending:
            return
        lost = owned - self._live.keys() - self._claimed.keys() - self._cancelling.keys()
        lost -= self._foreground().keys() | self._admitting
        for response_id in lost & self._lost:
            row = await self._runs.find(response_id)
            if row is None or row.owner != self.owner:
                continue
            if not await self._runs.hand_back(Lease(row.id, self.owner, row.attempt)):
                await self._set_right([row])  # it is no job: nobody else would end it
        self._lost = lost


def _parse(job: Job) -> tuple[CreateResponse, list[Item]]:
    """The request, and its own input as it was stored."""
    return parse_request(job.request), orjson.loads(job.row.input)
