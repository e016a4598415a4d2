"""The rows of `parameter_table` for tools, every form of tool_choice, and the parts of an input."""

from collections.abc import Mapping
from typing import Any, Final

from tests.api.parameter_table import Row
from tests.api.talk import ABSENT, Json

_PARAMETERS: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_OPEN: Final = {"type": "object", "properties": {"city": {"type": "string"}}}
_F: Final = {"type": "function", "name": "f", "parameters": _PARAMETERS}
_G: Final = {"type": "function", "name": "g"}
_C: Final = {"type": "custom", "name": "c"}
_FUNCTION_F: Final = {"type": "function", "function": {"name": "f"}}
_GRAMMAR: Final = {"type": "grammar", "syntax": "regex", "definition": "a+"}
_MARK: Final = {"prompt_cache_breakpoint": {"mode": "explicit"}}
_TOLD: Final = "The whole input of the tool, as plain text."
_GRAMMAR_TOLD: Final = f"{_TOLD} It must match this regular expression:\na+"


def _described(description: str) -> Json:
    """The parameters of a function that stands for a custom tool."""
    return {
        "type": "object",
        "properties": {"input": {"type": "string", "description": description}},
        "required": ["input"],
        "additionalProperties": False,
    }


def _function(name: str, sent: Json, got: Mapping[str, Any], echo: Mapping[str, Any]) -> Row:
    return Row(
        f"tools function {name}",
        {"tools": [{"type": "function", "name": "f", **sent}]},
        {f"tools.0.function.{key}": value for key, value in got.items()},
        {f"tools.0.{key}": value for key, value in echo.items()},
    )


def _tool_hint(key: str, value: Any) -> Row:
    return Row(
        f"tools function {key}",
        {"tools": [{**_F, key: value}]},
        {f"tools.0.function.{key}": ABSENT},
        {f"tools.0.{key}": value},
        (f"tools[0].{key}",),
    )


def _hosted(type_: str, **keys: Any) -> Row:
    """R: a hosted tool that has no runner here is a 400 in OpenAI's words (spec §1.2)."""
    return Row(f"tools {type_}", {"tools": [{"type": type_, **keys}]}, error=(400, None, "tools"))


def _mcp_refused(key: str, value: str, code: str = "invalid_value") -> Row:
    """What a server is that this one does not know, or may not ask."""
    tool = {"type": "mcp", "server_label": "s", key: value}
    return Row(f"tools mcp {key}", {"tools": [tool]}, error=(400, code, f"tools[0].{key}"))


def _client(type_: str, **keys: Any) -> Row:
    """A tool of the client: a function for the model."""
    tool = {"type": type_, **keys}
    filled = {"description": None, "parameters": None} if type_ == "tool_search" else {}
    return Row(
        f"tools {type_} {keys}",
        {"tools": [tool]},
        {"tools.0.function.name": type_},
        {"tools.0": {**filled, **tool}},
    )


