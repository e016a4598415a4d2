"""Tools and tool choices of a request (spec §1.2, App. D). Closed: unknown keys are errors.

Rules
1. The shape of every tool that OpenAI knows is checked here; whether this server or the chosen
   backend can run it is the engine's question.
2. The JSON Schemas inside (`parameters`, `schema`) are checked elsewhere: here they are objects.
"""

from typing import Annotated, Any, Final, Literal, NotRequired, TypeAlias

from pydantic import Field, StringConstraints, with_config
from typing_extensions import TypedDict

from antiphon.protocol import hosted_tools as hosted
from antiphon.protocol.fields import (
    CLOSED,
    LENIENT,
    Name,
    Text,
    ToolName,
    by_kind,
    by_type,
)
from antiphon.protocol.items.content import exactly_one

Json: TypeAlias = dict[str, Any]
#: A grammar of a custom tool (reliability R-13: user schemas and grammars ≤ 64 KiB).
Grammar: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=65_536)]


#: `async` is a keyword of Python, hence the other syntax.
_Async = TypedDict("_Async", {"async": NotRequired[bool | None]})


# -- functions and custom tools ------------------------------------------------------------------


@with_config(CLOSED)
class FunctionTool(hosted.ProgramCallable, _Async):
    """A function of the client. `parameters` is a JSON Schema."""

    type: Literal["function"]
    name: ToolName
    description: NotRequired[Text | None]
    parameters: NotRequired[Json | None]
    strict: NotRequired[bool | None]
    defer_loading: NotRequired[bool | None]
    output_schema: NotRequired[Json | None]


@with_config(CLOSED)
class TextFormat(TypedDict):
    """Free text."""

    type: Literal["text"]


@with_config(CLOSED)
class GrammarFormat(TypedDict):
    """Text that a grammar describes."""

    type: Literal["grammar"]
    syntax: Literal["lark", "regex"]
    definition: Grammar


@with_config(CLOSED)
class CustomTool(hosted.ProgramCallable, _Async):
    """A tool of the client that takes free text."""

    type: Literal["custom"]
    name: ToolName
    description: NotRequired[Text | None]
    format: NotRequired[
        Annotated[Json, by_type({"text": TextFormat, "grammar": GrammarFormat})] | None
    ]
    defer_loading: NotRequired[bool | None]


@with_config(CLOSED)
class NamespaceTool(TypedDict):
    """A named group of tools."""

    type: Literal["namespace"]
    name: ToolName
    description: Text
    tools: Annotated[
        list[Annotated[Json, by_type({"function": FunctionTool, "custom": CustomTool})]],
        Field(min_length=1, max_length=128, fail_fast=True),
    ]


_MCP_SOURCES = exactly_one("server_url", "connector_id", "tunnel_id")

Tool: TypeAlias = Annotated[
    Json,
    by_type(
        {
            "function": FunctionTool,
            "custom": CustomTool,
            "namespace": NamespaceTool,
            "file_search": hosted.FileSearchTool,
            "web_search": hosted.WebSearchTool,
            "web_search_2025_08_26": hosted.WebSearchTool,
            "web_search_preview": hosted.WebSearchPreviewTool,
            "web_search_preview_2025_03_11": hosted.WebSearchPreviewTool,
            "mcp": Annotated[
                hosted.McpTool, exactly_one("server_url", "connector_id", "tunnel_id")
            ],
            "code_interpreter": hosted.CodeInterpreterTool,
            "image_generation": hosted.ImageGenerationTool,
            "computer": hosted.ComputerTool,
            "computer_use_preview": hosted.ComputerUsePreviewTool,
            "shell": hosted.ShellTool,
            "local_shell": hosted.LocalShellTool,
            "apply_patch": hosted.ApplyPatchTool,
            "tool_search": hosted.ToolSearchTool,
            "programmatic_tool_calling": hosted.ProgrammaticTool,
        }
    ),
]


# -- tool_choice ---------------------------------------------------------------------------------


@with_config(CLOSED)
class ChosenFunction(TypedDict):
    """This function."""

    type: Literal["function"]
    name: ToolName


@with_config(CLOSED)
class ChosenCustom(TypedDict):
    """This custom tool."""

    type: Literal["custom"]
    name: ToolName


@with_config(CLOSED)
class ChosenMcp(TypedDict):
    """This MCP server, or one tool of it."""

    type: Literal["mcp"]
    server_label: Name
    name: NotRequired[Name | None]


@with_config(CLOSED)
class ChosenType(TypedDict):
    """A tool that its type names."""

    type: str


@with_config(LENIENT)
class AllowedTool(TypedDict):
    """One of the allowed tools: its type, and the name or label that tells it apart."""

    type: Name
    name: NotRequired[Name | None]
    server_label: NotRequired[Name | None]


@with_config(CLOSED)
class AllowedTools(TypedDict):
    """Only these."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Field(min_length=1, max_length=128, fail_fast=True)]


#: Types that name a tool, each with the types in `tools` that it may mean.
CHOICE_TYPES: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(
        ("web_search", "web_search_2025_08_26"),
        frozenset({"web_search", "web_search_2025_08_26"}),
    ),
    **dict.fromkeys(
        ("web_search_preview", "web_search_preview_2025_03_11"),
        frozenset({"web_search_preview", "web_search_preview_2025_03_11"}),
    ),
    **dict.fromkeys(
        ("computer", "computer_use", "computer_use_preview"),
        frozenset({"computer", "computer_use_preview"}),
    ),
    **{
        type_: frozenset({type_})
        for type_ in (
            "file_search",
            "image_generation",
            "code_interpreter",
            "apply_patch",
            "shell",
            "local_shell",
            "programmatic_tool_calling",
        )
    },
}

ToolChoice: TypeAlias = Annotated[
    Any,
    by_kind(
        object=Annotated[
            Json,
            by_type(
                {
                    "allowed_tools": AllowedTools,
                    "function": ChosenFunction,
                    "custom": ChosenCustom,
                    "mcp": ChosenMcp,
                    **dict.fromkeys(CHOICE_TYPES, ChosenType),
                }
            ),
        ],
        string=Literal["none", "auto", "required"],
    ),
]
