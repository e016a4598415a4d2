"""The ResponseMachine: a model's deltas go in, the API's events come out (spec §4.1).

Rules
1. One item is open at a time (`writers.py`); it closes when the model begins another. What belongs
   elsewhere while a call's arguments are not whole yet is held back until they are: some upstreams
   interleave parallel calls, OpenAI does not, and clients rely on it (LangChain).
2. When the model was cut off (`length`, `content_filter`), the last item is ``incomplete`` and so
   is the response; the items before it are ``completed``.
3. Calls of tools that the request does not allow, and second calls where
   ``parallel_tool_calls`` is false, are suppressed (spec §10 allowed_tools, §1).
4. Calls of some functions are taken by the engine after the turn (`take_held`): those of hosted
   tools, and those that are only shown when they are whole and right. While the model makes them
   they say nothing, and become an item then (`begin_call`, `say_call`), or none; but for those in
   `MachineOptions.streamed`, whose item is there already (`reopen_call`).
5. A log can end anywhere; `resume` goes on from there. What a turn that never ended has said is
   taken back: those items keep their places in `output` until the terminal event leaves them out,
   so that an index means the same for every client at any time (decision 0005).
6. Status: (queued →) in_progress → completed | incomplete | failed | cancelled, never back.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Literal, TypeAlias

import orjson

from antiphon.errors import APIError
from antiphon.protocol.deltas import (
    AnnotationDelta,
    Delta,
    Finish,
    HostedDelta,
    MessageStart,
    Phase,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.effects import Fold, Json
from antiphon.protocol.emitter import Emitter, Frame, exact
from antiphon.protocol.events import EFFECTS
from antiphon.protocol.held_calls import HeldCall, SilentCall
from antiphon.protocol.ids import ID_PATTERN, Mint
from antiphon.protocol.image_usage import UNKNOWN
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.response import Response, Usage, output_text, tool_usage
from antiphon.protocol.streamed_calls import StreamedWriter
from antiphon.protocol.upstream_calls import UpstreamCallWriter
from antiphon.protocol.whole_calls import say_call
from antiphon.protocol.writers import (
    CallWriter,
    CompactionWriter,
    HostedWriter,
    ItemWriter,
    MessageWriter,
    ReasoningWriter,
)

#: How a turn ended → (status of the response, reason of `incomplete_details`).
OUTCOMES: Final[dict[str, tuple[str, str | None]]] = {
    "stop": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
    "content_filter": ("incomplete", "content_filter"),
}

#: Which message of the turn, and its phase.
Message: TypeAlias = tuple[Literal["message"], int, Phase | None]
#: What an item is for: a visible answer, the reasoning before it, a call by its index, a call that
#: the model's server runs by its own.
Topic: TypeAlias = Message | Literal["reasoning"] | int | tuple[Literal["hosted"], int]
#: A delta that is part of an item.
Speech: TypeAlias = (
    TextDelta
    | AnnotationDelta
    | RefusalDelta
    | ReasoningDelta
    | SummaryDelta
    | ReasoningState
    | ToolCallDelta
    | HostedDelta
)

#: Until the model says which one it is.
_MESSAGE: Final[Message] = ("message", 0, None)

#: Characters of a `call_id` (spec §1, other limits).
_MAX_CALL_ID: Final = 64


class ResponseMachine:
    """The events of one response. `take` hands out what was emitted since the last time."""

    def __init__(
        self, response: Response | Fold, mint: Mint, options: MachineOptions, *, first: int = 0
    ) -> None:
        """`response` is a new one, or what a log amounts to of which `first` is the next number."""
        obfuscation, unread = options.obfuscation, options.unread
        self._emitter = Emitter(response, mint, obfuscation=obfuscation, unread=unread, first=first)
        self._mint = mint
        #: May be exchanged between turns: which tools there are can change.
        self.options = options
        #: Tokens of all turns so far.
        self.usage = Usage()
        #: Tokens of the images that were made.
        self.image_usage = UNKNOWN
        #: The service tier of the last turn that told it.
        self._tier: str | None = None
        #: How the last turn ended; None until the model said so.
        self.finish_reason: str | None = None
        #: What the text that comes belongs to.
        self._message = _MESSAGE
        #: The open item, and what it is for.
        self._writer: ItemWriter | None = None
        self._topic: Topic | None = None
        self._held: list[tuple[Topic, Speech]] = []
        #: The calls of this turn by the backend's index: does the request allow them?
        self._calls: dict[int, bool] = {}
        self._opened: set[int] = set()
        self._call_ids = {item["call_id"] for item in self.response["output"] if "call_id" in item}
        self._silent: dict[int, SilentCall] = {}
        #: Items before this one were announced by another process.
        self._own = self._emitter.fold.next_index
        #: Items from this one on are of the last turn.
        self._turn = self._own
        #: Whether the last turn left calls that the client has to answer.
        self.waits_for_client = False
        #: `truncated` of the Response, a field of ours: what of the context the model did not see.
        self.truncated: Json | None = self.response.get("truncated")

    # -- what the outside sees ---------------------------------------------------------------

    @property
    def next_number(self) -> int:
        """The sequence number of the next event."""
        return self._emitter.next_number

    @property
    def response(self) -> Response:
        """The Response as it is now; strings that still grow may lag behind."""
        return self._emitter.fold.response

    @property
    def status(self) -> str:
        """The status of the response."""
        status: str = self.response["status"]
        return status

    def take(self) -> list[Frame]:
        """The frames emitted since the last call, in order."""
        return self._emitter.take()

    @property
    def output(self) -> list[Item]:
        """The items so far, but for those that were taken back."""
        return self._emitter.fold.kept()

    @property
    def announced(self) -> int:
        """How many items were announced so far."""
        return self._emitter.fold.next_index

    @property
    def unfinished(self) -> set[int]:
        """The indices of items that were announced and are not done."""
        return self._emitter.fold.open

    def body(self) -> bytes:
        """The Response as it is now, encoded."""
        self._emitter.fold.settle()
        return exact(orjson.dumps({**self.response, "output": self.output}))

    def answer(self) -> str | None:
        """The visible text of the last turn but for its commentary, or None when the model refused
        or made calls that are not answered yet."""
        turn = self.response["output"][self._turn :]
        items = [item for item in turn if item.get("phase") != "commentary"]
        parts = [part for item in items if item["type"] == "message" for part in item["content"]]
        called = self.waits_for_client or self._silent
        if called or not parts or any(part["type"] == "refusal" for part in parts):
            return None
        return output_text(items)

    # -- the life of a response --------------------------------------------------------------

    def start(self) -> None:
        """``response.created`` and ``response.in_progress``."""
        self._emitter.emit_response("response.created", status="in_progress")
        self._emitter.emit_response("response.in_progress")

    def enqueue(self) -> None:
        """``response.created`` and ``response.queued``: the start of a background response."""
        self._emitter.emit_response("response.created", status="queued")
        self._emitter.emit_response("response.queued")

    def resume(self, settled: int, going_on: Collection[int] = ()) -> None:
        """``response.in_progress``: the start of a background response, or its going on after
        somebody died. Items above the first `settled` ones are taken back, which the event tells in
        `withdrawn`; those that were half said are done first: official clients insist on it
        (spec §4.3). `going_on`: the indices of calls that will be run on (`reopen_call`)."""
        fold = self._emitter.fold
        fold.settle()
        for index in sorted(fold.open.difference(going_on)):
            fields = {"output_index": index, "item": _broken_off(fold.item(index))}
            self._emitter.emit("response.output_item.done", fields)
        lost = [n for n in range(settled, fold.next_index) if n not in fold.withdrawn]
        gone = fold.withdrawn.union(lost)
        kept = [item for n, item in enumerate(self.response["output"]) if n not in gone]
        response = {**self.response, "status": "in_progress", "output_text": output_text(kept)}
        told = {"withdrawn": lost} if lost else {}
        self._emitter.emit("response.in_progress", {"response": response, **told})

    def beat(self) -> None:
        """A data-bearing sign of life: ``response.in_progress`` again (design §5)."""
        self._emitter.fold.settle()
        self._emitter.emit_response("response.in_progress", output_text=output_text(self.output))

    def feed(self, deltas: list[Delta]) -> None:
        """The model said something."""
        for delta in deltas:
            _ON_DELTA[type(delta)](self, delta)

    def end_turn(self) -> None:
        """The model's turn is over: close what is open, say what was held back."""
        self._say_held("completed")
        self._close(OUTCOMES[self.finish_reason or "stop"][0])
        self._message = _MESSAGE
        for silent in self._silent.values():
            if silent.writer is not None and self.finish_reason != "stop":
                silent.writer.drop()
        self.waits_for_client = bool(self._opened)
        self._calls.clear()
        self._opened.clear()

    def take_held(self) -> list[HeldCall]:
        """The calls that the last turn made in silence; none when it was cut off."""
        self._turn = self.announced
        calls, self._silent = self._silent, {}
        if self.finish_reason != "stop":
            return []
        return [silent.call() for silent in calls.values()]

    def begin_call(self, item_type: str, fields: Json) -> HostedWriter:
        """The item of a hosted call, announced; who runs the tool writes and closes it."""
        return HostedWriter.announced(self._emitter, item_type, fields)

    def reopen_call(self, output_index: int) -> HostedWriter:
        """The item of a hosted call that is announced already, to be written and closed."""
        return HostedWriter(self._emitter, output_index, fresh=output_index >= self._own)

    def say_call(self, call: HeldCall, item_type: str, fields: Json) -> None:
        """The whole item of a call that the client has to answer."""
        say_call(self._emitter, item_type, self._call_id(call.call_id), fields)
        self.waits_for_client = True

    def say_item(self, item: Item) -> None:
        """A whole item without events of its own: ``added`` and ``done``; it has its id."""
        index = self._emitter.add_item(item)
        self._emitter.emit("response.output_item.done", {"output_index": index, "item": item})

    def new_id(self, prefix: str) -> str:
        """An id for an item of this response."""
        return self._mint.item_id(prefix)

    def begin_compaction(self) -> CompactionWriter:
        """A compaction item, announced; who makes the summary closes it."""
        return CompactionWriter(self._emitter)

    def finish(self) -> None:
        """The terminal event that the last turn's finish reason asks for."""
        status, reason = OUTCOMES[self.finish_reason or "stop"]
        self._end(
            status,
            completed_at=self._mint.now() if status == "completed" else None,
            incomplete_details={"reason": reason} if reason else None,
            usage=self.usage.body(),
        )

    def fail(self, error: APIError) -> None:
        """The ``error`` event, nested as on OpenAI's wire and flat as in its published schema, then
        ``response.failed`` (spec §4.2)."""
        self._say_held("incomplete")
        if self.options.errors:
            body: Json = error.body()["error"]
            flat = {name: body[name] for name in ("code", "message", "param")}
            self._emitter.emit("error", {**flat, "error": body})
        self._abandon_items()
        self._end(
            "failed",
            error=error.response_error(),
            usage=self.usage.body() if self.usage.total() else None,
        )

    def cancel(self) -> None:
        """The work was stopped. There is no event for it (spec §4.4)."""
        self._say_held("incomplete")
        self._abandon_items()
        self._emitter.fold.end({**self.response, **self._last_words("cancelled")})

    def retract(self) -> None:
        """The terminal event, already taken, was shown to nobody: `fail` may take its place."""
        self._emitter.retract()

    def _end(self, status: str, **changes: Any) -> None:
        words = {**self._last_words(status), **changes}
        self._emitter.emit_response(f"response.{status}", **words)

    def _last_words(self, status: str) -> Json:
        """What a terminal status alone decides."""
        tier = self.response["service_tier"]
        return {
            "status": status,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "output": self.output,
            "output_text": output_text(self.output),
            "tool_usage": tool_usage(self.output, self.image_usage),
            **({"truncated": self.truncated} if self.truncated is not None else {}),
            # `auto` is what was asked for; the answer says which tier it was (spec §1).
            "service_tier": self._tier or ("default" if tier == "auto" else tier),
        }

    def _abandon_items(self) -> None:
        """What was half said when the run broke off stays as it is."""
        fold = self._emitter.fold
        fold.settle()
        for index in fold.open:
            fold.item(index).update(_broken_off(fold.item(index)))

    # -- what the model says -----------------------------------------------------------------

    def _on_message(self, delta: MessageStart) -> None:
        _, number, _ = self._message
        self._message = ("message", number + 1, delta.phase)

    def _on_text(self, delta: TextDelta) -> None:
        if delta.text or delta.logprobs:
            if self._topic is self._message and self._writer is not None:  # nearly always
                self._writer.write(delta)
            else:
                self._say(self._message, delta)

    def _on_annotation(self, delta: AnnotationDelta) -> None:
        if self._topic == self._message or self._held:  # else there is no text
            self._say(self._message, delta)

    def _on_hosted(self, delta: HostedDelta) -> None:
        topic: Topic = ("hosted", delta.index)
        waits = any(held == topic for held, _ in self._held)
        if delta.is_first or waits or topic == self._topic:  # else its item is closed
            self._say(topic, delta)

    def _on_refusal(self, delta: RefusalDelta) -> None:
        if delta.text:
            self._say(self._message, delta)

    def _on_reasoning(self, delta: ReasoningDelta | SummaryDelta) -> None:
        if delta.text:
            self._say("reasoning", delta)

    def _on_state(self, delta: ReasoningState) -> None:
        self._say("reasoning", delta)

    def _on_tool_call(self, delta: ToolCallDelta) -> None:
        if delta.index not in self._calls:  # whose call it is, its first delta says
            allowed = self._calls[delta.index] = self._is_allowed(delta)
            if allowed and delta.name in self.options.held:
                self._silent[delta.index] = SilentCall(delta.name or "", delta.call_id)
        if not self._calls[delta.index]:
            return
        silent = self._silent.get(delta.index)
        if silent is not None:
            silent.text.append(delta.arguments)
        if silent is None or silent.name in self.options.streamed:
            self._say(delta.index, delta)

    def _on_usage(self, delta: UsageReport) -> None:
        self.usage += delta.usage
        self._tier = delta.tier or self._tier

    def _on_finish(self, delta: Finish) -> None:
        self.finish_reason = delta.reason

    def _is_allowed(self, delta: ToolCallDelta) -> bool:
        allowed = self.options.allowed_tools
        if allowed is not None and delta.name not in allowed:
            return False
        return self.options.parallel_tool_calls or not any(self._calls.values())

    def _say(self, topic: Topic, delta: Speech) -> None:
        """Write into the item of `topic`, which is open, or can be opened, or has to wait."""
        if topic != self._topic:
            if self._writer is not None and not self._writer.is_whole():
                self._held.append((topic, delta))
                return
            self._close("completed")
            held, self._held = self._held, []
            for earlier in held:
                self._say(*earlier)
            if held:
                self._say(topic, delta)
                return
            self._writer = self._open(topic, delta)
            self._topic = topic
        if self._writer is not None:
            self._writer.write(delta)

    def _say_held(self, status: str) -> None:
        """Say what was held back; `status` is for the items that have to make room."""
        while self._held:
            held, self._held = self._held, []
            self._close(status)
            for topic, delta in held:
                self._say(topic, delta)

    def _open(self, topic: Topic, delta: Speech) -> ItemWriter | None:
        """The new item of `topic`; None for the rest of a call that has been closed as whole."""
        options = self.options
        if isinstance(delta, ToolCallDelta) and (silent := self._silent.get(delta.index)):
            if silent.writer is None:
                silent.writer = StreamedWriter(self._emitter, options.streamed[silent.name])
            return silent.writer
        if isinstance(delta, ToolCallDelta):
            if delta.index in self._opened:
                return None
            self._opened.add(delta.index)
            name = delta.name or ""
            shown = options.shown.get(name, (name, None))
            return CallWriter(self._emitter, delta.kind, shown, self._call_id(delta.call_id))
        if isinstance(delta, HostedDelta):
            return UpstreamCallWriter(self._emitter, delta)
        if topic == "reasoning":
            return ReasoningWriter(
                self._emitter,
                summarise=options.summarise,
                seal=options.seal,
                sealed=options.sealed,
            )
        return MessageWriter(
            self._emitter,
            phase=topic[2] if isinstance(topic, tuple) and len(topic) == 3 else None,
            logprobs=options.logprobs,
            sources=options.sources,
            linked=options.linked,
        )

    def _close(self, status: str) -> None:
        if self._writer is not None:
            self._writer.close(status)
        self._writer = self._topic = None

    def _call_id(self, sent: str | None) -> str:
        """The upstream's call id where it can serve as one, else a new one."""
        usable = (
            sent is not None
            and len(sent) <= _MAX_CALL_ID
            and ID_PATTERN.match(sent) is not None
            and sent not in self._call_ids
        )
        call_id = sent if usable and sent is not None else self._mint.call_id()
        self._call_ids.add(call_id)
        return call_id