TOOLS: Final = [
    _function("name", {}, {"name": "f"}, {"name": "f", "description": None, "parameters": None}),
    _function("description", {"description": "D"}, {"description": "D"}, {"description": "D"}),
    _function("parameters", {"parameters": _OPEN}, {"parameters": _OPEN}, {"parameters": _OPEN}),
    _function(
        "strict",
        {"parameters": _PARAMETERS, "strict": True},
        {"strict": True, "parameters": _PARAMETERS},
        {"strict": True},
    ),
    _function(
        "strict off",
        {"parameters": _PARAMETERS, "strict": False},
        {"strict": False},
        {"strict": False},
    ),
    _function("strict omitted, strict schema", {"parameters": _PARAMETERS}, {}, {"strict": True}),
    _function("strict omitted, open schema", {"parameters": _OPEN}, {}, {"strict": False}),
    _tool_hint("async", True),
    _tool_hint("defer_loading", True),
    _tool_hint("output_schema", {"type": "object"}),
    _tool_hint("allowed_callers", ["direct"]),
    Row(
        "tools custom",
        {"tools": [{**_C, "description": "D", "format": {"type": "text"}}]},
        {"tools.0.function": {"name": "c", "description": "D", "parameters": _described(_TOLD)}},
        {"tools.0": {**_C, "description": "D", "format": {"type": "text"}}},
    ),
    Row(
        "tools custom with a grammar",
        {"tools": [{**_C, "format": _GRAMMAR}]},
        {"tools.0.function": {"name": "c", "parameters": _described(_GRAMMAR_TOLD)}},
        {"tools.0.format": _GRAMMAR},
    ),
    Row(
        "tools custom with a grammar to openai",
        {"model": "openai", "tools": [{**_C, "format": _GRAMMAR}]},
        {
            "tools.0.custom": {
                "name": "c",
                "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}},
            }
        },
        {"tools.0.format": _GRAMMAR},
    ),
    Row(
        "tools custom with a grammar to the simulator",
        {"model": "simulator", "tools": [{**_C, "format": _GRAMMAR}], "tool_choice": "required"},
        echo={"tools.0.format": _GRAMMAR, "output.0.input": "a"},
    ),
    Row(
        "tools custom with a broken grammar",
        {"tools": [{**_C, "format": {**_GRAMMAR, "definition": "(a"}}]},
        error=(400, "invalid_value", "tools[0].format.definition"),
    ),
    Row("tools two of a name", {"tools": [_F, _F]}, error=(400, "invalid_value", "tools[1].name")),
    Row(
        "tools file_search without such a store",
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        error=(404, None, "tools[0].vector_store_ids[0]"),
    ),
    _hosted("web_search"),
    _hosted("web_search_2025_08_26"),
    _hosted("web_search_preview"),
    _hosted("web_search_preview_2025_03_11"),
    Row(
        "tools web_search offline",
        {"tools": [{"type": "web_search", "external_web_access": False}]},
        {"tools.0.function.name": "web_search", "tools.1.function.name": "open_page"},
        {
            "tools.0": {
                "type": "web_search",
                "external_web_access": False,
                "filters": None,
                "search_context_size": "medium",
                "user_location": None,
            }
        },
    ),
    _mcp_refused("connector_id", "nobody"),
    _mcp_refused("tunnel_id", "tunnel_1", "unsupported_parameter"),
    _mcp_refused("server_url", "http://127.0.0.1:9/mcp"),
    _hosted("code_interpreter", container={"type": "auto"}),
    _hosted("image_generation"),
    _hosted("computer"),
    _hosted("computer_use_preview", display_width=8, display_height=8, environment="linux"),
    Row(
        "tools shell in a container",
        {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]},
        error=(400, None, "tools[0].environment"),
    ),
    _client("shell"),
    _client("shell", environment={"type": "local"}),
    _client("local_shell"),
    _client("apply_patch"),
    _client("tool_search"),
    _client("tool_search", execution="client"),
    _hosted("programmatic_tool_calling"),
    Row(
        "tools namespace",
        {"tools": [{"type": "namespace", "name": "n", "description": "D", "tools": [_F]}]},
        {"tools.0.function.name": "f", "tools.0.function.description": "[n: D]"},
        {
            "tools.0": {
                "type": "namespace",
                "name": "n",
                "description": "D",
                "tools": [{**_F, "strict": True}],
            }
        },
    ),
    Row(
        "tools in the input",
        {
            "input": [
                {"type": "additional_tools", "role": "developer", "tools": [_F]},
                {"role": "user", "content": "Hi"},
            ],
            "tool_choice": {"type": "function", "name": "f"},
        },
        {"tools.0.function.name": "f", "tool_choice": _FUNCTION_F},
    ),
    Row(
        "tools in the input that must stand in tools",
        {
            "input": [
                {"type": "additional_tools", "role": "developer", "tools": [{"type": "mcp"}]},
                {"role": "user", "content": "Hi"},
            ],
        },
        {"tools": ABSENT},
        ignored=("input[0].tools",),
    ),
    Row(
        "tools broken in the input",
        {
            "input": [
                {"type": "additional_tools", "role": "developer", "tools": [{**_F, "name": 1}]}
            ]
        },
        error=(400, "invalid_type", "input[0].tools[0].name"),
    ),
]


