"""Items while the model writes them, from ``added`` to ``done`` (spec §4.1).

Rules
1. A writer is one open item. Its id is minted when it is made and never changes.
2. `write` takes what the model says, `close` ends the item with a status.
3. Every delta has its announcement, every ``.done`` the sum of its deltas, read from the fold.
"""

from typing import Any, Final, Protocol

import orjson

from antiphon.protocol.deltas import ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from antiphon.protocol.effects import Json
from antiphon.protocol.emitter import Emitter
from antiphon.protocol.items import ITEM_TYPES


class ItemWriter(Protocol):
    """An open item."""

    def write(self, delta: Any) -> None:
        """More of it."""
        ...

    def is_whole(self) -> bool:
        """Whether it could end here."""
        ...

    def close(self, status: str) -> None:
        """End it: ``completed`` or ``incomplete``."""
        ...


class PartsWriter:
    """An item of content parts, of which the last is open."""

    def __init__(self, emitter: Emitter, item: Json) -> None:
        self._emitter = emitter
        self._id: str = item["id"]
        self._output_index = emitter.add_item(item)
        self._content_index = -1
        self._part: str | None = None

    def is_whole(self) -> bool:
        """See `ItemWriter`."""
        return True

    def write_part(self, part: str, text: str, extra: Json | None = None) -> None:
        """More text of a part of this type; `extra` fields go into the event."""
        if part != self._part:
            self._open_part(part)
        self._emitter.emit_delta(_DELTA[part], {**self._place(), "delta": text, **(extra or {})})

    def close_part(self) -> None:
        """The ``.done`` of the open part's string, then ``content_part.done``."""
        if self._part is None:
            return
        event, field = _DONE[self._part]
        path = (self._output_index, "content", self._content_index, field)
        done: Json = {**self._place(), field: self._emitter.fold.read(path)}
        part: Json = self._emitter.fold.locate(path)
        if "logprobs" in part:
            done["logprobs"] = part["logprobs"]
        self._emitter.emit(event, done)
        self._emitter.emit("response.content_part.done", {**self._place(), "part": part})
        self._part = None

    def _open_part(self, part: str) -> None:
        self.close_part()
        self._content_index += 1
        self._part = part
        self._emitter.emit(
            "response.content_part.added", {**self._place(), "part": _new_part(part)}
        )

    def _place(self) -> Json:
        return {
            "item_id": self._id,
            "output_index": self._output_index,
            "content_index": self._content_index,
        }


class MessageWriter(PartsWriter):
    """The assistant's message: ``output_text`` and ``refusal`` parts."""

    def __init__(self, emitter: Emitter, *, logprobs: bool) -> None:
        self._logprobs = logprobs
        item = {
            "id": emitter.mint.item_id("msg"),
            "type": "message",
            "status": "in_progress",
            "content": [],
            "role": "assistant",
        }
        super().__init__(emitter, item)

    def write(self, delta: TextDelta | RefusalDelta) -> None:
        """See `ItemWriter`."""
        if isinstance(delta, RefusalDelta):
            self.write_part("refusal", delta.text)
        else:
            logprobs = delta.logprobs if self._logprobs and delta.logprobs else []
            self.write_part("output_text", delta.text, {"logprobs": logprobs})

    def close(self, status: str) -> None:
        """See `ItemWriter`."""
        self.close_part()
        _item_done(self._emitter, self._output_index, status)


class ReasoningWriter(PartsWriter):
    """Raw chain of thought: one ``reasoning_text`` part."""

    def __init__(self, emitter: Emitter) -> None:
        item = {"id": emitter.mint.item_id("rs"), "type": "reasoning", "summary": []}
        super().__init__(emitter, item)

    def write(self, delta: ReasoningDelta) -> None:
        """See `ItemWriter`."""
        self.write_part("reasoning_text", delta.text)

    def close(self, status: str) -> None:
        """A reasoning item has no status on the wire, unless it was cut off (spec §3.3)."""
        self.close_part()
        _item_done(self._emitter, self._output_index, status if status == "incomplete" else None)