_ON_DELTA: Final[dict[type, Callable[[ResponseMachine, Any], None]]] = {
    MessageStart: ResponseMachine._on_message,  # noqa: SLF001
    TextDelta: ResponseMachine._on_text,  # noqa: SLF001
    AnnotationDelta: ResponseMachine._on_annotation,  # noqa: SLF001
    HostedDelta: ResponseMachine._on_hosted,  # noqa: SLF001
    RefusalDelta: ResponseMachine._on_refusal,  # noqa: SLF001
    ReasoningDelta: ResponseMachine._on_reasoning,  # noqa: SLF001
    SummaryDelta: ResponseMachine._on_reasoning,  # noqa: SLF001
    ReasoningState: ResponseMachine._on_state,  # noqa: SLF001
    ToolCallDelta: ResponseMachine._on_tool_call,  # noqa: SLF001
    UsageReport: ResponseMachine._on_usage,  # noqa: SLF001
    Finish: ResponseMachine._on_finish,  # noqa: SLF001
}


def _broken_off(item: Item) -> Item:
    """The item that was half said when its run broke off (reasoning has no status: spec §3.3)."""
    if "status" not in item:
        return item
    item_type = ITEM_TYPES[item["type"]]
    return item_type.ended(item, {"status": item_type.broken_off})


def fold_log(log: Iterable[Frame], fold: Fold | None = None) -> Fold:
    """What the events of a log, or of its next piece, amount to."""
    fold = fold or Fold()
    for type_, body in log:
        EFFECTS[type_](fold, orjson.loads(body))
    return fold
