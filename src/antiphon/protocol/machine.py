"""The ResponseMachine: a model's deltas go in, the API's events come out (spec §4.1).

Rules
1. `_emit` is the only birthplace of an event: it stamps `sequence_number`, encodes the event once
   and applies it to the machine's own fold with the effect that replay uses.
2. An item's id is minted once, at ``output_item.added``; its `output_index` is the length of the
   output at that moment.
3. Items open when the model first speaks of them. A reasoning item closes when anything else
   begins, a message when reasoning begins again; what is open at the end of a turn closes in the
   order of `output_index`.
4. When the model was cut off (`length`, `content_filter`), the last open item is ``incomplete``
   and so is the response; the items before it are ``completed``.
5. Calls of tools that the request does not allow, and second calls where
   ``parallel_tool_calls`` is false, are suppressed (spec §10 allowed_tools, §1).
6. Status: (queued →) in_progress → completed | incomplete | failed | cancelled, never back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from antiphon.errors import APIError
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.effects import Fold, Json
from antiphon.protocol.events import EFFECTS
from antiphon.protocol.ids import ID_PATTERN, Mint
from antiphon.protocol.items.base import Item
from antiphon.protocol.response import Response, Usage, output_text

#: One event: its type and its JSON, encoded once.
Frame: TypeAlias = tuple[str, bytes]

#: How a turn ended → (status of the response, reason of `incomplete_details`).
OUTCOMES: Final[dict[str, tuple[str, str | None]]] = {
    "stop": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
    "content_filter": ("incomplete", "content_filter"),
}

#: Payloads of deltas are padded to a multiple of this, as OpenAI's `obfuscation` does.
_PADDING: Final = 16
_MAX_CALL_ID: Final = 64


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What a request asks of the event stream."""

    obfuscation: bool = False
    logprobs: bool = False
    parallel_tool_calls: bool = True
    #: Names that the model may call; None: any.
    allowed_tools: frozenset[str] | None = None


@dataclass(slots=True)
class _OpenItem:
    """An item between ``added`` and ``done``."""

    id: str
    output_index: int
    close: Callable[["_OpenItem", str], None]
    #: The open content part: its index and type.
    content_index: int = -1
    part: str | None = None


