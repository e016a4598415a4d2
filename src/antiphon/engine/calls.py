"""What becomes of the calls that a turn has made in silence (design §4, decision 0007).

Rules
1. A call of a hosted tool becomes an item and is run; those of one turn at once, if the request
   lets calls be parallel. How it fails stands in the item and is told to the model: the response
   goes on.
2. A call that needs the user's yes becomes an ``mcp_approval_request``, and the response ends.
3. A call that the client runs with an item of its own is shown when it is whole and right.
4. What becomes no item is a `Note`: the model is told why, and goes on.
5. After each call that has ended the progress is written down. What was under way when a process
   died goes on in the same item; what must not be made twice has failed (R-66).
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from antiphon.engine.approvals import Approvals, Decision
from antiphon.engine.metrics import TOOL_CALLS
from antiphon.engine.progress import Note, PendingCall, Progress
from antiphon.engine.tool_search import find
from antiphon.engine.toolbox import Entry, Hosted, Search, Toolbox, Whole
from antiphon.errors import APIError, ToolFailed
from antiphon.protocol.citations import Source
from antiphon.protocol.client_tools import CLIENT_TOOLS, BadCall
from antiphon.protocol.grammars import mismatch
from antiphon.protocol.ids import partition_of
from antiphon.protocol.items.base import Item, Seen
from antiphon.protocol.machine import HeldCall, ResponseMachine
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.writers import HostedWriter
from antiphon.tools.base import Call, Outcome, OwnItem, Scope

log = structlog.get_logger(__name__)

#: Items that count against `max_tool_calls` (spec §1).
COUNTED: Final = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_call",
    }
)
INTERRUPTED: Final = "The server stopped while this call was running; its outcome is unknown."
_CRASHED: Final = "The tool crashed."
_USED: Final = "The approval of this call was used before."
_NO_MORE: Final = (
    "Not run: this response has made all the tool calls (max_tool_calls) or all the turns that it "
    "may make. Answer with what you have."
)
_UNKNOWN: Final = "Not run: there is no such tool any more."
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
        self.scope.sources.found[:] = [Source(*source) for source in progress.sources]
        if self.toolbox.opened:
            await self._prepare(_Stage([*context, *ground.machine.output], ground))
        self.refresh(ground, context)
        if progress.ready:
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
                self._take_approved(ground, progress, decision.request)
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

    def request(self, progress: Progress) -> CreateResponse:
        """What the next turn is asked: the last one that it may take has to do without hosted
        tools, and so has one that has been told that it may call no more."""
        hosted = progress.turns < self.limits.turns - 1 and not progress.refused
        return self.toolbox.seen_request(first=progress.turns == 0, hosted=hosted)

    def seen(self, machine: ResponseMachine, progress: Progress) -> list[Item]:
        """The output as the model sees it: with what it was told."""
        output = machine.output
        if not (progress.turn_of or progress.notes):
            return output
        return list(_seen(output, progress))

    # -- the calls of a turn -----------------------------------------------------------------

    def take(self, machine: ResponseMachine, progress: Progress) -> None:
        """The calls of the turn that has ended."""
        held = machine.take_held()
        progress.pending = [PendingCall(call.name, call.arguments, call.call_id) for call in held]
        progress.waits_for_client = machine.waits_for_client
        progress.turns += bool(held)
        if held:
            self._tag(machine, progress)

    async def run(self, ground: Ground, progress: Progress, context: list[Item]) -> None:
        """Answer all pending calls, or hand them to the client."""
        machine = ground.machine
        left = self._budget(machine) if progress.turns < self.limits.turns else 0
        refused = 0
        hosted: list[tuple[PendingCall, Hosted]] = []
        asked: list[tuple[PendingCall, Entry, Hosted]] = []
        for call in progress.pending.copy():
            entry = self.toolbox.entries.get(call.name)
            target = entry.target if entry else None
            if isinstance(target, Hosted) and entry is not None:
                if _needs_yes(call, target):
                    asked.append((call, entry, target))
                    continue
                if call.index is not None or left > 0:
                    left -= call.index is None
                    hosted.append((call, target))
                    continue
                refused += 1
                self._note(progress, call, _NO_MORE)
            elif isinstance(target, Search):
                self._search(ground, progress, call)
                self.refresh(ground, context)
            elif isinstance(target, Whole):
                await self._hand_over(ground, progress, call, target)
            else:
                self._note(progress, call, _UNKNOWN)
            progress.pending.remove(call)
        progress.refused = progress.refused + 1 if refused and not hosted else 0
        ground.tell()
        await self._run_hosted(ground, progress, hosted)
        for call, entry, target in asked:
            self._ask(ground, progress, call, entry.owner, target)
            progress.pending.remove(call)
        self._tag(machine, progress)
        await ground.checkpoint(progress)

    def is_over(self, progress: Progress) -> bool:
        """Whether the model is not asked again."""
        return progress.waits_for_client or progress.refused >= _PATIENCE

    def _budget(self, machine: ResponseMachine) -> float:
        most = self.toolbox.request.max_tool_calls
        made = sum(item["type"] in COUNTED for item in machine.output)
        return float("inf") if most is None else most - made

    def close(self) -> None:
        """The run is over."""
        for tool in self.toolbox.opened.values():
            tool.close()

    # -- calls of the client -----------------------------------------------------------------

    async def _hand_over(
        self, ground: Ground, progress: Progress, call: PendingCall, target: Whole
    ) -> None:
        """Show a call that is right; the model hears of one that is not."""
        tool, machine = target.tool, ground.machine
        held = HeldCall(call.name, call.arguments, call.call_id)
        if tool["type"] == "custom":
            # In a thread: a grammar may take its time.
            reason = await asyncio.to_thread(mismatch, tool["format"], call.arguments)
            if reason is not None:
                text = f"Not run: the input does not match the grammar of this tool. {reason}"
                self._note(progress, call, text)
                return
            entry = self.toolbox.entries[call.name]
            name, namespace = entry.known
            fields = {"name": name, "input": call.arguments}
            if namespace is not None:
                fields["namespace"] = namespace
            machine.say_call(held, "custom_tool_call", fields)
        else:
            kind = CLIENT_TOOLS[tool["type"]]
            try:
                fields = kind.parse(call.arguments)
            except BadCall as error:
                self._note(progress, call, f"Not run: {error}")
                return
            machine.say_call(held, kind.item_type, fields)
        progress.waits_for_client = True
        ground.tell()

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

    def _take_approved(self, ground: Ground, progress: Progress, request: Item) -> None:
        """Run what the user has approved; ask again for what is not what he was asked."""
        label, name = request["server_label"], request["name"]
        entry = self.toolbox.approved(label, name)
        call = PendingCall(entry.name if entry else name, request["arguments"])
        if entry is None or not isinstance(entry.target, Hosted):
            self._note(progress, call, _UNKNOWN)
            return
        bound = _bound(call, entry.target)
        if self.approvals.fits(ground.project, request["id"], label, bound):
            call.approval = request["id"]
            progress.pending.append(call)
        elif _needs_yes(call, entry.target):
            self._ask(ground, progress, call, entry.owner, entry.target)
        else:
            progress.pending.append(call)

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
            TOOL_CALLS.labels(target.tool.item_type, outcome.status).inc()
            if outcome.told is not None:
                progress.told[writer.id] = outcome.told
            progress.pending.remove(call)
            progress.sources = [[one.url, one.title] for one in self.scope.sources.found]
            ground.tell()
            await ground.checkpoint(progress)

        async with asyncio.TaskGroup() as group:
            for (call, target), writer in zip(calls, writers, strict=True):
                group.create_task(one(call, target, writer), name=f"call-{call.name}")

    async def _outcome(
        self, ground: Ground, call: PendingCall, target: Hosted, writer: HostedWriter
    ) -> Outcome:
        """Run one; whatever happens is an outcome."""
        tool, asked = target.tool, _asked(call, target)
        try:
            if call.approval and not await self.approvals.use(
                ground.project, call.approval, ground.id
            ):
                return tool.failed(asked, _USED)
            async with asyncio.timeout(self.limits.timeout):
                return await tool.run(asked, _Told(writer, ground))
        except TimeoutError:
            seconds = f"{self.limits.timeout:g} seconds"
            return tool.failed(asked, f"The tool did not answer within {seconds}.")
        except APIError as error:
            return tool.failed(asked, error.message)
        except Exception:
            log.exception("tool_crashed", response_id=ground.id, function=asked.function)
            return tool.failed(asked, _CRASHED)

    def _search(self, ground: Ground, progress: Progress, call: PendingCall) -> None:
        """Find deferred tools: two items (spec §3.3)."""
        machine = ground.machine
        try:
            arguments = Call(call.name, call.arguments).read()
        except ToolFailed as error:
            self._note(progress, call, f"Not run: {error.message}")
            return
        common = {"call_id": None, "execution": "server"}
        writer = machine.begin_call("tool_search_call", {"arguments": {}, **common})
        writer.close("completed", {"arguments": arguments})
        tools = find(self.toolbox.deferred, arguments)
        output = machine.begin_call("tool_search_output", {**common, "tools": tools})
        output.close("completed", {})

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


def _bound(call: PendingCall, target: Hosted) -> list[str]:
    """What an approval is for."""
    return [target.function.name, call.arguments, target.function.fingerprint]


def _seen(output: list[Item], progress: Progress) -> Iterator[Item]:
    notes: dict[str, list[tuple[int, Note]]] = {}
    for number, note in enumerate(progress.notes):
        notes.setdefault(note.after or "", []).append((number, note))
    yield from _noted(notes.get("", ()))
    for item in output:
        turn = progress.turn_of.get(item["id"], progress.turns)
        yield Seen(item, turn, progress.told.get(item["id"]))
        yield from _noted(notes.get(item["id"], ()))


def _noted(notes: Sequence[tuple[int, Note]]) -> Iterator[Item]:
    """Calls and what was said to them, for the model only."""
    for number, note in notes:
        call = {"call_id": f"call_note{number}", "name": note.name, "arguments": note.arguments}
        yield Seen({"type": "function_call", **call}, note.turn)
    for number, note in notes:
        answer = {"call_id": f"call_note{number}", "output": note.text}
        yield Seen({"type": "function_call_output", **answer}, note.turn)
