"""The ItemType record: everything that the server knows about one type of item.

Rules
1. One file per item family in this folder; each ends with its `ITEM_TYPES` tuple.
2. `shape` is the item as a client may send it (spec App. C): pydantic validates it at the door.
   It is lenient (spec §3.4): ids and status are optional, null is the same as absent, unknown
   keys stay.
3. `effects` is what the item's own events do to a Response (spec App. E).
4. A chat model knows only messages, calls and results. `as_call` and `as_result` say how it reads
   the item back from history; an item with neither is not shown to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson
from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol.effects import Effect
from antiphon.protocol.fields import LENIENT, ItemId

Item: TypeAlias = dict[str, Any]

#: How far most items can be.
Progress: TypeAlias = Literal["in_progress", "completed", "incomplete"]


@with_config(LENIENT)
class ItemShape(TypedDict, total=False):
    """What every item may have."""

    id: ItemId | None


class Call(NamedTuple):
    """A tool call as a chat model made it; `arguments` is a JSON string."""

    call_id: str
    name: str
    arguments: str


class Result(NamedTuple):
    """What the tool answered: text or a list of ``input_*`` content parts."""

    call_id: str
    output: str | list[Any]


class Seen(dict[str, Any]):
    """An item as the model sees it: with what only the model is told of a call, and the turn of
    this run that it belongs to; None: it is of an earlier one. No JSON makes one, and none shows
    what it has more."""

    __slots__ = ("told", "turn")

    def __init__(self, item: Item, turn: int | None, told: str | list[Any] | None = None) -> None:
        super().__init__(item)
        self.turn = turn
        self.told = told


def told_of(item: Item) -> str | list[Any] | None:
    """What the model is told of the call beside the item; None: no more than the item says."""
    return item.told if isinstance(item, Seen) else None


def turn_of(item: Item) -> int | None:
    """The turn of this run that it belongs to; None: it is of an earlier run, or of the client."""
    return item.turn if isinstance(item, Seen) else None


def changed(item: Item, **fields: Any) -> Item:
    """The same item with other fields; what the model is told beside it stays."""
    made = {**item, **fields}
    return Seen(made, item.turn, item.told) if isinstance(item, Seen) else made


@dataclass(frozen=True, slots=True)
class ItemType:
    """One type of item. `prefix` is that of its id, without the underscore (spec §3.1)."""

    type: str
    prefix: str
    shape: Any
    effects: Mapping[str, Effect] = field(default_factory=dict)
    as_call: Callable[[Item], Call] | None = None
    as_result: Callable[[Item], Result] | None = None
    #: Of a result that is quoted (`protocol/untrusted.py`): what is, for whoever only wants to know
    #: how long it is. Quoting takes time.
    unquoted: Callable[[Item], str | list[Any]] | None = None
    #: The status of one that was half done when its run broke off.
    broken_off: str = "incomplete"
    #: What it has when it is over in any case, though it may begin without.
    in_the_end: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it has a `status` on the wire (spec §3.3).
    has_status: bool = True

    def ended(self, item: Item, changes: Mapping[str, Any]) -> Item:
        """An item of this type with what its end has brought."""
        whole = {**item, **changes}
        return {**whole, **{key: what for key, what in self.in_the_end.items() if key not in whole}}


def encode(value: Any) -> str:
    """A JSON value as compact text: the arguments of a call, the output of a result."""
    return orjson.dumps(value).decode()


def object_text(text: str) -> str:
    """Arguments as a model wrote them, as the JSON object that every server can read back."""
    try:
        read = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        read = None
    return text or "{}" if isinstance(read, dict) else encode({"input": text})


def pair_id(item: Item) -> str:
    """The call id of an item that is call and result in one: its own id."""
    brought = item.get("call_id")  # such items have none of their own: it may be anything
    call_id: str = brought if isinstance(brought, str) else item.get("id") or item["type"]
    return call_id
