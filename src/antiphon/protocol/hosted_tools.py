"""Hosted and built-in tools of a request: their shapes (spec §1.2, App. D).

Rules
1. Closed: unknown keys are errors.
2. What a shape holds is what OpenAI documents; running it is the engine's matter.
"""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from antiphon.protocol.fields import (
    CLOSED,
    MAX_FILE_DATA,
    MAX_LIST,
    ForeignId,
    ImageUrl,
    Many,
    Name,
    Number,
    Strings,
    Text,
    Url,
    by_kind,
    by_type,
)
from antiphon.protocol.file_search import MOST_RESULTS, MOST_STORES
from antiphon.protocol.filters import Filter

Json: TypeAlias = dict[str, Any]
Names: TypeAlias = Annotated[list[Name], Field(max_length=MAX_LIST, fail_fast=True)]
Domains: TypeAlias = Annotated[list[Name], Field(max_length=100, fail_fast=True)]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
MemoryLimit: TypeAlias = Literal["1g", "4g", "16g", "64g"]
FileIds: TypeAlias = Annotated[list[ForeignId], Field(max_length=50, fail_fast=True)]


@with_config(CLOSED)
class ProgramCallable(TypedDict):
    """A tool that programs may call too."""

    allowed_callers: NotRequired[Many[Literal["direct", "programmatic"]] | None]


# -- retrieval and web ---------------------------------------------------------------------------


@with_config(CLOSED)
class SearchWeights(TypedDict):
    """What vectors and words count."""

    embedding_weight: Annotated[Number, Field(ge=0)]
    text_weight: Annotated[Number, Field(ge=0)]


def _weighty(weights: SearchWeights) -> SearchWeights:
    if not (weights["embedding_weight"] or weights["text_weight"]):
        expected = "a weight above 0 for at least one of the two searches"
        raise PydanticCustomError("expected", "no weight", {"expected": expected})
    return weights


HybridSearch: TypeAlias = Annotated[SearchWeights, AfterValidator(_weighty)]


@with_config(CLOSED)
class RankingOptions(TypedDict, total=False):
    """How results are ranked."""

    ranker: Literal["auto", "default-2024-11-15", "none"] | None
    score_threshold: Annotated[Number, Field(ge=0, le=1)] | None
    hybrid_search: HybridSearch | None


@with_config(CLOSED)
class FileSearchTool(TypedDict):
    """Search in vector stores."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[
        list[ForeignId], Field(min_length=1, max_length=MOST_STORES, fail_fast=True)
    ]
    max_num_results: NotRequired[Annotated[int, Field(ge=1, le=MOST_RESULTS)] | None]
    filters: NotRequired[Filter | None]
    ranking_options: NotRequired[RankingOptions | None]


@with_config(CLOSED)
class UserLocation(TypedDict, total=False):
    """Roughly where the user is."""

    type: Literal["approximate"] | None
    city: Name | None
    country: Name | None
    region: Name | None
    timezone: Name | None


@with_config(CLOSED)
class WebSearchFilters(TypedDict, total=False):
    """Domains to search in or to leave out."""

    allowed_domains: Domains | None
    blocked_domains: Domains | None


@with_config(CLOSED)
class WebSearchTool(TypedDict):
    """Search in the web."""

    type: Literal["web_search", "web_search_2025_08_26"]
    filters: NotRequired[WebSearchFilters | None]
    search_context_size: NotRequired[Literal["low", "medium", "high"] | None]
    user_location: NotRequired[UserLocation | None]
    external_web_access: NotRequired[bool | None]
    return_token_budget: NotRequired[Literal["default", "unlimited"] | None]
    #: Only the preview has it on paper, but Codex sends it with the current name.
    search_content_types: NotRequired[Many[Literal["text", "image"]] | None]
    #: The Agents SDK has it.
    image_settings: NotRequired[Json | None]


@with_config(CLOSED)
class WebSearchPreviewTool(TypedDict):
    """Search in the web, under its old name."""

    type: Literal["web_search_preview", "web_search_preview_2025_03_11"]
    search_context_size: NotRequired[Literal["low", "medium", "high"] | None]
    user_location: NotRequired[UserLocation | None]
    search_content_types: NotRequired[Many[Literal["text", "image"]] | None]


# -- MCP -----------------------------------------------------------------------------------------


@with_config(CLOSED)
class McpToolFilter(TypedDict, total=False):
    """Some tools of an MCP server."""

    tool_names: Names | None
    read_only: bool | None


@with_config(CLOSED)
class McpApprovalFilter(TypedDict, total=False):
    """Which tools need the user's consent."""

    always: McpToolFilter | None
    never: McpToolFilter | None


