"""The tools of a request as functions, for all adapters. Pure.

Rules
1. A model sees functions. A custom tool is one with the string parameter `input`, whose text is
   taken out of the arguments again (`calls.py`).
2. What a server cannot be told about `tool_choice` is done by leaving tools out.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from antiphon.protocol.request import CreateResponse

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offered:
    """What a model may call: tools of the request, and whether it must call one of them."""

    tools: list[Json]
    mode: Literal["auto", "required"] = "auto"

    @property
    def only(self) -> str | None:
        """The name of the one that must be called."""
        return self.tools[0]["name"] if self.mode == "required" and len(self.tools) == 1 else None


def offered(request: CreateResponse) -> Offered:
    """`tools` and `tool_choice` without what may not be called."""
    tools, choice = request.tools or [], request.tool_choice
    if not tools or choice == "none":
        return Offered([])
    if not isinstance(choice, dict):
        return Offered(tools, "required" if choice == "required" else "auto")
    is_list = choice["type"] == "allowed_tools"
    names = {_key(tool) for tool in (choice["tools"] if is_list else [choice])}
    must = not is_list or choice["mode"] == "required"
    return Offered([tool for tool in tools if _key(tool) in names], "required" if must else "auto")


def custom_tool_names(request: CreateResponse) -> frozenset[str]:
    """The tools whose calls carry free text."""
    return frozenset(tool["name"] for tool in request.tools or () if tool["type"] == "custom")


def parameters_of(tool: Json) -> Json:
    """The JSON Schema of the arguments of a tool."""
    if tool["type"] == "custom":
        return _free_text(tool.get("format") or {})
    return tool.get("parameters") or {"type": "object", "properties": {}}


def _free_text(text_format: Json) -> Json:
    described = "The whole input of the tool, as plain text."
    if text_format.get("type") == "grammar":
        syntax = {"lark": "Lark grammar", "regex": "regular expression"}[text_format["syntax"]]
        described += f" It must match this {syntax}:\n{text_format['definition']}"
    return {
        "type": "object",
        "properties": {"input": {"type": "string", "description": described}},
        "required": ["input"],
        "additionalProperties": False,
    }


def _key(tool: Json) -> tuple[str, str | None]:
    return tool["type"], tool.get("name")
