"""One run: from ``response.created`` to the terminal event (design §4).

Rules
1. `run` never raises, except that a cancelled run ends as cancelled: a failure is an event. A run
   is cancelled when nobody waits for it any more; when somebody does, it is stopped (`stop`), and
   that is a failure like any other.
2. A run that is abandoned says nothing more: somebody else has it now.
3. What fails before the model has said anything is an HTTP error: `accepted` tells the API when
   it may begin to answer 200.
4. A turn of the model, and each hosted call after it (`calls.py`), is a step. After a step the
   journal has all that somebody else needs to go on; a hosted call that has finished is never made
   again (R-66).
5. The loop ends: when the model has answered, when the client has to, or when its turns are over.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import structlog

from antiphon.backends.base import Backend, Prompt
from antiphon.engine import metrics
from antiphon.engine.budgets import is_spent
from antiphon.engine.calls import Calls
from antiphon.engine.compaction import NoSummary
from antiphon.engine.journal import Ended, Journal
from antiphon.engine.progress import Progress
from antiphon.engine.prompted import Prompted
from antiphon.engine.view import View
from antiphon.errors import APIError, ContextLengthExceeded, UpstreamError, UpstreamTimeout
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.schemas import AnswerSchema
from antiphon.protocol.told import Told, kept_of

log = structlog.get_logger(__name__)

#: Characters of an answer that is held against its schema in a thread: 10 ms (R-118).
_LONG_ANSWER: Final = 64 * 1024

#: What there is to do: answer, make a compaction and no more, or nothing at all (a warm-up).
Work: TypeAlias = Literal["answer", "compaction", "nothing"]


@dataclass(slots=True)
class Run:
    """A response in the making and all that belongs to it."""

    id: str
    project: str
    backend: Backend
    view: View
    machine: ResponseMachine
    journal: Journal
    #: Seconds for the whole run (R-44).
    timeout: float
    #: Seals the payload of a compaction.
    seal: Callable[[dict[str, Any]], str]
    calls: Calls
    work: Work = "answer"
    answer_schema: AnswerSchema | None = None
    #: Where a background run goes on from; None: in the foreground, from the start.
    progress: Progress | None = None
    #: Parameters that the answer did not honour, for ``x-antiphon-ignored``.
    ignored: list[str] = field(default_factory=list)
    #: What was told of items that are stored with its input.
    told_before: Mapping[str, Told] = field(default_factory=dict)
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
    #: Somebody else has it now.
    abandoned: bool = False
    #: Whether the model has said anything in this turn.
    _heard: bool = False
    #: Whether a hosted tool has done anything.
    _committed: bool = False
    #: How far it is.
    _now: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        if self.progress is not None:
            self._now = self.progress

    async def run(self) -> None:
        """Everything from the first event to the last. Whatever happens, the log ends."""
        try:
            await self._speak()
            await self._publish()
        finally:
            self.calls.close()
            self.journal.close()
            if not self.abandoned:
                metrics.count(self.machine.status, self.machine.usage, self.error)

    def stop(self, task: "asyncio.Task[None]", error: APIError) -> None:
        """End the run, which `task` is, with a failure that its client is told of."""
        if self.machine.status == "in_progress" and self.stopped is None:
            self.stopped = error
            task.cancel()

    def abandon(self, task: "asyncio.Task[None]") -> None:
        """Stop the work and say nothing more: the response is somebody else's, or over."""
        if not self.abandoned:
            self.abandoned = True
            task.cancel()

    def told(self) -> bytes | None:
        """What the model was told of calls, for who continues this response."""
        if not (self._now.told or self.told_before):
            return None
        return kept_of(self.machine.output, self._now.told, self.told_before)

    @property
    def is_prompted(self) -> bool:
        """Whether the form of the answer is told in words: the backend has none."""
        return isinstance(self.backend, Prompted)

    def beat(self) -> None:
        """A reader saw nothing for long: say ``response.in_progress`` once more (design §5)."""
        if self.machine.status == "in_progress":
            self.machine.beat()
            self.tell()

    # -- the work ----------------------------------------------------------------------------

    async def _speak(self) -> None:
        """All that is said, and how it ended."""
        timer = None
        try:
            await self._begin()
            timer = self._start_clock()
            await self._steps()
            self.machine.finish()
        except APIError as error:
            self._fail(error)
        except asyncio.CancelledError:
            if self.abandoned:
                raise
            if self.stopped is None:
                await self._cancelled()
                raise
            self._fail(self.stopped)
        except Exception:
            log.exception("run_crashed", response_id=self.id)
            self._fail(APIError(should_retry=False))
        finally:
            if timer is not None:
                timer.cancel()
            self.accepted.set()

    def _start_clock(self) -> asyncio.TimerHandle:
        """Its time begins (R-44). A timer and `stop` cost a third of `asyncio.timeout`."""
        task = asyncio.current_task()

        def expire() -> None:
            if task is not None:
                self.stop(task, UpstreamTimeout(should_retry=False))

        return asyncio.get_running_loop().call_later(self.timeout, expire)

    async def _begin(self) -> None:
        progress = self.progress
        if progress is None:
            self.machine.start()
        else:
            self.machine.usage = progress.usage
            self.machine.image_usage = progress.image_usage
            unfinished = self.machine.unfinished
            # What had ended may be in the log before the progress knows of it.
            progress.pending = [
                call for call in progress.pending if call.index is None or call.index in unfinished
            ]
            going_on = [call.index for call in progress.pending if call.index is not None]
            self.machine.resume(progress.settled, going_on)
        await self.journal.begin(self.machine, progress)
        self.tell()

    async def _steps(self) -> None:
        """Turns of the model and the calls between them (design §4)."""
        progress = self._now
        if self.work == "compaction" and not self.machine.output:
            await self._compact(progress)
        if self.work != "answer":
            return
        context = self.view.start.items
        await self.calls.get_ready(self, progress, context)
        while True:
            if progress.pending:
                await self.calls.run(self, progress, context)
            if self.calls.is_over(progress):
                return
            if is_spent(self.calls.toolbox.request, progress):
                self.machine.finish_reason = "length"
                return
            if progress.turns >= self.calls.limits.turns:
                raise UpstreamError(
                    f"The model called tools in {progress.turns} turns and came to no end.",
                    should_retry=False,
                )
            await self._turn(progress)
            self.calls.take(self.machine, progress)
            if not progress.pending:
                return
            await self.checkpoint(progress)

    async def _turn(self, progress: Progress) -> None:
        """One model turn: deltas into the machine, events into the log."""
        machine = self.machine
        machine.finish_reason = None
        self.view.equip(self.calls.request(machine, progress))
        prompt = await self.view.show(self.calls.seen(machine, progress))
        if await self.view.must_compact(prompt):
            try:
                await self._compact(progress)
            except NoSummary:  # it may still fit as it is
                log.warning("no_summary", response_id=self.id)
            prompt = await self.view.show(self.calls.seen(machine, progress))
        prompt = await self.view.fit(prompt)
        before = machine.usage.output_tokens
        await self._generate(self.calls.toolbox.renamed(prompt))
        progress.spent += machine.usage.output_tokens - before
        if machine.finish_reason is None:
            raise UpstreamError(should_retry=False)
        machine.end_turn()
        self.tell()
        if self.answer_schema is not None and machine.finish_reason == "stop":
            await self._check_answer(self.answer_schema)

    async def _generate(self, prompt: Prompt) -> None:
        """What the model says to a prompt, or to as much of it as it takes."""
        while True:  # half as many turns each time, until there is nothing left to go
            try:
                await self._listen(prompt)
            except ContextLengthExceeded:
                shorter = None if self._heard else self.view.shrink(prompt)
                if shorter is None:
                    raise
                prompt = shorter
            else:
                return

    async def _listen(self, prompt: Prompt) -> None:
        self._heard = False
        if self.view.truncated is not None:
            self.machine.truncated = self.view.truncated.body()
        async with contextlib.aclosing(self.backend.generate(prompt)) as turn:
            async for deltas in turn:
                if not self.spoken:
                    self._go()
                self._heard = self._heard or bool(deltas)
                self.machine.feed(deltas)
                self.tell()
                await self.journal.room()

    async def _compact(self, progress: Progress) -> None:
        """Let a summary take the place of the context (spec §9)."""
        seen = self.calls.seen(self.machine, progress)
        compacted = await self.view.compact(seen.copy())
        # In a thread: it may be long.
        sealed = await asyncio.to_thread(self.seal, compacted.payload())
        self._go()
        self.machine.usage += compacted.usage
        self.machine.begin_compaction().close(sealed)
        self.tell()
        await self.checkpoint(progress)

    def tell(self) -> None:
        """Show what the machine has said."""
        self.journal.append(self.machine.take())

    def commit(self) -> None:
        """Something is done that must not be done again, whatever fails then."""
        self._committed = True
        self._go()

    def _go(self) -> None:
        """From now on failures are events."""
        self.spoken = True
        self.accepted.set()

    async def checkpoint(self, progress: Progress) -> None:
        """A step is done."""
        progress.settled = self.machine.announced
        progress.usage = self.machine.usage
        progress.image_usage = self.machine.image_usage
        await self.journal.checkpoint(self.machine, progress)

    async def _check_answer(self, schema: AnswerSchema) -> None:
        """A complete answer to a strict schema matches it (spec §8)."""
        text = self.machine.answer()
        if text is None:
            return
        judge = schema.validate
        reason = await asyncio.to_thread(judge, text) if len(text) > _LONG_ANSWER else judge(text)
        if reason is not None:
            log.warning("answer_does_not_match_schema", response_id=self.id, reason=reason[:500])
            raise UpstreamError(
                "The model's answer does not match the JSON schema of 'text.format'.",
                should_retry=False,
            )

    # -- the end -----------------------------------------------------------------------------

    def _fail(self, error: APIError) -> None:
        if self._committed:  # who sends the request again would have it done again
            error.should_retry = False
        self.error = error
        self.machine.fail(error)

    async def _publish(self) -> None:
        """Commit the terminal snapshot, then show the terminal event."""
        machine = self.machine
        frames = machine.take()
        ended = self._ended()
        try:
            await self.journal.finish(frames, ended)
        except APIError as error:
            if self.error is None:
                error.should_retry = False  # the tokens were spent
                machine.retract()
                self._fail(error)
                frames[-1:] = machine.take()
                self.body = machine.body()
            self.journal.append(frames)

    def _ended(self) -> Ended:
        """The terminal state, with what the model was told on the way."""
        self.body = self.machine.body()
        return Ended(self.machine.status, self.body, self.told())

    async def _cancelled(self) -> None:
        """The client left: the row says so (R-53)."""
        self.machine.cancel()
        try:
            await self.journal.finish([], self._ended())
        except APIError as error:
            log.warning("cancelled_run_not_saved", response_id=self.id, error=error.message)