@with_config(CLOSED)
class McpTool(ProgramCallable):
    """A remote MCP server."""

    type: Literal["mcp"]
    server_label: Name
    server_url: NotRequired[Url | None]
    connector_id: NotRequired[Name | None]
    tunnel_id: NotRequired[Name | None]
    authorization: NotRequired[Text | None]
    headers: NotRequired[Strings | None]
    allowed_tools: NotRequired[Annotated[Any, by_kind(array=Names, object=McpToolFilter)] | None]
    require_approval: NotRequired[
        Annotated[Any, by_kind(object=McpApprovalFilter, string=Literal["always", "never"])] | None
    ]
    server_description: NotRequired[Text | None]
    defer_loading: NotRequired[bool | None]


# -- containers ----------------------------------------------------------------------------------


@with_config(CLOSED)
class DomainSecret(TypedDict):
    """A secret that goes to one domain only."""

    domain: Name
    name: Name
    value: Text


@with_config(CLOSED)
class NetworkDisabled(TypedDict):
    """No network."""

    type: Literal["disabled"]


@with_config(CLOSED)
class NetworkAllowlist(TypedDict):
    """Some domains."""

    type: Literal["allowlist"]
    allowed_domains: Domains
    domain_secrets: NotRequired[Many[DomainSecret] | None]


NetworkPolicy: TypeAlias = Annotated[
    Json, by_type({"disabled": NetworkDisabled, "allowlist": NetworkAllowlist})
]


@with_config(CLOSED)
class AutoContainer(TypedDict):
    """A container that the server picks or creates."""

    type: Literal["auto"]
    file_ids: NotRequired[FileIds | None]
    memory_limit: NotRequired[MemoryLimit | None]
    network_policy: NotRequired[NetworkPolicy | None]


@with_config(CLOSED)
class CodeInterpreterTool(ProgramCallable):
    """Python in a container."""

    type: Literal["code_interpreter"]
    container: Annotated[Any, by_kind(string=ForeignId, object=AutoContainer)]


@with_config(CLOSED)
class SkillReference(TypedDict):
    """A stored skill."""

    type: Literal["skill_reference"]
    skill_id: ForeignId
    version: NotRequired[Name | None]


@with_config(CLOSED)
class InlineSource(TypedDict):
    """A zip archive as base64."""

    type: Literal["base64"]
    media_type: Literal["application/zip"]
    data: Annotated[str, StringConstraints(min_length=1, max_length=MAX_FILE_DATA)]


@with_config(CLOSED)
class InlineSkill(TypedDict):
    """A skill inside the request."""

    type: Literal["inline"]
    name: Name
    description: Text
    source: InlineSource


@with_config(CLOSED)
class LocalSkill(TypedDict):
    """A skill on the client's disk."""

    name: Name
    description: Text
    path: Annotated[str, StringConstraints(min_length=1, max_length=4_096)]


@with_config(CLOSED)
class ContainerAuto(TypedDict):
    """A container of the server."""

    type: Literal["container_auto"]
    file_ids: NotRequired[FileIds | None]
    memory_limit: NotRequired[MemoryLimit | None]
    network_policy: NotRequired[NetworkPolicy | None]
    skills: NotRequired[
        Annotated[
            list[
                Annotated[Json, by_type({"skill_reference": SkillReference, "inline": InlineSkill})]
            ],
            Field(max_length=200, fail_fast=True),
        ]
        | None
    ]


