"""Items while the model writes them, from ``added`` to ``done`` (spec §4.1).

Rules
1. A writer is one open item. Its id is minted when it is made and never changes.
2. `write` takes what the model says, `close` ends the item with a status.
3. Every delta has its announcement, every ``.done`` the sum of its deltas, read from the fold.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import orjson

from antiphon.protocol.citations import Citation, CitationReader, Piece
from antiphon.protocol.deltas import (
    AnnotationDelta,
    Logprob,
    Phase,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
    ToolCallDelta,
)
from antiphon.protocol.effects import Json
from antiphon.protocol.emitter import Emitter, Growing
from antiphon.protocol.events import EFFECTS
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.sandbox_links import sandbox_links
from antiphon.protocol.sources import Sources


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


class Parts:
    """A list of parts of an item, ``content`` or ``summary``, of which the last is open."""

    def __init__(self, emitter: Emitter, item_id: str, output_index: int, name: str) -> None:
        self._emitter = emitter
        self._name = name
        self._event, self._index_name = _LISTS[name]
        self._item: Json = {"item_id": item_id, "output_index": output_index}
        self._index = -1
        #: The open part: its type, and which one of them it is.
        self._open: tuple[str, object] | None = None
        self._growing: Growing | None = None
        #: The same, if the open part is text.
        self.growing_text: Growing | None = None

    def write(
        self, part: str, text: str, logprobs: list[Logprob] | None = None, which: object = None
    ) -> None:
        """More text of a part of this type; another `which` is another part."""
        if self._growing is None or (part, which) != self._open:
            self._growing = self._begin(part, which)
            self.growing_text = self._growing if part == "output_text" else None
        if logprobs:
            fields = {**self._place(), "delta": text, "logprobs": logprobs}
            self._emitter.emit_delta(_DELTA[part], fields)
        else:
            self._emitter.grow(self._growing, text)

    def _begin(self, part: str, which: object) -> Growing:
        self.close()
        self._index += 1
        self._open = part, which
        place = self._place()
        self._emitter.emit(f"{self._event}.added", {**place, "part": _new_part(part)})
        path = (self._item["output_index"], self._name, self._index, _DONE[part][1])
        rest: Json = {"logprobs": []} if part == "output_text" else {}
        return self._emitter.growing(_DELTA[part], place, path, rest)

    def annotate(self, annotation: Json) -> None:
        """An annotation of the open part's text, which was said already. What has none of it has
        no annotations either."""
        if self._open is None or self._open[0] != "output_text":
            return
        part = self._emitter.fold.locate(
            (self._item["output_index"], self._name, self._index, "text")
        )
        place = {**self._place(), "annotation_index": len(part["annotations"])}
        fields = {**place, "annotation": annotation}
        self._emitter.emit("response.output_text.annotation.added", fields)

    def text(self) -> str:
        """What the open part says so far."""
        read: str = self._emitter.fold.read(
            (self._item["output_index"], self._name, self._index, "text")
        )
        return read

    def close(self) -> None:
        """The ``.done`` of the open part's string, then that of the part."""
        if self._open is None:
            return
        event, field = _DONE[self._open[0]]
        path = (self._item["output_index"], self._name, self._index, field)
        done: Json = {**self._place(), field: self._emitter.fold.read(path)}
        part: Json = self._emitter.fold.locate(path)
        if "logprobs" in part:
            done["logprobs"] = part["logprobs"]
        self._emitter.emit(event, done)
        self._emitter.emit(f"{self._event}.done", {**self._place(), "part": part})
        self._open = self._growing = self.growing_text = None

    def _place(self) -> Json:
        return {**self._item, self._index_name: self._index}


