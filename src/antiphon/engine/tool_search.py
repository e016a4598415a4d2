"""Tool search on this server: the model names the deferred tools that it needs (spec §1.2, App. D).

Rules
1. The model sees one function, whose description lists what there is; its answer is a
   ``tool_search_call`` and a ``tool_search_output`` with the tools, as on OpenAI's wire.
2. What is listed is bounded: of many tools only the names are told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from antiphon.errors import ToolFailed
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.response import echo_tool
from antiphon.protocol.tool_secrets import public
from antiphon.tools.base import Call, HostedFunction

Json: TypeAlias = dict[str, Any]

#: Characters of all that is told, and of one description.
_MOST_TOLD: Final = 20_000
_MOST_EACH: Final = 200


@dataclass(frozen=True, slots=True)
class Deferred:
    """A tool of the request that is not described yet; `functions`: those of a hosted one."""

    tool: Json
    functions: Sequence[HostedFunction]

    @property
    def path(self) -> str:
        """What the model asks for it by."""
        tool = self.tool
        path: str = tool.get("name") or tool.get("server_label") or tool["type"]
        return path

    def line(self) -> str:
        """Its place in the list."""
        tool = self.tool
        told = tool.get("description") or tool.get("server_description") or ""
        names = [inner["name"] for inner in tool.get("tools") or ()]
        names += [function.name for function in self.functions]
        inside = f" (tools: {', '.join(names)})" if names else ""
        return f"- {self.path}: {told}"[:_MOST_EACH] + inside[: 4 * _MOST_EACH]


def describe_search(name: str, deferred: Sequence[Deferred]) -> Json:
    """The function."""
    lines = [one.line() for one in deferred]
    if sum(map(len, lines)) > _MOST_TOLD:
        lines = [f"- {one.path}" for one in deferred]
    listed = "\n".join(lines)[:_MOST_TOLD] or "- (all tools are loaded)"
    return {
        "type": "function",
        "name": name,
        "description": (
            "Loads tools that you cannot call yet. Name the paths of those that you need; "
            f"afterwards you can call them. There are:\n{listed}"
        ),
        "parameters": {
            "type": "object",
            "properties": {
                "paths": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Paths from the list.",
                }
            },
            "required": ["paths"],
            "additionalProperties": False,
        },
    }


def search(machine: ResponseMachine, deferred: Sequence[Deferred], arguments: str) -> None:
    """Say the two items of a search that the model has made (spec §3.3). Raises `ToolFailed`."""
    asked = Call("tool_search", arguments).read()
    tools = find(deferred, asked)
    common = {"call_id": None, "execution": "server"}
    call = machine.begin_call("tool_search_call", {"arguments": {}, **common})
    call.close("completed", {"arguments": asked})
    output = machine.begin_call("tool_search_output", {**common, "tools": tools})
    output.close("completed", {})


def find(deferred: Sequence[Deferred], arguments: Json) -> list[Json]:
    """The tools that the model asked for, by path, by the name of a tool inside, or by words.
    Raises `ToolFailed` when it did not say which."""
    asked = arguments.get("paths") or arguments.get("query") or []
    wanted = [asked] if isinstance(asked, str) else asked
    if not (isinstance(wanted, list) and all(isinstance(one, str) for one in wanted)):
        raise ToolFailed("'paths' must be a list of strings.")
    found = [one for one in deferred if _names(one) & set(wanted)]
    if not found:
        words = {word for text in wanted for word in text.lower().split()}
        found = [one for one in deferred if any(word in one.line().lower() for word in words)]
    return [public(echo_tool(one.tool)) for one in found]


def _names(one: Deferred) -> set[str]:
    inner = [tool["name"] for tool in one.tool.get("tools") or ()]
    inner += [function.name for function in one.functions]
    return {one.path, *inner, *(f"{one.path}.{name}" for name in inner)}