class ResponseMachine:
    """The events of one response. `take` hands out what was emitted since the last time."""

    def __init__(self, response: Response, mint: Mint, options: MachineOptions) -> None:
        self._fold = Fold()
        self._fold.replace(response)
        self._mint = mint
        self._options = options
        self._frames: list[Frame] = []
        self._sequence = 0
        #: Tokens of all turns so far.
        self.usage = Usage()
        self._message: _OpenItem | None = None
        self._reasoning: _OpenItem | None = None
        #: Calls of this turn by the backend's index; None: suppressed.
        self._calls: dict[int, _OpenItem | None] = {}
        self._call_ids: set[str] = set()
        self.finish_reason: str | None = None

    # -- what the outside sees ---------------------------------------------------------------

    @property
    def response(self) -> Response:
        """The Response as it is now; growing strings may lag behind until `settle`."""
        return self._fold.response

    @property
    def status(self) -> str:
        """The status of the response."""
        status: str = self._fold.response["status"]
        return status

    def take(self) -> list[Frame]:
        """The frames emitted since the last call, in order."""
        frames, self._frames = self._frames, []
        return frames

    def body(self) -> bytes:
        """The Response as it is now, encoded."""
        self._fold.settle()
        return orjson.dumps(self._fold.response)

    # -- the life of a response --------------------------------------------------------------

    def start(self) -> None:
        """``response.created`` and ``response.in_progress``."""
        self._emit_response("response.created", status="in_progress")
        self._emit_response("response.in_progress")

    def beat(self) -> None:
        """A data-bearing sign of life: ``response.in_progress`` again (design §5)."""
        self._fold.settle()
        said = output_text(self._fold.response["output"])
        self._emit_response("response.in_progress", output_text=said)

    def feed(self, deltas: list[Delta]) -> None:
        """The model said something."""
        for delta in deltas:
            _ON_DELTA[type(delta)](self, delta)

    def end_turn(self) -> None:
        """The model's turn is over: close what is open."""
        open_items = [self._message, self._reasoning, *self._calls.values()]
        items = sorted(
            (item for item in open_items if item is not None), key=lambda item: item.output_index
        )
        status, _ = OUTCOMES[self.finish_reason or "stop"]
        for item in items:
            item.close(item, status if item is items[-1] else "completed")
        self._message = self._reasoning = None
        self._calls.clear()

    def finish(self) -> None:
        """The terminal event that the last turn's finish reason asks for."""
        status, reason = OUTCOMES[self.finish_reason or "stop"]
        self._emit_terminal(
            status,
            completed_at=self._mint.now() if status == "completed" else None,
            incomplete_details={"reason": reason} if reason else None,
            usage=self.usage.body(),
        )

    def fail(self, error: APIError) -> None:
        """The ``error`` event, then ``response.failed`` (spec §4.2).

        The event is nested as on OpenAI's wire, and flat as in its published schema.
        """
        body: Json = error.body()["error"]
        flat = {name: body[name] for name in ("code", "message", "param")}
        self._emit("error", {**flat, "error": body})
        self._abandon_items()
        self._emit_terminal(
            "failed",
            error=error.response_error(),
            usage=self.usage.body() if self.usage.total() else None,
        )

    def cancel(self) -> None:
        """The work was stopped. There is no event for it (spec §4.4)."""
        self._abandon_items()
        self._fold.replace({**self._fold.response, **self._last_words("cancelled")})

    def retract(self) -> None:
        """The terminal event, already taken, was shown to nobody: `fail` may take its place."""
        self._sequence -= 1

    def answer(self) -> str | None:
        """The visible text, or None when the model refused or called a tool instead."""
        output = self._fold.response["output"]
        parts = [part for item in output if item["type"] == "message" for part in item["content"]]
        called = any(item["type"] not in ("message", "reasoning") for item in output)
        if called or not parts or any(part["type"] == "refusal" for part in parts):
            return None
        return output_text(output)

    # -- what the model says -----------------------------------------------------------------

    def _on_text(self, delta: TextDelta) -> None:
        if delta.text or delta.logprobs:
            message = self._open_part("output_text")
            logprobs = delta.logprobs if self._options.logprobs and delta.logprobs else []
            self._emit_delta(
                "response.output_text.delta",
                delta.text,
                {
                    "item_id": message.id,
                    "output_index": message.output_index,
                    "content_index": message.content_index,
                    "delta": delta.text,
                    "logprobs": logprobs,
                },
            )

    def _on_refusal(self, delta: RefusalDelta) -> None:
        if delta.text:
            message = self._open_part("refusal")
            self._emit_delta(
                "response.refusal.delta",
                delta.text,
                {
                    "item_id": message.id,
                    "output_index": message.output_index,
                    "content_index": message.content_index,
                    "delta": delta.text,
                },
            )

    def _on_reasoning(self, delta: ReasoningDelta) -> None:
        if not delta.text:
            return
        if self._message is not None:
            self._message.close(self._message, "completed")
            self._message = None
        item = self._reasoning
        if item is None:
            item = self._reasoning = self._open_item(
                {"id": self._mint.item_id("rs"), "type": "reasoning", "summary": []},
                self._close_reasoning,
            )
            self._add_part(item, {"type": "reasoning_text", "text": ""})
        self._emit_delta(
            "response.reasoning_text.delta",
            delta.text,
            {
                "item_id": item.id,
                "output_index": item.output_index,
                "content_index": item.content_index,
                "delta": delta.text,
            },
        )

    def _on_tool_call(self, delta: ToolCallDelta) -> None:
        if delta.index not in self._calls:
            self._calls[delta.index] = self._open_call(delta)
        item = self._calls[delta.index]
        if item is not None and delta.arguments:
            type_ = (
                "response.function_call_arguments.delta"
                if delta.kind == "function"
                else "response.custom_tool_call_input.delta"
            )
            self._emit_delta(
                type_,
                delta.arguments,
                {
                    "item_id": item.id,
                    "output_index": item.output_index,
                    "delta": delta.arguments,
                },
            )

    def _on_usage(self, delta: UsageReport) -> None:
        self.usage += delta.usage

    def _on_finish(self, delta: Finish) -> None:
        self.finish_reason = delta.reason

    # -- opening and closing items -----------------------------------------------------------

    def _open_item(self, item: Item, close: Callable[[_OpenItem, str], None]) -> _OpenItem:
        output_index = len(self._fold.response["output"])
        self._emit("response.output_item.added", {"output_index": output_index, "item": item})
        return _OpenItem(item["id"], output_index, close)

    def _close_reasoning_if_open(self) -> None:
        if self._reasoning is not None:
            self._reasoning.close(self._reasoning, "completed")
            self._reasoning = None

    def _open_part(self, part: str) -> _OpenItem:
        """The message, open, with an open part of this type at its end."""
        message = self._message
        if message is not None and message.part == part:
            return message
        self._close_reasoning_if_open()
        if message is None:
            message = self._message = self._open_item(
                {
                    "id": self._mint.item_id("msg"),
                    "type": "message",
                    "status": "in_progress",
                    "content": [],
                    "role": "assistant",
                },
                self._close_message,
            )
        self._close_part(message)
        self._add_part(message, _new_part(part))
        return message

    def _open_call(self, delta: ToolCallDelta) -> _OpenItem | None:
        allowed = self._options.allowed_tools
        name = delta.name or ""
        if allowed is not None and name not in allowed:
            return None
        if not self._options.parallel_tool_calls and any(self._calls.values()):
            return None
        self._close_reasoning_if_open()
        call_id = self._call_id(delta.call_id)
        if delta.kind == "custom":
            return self._open_item(
                {
                    "id": self._mint.item_id("ctc"),
                    "type": "custom_tool_call",
                    "status": "in_progress",
                    "call_id": call_id,
                    "input": "",
                    "name": name,
                },
                self._close_custom_call,
            )
        return self._open_item(
            {
                "id": self._mint.item_id("fc"),
                "type": "function_call",
                "status": "in_progress",
                "arguments": "",
                "call_id": call_id,
                "name": name,
            },
            self._close_function_call,
        )

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

    def _add_part(self, item: _OpenItem, part: Json) -> None:
        item.content_index += 1
        item.part = part["type"]
        self._emit(
            "response.content_part.added",
            {
                "item_id": item.id,
                "output_index": item.output_index,
                "content_index": item.content_index,
                "part": part,
            },
        )

    def _close_part(self, item: _OpenItem) -> None:
        """The ``.done`` of the open part's string, then ``content_part.done``."""
        if item.part is None:
            return
        event, field = _PART_DONE[item.part]
        place = {
            "item_id": item.id,
            "output_index": item.output_index,
            "content_index": item.content_index,
        }
        path = (item.output_index, "content", item.content_index, field)
        done: Json = {**place, field: self._fold.read(path)}
        part: Json = self._fold.locate(path)
        if "logprobs" in part:
            done["logprobs"] = part["logprobs"]
        self._emit(event, done)
        self._emit("response.content_part.done", {**place, "part": part})
        item.part = None

    def _close_message(self, item: _OpenItem, status: str) -> None:
        self._close_part(item)
        self._close_item(item, status)

    def _close_reasoning(self, item: _OpenItem, status: str) -> None:
        self._close_part(item)
        # A reasoning item has no status on the wire, unless it was cut off (spec §3.3).
        self._close_item(item, status if status == "incomplete" else None)

    def _close_function_call(self, item: _OpenItem, status: str) -> None:
        call = self._fold.response["output"][item.output_index]
        self._emit(
            "response.function_call_arguments.done",
            {
                "item_id": item.id,
                "output_index": item.output_index,
                "name": call["name"],
                "arguments": self._fold.read((item.output_index, "arguments")),
            },
        )
        self._close_item(item, status)

    def _close_custom_call(self, item: _OpenItem, status: str) -> None:
        self._emit(
            "response.custom_tool_call_input.done",
            {
                "item_id": item.id,
                "output_index": item.output_index,
                "input": self._fold.read((item.output_index, "input")),
            },
        )
        self._close_item(item, status)

    def _close_item(self, item: _OpenItem, status: str | None) -> None:
        done = self._fold.response["output"][item.output_index]
        if status is not None:
            done = {**done, "status": status}
        self._emit("response.output_item.done", {"output_index": item.output_index, "item": done})

    def _abandon_items(self) -> None:
        """What was half said when the run broke off stays as ``incomplete``."""
        self._fold.settle()
        for item in self._fold.response["output"]:
            if item.get("status") == "in_progress":
                item["status"] = "incomplete"

    # -- the birthplace ----------------------------------------------------------------------

    def _emit_delta(self, type_: str, text: str, fields: Json) -> None:
        if self._options.obfuscation:
            fields["obfuscation"] = self._mint.noise(_PADDING - len(text) % _PADDING)
        self._emit(type_, fields)

    def _emit(self, type_: str, fields: Json) -> None:
        event = {"type": type_, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        self._frames.append((type_, orjson.dumps(event)))
        EFFECTS[type_](self._fold, event)

    def _emit_response(self, type_: str, **changes: Any) -> None:
        self._fold.settle()
        self._emit(type_, {"response": {**self._fold.response, **changes}})

    def _emit_terminal(self, status: str, **changes: Any) -> None:
        self._emit_response(f"response.{status}", **{**self._last_words(status), **changes})

    def _last_words(self, status: str) -> Json:
        """What a terminal status alone decides."""
        response = self._fold.response
        tier = response["service_tier"]
        return {
            "status": status,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "output_text": output_text(response["output"]),
            # `auto` is what was asked for; the answer says which tier it was (spec §1).
            "service_tier": "default" if tier == "auto" else tier,
        }


_ON_DELTA: Final[dict[type, Callable[[ResponseMachine, Any], None]]] = {
    TextDelta: ResponseMachine._on_text,  # noqa: SLF001
    RefusalDelta: ResponseMachine._on_refusal,  # noqa: SLF001
    ReasoningDelta: ResponseMachine._on_reasoning,  # noqa: SLF001
    ToolCallDelta: ResponseMachine._on_tool_call,  # noqa: SLF001
    UsageReport: ResponseMachine._on_usage,  # noqa: SLF001
    Finish: ResponseMachine._on_finish,  # noqa: SLF001
}

#: Type of the part → (the event that ends its string, the field that holds it).
_PART_DONE: Final[dict[str, tuple[str, str]]] = {
    "output_text": ("response.output_text.done", "text"),
    "refusal": ("response.refusal.done", "refusal"),
    "reasoning_text": ("response.reasoning_text.done", "text"),
}


def _new_part(part: str) -> Json:
    if part == "refusal":
        return {"type": "refusal", "refusal": ""}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
