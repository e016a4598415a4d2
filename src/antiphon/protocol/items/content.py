"""Content parts of messages and of tool outputs (spec App. B, C; §3.4).

Rules
1. Every part type is accepted in every role: clients send ``output_text`` back in all kinds of
   places (lessons §1, rule 10). Backends read the text of a part whatever its name.
2. A part has one source: exactly one of its url, id and inline forms.
3. Null is the same as absent. What comes back from here has no nulls: a strict client would refuse
   them (spec §10.2).
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NotRequired, TypeAlias

from pydantic import AfterValidator, StringConstraints, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from antiphon.protocol.fields import (
    LENIENT,
    MAX_FILE_DATA,
    ForeignId,
    ImageUrl,
    Many,
    Name,
    Text,
    Url,
    by_kind,
    by_type,
)

Json: TypeAlias = dict[str, Any]


#: Items that hold parts, and where.
PARTS_IN: Final[Mapping[str, str]] = {
    "message": "content",
    "function_call_output": "output",
    "custom_tool_call_output": "output",
}


class Filled(dict[str, Any]):
    """A part with what the model sees of it: the content of a file that has a name or an address
    here. No JSON makes one, and none shows what it has more. `held`: what has to live as long."""

    __slots__ = ("held", "seen")

    def __init__(self, part: Json, seen: Json, held: object = None) -> None:
        super().__init__(part)
        self.seen = seen
        self.held = held


def seen_of(part: Json) -> Json:
    """What the model sees of a part."""
    return part.seen if isinstance(part, Filled) else part


def without_nulls(objects: list[Json]) -> list[Json]:
    """The same list; objects with nulls in it gave way to copies without."""
    for index, one in enumerate(objects):
        if None in one.values():
            objects[index] = {key: value for key, value in one.items() if value is not None}
    return objects


def exactly_one(*names: str) -> AfterValidator:
    """A rule for an object: one and only one of `names` is there and not null."""
    return AfterValidator(_exactly_one(names))


def _exactly_one(names: tuple[str, ...]) -> Callable[[Json], Json]:
    def check(value: Json) -> Json:
        given = sum(value.get(name) is not None for name in names)
        if given == 0:
            raise PydanticCustomError(
                "missing_mutually_exclusive_parameters", "missing", {"names": names}
            )
        if given > 1:
            raise PydanticCustomError("mutually_exclusive_parameters", "too many", {"names": names})
        return value

    return check


@with_config(LENIENT)
class CacheBreakpoint(TypedDict):
    """Where a prompt cache may be cut."""

    mode: Literal["explicit"]
    ttl: NotRequired[Literal["30m", "12h"] | None]


@with_config(LENIENT)
class InputText(TypedDict):
    """Text that was sent to a model."""

    type: Literal["input_text"]
    text: Text
    prompt_cache_breakpoint: NotRequired[CacheBreakpoint | None]


@with_config(LENIENT)
class InputImage(TypedDict):
    """An image by url, data url or file id."""

    type: Literal["input_image"]
    image_url: NotRequired[ImageUrl | None]
    file_id: NotRequired[ForeignId | None]
    detail: NotRequired[Literal["low", "high", "auto", "original"] | None]
    prompt_cache_breakpoint: NotRequired[CacheBreakpoint | None]


@with_config(LENIENT)
class InputFile(TypedDict):
    """A file by id, url or inline as base64."""

    type: Literal["input_file"]
    file_id: NotRequired[ForeignId | None]
    file_url: NotRequired[Url | None]
    file_data: NotRequired[
        Annotated[str, StringConstraints(min_length=1, max_length=MAX_FILE_DATA)] | None
    ]
    filename: NotRequired[Name | None]
    detail: NotRequired[Literal["auto", "low", "high"] | None]
    prompt_cache_breakpoint: NotRequired[CacheBreakpoint | None]


@with_config(LENIENT)
class Audio(TypedDict):
    """Inline audio: `data` is base64."""

    data: Annotated[str, StringConstraints(min_length=1, max_length=MAX_FILE_DATA)]
    format: Literal["mp3", "wav"]


@with_config(LENIENT)
class InputAudio(TypedDict):
    """A sound."""

    type: Literal["input_audio"]
    input_audio: Audio


@with_config(LENIENT)
class InputVideo(TypedDict):
    """A video (Open Responses only, spec §3.4)."""

    type: Literal["input_video"]
    video_url: ImageUrl


@with_config(LENIENT)
class OutputText(TypedDict):
    """Text that a model said."""

    type: Literal["output_text"]
    text: Text
    annotations: NotRequired[Many[Json] | None]
    logprobs: NotRequired[Many[Json] | None]


@with_config(LENIENT)
class Refusal(TypedDict):
    """A model's refusal."""

    type: Literal["refusal"]
    refusal: Text


#: What may also be the value of a prompt variable.
INPUT_PARTS: Final[Mapping[str, Any]] = {
    "input_text": InputText,
    "input_image": Annotated[InputImage, exactly_one("file_id", "image_url")],
    "input_file": Annotated[InputFile, exactly_one("file_id", "file_url", "file_data")],
}

Part: TypeAlias = Annotated[
    Json,
    by_type(
        {
            **INPUT_PARTS,
            "input_audio": InputAudio,
            "input_video": InputVideo,
            "output_text": OutputText,
            "refusal": Refusal,
        }
    ),
]
Parts: TypeAlias = Annotated[Many[Part], AfterValidator(without_nulls)]
#: What a tool may answer with.
Output: TypeAlias = Annotated[Any, by_kind(array=Parts, string=Text)]
