"""Tools that come while a conversation runs: tool search, additional tools, new configuration.

What is secret in a tool of an item goes at the door: this server runs none of them, so nobody needs
it (reliability R-91).
"""

from typing import Annotated, Any, Final, Literal, NotRequired, TypeAlias

from pydantic import AfterValidator, Field, with_config
from typing_extensions import TypedDict

from antiphon.protocol.fields import LENIENT, CallId, Name, Text, by_kind
from antiphon.protocol.items.base import (
    Call,
    Item,
    ItemShape,
    ItemType,
    Progress,
    Result,
    encode,
)
from antiphon.protocol.tool_secrets import all_public

Json = dict[str, Any]
Execution: TypeAlias = Literal["server", "client"]
#: Tools of one item, and of one tool: as many as a request may have.
_MOST: Final = 128


@with_config(LENIENT)
class LoadedTool(TypedDict):
    """A tool in an item: only what tells it apart is checked."""

    type: Name
    name: NotRequired[Name | None]
    server_label: NotRequired[Name | None]
    tools: NotRequired[
        Annotated[list["LoadedTool"], Field(max_length=_MOST, fail_fast=True)] | None
    ]


LoadedTools: TypeAlias = Annotated[
    list[LoadedTool], Field(max_length=_MOST, fail_fast=True), AfterValidator(all_public)
]


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
    """The tools, but not where their servers are: the path of a URL may be a secret as well."""
    tools = [
        {key: value for key, value in tool.items() if key != "server_url"}
        for tool in all_public(item["tools"])
    ]
    return Result(_call_id(item), encode(tools))


ITEM_TYPES = (
    ItemType("tool_search_call", "tsc", ToolSearchCall, as_call=_as_call),
    ItemType("tool_search_output", "tso", ToolSearchOutput, as_result=_as_result),
    ItemType("additional_tools", "adt", AdditionalTools),
    ItemType("configuration_update", "cfg", ConfigurationUpdate),
)
