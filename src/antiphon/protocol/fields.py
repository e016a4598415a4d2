"""Types of fields: the limits of spec §1 and the two kinds of union that a request body has.

Rules
1. Strict: nothing is coerced (reliability R-03). An integer is fine where a number is asked.
2. A union is chosen by looking at the value first, by its JSON kind (`by_kind`) or by its `type`
   (`by_type`), so that only the errors of the meant branch are reported. The chosen branch is in
   the location of an error as ``<name>``; `validation.py` strips it.
3. An annotated alias is a plain `dict`, `list` or `str` for the type checker: what is validated
   stays plain JSON.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, GetPydanticSchema, StringConstraints
from pydantic_core import core_schema

_T = TypeVar("_T")

#: Objects of the client's history: unknown keys stay (spec §3.4).
LENIENT: Final = ConfigDict(strict=True, extra="allow")
#: Parameter objects: an unknown key is an error (spec §1).
CLOSED: Final = ConfigDict(strict=True, extra="forbid")
#: The same with items in it, for whose validators pydantic takes 0.9 MB and 60 ms for each body:
#: built when the first one comes, by who reads it in a thread (`api.body.read_form`).
WITH_ITEMS: Final = ConfigDict(strict=True, extra="forbid", defer_build=True)

#: 10 MiB: `input` and each text part (spec §1).
MAX_TEXT: Final = 10_485_760
MAX_IMAGE_URL: Final = 20_971_520
MAX_FILE_DATA: Final = 73_400_320
#: Our own limits, where OpenAI publishes none.
MAX_NAME: Final = 512
#: Names in the history: what a model called comes back, however it was called.
MAX_CALLED: Final = 4_096
MAX_URL: Final = 8_192
MAX_LIST: Final = 1_000
MAX_INT: Final = 2**53 - 1

ID_PATTERN: Final = r"^[A-Za-z0-9_-]+$"
BLANK_OR_ID_PATTERN: Final = r"^[A-Za-z0-9_-]*$"
FOREIGN_ID_PATTERN: Final = r"^[A-Za-z0-9_.-]+$"
ITEM_ID_PATTERN: Final = r"^[^\p{Cc}\p{Zl}\p{Zp}]+$"
NAME_PATTERN: Final = r"^[a-zA-Z0-9_-]+$"
NO_NUL_PATTERN: Final = r"^[^\x00]*$"
IMAGE_URL_PATTERN: Final = r"^(?i:https?://|data:)"
URL_PATTERN: Final = r"^(?i:https?://)"

Text: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
#: An id of this server.
Id: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_NAME, pattern=ID_PATTERN)]
#: An id of a file, container or skill that any server may have made.
ForeignId: TypeAlias = Annotated[
    str, StringConstraints(max_length=MAX_NAME, pattern=FOREIGN_ID_PATTERN)
]
#: An item's id: whatever can be printed (spec §3.1, advice).
ItemId: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_NAME, pattern=ITEM_ID_PATTERN)]
CallId: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL_PATTERN)
]
ToolName: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=NAME_PATTERN)
]
#: A name that only a human or a model reads.
Name: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_NAME, pattern=NO_NUL_PATTERN)
]
#: A name that a model gave to what it called: as generous at the door as it was on the way out.
CalledName: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_CALLED, pattern=NO_NUL_PATTERN)
]
Url: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_URL, pattern=URL_PATTERN)]
ImageUrl: TypeAlias = Annotated[
    str, StringConstraints(max_length=MAX_IMAGE_URL, pattern=IMAGE_URL_PATTERN)
]
#: A list, read up to its first error: a body full of errors must not cost more than a good one.
Many: TypeAlias = Annotated[list[_T], Field(fail_fast=True)]
#: Names with texts: headers, environment variables.
Strings: TypeAlias = Annotated[dict[str, Text], Field(fail_fast=True)]
#: An integer that survives every JSON implementation.
Int: TypeAlias = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]

_KINDS: Final[Mapping[type, str]] = {
    str: "<string>",
    bool: "<boolean>",
    int: "<integer>",
    float: "<number>",
    list: "<array>",
    dict: "<object>",
    type(None): "<null>",
}


def kind_of(value: object) -> str:
    """The JSON kind of a value, as the tag of a branch."""
    return _KINDS.get(type(value), "<value>")


def type_of(value: object) -> str | None:
    """The `type` of an object, as the tag of a branch."""
    if isinstance(value, dict):
        type_ = value.get("type")
        if isinstance(type_, str):
            return f"<{type_}>"
    return None


def shape(form: Any) -> GetPydanticSchema:
    """Validate as `form`, a TypedDict, what the type checker sees as a plain dict."""

    def schema(_source: object, handler: Any) -> core_schema.CoreSchema:
        result: core_schema.CoreSchema = handler.generate_schema(form)
        return result

    return GetPydanticSchema(get_pydantic_core_schema=schema)


def one_of(
    discriminator: Callable[[Any], Hashable | None], branches: Mapping[str, Any]
) -> GetPydanticSchema:
    """A union of `branches`, tag without brackets → annotation, for use inside `Annotated`."""

    def schema(_source: object, handler: Any) -> core_schema.CoreSchema:
        choices = {f"<{tag}>": handler.generate_schema(form) for tag, form in branches.items()}
        return core_schema.tagged_union_schema(choices, discriminator)

    return GetPydanticSchema(get_pydantic_core_schema=schema)


def by_kind(**branches: Any) -> GetPydanticSchema:
    """A union of JSON kinds: ``by_kind(string=Text, array=list[Part])``."""
    return one_of(kind_of, branches)


def by_type(branches: Mapping[str, Any]) -> GetPydanticSchema:
    """A union of objects that their `type` tells apart."""
    return one_of(type_of, branches)


def is_tag(step: str) -> bool:
    """Whether a step of an error's location is the tag of a branch."""
    return step.startswith("<") and step.endswith(">")
