"""What the items of another server's answer have said so far → deltas. Pure.

Rules
1. An item is known by its `output_index`, for some servers give it another id in every event. Where
   there is none it is known by its id, and so it is where several have the same one: others say 0
   for all.
2. A text comes in deltas, whole at its end, or both: what is whole is told as far as it was not
   told before, never twice.
3. What a call has of its arguments when it is announced may come once more in deltas (vLLM).
4. Reasoning that comes back encrypted is told as one state for all of the turn so far: items of it
   with nothing visible between them are one item to the client (`protocol/machine.py`).
5. A message is told as one of its own where the client could not know: it follows another one, or
   has another `phase`.
"""

from collections import Counter
from typing import Any, Final, Literal, TypeAlias, get_args

from antiphon.backends.calls import CallAssembler
from antiphon.backends.origins import Origin
from antiphon.backends.reader import passable
from antiphon.backends.responses.hosted import annotation_of
from antiphon.backends.responses.values import logprobs_of
from antiphon.backends.values import string_of
from antiphon.protocol.deltas import (
    Delta,
    MessageStart,
    Phase,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
)
from antiphon.protocol.items.base import encode

Json: TypeAlias = dict[str, Any]
#: Where a text stands in its item: a kind of part, or the argument of a call.
Field: TypeAlias = Literal[
    "output_text", "refusal", "reasoning_text", "summary_text", "arguments", "input"
]

#: Type of a part → the key that holds its text.
_TEXT_OF: Final[dict[str, tuple[Field, str]]] = {
    "output_text": ("output_text", "text"),
    "text": ("output_text", "text"),
    "refusal": ("refusal", "refusal"),
    "reasoning_text": ("reasoning_text", "text"),
    "summary_text": ("summary_text", "text"),
}
#: Type of a call → what it says, and how `CallAssembler` knows it.
CALLS: Final[dict[str, tuple[Field, str]]] = {
    "function_call": ("arguments", "function"),
    "custom_tool_call": ("input", "custom"),
}
_CALL_OF: Final[dict[Field, str]] = dict(CALLS.values())
_PHASES: Final[tuple[Phase, ...]] = get_args(Phase)


