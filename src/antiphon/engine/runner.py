"""The engine: requests become runs, runs become tasks (design §5).

Rules
1. Everything that can be checked is checked in `start`, before anything is stored or sent.
2. A foreground run belongs to its connection; in a conversation it has its row from the start,
   which keeps all others out. A durable one (`background`, or with an Idempotency-Key) belongs to
   nobody: it is admitted to the store, and whoever wants it follows its log there.
3. What was answered with 2xx is replayed under its Idempotency-Key; an error frees the key.
4. At shutdown `stopping` turns new requests away and jobs go back into the queue; `stop` ends what
   still runs with a terminal event, and `close` waits for the last rows.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import orjson
import structlog

from antiphon.backends.base import Router, TokenCount
from antiphon.engine.admission import Admission, Place
from antiphon.engine.attachments import Attachments
from antiphon.engine.calls import ToolLimits
from antiphon.engine.durable import DurableLog
from antiphon.engine.endings import REMEMBERED, Retention, ending
from antiphon.engine.follow import follow
from antiphon.engine.jobs import JobOptions, Jobs
from antiphon.engine.journal import Ended, Passing
from antiphon.engine.log import EventLog
from antiphon.engine.made import (
    Admitted,
    Foreground,
    compaction_of,
    fingerprint,
    pinned,
    replay,
    response_of,
    row_of,
)
from antiphon.engine.metrics import IN_FLIGHT, SHED
from antiphon.engine.mint import SystemMint
from antiphon.engine.plan import Plan, Planner
from antiphon.engine.recent import Recent
from antiphon.engine.run import Run
from antiphon.engine.sealing import Sealer
from antiphon.errors import (
    APIError,
    ConversationLocked,
    InvalidRequestError,
    NotFoundError,
    Overloaded,
    RateLimitError,
    UpstreamTimeout,
)
from antiphon.protocol.emitter import Frame, exact
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Response
from antiphon.store.base import (
    RUNNING,
    Batch,
    ConversationBusy,
    ConversationMoved,
    EncryptionKey,
    Ending,
    IdempotencyKey,
    Kept,
    QueueFull,
    ResponseRow,
    Store,
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
#: How often a run is planned anew because its conversation has got other items meanwhile.
_PLANS: Final = 20
#: How often a cancel is tried against others who take the same job.
_CANCELS: Final = 20
#: Seconds between two tries, times their number, at most.
_STEP_BACK: Final = 0.01

T = TypeVar("T")


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
    tools: ToolLimits = field(default_factory=ToolLimits)
    #: Keys of sealed contents, the one that seals first; none: those of the store.
    encryption_keys: Sequence[EncryptionKey] = ()


class Engine:
    """Makes responses."""

    def __init__(
        self,
        store: Store,
        router: Router,
        options: EngineOptions,
        tools: Mapping[str, Tool] | None = None,
        attachments: Attachments | None = None,
    ) -> None:
        """`tools`: hosted tools by the `type` of the request's tool."""
        self.store = store
        self.router = router
        self._options = options
        self.sealer = Sealer(store, options.encryption_keys)
        self._planner = Planner(store, router, self.sealer, tools or {}, options.tools, attachments)
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
        await self.sealer.open()
        await self.jobs.open()

    # -- requests ----------------------------------------------------------------------------

    async def start(
        self,
        request: CreateResponse,
        project: str,
        raw: bytes = b"",
        key: str | None = None,
        *,
        recent: Recent | None = None,
        generate: bool = True,
    ) -> Foreground | Admitted:
        """Check the request and set it going. An `APIError` means: nothing was stored or sent.

        `raw` is the body of the POST, `key` its Idempotency-Key, `recent` what its connection
        remembers; without `generate` the model is not asked (spec §2.6).
        """
        self._check_stopping()
        mint = SystemMint()
        record = None
        if key is not None:
            record = IdempotencyKey(key, await fingerprint(raw), mint.now() + REMEMBERED)
            # Before the plan: what it needs may be gone, and the response is there.
            if twin := await self.store.runs.twin(project, key):
                return replay(twin, record, request)

        def plan() -> Awaitable[Plan]:
            return self._planner.plan(request, project, mint, recent=recent, generate=generate)

        if request.background:
            return await _planned(plan, lambda made: self._enqueue(made, mint, raw, record))
        with self._admission.enter(project) as place:
            if record is not None:
                admitted = await _planned(plan, lambda made: self._admit(made, mint, record, place))
                if admitted.run is not None:
                    place.stay()
                return admitted
            made = await _planned(plan, lambda made: self._begin(made, mint))
            made.task.add_done_callback(lambda _: place.leave())
            place.stay()
        return made

    def _check_stopping(self) -> None:
        if self.stopping:
            raise Overloaded("The server is shutting down.", retry_after=_RESTART)

    async def _begin(self, plan: Plan, mint: SystemMint) -> Foreground:
        """Set a run going that belongs to its connection."""
        request = plan.request
        streamed = bool(request.stream)
        response = response_of(plan, mint, "in_progress")
        journal = Passing(EventLog(keep=streamed), None, self.store, streamed=streamed)
        if request.conversation_id is not None:
            kept: Kept = "replayed" if request.store is False else "stored"
            row = journal.row = row_of(plan, response, kept, exact(orjson.dumps(response)))
            row.owner = self.jobs.owner
            journal.begun, journal.ending = True, self._ending(row)
            with self.jobs.admitting(row.id):
                await self._enter(plan, row, Batch(0, []), None, None)
                return self._set_going(plan, mint, response, journal)
        if request.store is not False:
            row = journal.row = row_of(plan, response, "stored", b"")
            row.expires_at = self._options.retention.of(row.created_at)
            row.owner = self.jobs.owner if streamed else None
        return self._set_going(plan, mint, response, journal)

    def _set_going(
        self, plan: Plan, mint: SystemMint, response: Response, journal: Passing
    ) -> Foreground:
        options = plan.machine_options()
        options.unread = not journal.streamed
        machine = ResponseMachine(response, mint, options)
        run = plan.run(machine, journal, self._options.run_timeout)
        task = asyncio.create_task(run.run(), name=run.id)
        made = self._foreground[run.id] = Foreground(run, task, journal.log, journal, plan)
        task.add_done_callback(lambda _: self._foreground.pop(run.id))
        return made

    def _ending(self, row: ResponseRow) -> Callable[[Ended], Ending]:
        """How a row ends that keeps a conversation busy and has no events: with `store: false` it
        goes at once."""
        retention, mint = self._options.retention, SystemMint()

        def end(ended: Ended) -> Ending:
            expires_at = retention.of(row.created_at) if row.kept == "stored" else mint.now()
            return ending(row, ended, expires_at)

        return end

    async def count_tokens(
        self, request: CreateResponse, project: str
    ) -> tuple[TokenCount, list[str]]:
        """The tokens that a request would begin with, and the parameters that have no effect.
        Raises `APIError` as `start` does."""
        self._check_stopping()
        with self._admission.enter(project):
            plan = await self._planner.plan(request, project, SystemMint())
            return await plan.view.tokens(), plan.ignored

    async def compact(
        self, request: CreateResponse, project: str
    ) -> tuple[dict[str, Any], list[str]]:
        """The ``response.compaction`` of a context, and the parameters that have no effect (spec
        §2.1). Nothing is stored. Raises `APIError`."""
        self._check_stopping()
        mint = SystemMint()
        with self._admission.enter(project):
            plan = await self._planner.plan(request, project, mint)
            try:
                async with asyncio.timeout(self._options.run_timeout):
                    compacted = await plan.view.compact([])
            except TimeoutError:
                raise UpstreamTimeout(should_retry=False) from None
        body = await asyncio.to_thread(compaction_of, plan, mint, compacted)
        return body, plan.ignored

    async def _enqueue(
        self, plan: Plan, mint: SystemMint, raw: bytes, key: IdempotencyKey | None
    ) -> Admitted:
        """Put a background response into the queue; it is committed when this returns."""
        machine = ResponseMachine(response_of(plan, mint, "queued"), mint, MachineOptions())
        machine.enqueue()
        kept: Kept = "polled" if plan.request.store is False else "stored"
        row = row_of(plan, machine.response, kept, machine.body())
        admitted = await self._enter(
            plan, row, Batch(0, machine.take()), await pinned(plan, raw), key
        )
        if admitted.replayed:
            return admitted
        self.jobs.poke()
        return replace(admitted, body=row.body)

    async def _admit(
        self, plan: Plan, mint: SystemMint, key: IdempotencyKey, place: Place
    ) -> Admitted:
        """Set a foreground request going that a twin may follow."""
        response = response_of(plan, mint, "in_progress")
        kept: Kept = "replayed" if plan.request.store is False else "stored"
        row = row_of(plan, response, kept, exact(orjson.dumps(response)))
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
        return replace(admitted, run=run)

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
                # What is kept for its twins, or for its conversation, need not be read again.
                replace(row, input=b"") if row.kept == "replayed" else row,
                events,
                job=job,
                key=key,
                most_queued=self._options.most_queued,
                version=plan.context.past.version,
            )
        except QueueFull:
            SHED.labels("queue").inc()
            raise RateLimitError(
                "Too many background responses are waiting. Please try again later.",
                retry_after=_QUEUE_RETRY,
            ) from None
        if twin is not None and key is not None:
            return replay(twin, key, plan.request)
        return Admitted(
            row.id, bool(plan.request.background), False, plan.ignored, plan.view.truncated
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


async def _planned(plan: Callable[[], Awaitable[Plan]], begin: Callable[[Plan], Awaitable[T]]) -> T:
    """Plan and begin; anew, when the conversation has got other items in between (R-64)."""
    for attempt in range(_PLANS):
        made = await plan()
        if made.work != "compaction":  # it makes what is too long short
            await made.view.check()
        try:
            return await begin(made)
        except ConversationMoved:
            await asyncio.sleep(attempt * random.uniform(0, _STEP_BACK))  # noqa: S311
        except ConversationBusy:
            raise ConversationLocked from None
    raise Overloaded(retry_after=_POLL)