def _choice(choice: Any, got: Any, *, model: str = "plain", name: str = "") -> Row:
    return Row(
        f"tool_choice {name or choice} to {model}",
        {"model": model, "tools": [_F, _G, _C], "tool_choice": choice},
        {"tool_choice": got, f"tools.2.{'custom' if model == 'openai' else 'function'}.name": "c"},
        {"tool_choice": choice},
    )


def _choice_alone(choice: Any, name: str) -> Row:
    return Row(
        f"tool_choice {name} alone",
        {"tools": [_F], "tool_choice": choice},
        error=(400, None, "tool_choice"),
    )


_ALLOWED: Final = {
    "type": "allowed_tools",
    "mode": "required",
    "tools": [{"type": "function", "name": "f"}],
}

CHOICES: Final = [
    Row("tool_choice default", {"tools": [_F]}, {"tool_choice": ABSENT}, {"tool_choice": "auto"}),
    _choice("none", "none"),
    _choice("auto", "auto"),
    _choice("required", "required"),
    _choice({"type": "function", "name": "f"}, _FUNCTION_F, name="function"),
    _choice(
        {"type": "custom", "name": "c"},
        {"type": "function", "function": {"name": "c"}},
        name="custom",
    ),
    _choice(
        {"type": "custom", "name": "c"},
        {"type": "custom", "custom": {"name": "c"}},
        model="openai",
        name="custom",
    ),
    _choice(
        _ALLOWED,
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [_FUNCTION_F]}},
        model="openai",
        name="allowed_tools",
    ),
    Row(
        "tool_choice allowed_tools to plain",  # the others are left out: it cannot be told
        {"tools": [_F, _G], "tool_choice": _ALLOWED},
        {"tool_choice": "required", "tools.0.function.name": "f", "tools.1": ABSENT},
        {"tool_choice": _ALLOWED, "tools.1.name": "g"},
    ),
    Row(
        "tool_choice to ollama",
        {"model": "ollama", "tools": [_F, _G], "tool_choice": "required"},
        {"tool_choice": ABSENT, "tools.1.function.name": "g"},
        {"tool_choice": "required"},
        ("tool_choice",),
    ),
    Row(
        "tool_choice none to ollama",
        {"model": "ollama", "tools": [_F], "tool_choice": "none"},
        {"tools": ABSENT},
        {"tool_choice": "none"},
    ),
    Row(
        "tool_choice required alone", {"tool_choice": "required"}, error=(400, None, "tool_choice")
    ),
    _choice_alone({"type": "function", "name": "h"}, "function"),
    _choice_alone({"type": "custom", "name": "h"}, "custom"),
    _choice_alone({"type": "mcp", "server_label": "s", "name": "x"}, "mcp"),
    _choice_alone({**_ALLOWED, "tools": [{"type": "function", "name": "h"}]}, "allowed_tools"),
    *(
        _choice_alone({"type": type_}, type_)
        for type_ in (
            "file_search",
            "web_search",
            "web_search_2025_08_26",
            "web_search_preview",
            "web_search_preview_2025_03_11",
            "computer",
            "computer_use",
            "computer_use_preview",
            "image_generation",
            "code_interpreter",
            "apply_patch",
            "shell",
            "local_shell",
            "programmatic_tool_calling",
        )
    ),
    Row(
        "parallel_tool_calls",
        {"tools": [_F], "parallel_tool_calls": False},
        {"parallel_tool_calls": False},
        {"parallel_tool_calls": False},
    ),
    Row(
        "parallel_tool_calls on",
        {"tools": [_F], "parallel_tool_calls": True},
        {"parallel_tool_calls": True},
        {"parallel_tool_calls": True},
    ),
    Row("parallel_tool_calls default", {}, echo={"parallel_tool_calls": True}),
    Row(
        "parallel_tool_calls to ollama",
        {"model": "ollama", "tools": [_F], "parallel_tool_calls": False},
        {"parallel_tool_calls": ABSENT},
        {"parallel_tool_calls": False},
        ("parallel_tool_calls",),
    ),
]


