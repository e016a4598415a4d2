"""The nested objects of a request, as App. A of the spec has them. Closed: unknown keys are errors.

Rules
1. What is validated stays a plain dict: a shape is only a description.
2. Every key of an optional object is optional, and null is the same as absent.
"""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import Field, StringConstraints, with_config
from typing_extensions import TypedDict

from antiphon.protocol.fields import (
    CLOSED,
    MAX_INT,
    MAX_NAME,
    NAME_PATTERN,
    NO_NUL_PATTERN,
    Id,
    Name,
    Text,
    by_kind,
    by_type,
)
from antiphon.protocol.hosted_tools import Effort
from antiphon.protocol.items.content import INPUT_PARTS

Json: TypeAlias = dict[str, Any]
FormatName: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=NAME_PATTERN)
]


@with_config(CLOSED)
class Conversation(TypedDict):
    """A conversation by id."""

    id: Id


Variable: TypeAlias = Annotated[
    Any, by_kind(string=Text, object=Annotated[Json, by_type(INPUT_PARTS)])
]


@with_config(CLOSED)
class Prompt(TypedDict):
    """A stored prompt template."""

    id: Id
    version: NotRequired[Name | None]
    variables: NotRequired[Annotated[dict[str, Variable], Field(fail_fast=True)] | None]


@with_config(CLOSED)
class ModerationMode(TypedDict):
    """What happens to flagged content."""

    mode: Literal["score", "block"]


@with_config(CLOSED)
class ModerationPolicy(TypedDict, total=False):
    """Both directions."""

    input: ModerationMode | None
    output: ModerationMode | None


@with_config(CLOSED)
class Moderation(TypedDict):
    """Moderation beside the response."""

    model: Name
    policy: NotRequired[ModerationPolicy | None]


@with_config(CLOSED)
class TextFormat(TypedDict):
    """Plain text."""

    type: Literal["text"]


@with_config(CLOSED)
class JsonObjectFormat(TypedDict):
    """Any JSON object."""

    type: Literal["json_object"]


@with_config(CLOSED)
class JsonSchemaFormat(TypedDict):
    """JSON that a schema describes (spec §8)."""

    type: Literal["json_schema"]
    name: FormatName
    schema: Json
    description: NotRequired[Text | None]
    strict: NotRequired[bool | None]


@with_config(CLOSED)
class TextConfig(TypedDict, total=False):
    """What the text looks like."""

    format: (
        Annotated[
            Json,
            by_type(
                {
                    "json_object": JsonObjectFormat,
                    "json_schema": JsonSchemaFormat,
                    "text": TextFormat,
                }
            ),
        ]
        | None
    )
    verbosity: Literal["low", "medium", "high"] | None


@with_config(CLOSED)
class Reasoning(TypedDict, total=False):
    """How the model thinks."""

    effort: Effort | None
    summary: Literal["concise", "detailed", "auto"] | None
    generate_summary: Literal["concise", "detailed", "auto"] | None
    context: Literal["auto", "current_turn", "all_turns"] | None
    mode: Literal["standard", "pro"] | None


@with_config(CLOSED)
class StreamOptions(TypedDict, total=False):
    """How the stream looks."""

    include_obfuscation: bool | None


@with_config(CLOSED)
class BackgroundOptions(TypedDict, total=False):
    """When a background response must be ready."""

    completion_window: Literal["soonest", "2h", "8h"] | None
    continuation_id: Name | None


@with_config(CLOSED)
class PromptCacheOptions(TypedDict, total=False):
    """How the prompt is cached."""

    mode: Literal["implicit", "explicit"] | None
    ttl: Literal["30m", "12h"] | None
    prewarm: bool | None
    comparison_response_id: Id | None


@with_config(CLOSED)
class ContextManagement(TypedDict):
    """When the server compacts the context."""

    type: Literal["compaction"]
    compact_threshold: NotRequired[Annotated[int, Field(ge=1000, le=MAX_INT)] | None]


@with_config(CLOSED)
class Image(TypedDict, total=False):
    """How images are kept in the context."""

    context_compression: Literal["auto", "enabled", "disabled"] | None


@with_config(CLOSED)
class AccessPrograms(TypedDict, total=False):
    """Programs that the caller takes part in."""

    cyber: Literal["standard", "daybreak_blue", "daybreak_red"] | None


Includable: TypeAlias = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
ServiceTier: TypeAlias = Literal[
    "auto", "default", "fast", "flex", "priority", "scale", "ultrafast"
]
MetadataKey: TypeAlias = Annotated[str, StringConstraints(max_length=64, pattern=NO_NUL_PATTERN)]
MetadataValue: TypeAlias = Annotated[str, StringConstraints(max_length=512)]
Metadata: TypeAlias = Annotated[
    dict[MetadataKey, MetadataValue], Field(max_length=16, fail_fast=True)
]
#: What the caller writes down for itself.
Label: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_NAME)]
