"""Secrets of a request's tools, while its background response waits (reliability R-91).

Rules
1. `authorization` and `headers` of an MCP server, and what stands behind the path of its URL, are
   nowhere in the database as they are. The stored body of a background response has seals in their
   places, which only its project's jobs open; it goes when the response ends.
"""

from typing import Any, Final, TypeAlias

from antiphon.engine.sealing import OURS, Sealer, Unverifiable
from antiphon.errors import InvalidRequestError
from antiphon.protocol.request import CreateResponse

Json: TypeAlias = dict[str, Any]

#: The key of a tool that holds all of its secrets, sealed. No request can have it: the shapes of
#: tools are closed.
_PLACE: Final = "authorization"
_KEYS: Final = ("authorization", "headers", "server_url")


def has_secrets(tools: list[Json] | None) -> bool:
    """Whether there is anything to hide."""
    return any(tool.get("type") == "mcp" for tool in tools or ())


def hide(tools: list[Json], project: str, sealer: Sealer) -> None:
    """Put seals in the places of secrets, in a request's `tools`."""
    for tool in tools:
        if tool.get("type") == "mcp":
            secret = {key: tool.pop(key) for key in _KEYS if tool.get(key) is not None}
            if "server_url" in secret:  # a tool needs one to be one
                tool["server_url"] = secret["server_url"].split("?")[0].split("#")[0]
            tool[_PLACE] = sealer.seal("secret", project, secret)


async def revealed(request: CreateResponse, project: str, sealer: Sealer) -> CreateResponse:
    """The request of a job with its secrets. Raises `InvalidRequestError` when the key is gone."""
    if not has_secrets(request.tools):
        return request
    tools = [await _open(tool, project, sealer) for tool in request.tools or ()]
    return request.model_copy(update={"tools": tools})


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
