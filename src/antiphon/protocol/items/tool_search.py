"""Tools that come while a conversation runs: tool search, additional tools, new configuration."""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol.fields import LENIENT, CallId, Many, Name, Text, by_kind
from antiphon.protocol.items.base import (
    Call,
    Item,
    ItemShape,
    ItemType,
    Progress,
    Result,
    encode,
)

Json = dict[str, Any]
Execution: TypeAlias = Literal["server", "client"]


@with_config(LENIENT)
class LoadedTool(TypedDict):
    """A tool in an item: only what tells it apart is checked."""

    type: Name
    name: NotRequired[Name | None]
    server_label: NotRequired[Name | None]
    tools: NotRequired[Many["LoadedTool"] | None]


LoadedTools: TypeAlias = Many[LoadedTool]


class ToolSearchCall(ItemShape):
    """The model looks for tools. Calls that the server runs have no `call_id`."""

    type: Literal["tool_search_call"]
    arguments: Annotated[Any, by_kind(object=Json, string=Text)]
    call_id: NotRequired[CallId | None]
    execution: NotRequired[Execution | None]
    status: NotRequired[Progress | None]


class ToolSearchOutput(ItemShape):
    """The tools that were found."""

    type: Literal["tool_search_output"]
    tools: LoadedTools
    call_id: NotRequired[CallId | None]
    execution: NotRequired[Execution | None]
    status: NotRequired[Progress | None]


class AdditionalTools(ItemShape):
    """Tools that the client adds."""

    type: Literal["additional_tools"]
    role: Literal[
        "unknown", "user", "assistant", "system", "critic", "discriminator", "developer", "tool"
    ]
    tools: LoadedTools


class ConfigurationUpdate(ItemShape):
    """Parameters that change on the way."""

    type: Literal["configuration_update"]
    reasoning: NotRequired[Json | None]
    text: NotRequired[Json | None]


def _call_id(item: Item) -> str:
    """Server-side searches have no `call_id`, neither in the call nor in the output."""
    call_id: str = item.get("call_id") or "tool_search"
    return call_id


def _as_call(item: Item) -> Call:
    arguments = item["arguments"]
    text = arguments if isinstance(arguments, str) else encode(arguments)
    return Call(_call_id(item), "tool_search", text)


def _as_result(item: Item) -> Result:
    return Result(_call_id(item), encode(item["tools"]))


ITEM_TYPES = (
    ItemType("tool_search_call", "tsc", ToolSearchCall, as_call=_as_call),
    ItemType("tool_search_output", "tso", ToolSearchOutput, as_result=_as_result),
    ItemType("additional_tools", "adt", AdditionalTools),
    ItemType("configuration_update", "cfg", ConfigurationUpdate),
)
