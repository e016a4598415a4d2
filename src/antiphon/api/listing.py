"""``GET /v1/responses``: stored responses by their metadata; ours, OpenAI has none (spec §2.1).

Rules
1. The query says ``metadata[key]=value``, once for each pair; all of them must match.
2. The same limits hold as for the `metadata` of a request, and the same words say so.
3. A page may have less than `limit` responses where they are large (`store.base.Listing`):
   `has_more` says what is true.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ValidationError, model_validator
from starlette.datastructures import QueryParams

from antiphon.api.errors import MAX_ECHO
from antiphon.api.logs import printable
from antiphon.api.query import EveryQuery, Limit
from antiphon.errors import InvalidRequestError
from antiphon.protocol.parameters import Metadata
from antiphon.protocol.validation import refusal
from antiphon.store.base import Page

_OPENING: Final = "metadata["
#: Bytes: more than these (about 0.2 ms of copying) are joined in a thread.
_LARGE: Final = 1024 * 1024


class ListingQuery(EveryQuery):
    """The query but for its pairs, which have names that nobody can foresee."""

    limit: Limit = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_pairs(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if not name.startswith(_OPENING)}

    @classmethod
    def parameters(cls) -> list[dict[str, Any]]:
        """In the words of OpenAPI."""
        return [*super().parameters(), _PAIRS]


class _Pairs(BaseModel):
    metadata: Metadata


#: The pairs in the words of OpenAPI.
_PAIRS: Final[dict[str, Any]] = {
    "name": "metadata",
    "in": "query",
    "required": False,
    "description": "`metadata[key]=value`: only responses with all of these pairs.",
    "style": "deepObject",
    "explode": True,
    "schema": {
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": 512},
        "maxProperties": 16,
    },
}


def pairs_of(query: QueryParams) -> dict[str, str]:
    """What the responses must have. Raises `InvalidRequestError`: the first thing wrong."""
    pairs: dict[str, str] = {}
    for name, value in query.multi_items():
        if not name.startswith(_OPENING):
            continue
        key, closing = name[len(_OPENING) : -1], name[-1]
        shown = printable(name, MAX_ECHO)
        if not key or closing != "]" or "][" in key:
            raise InvalidRequestError(
                f"Invalid parameter: '{shown}'. Expected 'metadata[key]=value'.",
                param=shown,
                code="invalid_value",
            )
        if key in pairs:
            raise InvalidRequestError(
                f"Duplicate parameter: '{shown}'. A response has one value for a key.",
                param=shown,
                code="invalid_value",
            )
        pairs[key] = value
    try:
        return _Pairs(metadata=pairs).metadata
    except ValidationError as error:
        raise refusal(error, {"metadata": pairs}) from None


async def answer(page: Page) -> bytes:
    """The answer: responses are shown as they are stored, none is decoded."""
    if sum(map(len, page.bodies)) <= _LARGE:
        return _joined(page)
    return await asyncio.to_thread(_joined, page)


def _joined(page: Page) -> bytes:
    ends = {
        "first_id": page.ids[0] if page.ids else None,
        "last_id": page.ids[-1] if page.ids else None,
        "has_more": page.has_more,
    }
    parts = (b'{"object":"list","data":[', b",".join(page.bodies), b"],", orjson.dumps(ends)[1:])
    return b"".join(parts)