class Speech:
    """All that one answer says."""

    __slots__ = (
        *("_annotated", "_announced", "_calls", "_keys", "_latest", "_message", "_numbers"),
        *("_open", "_origin", "_phase", "_texts", "_thoughts", "kinds"),
    )

    def __init__(self, custom: frozenset[str], origin: Origin) -> None:
        self._calls = CallAssembler(custom)
        self._origin = origin
        #: (item, field, part) → what was said of it; of summaries, which one it is.
        self._texts: dict[tuple[Any, Field, Any], list[str]] = {}
        self._numbers: dict[tuple[Any, Field, Any], int] = {}
        #: Call → its field, and what it had of it when it was announced.
        self._announced: dict[Any, tuple[Field, str]] = {}
        #: Index and id → the item; index → the item that was announced there last.
        self._keys: dict[tuple[Any, Any], Any] = {}
        self._latest: dict[Any, Any] = {}
        self._open: dict[Any, bool] = {}  # item that was announced → it goes on
        #: Reasoning items of the turn that go back.
        self._thoughts: list[Json] = []
        #: The message that was spoken last, if nothing else was since; and its phase.
        self._message: tuple[Any] | None = None
        self._phase: Phase | None = None
        #: (item, part) → how many of its annotations were told.
        self._annotated: Counter[tuple[Any, Any]] = Counter()
        #: The fields of which something was said.
        self.kinds: set[Field] = set()

    def key_of(self, event: Json) -> Any:
        """The item that an event is about."""
        index, id_ = event.get("output_index"), event.get("item_id")
        key = self._keys.get((index, id_))
        if key is not None:
            return key
        return id_ if index is None else self._latest.get(index, index)

    def key_of_more(self, event: Json) -> Any:
        """The same for a delta: what was ended has none, so that it begins another item."""
        key = self.key_of(event)
        if self._open.get(key, True):
            return key
        return self._new(event.get("output_index"), event.get("item_id"))

    def key_of_new(self, event: Json) -> Any:
        """The item that an event announces."""
        item = event["item"]
        return self._new(event.get("output_index"), item.get("id"), item.get("call_id"))

    def key_of_whole(self, event: Json) -> Any:
        """The item that an event ends, and has."""
        index, item = event.get("output_index"), event["item"]
        id_, call_id = item.get("id"), item.get("call_id")
        name = call_id or id_
        key = self._keys.get((index, name))
        if key is None:
            key = None if index is None else self._latest.get(index, index)
            if key is None or not self._open.get(key, True):
                key = self._new(index, id_, call_id)
        self._open[key] = False
        if name:
            self._keys[index, name] = key
        return key

    def _new(self, index: Any, *ids: Any) -> Any:
        known = [id_ for id_ in ids if id_]
        key: Any = next(iter(known), None) if index is None else index
        if key in self._open:
            key = (key, len(self._open))
        self._open[key] = True
        self._latest[index] = key
        for id_ in known:
            self._keys[index, id_] = self._keys[None, id_] = key
        return key

    def begin_message(self, key: Any, phase: Any, out: list[Delta]) -> None:
        """A message is announced, or begins without that."""
        known: Phase | None = phase if phase in _PHASES else None
        if self._message is not None or known != self._phase:
            out.append(MessageStart(known))
        self._message, self._phase = (key,), known

    def begin_call(self, key: Any, item: Json, out: list[Delta]) -> None:
        """A call is announced: its name and its id."""
        field, kind = CALLS[item["type"]]
        self._announced[key] = field, _argument(item.get(field) or "")
        self.kinds.add(field)
        call_id = item.get("call_id") or item.get("id")
        self._calls.feed({"index": key, "id": call_id, kind: {"name": item.get("name")}}, out)

    def add_text(self, key: Any, event: Json, out: list[Delta]) -> None:
        """A delta of visible text, with what belongs to its tokens."""
        text, logprobs = string_of(event["delta"]), event.get("logprobs")
        if text or logprobs:
            self._text(key, "output_text", event.get("content_index")).append(text)
            self._part_from_last(key, out)
            out.append(TextDelta(text, logprobs_of(logprobs)))

    def add(self, key: Any, field: Field, part: Any, text: str, out: list[Delta]) -> None:
        """More of a text. Raises `TypeError` when it is none."""
        if not string_of(text):
            return
        self._text(key, field, part).append(text)
        if field in ("output_text", "refusal"):
            self._part_from_last(key, out)
            out.append(TextDelta(text) if field == "output_text" else RefusalDelta(text))
            return
        if field in _CALL_OF:
            self._calls.feed({"index": key, _CALL_OF[field]: {field: text}}, out)
            return
        self._message = None
        if field == "reasoning_text":
            out.append(ReasoningDelta(text))
        else:
            out.append(SummaryDelta(text, self._numbers[key, field, part]))

    def complete(self, key: Any, field: Field, part: Any, text: str, out: list[Delta]) -> None:
        """A text as a whole: the rest of it is told."""
        part = self._part_of(key, field, part, text)
        said = "".join(self._texts.get((key, field, part), ()))
        rest = text[len(said) :] if text.startswith(said) else ""
        if rest:
            self.add(key, field, part, rest, out)

    def end_item(self, key: Any, item: Json, out: list[Delta]) -> None:
        """An item as a whole. What it is decides what is read; others are not for us."""
        match item.get("type"):
            case "message":
                if key not in self._open:  # nothing of it was told
                    self.begin_message(key, item.get("phase"), out)
                self._complete_parts(key, item.get("content"), out)
            case "reasoning":
                self._complete_parts(key, item.get("summary"), out)
                self._complete_parts(key, item.get("content"), out)
                self._end_thought(item, out)
            case "function_call" | "custom_tool_call" as type_:
                field, kind = CALLS[type_]
                if key not in self._announced:
                    self.begin_call(key, item, out)
                self._calls.feed({"index": key, kind: {"name": item.get("name")}}, out)
                self.complete(key, field, 0, _argument(item.get(field) or ""), out)

    def pause(self) -> None:
        """Something else comes between: the next message is one of its own."""
        self._message = None

    def annotate(self, key: Any, event: Json, out: list[Delta]) -> None:
        """An annotation of a text that was said."""
        self._annotate((key, event.get("content_index")), event["annotation"], out)

    def _annotate(self, place: tuple[Any, Any], annotation: Any, out: list[Delta]) -> None:
        """Parts of one message are one text to the client: its places are counted from there."""
        key, part = place
        self._annotated[place] += 1
        shift = sum(
            len("".join(said))
            for (item, kind, other), said in self._texts.items()
            if (item, kind) == (key, "output_text") and other != part
        )
        delta = annotation_of(annotation, shift)
        if delta is not None:
            out.append(delta)

    def close(self, out: list[Delta]) -> bool:
        """Tell what was held back. False when a call never got a name."""
        for key, (field, text) in self._announced.items():
            if (key, field, 0) not in self._texts:
                self.add(key, field, 0, text, out)
        return self._calls.close(out)

    def _complete_parts(self, key: Any, parts: Any, out: list[Delta]) -> None:
        for index, part in enumerate(parts or ()):
            if part["type"] in _TEXT_OF:
                field, name = _TEXT_OF[part["type"]]
                self.complete(key, field, index, part[name], out)
                there_are = part.get("annotations") or ()
                for annotation in there_are[self._annotated[key, index] :]:
                    self._annotate((key, index), annotation, out)

    def _end_thought(self, item: Json, out: list[Delta]) -> None:
        if not item.get("encrypted_content"):
            return
        keys = ("type", "id", "summary", "content", "encrypted_content")
        kept = {key: item[key] for key in keys if item.get(key) is not None}
        id_ = kept.get("id") or f"rs_{len(self._thoughts)}"
        self._thoughts.append(passable({"summary": [], **kept, "id": id_}))
        self._message = None
        out.append(ReasoningState(self._origin.state(list(self._thoughts))))

    def _part_of(self, key: Any, field: Field, part: Any, text: str) -> Any:
        """The part whose whole text this is. Some servers count parts one way in deltas, and
        another way at the end."""
        if (key, field, part) in self._texts:
            return part
        bare = text.strip()
        for (item, kind, other), pieces in self._texts.items():
            said = "".join(pieces).strip()
            if (item, kind) == (key, field) and said and _is_start(said, bare):
                return other
        return part

    def _text(self, key: Any, field: Field, part: Any) -> list[str]:
        pieces = self._texts.get((key, field, part))
        if pieces is None:
            if field == "summary_text":
                self._numbers[key, field, part] = len(self._numbers)
            pieces = self._texts[key, field, part] = []
            self.kinds.add(field)
        return pieces

    def _part_from_last(self, key: Any, out: list[Delta]) -> None:
        if self._message is None or self._message[0] != key:
            self.begin_message(key, None, out)


def _is_start(one: str, other: str) -> bool:
    """Whether one of them is how the other begins."""
    return one.startswith(other) or other.startswith(one)


def _argument(value: Any) -> str:
    """What a call says; some servers give it as an object."""
    return value if isinstance(value, str) else encode(value)
