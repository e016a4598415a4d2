"""What becomes of the calls that a turn has made in silence (design §4, decision 0007).

Rules
1. A call of a hosted tool becomes an item and is run; those of one turn at once, if the request
   lets calls be parallel. How it fails stands in the item and is told to the model: the response
   goes on.
2. A call that needs the user's yes becomes an ``mcp_approval_request``, and the response ends.
3. A call that the client runs with an item of its own is shown when it is whole and right.
4. What becomes no item is a `Note`: the model is told why, and goes on. If the response ends here,
   because the client has calls to answer, it is as if the call had not been made, but for the log.
5. After each call that has ended the progress is written down. What was under way when a process
   died goes on in the same item; what must not be made twice has failed (R-66).
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

import structlog

from antiphon.engine.approvals import Approvals, Decision
from antiphon.engine.budgets import calls_left, calls_made, with_the_rest
from antiphon.engine.client_calls import show_call
from antiphon.engine.metrics import TOOL_CALLS
from antiphon.engine.notes import seen
from antiphon.engine.progress import Note, PendingCall, Progress
from antiphon.engine.tool_search import search
from antiphon.engine.toolbox import Entry, Hosted, Search, Toolbox, Whole
from antiphon.errors import APIError, ToolFailed
from antiphon.protocol.client_tools import BadCall
from antiphon.protocol.ids import partition_of
from antiphon.protocol.items.base import Item
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.validation import echo
from antiphon.protocol.writers import HostedWriter
from antiphon.tools.base import Call, Outcome, OwnItem, Scope

log = structlog.get_logger(__name__)

INTERRUPTED: Final = "The server stopped while this call was running; its outcome is unknown."
_CRASHED: Final = "The tool crashed."
_USED: Final = "The approval of this call was used before."
_NO_MORE: Final = (
    "Not run: this response has made all the tool calls (max_tool_calls) or all the turns that it "
    "may make. Answer with what you have."
)
#: Functions that are named to a model that called one that is not there.
_MOST_NAMED: Final = 32
_TOO_MANY: Final = "Not run: too many calls at once. Make some of them again, in the next turn."
#: Hosted calls of one turn, and how many of them run at once.
_MOST_CALLS: Final = 128
_AT_ONCE: Final = 16
#: Turns in a row with nothing but refused calls after which the response ends.
_PATIENCE: Final = 2


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """Settings of hosted tools: seconds of one call (R-89), turns of a model (R-120), characters
    that one call may bring."""

    timeout: float = 60.0
    turns: int = 32
    most_text: int = 256 * 1024


class Ground(Protocol):
    """The run that the calls belong to."""

    id: str
    project: str
    machine: ResponseMachine

    def tell(self) -> None:
        """Show what the machine has said."""
        ...

    def commit(self) -> None:
        """Something is done that must not be done again, whatever fails then."""
        ...

    async def checkpoint(self, progress: Progress) -> None:
        """A step is done."""
        ...


@dataclass(frozen=True, slots=True)
class _Stage:
    """See `tools.base.Stage`."""

    items: Sequence[Item]
    ground: Ground

    @property
    def output(self) -> Sequence[Item]:
        return self.ground.machine.output

    def begin(self, item_type: str, fields: dict[str, Any]) -> OwnItem:
        writer = _Told(self.ground.machine.begin_call(item_type, fields), self.ground)
        self.ground.tell()
        return writer


@dataclass(frozen=True, slots=True)
class _Told:
    """An item of which everything is shown at once."""

    writer: HostedWriter
    ground: Ground

    @property
    def fresh(self) -> bool:
        return self.writer.fresh

    def emit(self, event: str, fields: dict[str, Any] | None = None) -> None:
        self.writer.emit(event, fields)
        self.ground.tell()

    def close(self, status: Any, fields: dict[str, Any]) -> None:
        self.writer.close(status, fields)
        self.ground.tell()


class _Sorted(NamedTuple):
    """What has to be done with the calls of a turn."""

    hosted: list[tuple[PendingCall, Hosted]]
    asked: list[tuple[PendingCall, Entry, Hosted]]
    others: list[tuple[PendingCall, Entry | None]]


@dataclass(slots=True)
class Calls:
    """The tools of one run, and their calls."""

    toolbox: Toolbox
    scope: Scope
    approvals: Approvals
    limits: ToolLimits
    #: What the user says to earlier requests.
    decisions: Sequence[Decision] = ()

    # -- what the model sees -----------------------------------------------------------------

    async def get_ready(self, ground: Ground, progress: Progress, context: list[Item]) -> None:
        """Before the first turn of this process. `context`: history and input. Raises `APIError`
        when a tool cannot say what it offers."""
        self.scope.sources.restore(progress.sources)
        if self.toolbox.opened:
            await self._prepare(_Stage([*context, *ground.machine.output], ground))
        self.refresh(ground, context)
        if progress.ready or not (self.decisions or self.toolbox.opened):
            return
        progress.ready = True
        for decision in self.decisions:
            log.info(
                "approval_answered",
                approval=decision.request["id"],
                approve=decision.approve,
                response_id=ground.id,
            )
            if decision.approve:
                self._take_approved(ground, progress, decision)
        if self.toolbox.opened:
            self._tag(ground.machine, progress)
            ground.tell()
            await ground.checkpoint(progress)

    async def _prepare(self, stage: _Stage) -> None:
        opened = self.toolbox.opened.values()
        outcomes = await asyncio.gather(
            *(tool.prepare(stage) for tool in opened), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def refresh(self, ground: Ground, context: Sequence[Item]) -> None:
        """Which tools there are now."""
        self.toolbox.refresh([*context, *ground.machine.output], listed=True)
        ground.machine.options = self.toolbox.options(ground.machine.options)

    def request(self, machine: ResponseMachine, progress: Progress) -> CreateResponse:
        """What the next turn is asked: the last one that it may take has to do without hosted
        tools, and so has one after which no more calls may be made. A call that the user has
        approved was the first turn's."""
        made = calls_made(machine)
        may_call = calls_left(self.toolbox.request, machine) > 0
        hosted = may_call and progress.turns < self.limits.turns - 1
        first = progress.turns == 0 and made == 0
        request = self.toolbox.seen_request(first=first, hosted=hosted)
        return with_the_rest(request, progress, made) if progress.turns or made else request

    def seen(self, machine: ResponseMachine, progress: Progress) -> list[Item]:
        """The output as the model sees it: with what it was told."""
        output = machine.output
        if not (progress.turn_of or progress.notes):
            return output
        return list(seen(output, progress))

    # -- the calls of a turn -----------------------------------------------------------------

    def take(self, machine: ResponseMachine, progress: Progress) -> None:
        """The calls of the turn that has ended."""
        held = machine.take_held()
        progress.pending = [
            PendingCall(call.name, call.arguments, call.call_id, index=call.index) for call in held
        ]
        progress.waits_for_client = machine.waits_for_client
        progress.turns += bool(held)
        if held:
            self._tag(machine, progress)

    async def run(self, ground: Ground, progress: Progress, context: list[Item]) -> None:
        """Answer all pending calls, or hand them to the client."""
        machine = ground.machine
        hosted, asked, others = self._sorted(ground, progress)
        for call, entry in others:
            await self._settle(ground, progress, call, entry)
            progress.pending.remove(call)
        if any(entry is not None and isinstance(entry.target, Search) for _, entry in others):
            self.refresh(ground, context)
        ground.tell()
        await self._run_hosted(ground, progress, hosted)
        for call, entry, target in asked:
            self._ask(ground, progress, call, entry.owner, target)
            progress.pending.remove(call)
        self._tag(machine, progress)
        if progress.waits_for_client:
            for note in progress.notes:
                if note.turn == progress.turns:
                    log.warning("call_dropped", response_id=ground.id, function=note.name)
        await ground.checkpoint(progress)

    def _sorted(self, ground: Ground, progress: Progress) -> _Sorted:
        """The pending calls: hosted ones to run, those that need a yes, and others. Hosted ones
        that may not be run are answered with that."""
        sorted_ = _Sorted([], [], [])
        announced = sum(call.index is not None for call in progress.pending)
        left = calls_left(self.toolbox.request, ground.machine) + announced
        left = left if progress.turns < self.limits.turns else 0
        refused = False
        for call in progress.pending.copy():
            entry = self.toolbox.entries.get(call.name)
            if entry is None or not isinstance(entry.target, Hosted):
                sorted_.others.append((call, entry))
            elif _needs_yes(call, entry.target):
                sorted_.asked.append((call, entry, entry.target))
            elif left > 0 and len(sorted_.hosted) < _MOST_CALLS:
                left -= 1
                sorted_.hosted.append((call, entry.target))
            else:
                refused = refused or left <= 0
                reason = _NO_MORE if left <= 0 else _TOO_MANY
                self._refuse(ground, progress, (call, entry.target), reason)
                progress.pending.remove(call)
        progress.refused = progress.refused + 1 if refused and not sorted_.hosted else 0
        return sorted_

    def _refuse(
        self, ground: Ground, progress: Progress, refused: tuple[PendingCall, Hosted], reason: str
    ) -> None:
        """Tell the model why a hosted call is not run, in its item if there is one."""
        call, target = refused
        if call.index is None:
            self._note(progress, call, reason)
            return
        writer = ground.machine.reopen_call(call.index)
        outcome = target.tool.failed(_asked(call, target), reason)
        writer.close("failed", outcome.fields)
        progress.told[writer.id] = outcome.told or reason

    async def _settle(
        self, ground: Ground, progress: Progress, call: PendingCall, entry: Entry | None
    ) -> None:
        """Answer a call that is not hosted."""
        machine = ground.machine
        target = entry.target if entry is not None else None
        try:
            if isinstance(target, Search):
                search(machine, self.toolbox.deferred, call.arguments)
            elif isinstance(target, Whole) and entry is not None:
                await show_call(machine, call, entry, target)
                progress.waits_for_client = True
            else:
                self._note(progress, call, _unknown(call.name, self.toolbox.entries))
        except BadCall as error:
            self._note(progress, call, f"Not run: {error}")
        except ToolFailed as error:
            self._note(progress, call, f"Not run: {error.message}")
        ground.tell()

    def is_over(self, progress: Progress) -> bool:
        """Whether the model is not asked again."""
        return progress.waits_for_client or progress.refused >= _PATIENCE

    def close(self) -> None:
        """The run is over."""
        for tool in self.toolbox.opened.values():
            tool.close()

    # -- calls that need a yes ---------------------------------------------------------------

    def _ask(
        self,
        ground: Ground,
        progress: Progress,
        call: PendingCall,
        owner: dict[str, Any],
        target: Hosted,
    ) -> None:
        """Ask the user; the response ends with that."""
        label = owner["server_label"]
        partition = partition_of(ground.id) or ""
        bound = _bound(call, target)
        item = {
            "id": self.approvals.new_id(ground.project, partition, label, bound),
            "type": "mcp_approval_request",
            "arguments": call.arguments,
            "name": target.function.name,
            "server_label": label,
        }
        ground.machine.say_item(item)
        ground.tell()
        progress.waits_for_client = True

    def _take_approved(self, ground: Ground, progress: Progress, decision: Decision) -> None:
        """Run what the user has approved; ask again, once, for what is not what he was asked."""
        request = decision.request
        label, name = request["server_label"], request["name"]
        entry = self.toolbox.approved(label, name)
        call = PendingCall(entry.name if entry else name, request["arguments"])
        if entry is None or not isinstance(entry.target, Hosted):
            self._note(progress, call, _unknown(name, self.toolbox.entries))
            return
        bound = _bound(call, entry.target)
        if self.approvals.fits(ground.project, request["id"], label, bound):
            call.approval = request["id"]
            progress.pending.append(call)
        elif not _needs_yes(call, entry.target):
            progress.pending.append(call)
        elif not decision.asked_again:
            self._ask(ground, progress, call, entry.owner, entry.target)

    # -- hosted calls ------------------------------------------------------------------------

    async def _run_hosted(
        self, ground: Ground, progress: Progress, calls: list[tuple[PendingCall, Hosted]]
    ) -> None:
        if self.toolbox.request.parallel_tool_calls is False:
            for pair in calls:
                await self._run_group(ground, progress, [pair])
        elif calls:
            await self._run_group(ground, progress, calls)

    async def _run_group(
        self, ground: Ground, progress: Progress, calls: list[tuple[PendingCall, Hosted]]
    ) -> None:
        """Run some at once."""
        machine = ground.machine
        lost = [call for call, _ in calls if call.begun]
        writers: list[HostedWriter] = []
        for call, target in calls:
            if call.index is None:
                fields = target.tool.begin(_asked(call, target))
                writers.append(machine.begin_call(target.tool.item_type, fields))
                call.index = writers[-1].output_index
            else:
                writers.append(machine.reopen_call(call.index))
            call.begun = not target.function.repeatable
        self._tag(machine, progress)
        ground.commit()
        ground.tell()
        if any(call.begun for call, _ in calls):
            await ground.checkpoint(progress)

        async def one(call: PendingCall, target: Hosted, writer: HostedWriter) -> None:
            if call in lost:
                outcome = target.tool.failed(_asked(call, target), INTERRUPTED)
            else:
                outcome = await self._outcome(ground, call, target, writer)
            writer.close(outcome.status, outcome.fields)
            machine.image_usage += outcome.image_usage
            TOOL_CALLS.labels(target.tool.item_type, outcome.status).inc()
            if outcome.told is not None:
                progress.told[writer.id] = outcome.told
            progress.pending.remove(call)
            progress.sources = self.scope.sources.rows()
            ground.tell()
            await ground.checkpoint(progress)

        at_once = asyncio.Semaphore(_AT_ONCE)

        async def soon(call: PendingCall, target: Hosted, writer: HostedWriter) -> None:
            async with at_once:
                await one(call, target, writer)

        async with asyncio.TaskGroup() as group:
            for (call, target), writer in zip(calls, writers, strict=True):
                group.create_task(soon(call, target, writer), name=f"call-{call.name}")

    async def _outcome(
        self, ground: Ground, call: PendingCall, target: Hosted, writer: HostedWriter
    ) -> Outcome:
        """Run one; whatever happens is an outcome."""
        tool, asked = target.tool, _asked(call, target)
        timeout = target.function.timeout or self.limits.timeout
        try:
            if call.approval and not await self.approvals.use(
                ground.project, call.approval, ground.id
            ):
                return tool.failed(asked, _USED)
            async with asyncio.timeout(timeout):
                return await tool.run(asked, _Told(writer, ground))
        except TimeoutError:
            return tool.failed(asked, f"The tool did not answer within {timeout:g} seconds.")
        except APIError as error:
            return tool.failed(asked, error.message)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            log.warning("tool_cancelled_itself", response_id=ground.id, function=asked.function)
            return tool.failed(asked, _CRASHED)
        except Exception:
            log.exception("tool_crashed", response_id=ground.id, function=asked.function)
            return tool.failed(asked, _CRASHED)

    # -- what the model is told --------------------------------------------------------------

    def _note(self, progress: Progress, call: PendingCall, text: str) -> None:
        progress.notes.append(Note(call.name, call.arguments, text, progress.turns))

    def _tag(self, machine: ResponseMachine, progress: Progress) -> None:
        """Which turn the newest items belong to; what was said in it to calls that are no items
        comes after them."""
        output = machine.output
        for item in reversed(output):
            if item["id"] in progress.turn_of:
                break
            progress.turn_of[item["id"]] = progress.turns
        for note in progress.notes:
            if note.after is None:
                note.after = output[-1]["id"] if output else ""


def _asked(call: PendingCall, target: Hosted) -> Call:
    return Call(target.function.name, call.arguments, call.approval)


def _needs_yes(call: PendingCall, target: Hosted) -> bool:
    """Whether the user has to say yes first. What is no JSON is not asked for: it will fail."""
    if call.index is not None or call.approval or not target.function.needs_approval:
        return False
    try:
        _asked(call, target).read()
    except ToolFailed:
        return False
    return True


def _unknown(name: str, there_are: Iterable[str]) -> str:
    """What the model is told of a call of a function that is not there (any more)."""
    names = ", ".join(islice(there_are, _MOST_NAMED)) or "none"
    return f"Not run: there is no function '{echo(name)}'. There are: {names}."


def _bound(call: PendingCall, target: Hosted) -> list[str]:
    """What an approval is for."""
    return [target.function.name, call.arguments, target.function.fingerprint]
