"""``GET /v1/responses``: stored responses by their metadata; ours, OpenAI has none (spec §2.1).

Rules
1. The query says ``metadata[key]=value``, once for each pair; all of them must match.
2. The same limits hold as for the `metadata` of a request, and the same words say so.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, Field, ValidationError, model_validator
from starlette.datastructures import QueryParams

from antiphon.api.errors import MAX_ECHO
from antiphon.api.logs import printable
from antiphon.api.query import EveryQuery, Integer
from antiphon.errors import InvalidRequestError
from antiphon.protocol.parameters import Metadata
from antiphon.protocol.validation import refusal

_OPENING: Final = "metadata["


class ListingQuery(EveryQuery):
    """The query but for its pairs, which have names that nobody can foresee."""

    limit: Annotated[Integer, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_pairs(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if not name.startswith(_OPENING)}


class _Pairs(BaseModel):
    metadata: Metadata


#: The pairs in the words of OpenAPI.
PAIRS: Final[dict[str, Any]] = {
    "parameters": [
        {
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
    ]
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


def page(bodies: list[bytes], limit: int) -> bytes:
    """The answer: at most `limit` of the responses, which are shown as they are stored. Where there
    are more, `bodies` has one more."""
    shown = bodies[:limit]
    ends = {
        "first_id": orjson.loads(shown[0])["id"] if shown else None,
        "last_id": orjson.loads(shown[-1])["id"] if shown else None,
        "has_more": len(bodies) > limit,
    }
    return b'{"object":"list","data":[' + b",".join(shown) + b"]," + orjson.dumps(ends)[1:]
