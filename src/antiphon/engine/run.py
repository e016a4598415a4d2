"""One run: from ``response.created`` to the terminal event (design §4).

Rules
1. `run` never raises, except that a cancelled run ends as cancelled: a failure is an event. A run
   is cancelled when nobody waits for it any more; when somebody does, it is stopped (`stop`), and
   that is a failure like any other.
2. A run that is abandoned says nothing more: somebody else has it now.
3. What fails before the model has said anything is an HTTP error: `accepted` tells the API when
   it may begin to answer 200.
4. A turn of the model, and each hosted call after it, is a step. After a step the journal has all
   that somebody else needs to go on; a hosted call that has finished is never made again (R-66).
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import orjson
import structlog

from antiphon.backends.base import Backend, Prompt
from antiphon.engine import metrics
from antiphon.engine.compaction import NoSummary
from antiphon.engine.journal import Journal
from antiphon.engine.progress import Progress
from antiphon.engine.view import View
from antiphon.errors import APIError, ContextLengthExceeded, UpstreamError, UpstreamTimeout
from antiphon.protocol.machine import HostedCall, ResponseMachine
from antiphon.protocol.schemas import AnswerSchema
from antiphon.protocol.writers import HostedWriter
from antiphon.tools.base import Tool

log = structlog.get_logger(__name__)

#: What there is to do: answer, make a compaction and no more, or nothing at all (a warm-up).
Work: TypeAlias = Literal["answer", "compaction", "nothing"]

#: Model turns of one response (R-120).
MOST_TURNS: Final = 32
INTERRUPTED: Final = "The server stopped while this call was running; its outcome is unknown."


@dataclass(frozen=True, slots=True)
class _LiveItem:
    """The item of a hosted call: its progress is shown when it happens."""

    item: HostedWriter
    tell: Callable[[], None]

    def progress(self, step: str, fields: dict[str, Any] | None = None) -> None:
        """See `tools.base.CallItem`."""
        self.item.progress(step, fields)
        self.tell()


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
    work: Work = "answer"
    answer_schema: AnswerSchema | None = None
    #: Name of the function that the model sees → the hosted tool and the request's `tool`.
    tools: Mapping[str, tuple[Tool, dict[str, Any]]] = field(default_factory=dict)
    #: Where a background run goes on from; None: in the foreground, from the start.
    progress: Progress | None = None
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
    #: Somebody else has it now.
    abandoned: bool = False
    #: Whether the model has said anything in this turn.
    _heard: bool = False

    async def run(self) -> None:
        """Everything from the first event to the last. Whatever happens, the log ends."""
        try:
            await self._speak()
            await self._publish()
        finally:
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

    def beat(self) -> None:
        """A reader saw nothing for long: say ``response.in_progress`` once more (design §5)."""
        if self.machine.status == "in_progress":
            self.machine.beat()
            self._tell()

    # -- the work ----------------------------------------------------------------------------

    async def _speak(self) -> None:
        """All that is said, and how it ended."""
        try:
            await self._begin()
            async with asyncio.timeout(self.timeout):
                await self._steps()
            self.machine.finish()
        except APIError as error:
            self._fail(error)
        except TimeoutError:
            self._fail(UpstreamTimeout(should_retry=False))
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
            self.accepted.set()

    async def _begin(self) -> None:
        if self.progress is None:
            self.machine.start()
        else:
            self.machine.usage = self.progress.usage
            self.machine.resume(self.progress.settled)
        await self.journal.begin(self.machine, self.progress)
        self._tell()

    async def _steps(self) -> None:
        """Turns of the model and the hosted calls between them (design §4)."""
        progress = self.progress or Progress()
        if self.work == "compaction" and not self.machine.output:
            await self._compact(progress)
        while self.work == "answer":
            if not progress.pending:
                if progress.waits_for_client:
                    return
                if progress.turns == MOST_TURNS:
                    raise UpstreamError(
                        f"The model called hosted tools in {MOST_TURNS} turns and came to no end.",
                        should_retry=False,
                    )
                await self._turn(progress)
                progress.pending = self.machine.take_hosted()
                progress.waits_for_client = self.machine.waits_for_client
                if not progress.pending:
                    return
                progress.turns += 1
                await self._checkpoint(progress)
            while progress.pending:
                await self._call(progress.pending[0], progress)
                del progress.pending[0]
                progress.begun = False
                await self._checkpoint(progress)

    async def _turn(self, progress: Progress) -> None:
        """One model turn: deltas into the machine, events into the log."""
        machine = self.machine
        machine.finish_reason = None
        prompt = await self.view.show(machine.output)
        if await self.view.must_compact(prompt):
            try:
                await self._compact(progress)
            except NoSummary:  # it may still fit as it is
                log.warning("no_summary", response_id=self.id)
            prompt = await self.view.show(machine.output)
        prompt = await self.view.fit(prompt)
        await self._generate(prompt)
        if machine.finish_reason is None:
            raise UpstreamError(should_retry=False)
        machine.end_turn()
        self._tell()
        self._check_answer()

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
                    self.spoken = True
                    self.accepted.set()
                self._heard = self._heard or bool(deltas)
                self.machine.feed(deltas)
                self._tell()
                await self.journal.room()

    async def _compact(self, progress: Progress) -> None:
        """Let a summary take the place of the context (spec §9)."""
        compacted = await self.view.compact(self.machine.output.copy())
        # In a thread: it may be long.
        sealed = await asyncio.to_thread(self.seal, compacted.payload())
        self.spoken = True
        self.accepted.set()
        self.machine.usage += compacted.usage
        self.machine.begin_compaction().close(sealed)
        self._tell()
        await self._checkpoint(progress)

    async def _call(self, call: HostedCall, progress: Progress) -> None:
        """Run one hosted call; what goes wrong is told to the model."""
        tool, asked = self.tools[call.name]
        try:
            arguments = orjson.loads(call.arguments or b"{}")
        except orjson.JSONDecodeError:
            arguments = {}
        item = self.machine.begin_call(tool.item_type, tool.begin(asked, arguments))
        self._tell()
        if progress.begun:
            item.close("failed", tool.failed(asked, arguments, INTERRUPTED))
            self._tell()
            return
        if not tool.repeatable:
            progress.begun = True
            await self._checkpoint(progress)
        try:
            fields = await tool.run(asked, arguments, _LiveItem(item, self._tell))
        except APIError as error:
            item.close("failed", tool.failed(asked, arguments, error.message))
        else:
            item.close("completed", fields)
        self._tell()

    def _tell(self) -> None:
        self.journal.append(self.machine.take())

    async def _checkpoint(self, progress: Progress) -> None:
        """A step is done."""
        if not progress.begun:
            progress.settled = self.machine.announced
        progress.usage = self.machine.usage
        await self.journal.checkpoint(self.machine, progress)

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

    # -- the end -----------------------------------------------------------------------------

    def _fail(self, error: APIError) -> None:
        self.error = error
        self.machine.fail(error)

    async def _publish(self) -> None:
        """Commit the terminal snapshot, then show the terminal event."""
        machine = self.machine
        frames = machine.take()
        self.body = machine.body()
        try:
            await self.journal.finish(frames, machine.status, self.body)
        except APIError as error:
            if self.error is None:
                error.should_retry = False  # the tokens were spent
                machine.retract()
                self._fail(error)
                frames[-1:] = machine.take()
                self.body = machine.body()
            self.journal.append(frames)

    async def _cancelled(self) -> None:
        """The client left: the row says so (R-53)."""
        self.machine.cancel()
        self.body = self.machine.body()
        try:
            await self.journal.finish([], self.machine.status, self.body)
        except APIError as error:
            log.warning("cancelled_run_not_saved", response_id=self.id, error=error.message)
