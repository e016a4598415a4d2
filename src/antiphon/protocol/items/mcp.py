"""Remote MCP servers: their tools, calls and approvals.

A chat model reads calls with their outputs back, which are marked as somebody else's text
(reliability R-123). Lists of tools and approvals are for the client and the server, and have no
status (spec App. B); the model learns of the tools by their definitions.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.fields import LENIENT, CalledName, ItemId, Many, Name, Text, by_kind
from antiphon.protocol.items.base import (
    Call,
    Item,
    ItemShape,
    ItemType,
    Result,
    encode,
    object_text,
    pair_id,
    told_of,
)
from antiphon.protocol.names import valid_name
from antiphon.protocol.sources import unmarked
from antiphon.protocol.untrusted import quoted_output

Json = dict[str, Any]


@with_config(LENIENT)
class ListedTool(TypedDict):
    """One tool of a server."""

    name: Name
    input_schema: NotRequired[Json | None]
    description: NotRequired[Text | None]
    annotations: NotRequired[Json | None]


class McpListTools(ItemShape):
    """The tools of a server."""

    type: Literal["mcp_list_tools"]
    server_label: Name
    tools: Many[ListedTool]
    error: NotRequired[Annotated[Any, by_kind(string=Text, object=Json)] | None]


class McpCall(ItemShape):
    """A call with its output or error."""

    type: Literal["mcp_call"]
    server_label: Name
    name: CalledName
    arguments: Text
    output: NotRequired[Text | None]
    error: NotRequired[Annotated[Any, by_kind(string=Text, object=Json)] | None]
    approval_request_id: NotRequired[ItemId | None]
    status: NotRequired[
        Literal["in_progress", "completed", "incomplete", "calling", "failed"] | None
    ]


class McpApprovalRequest(ItemShape):
    """The server asks whether a call may run."""

    type: Literal["mcp_approval_request"]
    server_label: Name
    name: CalledName
    arguments: Text


class McpApprovalResponse(ItemShape):
    """The client's answer."""

    type: Literal["mcp_approval_response"]
    approval_request_id: ItemId
    approve: bool
    reason: NotRequired[Text | None]


def _as_call(item: Item) -> Call:
    # The server may be gone: its functions were offered under such names (`engine.naming`).
    return Call(pair_id(item), valid_name(item["name"]), object_text(item["arguments"]))


def _unquoted(item: Item) -> str | list[Any]:
    told = told_of(item)
    if told is not None:
        return told
    error = item.get("error")
    if error is None:
        return item.get("output") or ""
    return error if isinstance(error, str) else encode(error)


def _as_result(item: Item) -> Result:
    output = _unquoted(item)
    if not output:
        return Result(pair_id(item), item.get("status") or "completed")
    quoted = quoted_output(f"mcp server {item['server_label']}", output)
    return Result(pair_id(item), _without_citations(quoted))


def _without_citations(output: str | list[Any]) -> str | list[Any]:
    """Without what would be cited as a source of a search, if the model repeats it."""
    if isinstance(output, str):
        return unmarked(output)
    return [
        {**part, "text": unmarked(part["text"])} if isinstance(part.get("text"), str) else part
        for part in output
    ]


ITEM_TYPES = (
    ItemType(
        "mcp_list_tools",
        "mcpl",
        McpListTools,
        effects={
            "response.mcp_list_tools.in_progress": effects.nothing,
            "response.mcp_list_tools.completed": effects.nothing,
            "response.mcp_list_tools.failed": effects.nothing,
        },
        has_status=False,
    ),
    ItemType(
        "mcp_call",
        "mcp",
        McpCall,
        effects={
            "response.mcp_call.in_progress": effects.set_status("in_progress"),
            "response.mcp_call.completed": effects.set_status("completed"),
            "response.mcp_call.failed": effects.set_status("failed"),
            "response.mcp_call_arguments.delta": effects.append_to_item("arguments"),
            "response.mcp_call_arguments.done": effects.assign_in_item("arguments"),
        },
        as_call=_as_call,
        as_result=_as_result,
        unquoted=_unquoted,
    ),
    ItemType("mcp_approval_request", "mcpr", McpApprovalRequest, has_status=False),
    ItemType("mcp_approval_response", "mcpr", McpApprovalResponse, has_status=False),
)
