"""Calls of hosted tools that the server runs itself, in its answers and in the history. Pure.

Rules
1. Its ids are not ours: items are known by their place in the answer, and get ids of ours.
2. What an item says is passed on by a list of keys and events; what has another shape is left out.
3. An item is told once: after its end nothing of it is.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from antiphon.protocol.deltas import AnnotationDelta, Delta, HostedDelta
from antiphon.protocol.items.base import Item, told_of

Json: TypeAlias = dict[str, Any]

#: Type of an item → what it holds, by key: the type, and the value without one.
_FIELDS: Final[Mapping[str, Mapping[str, tuple[type, Any]]]] = {
    "web_search_call": {"action": (dict, None)},
    "file_search_call": {"queries": (list, []), "results": (list, None)},
    "code_interpreter_call": {
        "code": (str, ""),
        "container_id": (str, ""),
        "outputs": (list, None),
    },
}
#: Its events, but for those that every item has at its start and at its end → the key of what they
#: carry.
_STEPS: Final[Mapping[str, str | None]] = {
    "response.web_search_call.searching": None,
    "response.file_search_call.searching": None,
    "response.code_interpreter_call.interpreting": None,
    "response.code_interpreter_call_code.delta": "delta",
    "response.code_interpreter_call_code.done": "code",
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
}


class HostedCalls:
    """The calls of one answer; `types`: of their items, without which there are none."""

    __slots__ = ("_ended", "_numbers", "_types")

    def __init__(self, types: frozenset[str]) -> None:
        self._types = types
        #: Item → its number in the turn and its type.
        self._numbers: dict[Any, tuple[int, str]] = {}
        self._ended: set[Any] = set()

    def is_one(self, item: Json) -> bool:
        """Whether an item is such a call."""
        return item.get("type") in self._types

    @property
    def were_told(self) -> bool:
        """Whether there were any so far."""
        return bool(self._numbers)

    def begin(self, key: Any, item: Json, out: list[Delta]) -> None:
        """One is announced."""
        if key in self._numbers:
            return
        type_ = item["type"]
        number = len(self._numbers)
        self._numbers[key] = number, type_
        out.append(HostedDelta(number, type_, _begun(item)))

    def step(self, key: Any, event_type: str, event: Json, out: list[Delta]) -> None:
        """An event of one; others are not for us."""
        carried = _STEPS.get(event_type, "")
        if carried == "" or key not in self._numbers or key in self._ended:
            return
        fields = {} if carried is None else {carried: str(event[carried])}
        number, type_ = self._numbers[key]
        out.append(HostedDelta(number, type_, fields, event_type.removeprefix("response.")))

    def end(self, key: Any, item: Json, out: list[Delta]) -> None:
        """One as a whole."""
        self.begin(key, item, out)
        if key in self._ended:
            return
        self._ended.add(key)
        number, type_ = self._numbers[key]
        said = item.get("status")
        status: Literal["completed", "incomplete", "failed"] = "completed"
        if said in ("failed", "incomplete"):
            status = said
        out.append(HostedDelta(number, type_, _read(item), status=status))


def annotation_of(value: Any) -> AnnotationDelta | None:
    """An annotation as the API shows it; None: it is none."""
    wanted = _ANNOTATIONS.get(str(value.get("type"))) if isinstance(value, dict) else None
    if wanted is None or not all(isinstance(value.get(key), kind) for key, kind in wanted.items()):
        return None
    return AnnotationDelta({"type": value["type"], **{key: value[key] for key in wanted}})


def given_back(item: Item, tools: frozenset[str]) -> Json | None:
    """An item of the history as the server takes it back; None: it was none of its own calls. What
    a tool of this server has told the model stands beside its item."""
    type_ = item["type"]
    is_theirs = any(ITEM_OF[tool] == type_ for tool in tools)
    if told_of(item) is not None or not is_theirs or not item.get("id"):
        return None
    place = {"type": type_, "id": item["id"], "status": item.get("status") or "completed"}
    fields = {key: item[key] for key in _FIELDS[type_] if item.get(key) is not None}
    return {**place, **_blank(type_), **fields}


def _begun(item: Json) -> Json:
    """The fields of the announcement; what grows begins empty."""
    fields = {**_blank(item["type"]), **_read(item)}
    return {**fields, "code": ""} if "code" in fields else fields


def _blank(type_: str) -> Json:
    """What an item has in any case; the action of a search is known at its end."""
    return {key: blank for key, (_, blank) in _FIELDS[type_].items() if key != "action"}


def _read(item: Json) -> Json:
    known = _FIELDS[item["type"]]
    return {key: item[key] for key, (kind, _) in known.items() if isinstance(item.get(key), kind)}