class MessageWriter:
    """The assistant's message: ``output_text`` and ``refusal`` parts. Marks of `sources` in the
    text become annotations (`citations.py`)."""

    def __init__(
        self,
        emitter: Emitter,
        *,
        phase: Phase | None = None,
        logprobs: bool,
        sources: Sources | None,
        linked: bool,
    ) -> None:
        self._emitter = emitter
        self._logprobs = logprobs
        self._sources = sources
        self._linked = linked
        #: Of the open text; None: nothing can be cited, or no text is open.
        self._reader: CitationReader | None = None
        self._waiting: list[Logprob] = []
        item: Json = {
            "id": emitter.mint.item_id("msg"),
            "type": "message",
            "status": "in_progress",
            "content": [],
            **({"phase": phase} if phase else {}),
            "role": "assistant",
        }
        self._output_index = emitter.add_item(item)
        self._content = Parts(emitter, item["id"], self._output_index, "content")

    def write(self, delta: TextDelta | AnnotationDelta | RefusalDelta) -> None:
        """See `ItemWriter`."""
        if isinstance(delta, TextDelta):
            if self._logprobs and delta.logprobs:
                self._waiting += delta.logprobs
            if self._sources is None:
                text = self._content.growing_text
                if text is None or self._waiting:
                    self._say(delta.text)
                else:  # nearly always
                    self._emitter.grow(text, delta.text)
                return
            if self._reader is None:
                self._reader = CitationReader(self._sources, linked=self._linked)
            self._say_pieces(self._reader.feed(delta.text))
        elif isinstance(delta, AnnotationDelta):
            self._content.annotate(delta.annotation)
        else:
            self._end_text()
            self._content.write("refusal", delta.text)

    def is_whole(self) -> bool:
        """See `ItemWriter`."""
        return True

    def close(self, status: str) -> None:
        """See `ItemWriter`."""
        self._end_text()
        self._content.close()
        _item_done(self._emitter, self._output_index, {"status": status})

    def _end_text(self) -> None:
        if self._reader is not None:
            self._say_pieces(self._reader.close())
            self._reader = None
            if self._sources is not None and (links := self._sources.links):
                for link in sandbox_links(self._content.text(), links):
                    self._content.annotate(link.body())

    def _say_pieces(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Citation):
                self._content.annotate(piece.body())
            else:
                self._say(piece)

    def _say(self, text: str) -> None:
        logprobs = self._waiting
        if logprobs:
            self._waiting = []
        self._content.write("output_text", text, logprobs)


class ReasoningWriter:
    """Chain of thought: a summary of the backend's own as ``summary_text``, raw text as
    ``reasoning_text``. Who asked for a summary, and whose backend makes none, gets the raw text as
    one: clients such as Codex show nothing else.

    `seal` makes the `encrypted_content` of it all; `sealed`: always, not only when there is what
    the item itself does not show.
    """

    def __init__(
        self, emitter: Emitter, *, summarise: bool, seal: Callable[[Json], str] | None, sealed: bool
    ) -> None:
        self._emitter = emitter
        self._summarise = summarise
        self._seal = seal
        self._sealed = sealed
        #: The raw text, and whether some of it is not shown.
        self._raw: list[str] = []
        self._hidden = False
        self._state: ReasoningState | None = None
        #: The backend makes summaries of its own.
        self._summarised = False
        item: Json = {"id": emitter.mint.item_id("rs"), "type": "reasoning", "summary": []}
        self._output_index = emitter.add_item(item)
        self._summary = Parts(emitter, item["id"], self._output_index, "summary")
        self._content = Parts(emitter, item["id"], self._output_index, "content")

    def write(self, delta: ReasoningDelta | SummaryDelta | ReasoningState) -> None:
        """See `ItemWriter`."""
        if isinstance(delta, ReasoningState):
            self._state = delta
        elif isinstance(delta, SummaryDelta):
            self._summarised = True
            self._summary.write("summary_text", delta.text, which=delta.part)
        else:
            self._write_raw(delta.text)

    def is_whole(self) -> bool:
        """See `ItemWriter`."""
        return True

    def close(self, status: str) -> None:
        """A reasoning item has no status on the wire, unless it was cut off (spec §3.3)."""
        self._summary.close()
        self._content.close()
        changes: Json = {"status": status} if status == "incomplete" else {}
        if self._seal and (self._sealed or self._hidden or self._state):
            payload: Json = {"content": "".join(self._raw)}
            if self._state:
                payload["state"] = self._state.state
            changes["encrypted_content"] = self._seal(payload)
        _item_done(self._emitter, self._output_index, changes)

    def _write_raw(self, text: str) -> None:
        self._raw.append(text)
        if not self._summarise:
            self._content.write("reasoning_text", text)
        elif self._summarised:
            self._hidden = True
        else:
            self._summary.write("summary_text", text)


