"""All item types that the server knows, by their `type`."""

from collections.abc import Mapping
from typing import Final

from antiphon.protocol.items import custom_tool_call, function_call, message, reasoning
from antiphon.protocol.items.base import ItemType

_FAMILIES = (message, reasoning, function_call, custom_tool_call)

ITEM_TYPES: Final[Mapping[str, ItemType]] = {
    item_type.type: item_type for family in _FAMILIES for item_type in family.ITEM_TYPES
}
