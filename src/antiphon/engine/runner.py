"""The engine: requests become runs, runs become tasks (design §5).

Rules
1. Everything that can be checked is checked in `start`, before anything is stored or sent.
2. A foreground run belongs to its connection. A durable one (`background`, or with an
   Idempotency-Key) belongs to nobody: it is admitted to the store, and whoever wants it follows its
   log there.
3. What was answered with 2xx is replayed under its Idempotency-Key; an error frees the key.
4. At shutdown `stopping` turns new requests away and jobs go back into the queue; `stop` ends what
   still runs with a terminal event, and `close` waits for the last rows.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import orjson
import structlog

from antiphon.backends.base import Router
from antiphon.engine.admission import Admission, Place
from antiphon.engine.durable import DurableLog
from antiphon.engine.endings import REMEMBERED, Retention
from antiphon.engine.follow import follow
from antiphon.engine.jobs import JobOptions, Jobs
from antiphon.engine.journal import Passing
from antiphon.engine.log import EventLog
from antiphon.engine.metrics import IN_FLIGHT, SHED
from antiphon.engine.mint import SystemMint
from antiphon.engine.plan import Plan, Planner
from antiphon.engine.run import Run
from antiphon.errors import (
    APIError,
    IdempotencyKeyReused,
    InvalidRequestError,
    NotFoundError,
    Overloaded,
    RateLimitError,
)
from antiphon.protocol.emitter import Frame
from antiphon.protocol.machine import MachineOptions, ResponseMachine
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Response, new_response
from antiphon.store.base import (
    RUNNING,
    Batch,
    IdempotencyKey,
    Kept,
    QueueFull,
    ResponseRow,
    Store,
    Twin,
)
from antiphon.tools.base import Tool

log = structlog.get_logger(__name__)

_DELETED: Final = "The response was deleted."
#: Seconds after which a client may look for us again.
_RESTART: Final = 5
#: Seconds after which there may be room in the queue.
_QUEUE_RETRY: Final = 5
#: Seconds between two looks at what another process makes.
_POLL: Final = 1.0
_PAUSE: Final = 0.02
#: Bytes above which a body is read again in a thread (R-118).
_LARGE: Final = 128 * 1024
#: How often a cancel is tried against others who take the same job.
_CANCELS: Final = 20
#: Seconds between two tries, times their number, at most.
_STEP_BACK: Final = 0.01


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings of the engine."""

    retention: Retention = field(default_factory=lambda: Retention(30, 24))
    jobs: JobOptions = field(default_factory=JobOptions)
    #: Background responses that may wait (R-116).
    most_queued: int = 1000
    #: Foreground responses at once: in all, and of one project (R-115).
    most_in_flight: int = 2000
    most_in_flight_per_project: int = 1000
    #: Seconds that one run may take in all (R-44).
    run_timeout: float = 3600.0
    #: Seconds that `close` waits for runs that belong to no connection and to nobody else.
    shutdown_patience: float = 35.0


@dataclass(frozen=True, slots=True)
class Foreground:
    """A run that belongs to its connection."""

    run: Run
    task: asyncio.Task[None]
    log: EventLog
    journal: Passing

    def is_stored(self) -> bool:
        """Whether its row says that it is being made here."""
        return self.journal.begun and self.run.machine.status in RUNNING


@dataclass(frozen=True, slots=True)
class Admitted:
    """A durable response, which is followed by its id."""

    id: str
    background: bool
    #: It was made for an earlier request with the same Idempotency-Key.
    replayed: bool
    ignored: list[str]
    #: What makes it, if that happens here and for a foreground request.
    run: Run | None = None
    #: The queued Response, if this request made it.
    body: bytes = b""


