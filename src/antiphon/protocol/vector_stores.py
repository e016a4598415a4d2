"""The bodies of the Vector stores API, and the objects that it shows (spec §2.4, App. G).

Rules
1. Null is the same as absent, but in an update: there it takes `expires_after` away.
2. Chunks are 800 tokens, each with 400 of the one before, unless the request says otherwise.
"""

from typing import Annotated, Any, Final, Literal, NotRequired, TypeAlias

from pydantic import BaseModel, Field, StringConstraints, with_config
from typing_extensions import TypedDict

from antiphon.errors import InvalidRequestError
from antiphon.protocol.fields import (
    CLOSED,
    MAX_NAME,
    NO_NUL_PATTERN,
    ForeignId,
    Int,
    Number,
    Text,
    by_kind,
    by_type,
)
from antiphon.protocol.filters import Filter
from antiphon.protocol.hosted_tools import RankingOptions
from antiphon.protocol.parameters import Metadata

Json: TypeAlias = dict[str, Any]

CHUNK_SIZE: Final = 800
CHUNK_OVERLAP: Final = 400
#: Files of one request.
MOST_FILES: Final = 500
MOST_IN_BATCH: Final = 2_000
#: Characters of one query, and queries of one search.
MOST_QUERY: Final = 16_384
MOST_QUERIES: Final = 32

StoreName: TypeAlias = Annotated[
    str, StringConstraints(max_length=MAX_NAME, pattern=NO_NUL_PATTERN)
]
Description: TypeAlias = Annotated[str, StringConstraints(max_length=4_096, pattern=NO_NUL_PATTERN)]


@with_config(CLOSED)
class ExpiresAfter(TypedDict):
    """Days after it was used last."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


@with_config(CLOSED)
class AutoChunking(TypedDict):
    """Our defaults."""

    type: Literal["auto"]


@with_config(CLOSED)
class ChunkSizes(TypedDict):
    """Sizes in tokens."""

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Field(ge=0)]


@with_config(CLOSED)
class StaticChunking(TypedDict):
    """The client's own sizes."""

    type: Literal["static"]
    static: ChunkSizes


ChunkingStrategy: TypeAlias = Annotated[
    Json, by_type({"auto": AutoChunking, "static": StaticChunking})
]
_AttributeKey: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL_PATTERN)
]
_AttributeText: TypeAlias = Annotated[str, StringConstraints(max_length=512)]
FileAttributes: TypeAlias = Annotated[
    dict[
        _AttributeKey,
        Annotated[Any, by_kind(string=_AttributeText, number=Number, integer=Int, boolean=bool)],
    ],
    Field(max_length=16, fail_fast=True),
]


class NewVectorStore(BaseModel):
    """The body of ``POST /v1/vector_stores``."""

    model_config = CLOSED

    name: StoreName | None = None
    description: Description | None = None
    file_ids: Annotated[list[ForeignId], Field(max_length=MOST_FILES, fail_fast=True)] | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Metadata | None = None


class ChangedVectorStore(BaseModel):
    """The body of ``POST /v1/vector_stores/{id}``."""

    model_config = CLOSED

    name: StoreName | None = None
    description: Description | None = None
    expires_after: ExpiresAfter | None = None
    metadata: Metadata | None = None


class NewStoreFile(BaseModel):
    """The body of ``POST /v1/vector_stores/{id}/files``."""

    model_config = CLOSED

    file_id: ForeignId
    attributes: FileAttributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


@with_config(CLOSED)
class BatchFile(TypedDict):
    """A file of a batch with what is its own."""

    file_id: ForeignId
    attributes: NotRequired[FileAttributes | None]
    chunking_strategy: NotRequired[ChunkingStrategy | None]


class NewFileBatch(BaseModel):
    """The body of ``POST /v1/vector_stores/{id}/file_batches``: `file_ids` or `files`."""

    model_config = CLOSED

    file_ids: (
        Annotated[list[ForeignId], Field(min_length=1, max_length=MOST_IN_BATCH, fail_fast=True)]
        | None
    ) = None
    files: (
        Annotated[list[BatchFile], Field(min_length=1, max_length=MOST_IN_BATCH, fail_fast=True)]
        | None
    ) = None
    attributes: FileAttributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class ChangedStoreFile(BaseModel):
    """The body of ``POST /v1/vector_stores/{id}/files/{file_id}``; null takes all away."""

    model_config = CLOSED

    attributes: FileAttributes | None


_Query: TypeAlias = Annotated[Text, StringConstraints(min_length=1, max_length=MOST_QUERY)]


class VectorStoreSearch(BaseModel):
    """The body of ``POST /v1/vector_stores/{id}/search``."""

    model_config = CLOSED

    query: Annotated[
        Any,
        by_kind(
            string=_Query,
            array=Annotated[
                list[_Query], Field(min_length=1, max_length=MOST_QUERIES, fail_fast=True)
            ],
        ),
    ]
    rewrite_query: bool | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    filters: Filter | None = None
    ranking_options: RankingOptions | None = None


def chunk_sizes(strategy: Json | None, path: str = "chunking_strategy") -> tuple[int, int]:
    """Tokens of a chunk and of its overlap. Raises `InvalidRequestError`."""
    if strategy is None or strategy["type"] == "auto":
        return CHUNK_SIZE, CHUNK_OVERLAP
    sizes = strategy["static"]
    size, overlap = sizes["max_chunk_size_tokens"], sizes["chunk_overlap_tokens"]
    if 2 * overlap > size:
        where = f"{path}.static.chunk_overlap_tokens"
        raise InvalidRequestError(
            f"Invalid '{where}': integer above maximum value. Expected a value <= {size // 2}, "
            f"half of 'max_chunk_size_tokens', but got {overlap} instead.",
            param=where,
            code="integer_above_max_value",
        )
    return size, overlap


def chunking_shape(size: int, overlap: int) -> Json:
    """How the API shows them."""
    sizes = {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}
    return {"type": "static", "static": sizes}