def _part(name: str, part: Json, got: Json | str) -> Row:
    """`got`: what the upstream gets of it; a text is one with that before it."""
    text = {"type": "input_text", "text": "What is it?"}
    said = [{"type": "text", "text": "What is it?"}, got]
    return Row(
        f"input part {name}",
        {"input": [{"role": "user", "content": [text, part]}]},
        {"messages.0.content": f"What is it?\n{got}" if isinstance(got, str) else said},
    )


def _no_part(name: str, part: Json, status: int) -> Row:
    """Of no file, or at no address that can be asked."""
    (key,) = part.keys() - {"type"}
    return Row(
        f"input part {name}",
        {"input": [{"role": "user", "content": [part]}]},
        error=(status, None, f"input[0].content[0].{key}"),
    )


_PNG: Final = "data:image/png;base64,iVBORw0KGgo="
_TEXT: Final = "data:text/plain;base64,SGVsbG8="

PARTS: Final = [
    _part(
        "image url",
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "auto"}},
    ),
    _part(
        "image data",
        {"type": "input_image", "image_url": _PNG, "detail": "low"},
        {"type": "image_url", "image_url": {"url": _PNG, "detail": "low"}},
    ),
    _part(
        "file data",
        {"type": "input_file", "filename": "a.txt", "file_data": _TEXT},
        "File a.txt:\nHello",
    ),
    _part(
        "audio",
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ),
    _no_part("image by id", {"type": "input_image", "file_id": "file-1"}, 404),
    _no_part("file by id", {"type": "input_file", "file_id": "file-1"}, 404),
    _no_part("file by url", {"type": "input_file", "file_url": "http://127.0.0.1:1/"}, 400),
    Row(
        "settings among the items",
        {
            "input": [
                {"role": "user", "content": "Hi"},
                {"type": "configuration_update", "reasoning": {"effort": "low"}},
                {"type": "configuration_update", "text": {"format": {"type": "text"}}},
            ]
        },
        echo={"reasoning.effort": None},
        ignored=("input[1].reasoning", "input[2].text"),
    ),
    Row(
        "marks for a prompt cache",
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Hi", **_MARK}]},
                {"role": "user", "content": "Hi", "output": ["of no type"]},
                {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
                {
                    "type": "function_call_output",
                    "call_id": "call_1",
                    "output": [{"type": "input_text", "text": "Hi", **_MARK}],
                },
            ]
        },
        ignored=("prompt_cache_breakpoint",),
    ),
    Row(
        "input call and output",
        {
            "input": [
                {"role": "user", "content": "Weather?"},
                {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "Sun"},
            ]
        },
        {
            "messages.1.tool_calls.0.function": {"name": "f", "arguments": "{}"},
            "messages.2": {"role": "tool", "tool_call_id": "call_1", "content": "Sun"},
        },
    ),
    Row(
        "input output without call",
        {"input": [{"type": "function_call_output", "call_id": "call_1", "output": "Sun"}]},
        error=(400, None, "input"),
    ),
    Row(
        "input call without output",
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]},
        error=(400, None, "input"),
    ),
    Row(
        "input item_reference unknown",
        {"input": [{"type": "item_reference", "id": "msg_" + "0" * 48}]},
        error=(404, None, "input"),
    ),
]
