"""All item types that the server knows, by their `type`."""

from collections.abc import Mapping
from typing import Final

from antiphon.protocol.items import (
    apply_patch,
    code_interpreter,
    compaction,
    computer,
    custom_tool_call,
    file_search,
    function_call,
    image_generation,
    item_reference,
    mcp,
    message,
    program,
    reasoning,
    shell,
    tool_search,
    web_search,
)
from antiphon.protocol.items.base import ItemType

_FAMILIES = (
    message,
    reasoning,
    function_call,
    custom_tool_call,
    web_search,
    file_search,
    code_interpreter,
    image_generation,
    mcp,
    shell,
    apply_patch,
    computer,
    tool_search,
    compaction,
    program,
    item_reference,
)

ITEM_TYPES: Final[Mapping[str, ItemType]] = {
    item_type.type: item_type for family in _FAMILIES for item_type in family.ITEM_TYPES
}
