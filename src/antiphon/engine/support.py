"""What this release does not do yet, said before anything runs (design §5, never silent).

Rules
1. A parameter that changes the answer and cannot be honoured is a 400 that names it.
2. A parameter that is a hint, or that clients send by default, is dropped and reported in the
   header ``x-antiphon-ignored`` and in docs/compatibility.md.
3. One table each; a later release takes its row out.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from antiphon.errors import InvalidRequestError, UnsupportedParameter
from antiphon.protocol.request import CreateResponse

#: Tools whose calls the client runs itself; every other type needs a runner on this server.
CLIENT_TOOLS: Final = frozenset({"function", "custom"})

#: parameter → does this request use it?
_REFUSED: Final[Mapping[str, Callable[[CreateResponse], bool]]] = {
    "moderation": lambda request: request.moderation is not None,
}

_IGNORED: Final[Mapping[str, Callable[[CreateResponse], bool]]] = {
    "image": lambda request: request.image is not None,
    "access_programs": lambda request: request.access_programs is not None,
    "prompt_cache_options": lambda request: request.prompt_cache_options is not None,
    "background_options.continuation_id": lambda request: (
        (request.background_options or {}).get("continuation_id") is not None
    ),
    "input.additional_tools": lambda request: any(
        item["type"] == "additional_tools" for item in request.input
    ),
}


def check_support(request: CreateResponse, hosted: Collection[str]) -> list[str]:
    """The parameters that are ignored; `InvalidRequestError` for those that cannot be honoured.
    `hosted`: the types of tools that this server runs."""
    for name, used in _REFUSED.items():
        if used(request):
            raise UnsupportedParameter(
                f"Unsupported parameter: '{name}' is not supported by this server yet.", param=name
            )
    _check_tools(request, hosted)
    _check_tool_choice(request)
    return [name for name, used in _IGNORED.items() if used(request)]


def _check_tool_choice(request: CreateResponse) -> None:
    """A tool of an input item satisfies the protocol, but the model will not see it."""
    choice = request.tool_choice
    if choice is None or choice in ("auto", "none"):
        return
    seen = {(tool["type"], tool.get("name")) for tool in request.tools or ()}
    wanted = [choice] if isinstance(choice, dict) else []
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        wanted = choice["tools"]
    if not seen or any((tool["type"], tool.get("name")) not in seen for tool in wanted):
        raise InvalidRequestError(
            "Tool choice not found in 'tools' parameter. Tools in input items are not supported "
            "by this server yet.",
            param="tool_choice",
        )


def _check_tools(request: CreateResponse, hosted: Collection[str]) -> None:
    for tool in request.tools or ():
        if tool["type"] not in CLIENT_TOOLS and tool["type"] not in hosted:
            raise InvalidRequestError(
                f"Hosted tool '{tool['type']}' is not supported with {request.model}.",
                param="tools",
            )