class Engine:
    """Makes responses."""

    def __init__(
        self,
        store: Store,
        router: Router,
        options: EngineOptions,
        tools: Mapping[str, Tool] | None = None,
    ) -> None:
        """`tools`: hosted tools by the `type` of the request's tool."""
        self.store = store
        self.router = router
        self._options = options
        self._planner = Planner(store, router, tools or {})
        self._admission = Admission(options.most_in_flight, options.most_in_flight_per_project)
        self._foreground: dict[str, Foreground] = {}
        self._freeing: set[asyncio.Task[None]] = set()
        self.jobs = Jobs(
            store, self._planner, options.retention, options.jobs, lambda: self._foreground
        )
        IN_FLIGHT.set_function(lambda: len(self._foreground) + self.jobs.count)
        #: New requests are turned away: the server is shutting down (R-73).
        self.stopping = False

    async def open(self) -> None:
        """Set right what dead processes left, and begin to work on the queue (R-65, R-69). To be
        called before the first request."""
        await self.jobs.open()

    # -- requests ----------------------------------------------------------------------------

    async def start(
        self, request: CreateResponse, project: str, raw: bytes = b"", key: str | None = None
    ) -> Foreground | Admitted:
        """Check the request and set it going. An `APIError` means: nothing was stored or sent.

        `raw` is the body of the POST, `key` its Idempotency-Key.
        """
        if self.stopping:
            raise Overloaded("The server is shutting down.", retry_after=_RESTART)
        mint = SystemMint()
        record = None
        if key is not None:
            record = IdempotencyKey(key, await _fingerprint(raw), mint.now() + REMEMBERED)
            # Before the plan: what it needs may be gone, and the response is there.
            if twin := await self.store.runs.twin(project, key):
                return _replay(twin, record, request)
        if request.background:
            plan = await self._planner.plan(request, project, mint)
            return await self._enqueue(plan, mint, raw, record)
        with ExitStack() as entered:
            place = entered.enter_context(self._admission.enter(project))
            plan = await self._planner.plan(request, project, mint)
            if record is not None:
                admitted = await self._admit(plan, mint, record, place)
                if admitted.run is not None:
                    entered.pop_all()
                return admitted
            made = self._begin(plan, mint)
            made.task.add_done_callback(lambda _: place.leave())
            entered.pop_all()
        return made

    def _begin(self, plan: Plan, mint: SystemMint) -> Foreground:
        """Set a run going that belongs to its connection."""
        request = plan.request
        streamed = bool(request.stream)
        response = _new_response(plan, mint, "in_progress")
        row: ResponseRow | None = None
        if request.store is not False:
            row = self._row(plan, response, "stored", b"")
            row.expires_at = self._options.retention.of(row.created_at)
            row.owner = self.jobs.owner if streamed else None
        log = EventLog(keep=streamed)
        journal = Passing(log, row, self.store, streamed=streamed)
        machine = ResponseMachine(response, mint, plan.machine_options())
        run = plan.run(machine, journal, self._options.run_timeout)
        task = asyncio.create_task(run.run(), name=run.id)
        made = self._foreground[run.id] = Foreground(run, task, log, journal)
        task.add_done_callback(lambda _: self._foreground.pop(run.id))
        return made

    async def _enqueue(
        self, plan: Plan, mint: SystemMint, raw: bytes, key: IdempotencyKey | None
    ) -> Admitted:
        """Put a background response into the queue; it is committed when this returns."""
        machine = ResponseMachine(_new_response(plan, mint, "queued"), mint, MachineOptions())
        machine.enqueue()
        kept: Kept = "polled" if plan.request.store is False else "stored"
        row = self._row(plan, machine.response, kept, machine.body())
        admitted = await self._enter(plan, row, Batch(0, machine.take()), raw, key)
        if admitted.replayed:
            return admitted
        self.jobs.poke()
        return replace(admitted, body=row.body)

    async def _admit(
        self, plan: Plan, mint: SystemMint, key: IdempotencyKey, place: Place
    ) -> Admitted:
        """Set a foreground request going that a twin may follow."""
        response = _new_response(plan, mint, "in_progress")
        kept: Kept = "replayed" if plan.request.store is False else "stored"
        row = self._row(plan, response, kept, orjson.dumps(response))
        row.owner = self.jobs.owner
        with self.jobs.admitting(row.id):
            admitted = await self._enter(plan, row, Batch(0, []), None, key)
            if admitted.replayed:
                return admitted
            journal = self.jobs.journal(row, 0, is_job=False)
            machine = ResponseMachine(response, mint, plan.machine_options())
            run = plan.run(machine, journal, self._options.run_timeout)
            task = self.jobs.begin(run, journal)
        task.add_done_callback(lambda _: place.leave())
        task.add_done_callback(lambda _: self._free_key(run, streamed=bool(plan.request.stream)))
        return Admitted(row.id, False, False, plan.ignored, run)

    def _free_key(self, run: Run, *, streamed: bool) -> None:
        """An error frees the key, whether somebody was there to hear it or not."""
        if run.error is not None and not (streamed and run.spoken):
            task = asyncio.create_task(self._forget_key(run.id))
            self._freeing.add(task)
            task.add_done_callback(self._freeing.discard)

    async def _forget_key(self, response_id: str) -> None:
        try:
            await self.store.runs.forget_key(response_id)
        except APIError as error:
            log.warning("key_not_freed", response_id=response_id, error=error.message)

    async def _enter(
        self,
        plan: Plan,
        row: ResponseRow,
        events: Batch,
        job: bytes | None,
        key: IdempotencyKey | None,
    ) -> Admitted:
        """Commit an admission; or find the twin that has got the key meanwhile."""
        try:
            twin = await self.store.runs.admit(
                row, events, job=job, key=key, most_queued=self._options.most_queued
            )
        except QueueFull:
            SHED.labels("queue").inc()
            raise RateLimitError(
                "Too many background responses are waiting. Please try again later.",
                retry_after=_QUEUE_RETRY,
            ) from None
        if twin is not None and key is not None:
            return _replay(twin, key, plan.request)
        return Admitted(row.id, bool(plan.request.background), False, plan.ignored)

    def _row(self, plan: Plan, response: Response, kept: Kept, body: bytes) -> ResponseRow:
        return ResponseRow(
            id=response["id"],
            project=plan.project,
            status=response["status"],
            created_at=response["created_at"],
            expires_at=None,
            previous_response_id=plan.request.previous_response_id,
            body=body,
            input=b"" if kept == "replayed" else orjson.dumps(plan.context.input),
            kept=kept,
        )

    # -- durable responses -------------------------------------------------------------------

    def follow(
        self, response_id: str, *, after: int, idle: float
    ) -> AsyncGenerator[list[Frame], None]:
        """The events of a durable response above `after`: see `engine.follow`."""
        return follow(self.store.runs, self, response_id, after=after, idle=idle)

    def live(self, response_id: str) -> DurableLog | None:
        """See `engine.follow.Here`."""
        return self.jobs.live(response_id)

    async def body(self, response_id: str) -> bytes:
        """A durable response as it is now."""
        row = await self.store.runs.find(response_id)
        if row is None:
            raise NotFoundError(f"Response with id '{response_id}' not found.")
        return row.body

    async def check_log(self, response_id: str) -> None:
        """Raise `InvalidRequestError` if the events of a response that has ended are gone."""
        runs = self.store.runs
        ended = await runs.status(response_id) not in RUNNING
        if ended and not await runs.read(response_id, -1, 1):
            raise InvalidRequestError(
                "This response cannot be streamed because its events are no longer kept.",
                param="stream",
            )

    async def outcome(self, admitted: Admitted) -> bytes:
        """The final Response of a keyed foreground request; raises `APIError` when it failed."""
        made_here = self.jobs.run_of(admitted.id)
        run = made_here[0] if made_here is not None else admitted.run
        if made_here is not None:
            await asyncio.wait([made_here[1]])
        if run is not None and run.error is not None:
            await self._forget_key(admitted.id)
            raise run.error
        while await self.store.runs.status(admitted.id) in RUNNING:
            if self.stopping:
                raise Overloaded("The server is shutting down.", retry_after=_RESTART)
            await self.store.runs.wait(_POLL)
            await asyncio.sleep(_PAUSE)
        row = await self.store.runs.find(admitted.id)
        if row is None:
            raise APIError(_DELETED, should_retry=False)
        if row.status == "failed":
            await self._forget_key(admitted.id)
            raise APIError("The request with the same Idempotency-Key failed. Please try again.")
        return row.body

    async def cancel(self, project: str, response_id: str) -> ResponseRow | None:
        """Cancel a background response; the row as it is then, None when there is none. Again: no
        effect (R-58). Raises `InvalidRequestError` for a synchronous one."""
        row = await self.store.get(project, response_id)
        if row is None:
            return None
        if not orjson.loads(row.body)["background"]:
            raise InvalidRequestError("Cannot cancel a synchronous response.")
        for tries in range(_CANCELS):
            if row is None or row.status not in RUNNING:
                return row
            await asyncio.sleep(tries * random.uniform(0, _STEP_BACK))  # noqa: S311
            await self.jobs.cancel(project, response_id)
            row = await self.store.get(project, response_id)
        raise Overloaded(retry_after=_POLL)

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """Forget a response; if it runs, stop it. Whether there was one (R-59)."""
        deleted = await self.store.delete(project, id)
        if deleted:
            self.jobs.abandon(id)
            if (made := self._foreground.get(id)) is not None:
                made.run.stop(made.task, APIError(_DELETED, should_retry=False))
        return deleted

    # -- the end -----------------------------------------------------------------------------

    async def drain(self) -> None:
        """Turn new requests away and put jobs back into the queue (R-73)."""
        self.stopping = True
        await self.jobs.hand_back()

    def stop(self) -> None:
        """End what still runs: clients get a terminal event, or a 503 (R-73)."""
        running = [(made.task, made.run) for made in self._foreground.values()]
        for task, run in [*running, *self.jobs.foreground()]:
            run.stop(task, Overloaded("The server is shutting down.", should_retry=False))

    async def close(self) -> None:
        """Cancel what belongs to a connection, wait for what does not, and leave."""
        tasks = [made.task for made in self._foreground.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.jobs.close(self._options.shutdown_patience)
        await asyncio.gather(*self._freeing)


def _replay(twin: Twin, key: IdempotencyKey, request: CreateResponse) -> Admitted:
    """What the earlier request with the same key has made. Raises `IdempotencyKeyReused`."""
    if twin.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    return Admitted(twin.response_id, bool(request.background), True, [])


def _new_response(
    plan: Plan, mint: SystemMint, status: Literal["queued", "in_progress"]
) -> Response:
    response = new_response(
        plan.request, id=mint.item_id("resp"), created_at=mint.now(), status=status
    )
    if "service_tier" in plan.ignored:  # the answer says which tier it was (spec §1)
        response["service_tier"] = "auto"
    return response


async def _fingerprint(raw: bytes) -> str:
    """The same for bodies that say the same."""

    def work() -> str:
        canonical = orjson.dumps(orjson.loads(raw), option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(canonical).hexdigest()

    return await asyncio.to_thread(work) if len(raw) > _LARGE else work()
