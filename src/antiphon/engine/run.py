"""One run: from ``response.created`` to the terminal event (design §4).

Rules
1. `run` never raises, except that a cancelled run ends as cancelled: a failure is an event. A run
   is cancelled when nobody waits for it any more; when somebody does, it is stopped (`stop`), and
   that is a failure like any other.
2. Commit before you tell: the terminal snapshot is in the store before the terminal event, or the
   JSON answer made from it, is shown (R-67).
3. A stored stream has its row before its first event: whoever knows an id can GET it.
4. What fails before the model has said anything is an HTTP error: `accepted` tells the API when
   it may begin to answer 200.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field

import structlog

from antiphon.backends.base import Backend, Prompt
from antiphon.engine import metrics
from antiphon.engine.log import EventLog
from antiphon.errors import APIError, UpstreamError, UpstreamTimeout
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.schemas import AnswerSchema
from antiphon.store.base import ResponseRow, Store

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Run:
    """A response in the making and all that belongs to it."""

    id: str
    project: str
    request: CreateResponse
    backend: Backend
    prompt: Prompt
    #: This request's own items, encoded; empty when nothing is stored.
    input: bytes
    machine: ResponseMachine
    log: EventLog
    store: Store | None
    expires_at: int | None
    #: Seconds for the whole run (R-44).
    timeout: float
    answer_schema: AnswerSchema | None = None
    #: Parameters that the answer did not honour, for ``x-antiphon-ignored``.
    ignored: list[str] = field(default_factory=list)
    #: Set when the upstream has accepted the prompt, or the run is over.
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    #: Whether the upstream has accepted the prompt: from then on tokens may have been spent.
    spoken: bool = False
    #: Why it failed, if it did.
    error: APIError | None = None
    #: The final Response, encoded.
    body: bytes = b""
    #: Why it is being stopped, if it is.
    stopped: APIError | None = None

    async def run(self) -> None:
        """Everything from the first event to the last. Whatever happens, the log ends."""
        try:
            await self._speak()
            await self._publish()
        finally:
            self.log.close()
            metrics.count(self.machine.status, self.machine.usage, self.error)

    async def _speak(self) -> None:
        """All that the model says, and how it ended."""
        machine = self.machine
        try:
            machine.start()
            if self.request.stream:
                await self._save()
            self.log.append(machine.take())
            async with asyncio.timeout(self.timeout):
                await self._turn()
            machine.finish()
        except APIError as error:
            self._fail(error)
        except TimeoutError:
            self._fail(UpstreamTimeout(should_retry=False))
        except asyncio.CancelledError:
            if self.stopped is None:
                await self._cancelled()
                raise
            self._fail(self.stopped)
        except Exception:
            log.exception("run_crashed", response_id=self.id)
            self._fail(APIError(should_retry=False))
        finally:
            self.accepted.set()

    def stop(self, task: "asyncio.Task[None]", error: APIError) -> None:
        """End the run, which `task` is, with a failure that its client is told of."""
        if self.machine.status == "in_progress" and self.stopped is None:
            self.stopped = error
            task.cancel()

    def beat(self) -> None:
        """A reader saw nothing for long: say ``response.in_progress`` once more (design §5)."""
        if self.machine.status == "in_progress":
            self.machine.beat()
            self.log.append(self.machine.take())

    async def _turn(self) -> None:
        """One model turn: deltas into the machine, events into the log."""
        machine = self.machine
        async with contextlib.aclosing(self.backend.generate(self.prompt)) as turn:
            async for deltas in turn:
                if not self.spoken:
                    self.spoken = True
                    self.accepted.set()
                machine.feed(deltas)
                self.log.append(machine.take())
                await self.log.room()
        if machine.finish_reason is None:
            raise UpstreamError(should_retry=False)
        machine.end_turn()
        self.log.append(machine.take())
        self._check_answer()

    def _check_answer(self) -> None:
        """A complete answer to a strict schema matches it (spec §8)."""
        if self.answer_schema is None or self.machine.finish_reason != "stop":
            return
        text = self.machine.answer()
        if text is None:
            return
        reason = self.answer_schema.validate(text)
        if reason is not None:
            log.warning("answer_does_not_match_schema", response_id=self.id, reason=reason[:500])
            raise UpstreamError(
                "The model's answer does not match the JSON schema of 'text.format'.",
                should_retry=False,
            )

    def _fail(self, error: APIError) -> None:
        self.error = error
        self.machine.fail(error)

    async def _publish(self) -> None:
        """Commit the terminal snapshot, then show the terminal event."""
        frames = self.machine.take()
        self.body = self.machine.body()
        try:
            await self._save()
        except APIError as error:
            if self.error is None:
                error.should_retry = False  # the tokens were spent
                self.machine.retract()
                self._fail(error)
                frames[-1:] = self.machine.take()
                self.body = self.machine.body()
        self.log.append(frames)

    async def _cancelled(self) -> None:
        """The client left: the row says so (R-53)."""
        self.machine.cancel()
        self.body = self.machine.body()
        try:
            await self._save()
        except APIError as error:
            log.warning("cancelled_run_not_saved", response_id=self.id, error=error.message)

    async def _save(self) -> None:
        if self.store is None:
            return
        machine = self.machine
        await self.store.save(
            ResponseRow(
                id=self.id,
                project=self.project,
                status=machine.status,
                created_at=machine.response["created_at"],
                expires_at=self.expires_at,
                previous_response_id=self.request.previous_response_id,
                body=self.body or machine.body(),
                input=self.input,
            )
        )
