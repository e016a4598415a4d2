"""Calls of hosted tools that the server runs itself, in its answers and in the history. Pure.

Rules
1. Its ids are not ours: items are known by their place in the answer, and get ids of ours.
2. What an item says is passed on by a list of keys and events; what has another shape is left out.
3. An item is told once: after its end nothing of it is. Events of another type of item are none of
   its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from antiphon.backends.reader import passable
from antiphon.backends.values import string_of
from antiphon.protocol.deltas import AnnotationDelta, Delta, HostedDelta
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item, told_of

Json: TypeAlias = dict[str, Any]
Status: TypeAlias = Literal["completed", "incomplete", "failed"]

#: In the place of what an item begins without.
_LATER: Final = object()

#: Type of an item → what it holds, and what that is at first.
_FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "web_search_call": {"action": _LATER, "results": _LATER},
    "file_search_call": {"queries": [], "results": None},
    "code_interpreter_call": {"code": "", "container_id": "", "outputs": None},
}
_SHAPES: Final = {type_: TypeAdapter[Any](ITEM_TYPES[type_].shape) for type_ in _FIELDS}
#: Its events, but for those that every item has at its start and at its end → the key of what they
#: carry.
_STEPS: Final[Mapping[str, Mapping[str, str | None]]] = {
    "web_search_call": {"web_search_call.searching": None},
    "file_search_call": {"file_search_call.searching": None},
    "code_interpreter_call": {
        "code_interpreter_call_code.delta": "delta",
        "code_interpreter_call_code.done": "code",
        "code_interpreter_call.interpreting": None,
    },
}
#: Type of a tool → that of its items.
ITEM_OF: Final[Mapping[str, str]] = {
    "web_search": "web_search_call",
    "file_search": "file_search_call",
    "code_interpreter": "code_interpreter_call",
}
#: Type of a tool → what of its items has to be asked for with `include`.
INCLUDED: Final[Mapping[str, tuple[str, ...]]] = {
    "web_search": ("web_search_call.action.sources", "web_search_call.results"),
    "file_search": ("file_search_call.results",),
    "code_interpreter": ("code_interpreter_call.outputs",),
}
#: Type of an annotation → what it must have.
_ANNOTATIONS: Final[Mapping[str, Mapping[str, type]]] = {
    "url_citation": {"url": str, "title": str, "start_index": int, "end_index": int},
    "file_citation": {"file_id": str, "filename": str, "index": int},
    "container_file_citation": {
        "container_id": str,
        "file_id": str,
        "filename": str,
        "start_index": int,
        "end_index": int,
    },
    "file_path": {"file_id": str, "index": int},
}


class HostedCalls:
    """The calls of one answer; `types`: of their items, without which there are none."""

    __slots__ = ("_calls", "_types")

    def __init__(self, types: frozenset[str]) -> None:
        self._types = types
        self._calls: dict[Any, _Call] = {}

    def is_one(self, item: Json) -> bool:
        """Whether an item is such a call."""
        return item.get("type") in self._types

    @property
    def were_told(self) -> bool:
        """Whether there were any so far."""
        return bool(self._calls)

    def begin(self, key: Any, item: Json, out: list[Delta]) -> None:
        """One is announced."""
        if key in self._calls:
            return
        call = self._calls[key] = _Call(len(self._calls), item["type"])
        out.append(HostedDelta(call.number, call.type, _begun(item), is_first=True))

    def step(self, key: Any, event_type: str, event: Json, out: list[Delta]) -> None:
        """An event of one; others are not for us."""
        call, name = self._calls.get(key), event_type.removeprefix("response.")
        if call is None or call.has_ended:
            return
        if name in (f"{call.type}.completed", f"{call.type}.failed"):
            out.append(HostedDelta(call.number, call.type))
        elif name in _STEPS[call.type]:
            carried = _STEPS[call.type][name]
            call.tell(name, {} if carried is None else {carried: string_of(event[carried])}, out)

    def end(self, key: Any, item: Json, out: list[Delta]) -> None:
        """One as a whole. Code that was not told while it was written is told now."""
        self.begin(key, item, out)
        call = self._calls[key]
        if call.has_ended:
            return
        call.has_ended = True
        fields = _read(item)
        call.tell_code(fields.get("code") or "", out)
        said = item.get("status")
        status: Status = said if said in ("failed", "incomplete") else "completed"
        out.append(HostedDelta(call.number, call.type, fields, status=status))


@dataclass(slots=True)
class _Call:
    """One call: its number in the turn, and what was told of it."""

    number: int
    type: str
    code: str = ""
    told: set[str] = field(default_factory=set)
    has_ended: bool = False

    def tell(self, name: str, fields: Json, out: list[Delta]) -> None:
        """One of its events."""
        self.told.add(name)
        self.code += fields.get("delta", "")
        out.append(HostedDelta(self.number, self.type, fields, name))

    def tell_code(self, code: str, out: list[Delta]) -> None:
        """What of its code, and of the events around it, was not told."""
        if not code:
            return
        for name, carried in _STEPS[self.type].items():
            if carried == "delta":
                if rest := code.removeprefix(self.code) if code.startswith(self.code) else "":
                    self.tell(name, {carried: rest}, out)
            elif name not in self.told:
                self.tell(name, {} if carried is None else {carried: code}, out)


def annotation_of(value: Any, shift: int = 0) -> AnnotationDelta | None:
    """An annotation as the API shows it, `shift` characters later; None: it is none."""
    wanted = _ANNOTATIONS.get(str(value.get("type"))) if isinstance(value, dict) else None
    if wanted is None or not all(isinstance(value.get(key), kind) for key, kind in wanted.items()):
        return None
    moved = {key: value[key] + shift if kind is int else value[key] for key, kind in wanted.items()}
    return AnnotationDelta({"type": value["type"], **moved})


def given_back(item: Item, tools: frozenset[str]) -> Json | None:
    """An item of the history as the server takes it back; None: it was none of its own calls. What
    a tool of this server has told the model stands beside its item."""
    type_ = item["type"]
    is_theirs = any(ITEM_OF[tool] == type_ for tool in tools)
    if told_of(item) is not None or not is_theirs or not item.get("id"):
        return None
    fields = {key: item[key] for key in _FIELDS[type_] if item.get(key) is not None}
    if type_ == "web_search_call":  # what it found was for the client
        fields.pop("results", None)
        if not fields:
            return None
    place = {"type": type_, "id": item["id"], "status": item.get("status") or "completed"}
    return {**place, **_blank(type_), **fields}


def _begun(item: Json) -> Json:
    """The fields of the announcement; what grows begins empty."""
    fields = {**_blank(item["type"]), **_read(item)}
    return {key: "" if key == "code" else value for key, value in fields.items() if key != "action"}


def _blank(type_: str) -> Json:
    return {key: first for key, first in _FIELDS[type_].items() if first is not _LATER}


def _read(item: Json) -> Json:
    """What an item holds, as far as it has the shape of one; what does not is left out. Raises
    `TypeError` when it is nested too deeply."""
    type_ = item["type"]
    fields = {key: item[key] for key in _FIELDS[type_] if item.get(key) is not None}
    try:
        _SHAPES[type_].validate_python({"type": type_, **fields})
    except ValidationError as error:
        wrong = {problem["loc"][0] for problem in error.errors()}
        fields = {key: value for key, value in fields.items() if key not in wrong}
    read: Json = passable(fields)
    return read