@with_config(CLOSED)
class ContainerReference(TypedDict):
    """An existing container."""

    type: Literal["container_reference"]
    container_id: ForeignId


@with_config(CLOSED)
class LocalEnvironment(TypedDict):
    """The client's machine."""

    type: Literal["local"]
    skills: NotRequired[Annotated[list[LocalSkill], Field(max_length=200, fail_fast=True)] | None]


@with_config(CLOSED)
class ShellTool(ProgramCallable):
    """A shell."""

    type: Literal["shell"]
    environment: NotRequired[
        Annotated[
            Json,
            by_type(
                {
                    "container_auto": ContainerAuto,
                    "local": LocalEnvironment,
                    "container_reference": ContainerReference,
                }
            ),
        ]
        | None
    ]


@with_config(CLOSED)
class LocalShellTool(TypedDict):
    """A shell on the client's machine, the old kind."""

    type: Literal["local_shell"]


@with_config(CLOSED)
class ApplyPatchTool(ProgramCallable):
    """Patches of files."""

    type: Literal["apply_patch"]


# -- images, computers, the rest -----------------------------------------------------------------


@with_config(CLOSED)
class ImageMask(TypedDict, total=False):
    """What may change in an image."""

    file_id: ForeignId | None
    image_url: ImageUrl | None


@with_config(CLOSED)
class SvgReasoning(TypedDict, total=False):
    """How much thought goes into a drawing."""

    effort: Effort | None


@with_config(CLOSED)
class Svg(TypedDict, total=False):
    """Vector drawings."""

    model: Name | None
    reasoning: SvgReasoning | None


_Milliseconds: TypeAlias = Annotated[int, Field(ge=1, le=600_000)]


@with_config(CLOSED)
class ImageGenerationTool(TypedDict):
    """Pictures."""

    type: Literal["image_generation"]
    action: NotRequired[Literal["generate", "edit", "auto"] | None]
    background: NotRequired[Literal["transparent", "opaque", "auto"] | None]
    complexity: NotRequired[Literal["low", "medium", "high"] | None]
    frame_count: NotRequired[Annotated[int, Field(ge=1, le=MAX_LIST)] | None]
    frame_duration_ms: NotRequired[_Milliseconds | None]
    input_fidelity: NotRequired[Literal["high", "low"] | None]
    input_image_mask: NotRequired[ImageMask | None]
    model: NotRequired[Name | None]
    moderation: NotRequired[Literal["auto", "low"] | None]
    output_compression: NotRequired[Annotated[int, Field(ge=0, le=100)] | None]
    output_format: NotRequired[Literal["png", "webp", "jpeg", "gif", "svg"] | None]
    partial_images: NotRequired[Annotated[int, Field(ge=0, le=3)] | None]
    quality: NotRequired[Literal["low", "medium", "high", "xhigh", "max", "auto"] | None]
    size: NotRequired[Name | None]
    svg: NotRequired[Svg | None]


@with_config(CLOSED)
class ComputerTool(TypedDict):
    """A computer that the client drives."""

    type: Literal["computer"]


@with_config(CLOSED)
class ComputerUsePreviewTool(TypedDict):
    """A computer, under its old name."""

    type: Literal["computer_use_preview"]
    display_height: Annotated[int, Field(ge=1, le=100_000)]
    display_width: Annotated[int, Field(ge=1, le=100_000)]
    environment: Literal["windows", "mac", "linux", "ubuntu", "browser"]


@with_config(CLOSED)
class ToolSearchTool(TypedDict):
    """Lets the model look for deferred tools."""

    type: Literal["tool_search"]
    execution: NotRequired[Literal["server", "client"] | None]
    description: NotRequired[Text | None]
    parameters: NotRequired[Json | None]


@with_config(CLOSED)
class ProgrammaticTool(TypedDict):
    """Lets the model call tools from programs."""

    type: Literal["programmatic_tool_calling"]
