"""What an item is in a context: who said it, which call it belongs to.

Rules
1. Items keep the unknown keys of their clients (spec §3.4), so a key is asked for only where the
   type of the item has it: a `role` on a call makes no message of it.
"""

from typing import Final

from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item

_NAMED: Final = frozenset(
    f"{kind}{end}" for kind in ("function_call", "custom_tool_call") for end in ("", "_output")
)


def role_of(item: Item) -> str | None:
    """The role of a message."""
    role: str | None = item["role"] if item["type"] == "message" else None
    return role


def is_rule(item: Item) -> bool:
    """Whether it is a message of the system or the developer."""
    return role_of(item) in ("system", "developer")


def is_output(item: Item) -> bool:
    """Whether it is what a tool answered to a call that is another item."""
    item_type = ITEM_TYPES[item["type"]]
    return item_type.as_result is not None and item_type.as_call is None


def call_id_of(item: Item) -> str | None:
    """The `call_id` of a call whose output is another item, or of such an output."""
    item_type = ITEM_TYPES[item["type"]]
    if (item_type.as_call is None) == (item_type.as_result is None):
        return None
    call_id: str | None = item.get("call_id")
    return call_id


def called(item: Item) -> str | None:
    """The name of the function or custom tool that a call is for, or that an output says."""
    name: str | None = item.get("name") if item["type"] in _NAMED else None
    return name


def last_user_message(items: list[Item]) -> int | None:
    """Where the current turn begins; None: nobody has said anything."""
    for index in range(len(items) - 1, -1, -1):
        if role_of(items[index]) == "user":
            return index
    return None
