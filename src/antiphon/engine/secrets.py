"""Secrets of a request's tools, while its background response waits (reliability R-91).

Rules
1. `authorization` and `headers` of an MCP server, and what stands behind the path of its URL, are
   nowhere in the database as they are. The stored body of a background response has seals in their
   places, which only its project's jobs open; it goes when the response ends.
2. Tools in input items have lost theirs at the door (`protocol/items/tool_search.py`), but not in
   the body as it came.
"""

from typing import Any, Final, TypeAlias

from antiphon.engine.sealing import OURS, Sealer, Unverifiable
from antiphon.errors import InvalidRequestError
from antiphon.protocol.request import TOOL_ITEMS, CreateResponse
from antiphon.protocol.tool_secrets import all_public, public_url

Json: TypeAlias = dict[str, Any]

#: The key of a tool that holds all of its secrets, sealed. No request can have it: the shapes of
#: tools are closed.
_PLACE: Final = "authorization"
_KEYS: Final = ("authorization", "headers", "server_url")


def has_secrets(request: CreateResponse) -> bool:
    """Whether there is anything to hide in its body."""
    return _has_servers(request) or any(item["type"] in TOOL_ITEMS for item in request.input)


def hide(body: Json, project: str, sealer: Sealer) -> None:
    """Put seals in the places of secrets in the body of a request."""
    items = body.get("input")
    for item in items if isinstance(items, list) else ():
        if item.get("type") in TOOL_ITEMS:
            item["tools"] = all_public(item["tools"])
    for tool in body.get("tools") or ():
        if tool.get("type") == "mcp":
            secret = {key: tool.pop(key) for key in _KEYS if tool.get(key) is not None}
            if "server_url" in secret:  # a tool needs one to be one
                tool["server_url"] = public_url(secret["server_url"])
            tool[_PLACE] = sealer.seal("secret", project, secret)


async def revealed(request: CreateResponse, project: str, sealer: Sealer) -> CreateResponse:
    """The request of a job with its secrets. Raises `InvalidRequestError` when the key is gone."""
    if not _has_servers(request):
        return request
    tools = [await _open(tool, project, sealer) for tool in request.tools or ()]
    return request.model_copy(update={"tools": tools})


def _has_servers(request: CreateResponse) -> bool:
    return any(tool["type"] == "mcp" for tool in request.tools or ())


async def _open(tool: Json, project: str, sealer: Sealer) -> Json:
    seal = tool.get(_PLACE)
    if tool["type"] != "mcp" or not isinstance(seal, str) or not seal.startswith(OURS):
        return tool
    try:
        secret = await sealer.unseal("secret", project, seal)
    except Unverifiable:
        raise InvalidRequestError(
            "The secrets of this response's tools cannot be read any more: their key is gone.",
            param="tools",
        ) from None
    return {**{key: value for key, value in tool.items() if key != _PLACE}, **secret}
