"""What this release does not do yet, said before anything runs (design §5, never silent).

Rules
1. A parameter that changes the answer and cannot be honoured is a 400 that names it.
2. A parameter that is a hint, or that clients send by default, is dropped and reported in the
   header ``x-antiphon-ignored`` and in docs/compatibility.md.
3. One table each; a later release takes its row out.
"""

import asyncio
from collections.abc import Callable, Container, Mapping
from typing import Any, Final, TypeAlias

from antiphon.engine.toolbox import key_of
from antiphon.errors import InvalidRequestError, UnsupportedParameter
from antiphon.protocol.client_tools import CLIENT_TOOLS
from antiphon.protocol.grammars import check_grammar
from antiphon.protocol.items.content import PARTS_IN
from antiphon.protocol.loaded_tools import loaded
from antiphon.protocol.request import CreateResponse
from antiphon.tools.base import Tool

Json: TypeAlias = dict[str, Any]

#: Tools of the client that need nothing here, and those that can be searched for.
_PLAIN: Final = frozenset({"function", "custom", "namespace", "tool_search"})
#: Items that bring tools.
_TOOL_ITEMS: Final = ("additional_tools", "tool_search_output")
_BREAKPOINT: Final = "prompt_cache_breakpoint"

#: parameter → does this request use it?
_REFUSED: Final[Mapping[str, Callable[[CreateResponse], bool]]] = {
    "moderation": lambda request: request.moderation is not None,
}

_IGNORED: Final[Mapping[str, Callable[[CreateResponse], bool]]] = {
    "image": lambda request: request.image is not None,
    "access_programs": lambda request: request.access_programs is not None,
    "client_metadata": lambda request: request.client_metadata is not None,
    "prompt_cache_options": lambda request: request.prompt_cache_options is not None,
    "background_options.continuation_id": lambda request: (
        (request.background_options or {}).get("continuation_id") is not None
    ),
}
#: Who sends none of these has nothing to hear.
_SELDOM: Final = frozenset(name.partition(".")[0] for name in (*_REFUSED, *_IGNORED))


def check_support(request: CreateResponse) -> list[str]:
    """The parameters that are ignored; `InvalidRequestError` for those that cannot be honoured."""
    if request.model_fields_set.isdisjoint(_SELDOM):
        return []
    for name, used in _REFUSED.items():
        if used(request):
            raise UnsupportedParameter(
                f"Unsupported parameter: '{name}' is not supported by this server yet.", param=name
            )
    return [name for name, used in _IGNORED.items() if used(request)]


async def check_tools(
    request: CreateResponse, project: str, hosted: Mapping[str, Tool], theirs: Container[str]
) -> list[str]:
    """The same for tools, and for items that bring tools or settings. `hosted`: the tools that this
    server runs, by type; `theirs`: types of those that the model's server runs, and looks at."""
    ignored: list[str] = []
    once: list[Tool] = []
    for place, tool in enumerate(request.tools or ()):
        path = f"tools[{place}]"
        if tool["type"] in theirs:
            continue
        if tool["type"] in hosted:
            _check_once(hosted[tool["type"]], tool, path, once)
            keys = await hosted[tool["type"]].check(tool, path, project)
            ignored += [f"{path}.{key}" for key in keys]
        else:
            await _check_client_tool(request, tool, path)
    for place, item in enumerate(request.input):
        if item["type"] in _TOOL_ITEMS:
            tools, others = loaded(item, f"input[{place}]")
            for tool in tools:
                await _check_client_tool(request, tool, f"input[{place}].tools")
            known = {key_of(tool) for tool in request.tools or ()}
            if any(key_of(other) not in known for other in others):
                ignored.append(f"input[{place}].tools")
        elif item["type"] == "configuration_update":
            ignored += [f"input[{place}].{key}" for key in ("reasoning", "text") if key in item]
    if any(map(_has_breakpoint, request.input)):
        ignored.append(_BREAKPOINT)
    return ignored


def _has_breakpoint(item: Json) -> bool:
    """A mark for a prompt cache: no backend is told of it."""
    name = PARTS_IN.get(item["type"])
    parts = None if name is None else item[name]
    return isinstance(parts, list) and any(part.get(_BREAKPOINT) is not None for part in parts)


def _check_once(runs: Tool, tool: Json, path: str, once: list[Tool]) -> None:
    """Only of MCP servers there can be several: whichever name a tool has (``web_search_preview``),
    the model could not tell it from itself."""
    if tool["type"] == "mcp":
        return
    if any(other is runs for other in once):
        raise InvalidRequestError(
            f"Invalid '{path}': there is such a tool in 'tools' already.",
            param=path,
            code="invalid_value",
        )
    once.append(runs)


async def _check_client_tool(request: CreateResponse, tool: Json, path: str) -> None:
    type_ = tool["type"]
    if type_ in _PLAIN:
        for place, inner in enumerate(tool.get("tools") or ()):
            await _check_grammar(inner, f"{path}.tools[{place}]")
        await _check_grammar(tool, path)
        return
    environment = tool.get("environment") or {"type": "local"}
    if type_ in CLIENT_TOOLS and environment["type"] == "local":
        return
    if type_ in CLIENT_TOOLS:
        raise InvalidRequestError(
            f"Environment '{environment['type']}' of tool '{type_}' is not supported by this "
            "server; 'local' is.",
            param=f"{path}.environment",
        )
    raise InvalidRequestError(
        f"Hosted tool '{type_}' is not supported with {request.model}.", param="tools"
    )


async def _check_grammar(tool: Json, path: str) -> None:
    """In a thread: compiling may take its time (R-118)."""
    format_ = tool.get("format") or {}
    if format_.get("type") == "grammar":
        await asyncio.to_thread(check_grammar, format_, path)
