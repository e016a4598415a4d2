"""Tools that come in items: ``additional_tools`` and ``tool_search_output`` (spec §3.3, App. B).

Rules
1. A tool of the client has the shape that it has in a request, so that the rest of the server needs
   to know one shape only.
2. Lenient as all of the history is (spec §3.4): keys that are unknown are left out. What is known
   must be right.
3. Tools that the server would have to run cannot come in an item: they are given back apart.
"""

from typing import Annotated, Any, Final, TypeAlias

from pydantic import TypeAdapter, ValidationError

from antiphon.errors import InvalidRequestError
from antiphon.protocol import hosted_tools as hosted
from antiphon.protocol.fields import by_type
from antiphon.protocol.items.base import Item
from antiphon.protocol.tools import CustomTool, FunctionTool, NamespaceTool
from antiphon.protocol.validation import refusal

Json: TypeAlias = dict[str, Any]

_SHAPES: Final[dict[str, Any]] = {
    "function": FunctionTool,
    "custom": CustomTool,
    "namespace": NamespaceTool,
    "local_shell": hosted.LocalShellTool,
    "shell": hosted.ShellTool,
    "apply_patch": hosted.ApplyPatchTool,
}


_ADAPTER: Final[TypeAdapter[Json]] = TypeAdapter(Annotated[Json, by_type(_SHAPES)])


def loaded(item: Item, path: str) -> tuple[list[Json], list[Json]]:
    """The tools of an item at `path` (``input[3]``): those of the client, as in a request, and
    those that cannot be loaded, as they are.

    Raises `InvalidRequestError` with the path of what is wrong: ``input[3].tools[0].name``.
    """
    tools, others = [], []
    for place, tool in enumerate(item["tools"]):
        if tool["type"] not in _SHAPES:
            others.append(tool)
            continue
        try:
            tools.append(_ADAPTER.validate_python(tool, extra="ignore"))
        except ValidationError as error:
            raise _below(f"{path}.tools[{place}]", refusal(error, tool)) from None
    return tools, others


def _below(path: str, error: InvalidRequestError) -> InvalidRequestError:
    """The error with the place of the tool before its own."""
    param = f"{path}.{error.param}"
    message = error.message.replace(f"'{error.param}'", f"'{param}'", 1)
    return InvalidRequestError(message, param=param, code=error.code)