class CallWriter:
    """A call of a client's tool: ``function`` or ``custom``."""

    def __init__(
        self, emitter: Emitter, kind: str, shown: tuple[str, str | None], call_id: str
    ) -> None:
        """`shown`: the tool's name and its namespace."""
        self._emitter = emitter
        self._name, namespace = shown
        self._field, self._event, prefix, item_type = _CALLS[kind]
        self._id = emitter.mint.item_id(prefix)
        item: Json = {
            "id": self._id,
            "type": item_type,
            "status": "in_progress",
            self._field: "",
            "call_id": call_id,
            "name": self._name,
        }
        if namespace is not None:
            item["namespace"] = namespace
        self._output_index = emitter.add_item(item)
        path = (self._output_index, self._field)
        self._arguments = emitter.growing(f"{self._event}.delta", self._place(), path, {})

    def write(self, delta: ToolCallDelta) -> None:
        """See `ItemWriter`."""
        if delta.arguments:
            self._emitter.grow(self._arguments, delta.arguments)

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
        _item_done(self._emitter, self._output_index, {"status": status})

    def _place(self) -> Json:
        return {"item_id": self._id, "output_index": self._output_index}


class HostedWriter:
    """The item of a hosted tool while it works: ``added`` and ``….in_progress``, events of its own,
    ``….completed`` or ``….failed``, ``done``; of these only what the type of the item has."""

    def __init__(self, emitter: Emitter, output_index: int, *, fresh: bool) -> None:
        """An item that is announced already; not `fresh`: by another process."""
        self._emitter = emitter
        self.output_index = output_index
        self.fresh = fresh
        item = emitter.fold.item(output_index)
        self.id: str = item["id"]
        self._type: str = item["type"]

    @classmethod
    def announced(cls, emitter: Emitter, item_type: str, fields: Json) -> "HostedWriter":
        """A new item."""
        known = ITEM_TYPES[item_type]
        status = {"status": "in_progress"} if known.has_status else {}
        item = {"id": emitter.mint.item_id(known.prefix), "type": item_type, **status, **fields}
        writer = cls(emitter, emitter.add_item(item), fresh=True)
        writer._say("in_progress")
        return writer

    def emit(self, event: str, fields: Json | None = None) -> None:
        """See `tools.base.CallItem`."""
        place: Json = {"item_id": self.id, "output_index": self.output_index, **(fields or {})}
        if "delta" in place:
            self._emitter.emit_delta(f"response.{event}", place)
        else:
            self._emitter.emit(f"response.{event}", place)

    def close(self, status: Literal["completed", "incomplete", "failed"], fields: Json) -> None:
        """End it, with what came out."""
        self._say(status)
        stated = {"status": status} if ITEM_TYPES[self._type].has_status else {}
        _item_done(self._emitter, self.output_index, {**fields, **stated})

    def _say(self, step: str) -> None:
        if f"response.{self._type}.{step}" in EFFECTS:
            self.emit(f"{self._type}.{step}")


class CompactionWriter:
    """What stands for all before it, while it is made. It has no status (spec §3.3)."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._id = emitter.mint.item_id("cmp")
        item = {"id": self._id, "type": "compaction", "encrypted_content": ""}
        self._output_index = emitter.add_item(item)
        place = {"item_id": self._id, "output_index": self._output_index}
        emitter.emit("response.compaction.compacting", place)

    def close(self, encrypted_content: str) -> None:
        """End it with what came out, sealed."""
        _item_done(self._emitter, self._output_index, {"encrypted_content": encrypted_content})


def _item_done(emitter: Emitter, output_index: int, changes: Json) -> None:
    item = emitter.fold.item(output_index)
    item = ITEM_TYPES[item["type"]].ended(item, changes)
    emitter.emit("response.output_item.done", {"output_index": output_index, "item": item})


def _new_part(part: str) -> Json:
    if part == "output_text":
        return {"type": part, "annotations": [], "logprobs": [], "text": ""}
    return {"type": part, _DONE[part][1]: ""}


#: List of parts → (the events of a part, the name of its index).
_LISTS: Final = {
    "content": ("response.content_part", "content_index"),
    "summary": ("response.reasoning_summary_part", "summary_index"),
}

#: Type of the part → the event of its deltas.
_DELTA: Final = {
    "output_text": "response.output_text.delta",
    "refusal": "response.refusal.delta",
    "reasoning_text": "response.reasoning_text.delta",
    "summary_text": "response.reasoning_summary_text.delta",
}

#: Type of the part → (the event that ends its string, the field that holds it).
_DONE: Final = {
    "output_text": ("response.output_text.done", "text"),
    "refusal": ("response.refusal.done", "refusal"),
    "reasoning_text": ("response.reasoning_text.done", "text"),
    "summary_text": ("response.reasoning_summary_text.done", "text"),
}

#: Kind of call → (growing field, its events, id prefix, item type).
_CALLS: Final = {
    "function": ("arguments", "response.function_call_arguments", "fc", "function_call"),
    "custom": ("input", "response.custom_tool_call_input", "ctc", "custom_tool_call"),
}
