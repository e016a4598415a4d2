"""The bodies of the Containers API, and where files are in a container (spec §2.5).

Rules
1. Null is the same as absent.
2. A file that a client brings is right below `FOLDER`, under the last part of the name that it has
   there: no name leads anywhere else (R-96, R-97).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, Field, with_config
from typing_extensions import TypedDict

from antiphon.errors import InvalidRequestError
from antiphon.protocol.fields import CLOSED, ForeignId, Name, by_type
from antiphon.protocol.files import MAX_ENDING, last_name
from antiphon.protocol.hosted_tools import (
    FileIds,
    InlineSkill,
    MemoryLimit,
    NetworkPolicy,
    SkillReference,
)

Json: TypeAlias = dict[str, Any]

#: Minutes without use after which a container expires, at most and unless its body says less.
MOST_MINUTES: Final = 20
#: What a container asks for that does not say.
DEFAULT_MEMORY: Final[MemoryLimit] = "1g"
#: Bytes.
MEMORY: Final[Mapping[MemoryLimit, int]] = {
    "1g": 1 << 30,
    "4g": 4 << 30,
    "16g": 16 << 30,
    "64g": 64 << 30,
}
#: Where code finds the files.
FOLDER: Final = "/mnt/data/"
#: Bytes of a name, as Linux has it.
MAX_NAME_BYTES: Final = 255

Skills: TypeAlias = Annotated[
    list[Annotated[Json, by_type({"skill_reference": SkillReference, "inline": InlineSkill})]],
    Field(max_length=200, fail_fast=True),
]


@with_config(CLOSED)
class ExpiresAfter(TypedDict):
    """Minutes after it was used last."""

    anchor: Literal["last_active_at"]
    minutes: Annotated[int, Field(ge=1, le=MOST_MINUTES)]


class NewContainer(BaseModel):
    """The body of ``POST /v1/containers``."""

    model_config = CLOSED

    name: Name
    file_ids: FileIds | None = None
    expires_after: ExpiresAfter | None = None
    memory_limit: MemoryLimit | None = None
    network_policy: NetworkPolicy | None = None
    skills: Skills | None = None


class NewContainerFile(BaseModel):
    """The body of ``POST /v1/containers/{id}/files`` when it is JSON."""

    model_config = CLOSED

    file_id: ForeignId


def path_of(name: str, param: str) -> str:
    """Where a file of that name is. Raises `InvalidRequestError`, naming `param`, for what is no
    name."""
    last = last_name(name)
    if not last:
        raise InvalidRequestError(
            f"Invalid '{param}': the file has no name.", param=param, code="invalid_value"
        )
    return FOLDER + _shortened(last)


def _shortened(name: str) -> str:
    """At most `MAX_NAME_BYTES` of UTF-8, with its ending."""
    stem, dot, ending = name.rpartition(".")
    tail = (dot + ending).encode()
    if not stem or len(tail) > MAX_ENDING:
        stem, tail = name, b""
    room = MAX_NAME_BYTES - len(tail)
    return stem.encode()[:room].decode(errors="ignore") + tail.decode()