class CallWriter:
    """A call of a client's tool: ``function`` or ``custom``."""

    def __init__(self, emitter: Emitter, kind: str, name: str, call_id: str) -> None:
        self._emitter = emitter
        self._name = name
        self._field, self._event, prefix, item_type = _CALLS[kind]
        self._id = emitter.mint.item_id(prefix)
        self._output_index = emitter.add_item(
            {
                "id": self._id,
                "type": item_type,
                "status": "in_progress",
                self._field: "",
                "call_id": call_id,
                "name": name,
            }
        )

    def write(self, delta: ToolCallDelta) -> None:
        """See `ItemWriter`."""
        if delta.arguments:
            fields = {**self._place(), "delta": delta.arguments}
            self._emitter.emit_delta(f"{self._event}.delta", fields)

    def is_whole(self) -> bool:
        """Whether the arguments are a JSON object; free text may always go on."""
        fold, path = self._emitter.fold, (self._output_index, self._field)
        if self._field != "arguments" or not fold.last(path).endswith("}"):
            return False
        try:
            orjson.loads(fold.read(path))
        except orjson.JSONDecodeError:
            return False
        return True

    def close(self, status: str) -> None:
        """See `ItemWriter`."""
        done = self._place()
        if self._field == "arguments":
            done["name"] = self._name
        done[self._field] = self._emitter.fold.read((self._output_index, self._field))
        self._emitter.emit(f"{self._event}.done", done)
        _item_done(self._emitter, self._output_index, status)

    def _place(self) -> Json:
        return {"item_id": self._id, "output_index": self._output_index}


class HostedWriter:
    """A call of a hosted tool, while the tool runs."""

    def __init__(self, emitter: Emitter, item_type: str, fields: Json) -> None:
        self._emitter = emitter
        self._type = item_type
        self._id = emitter.mint.item_id(ITEM_TYPES[item_type].prefix)
        item = {"id": self._id, "type": item_type, "status": "in_progress", **fields}
        self._output_index = emitter.add_item(item)

    def progress(self, step: str, fields: Json | None = None) -> None:
        """An event of the item's own: ``interpreting`` is
        ``response.code_interpreter_call.interpreting``."""
        place = {"item_id": self._id, "output_index": self._output_index}
        self._emitter.emit(f"response.{self._type}.{step}", {**place, **(fields or {})})

    def close(self, status: str, fields: Json | None = None) -> None:
        """End it: ``completed`` or ``failed``, with what came out."""
        self._emitter.fold.item(self._output_index).update(fields or {})
        _item_done(self._emitter, self._output_index, status)


def _item_done(emitter: Emitter, output_index: int, status: str | None) -> None:
    item = emitter.fold.item(output_index)
    if status is not None:
        item = {**item, "status": status}
    emitter.emit("response.output_item.done", {"output_index": output_index, "item": item})


def _new_part(part: str) -> Json:
    if part == "output_text":
        return {"type": part, "annotations": [], "logprobs": [], "text": ""}
    return {"type": part, _DONE[part][1]: ""}


#: Type of the part → the event of its deltas.
_DELTA: Final = {
    "output_text": "response.output_text.delta",
    "refusal": "response.refusal.delta",
    "reasoning_text": "response.reasoning_text.delta",
}

#: Type of the part → (the event that ends its string, the field that holds it).
_DONE: Final = {
    "output_text": ("response.output_text.done", "text"),
    "refusal": ("response.refusal.done", "refusal"),
    "reasoning_text": ("response.reasoning_text.done", "text"),
}

#: Kind of call → (growing field, its events, id prefix, item type).
_CALLS: Final = {
    "function": ("arguments", "response.function_call_arguments", "fc", "function_call"),
    "custom": ("input", "response.custom_tool_call_input", "ctc", "custom_tool_call"),
}
