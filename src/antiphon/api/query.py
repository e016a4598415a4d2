"""What queries have in common: as strict as a body (spec §6).

Rules
1. A parameter that has no meaning is a 400 `unknown_parameter`, on every path that takes a query or
   none at all.
2. What SDKs add to every request is taken everywhere, without effect.
"""

import re
from typing import Annotated, Final

from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _digits(value: object) -> object:
    """Pydantic would take ``1.0`` and ``1_0`` for integers."""
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise ValueError("not an integer")
    return value


Integer = Annotated[int, BeforeValidator(_digits)]


class EveryQuery(BaseModel):
    """What every query may have: ``?beta=true`` (spec §2.1), and Azure's version."""

    model_config = ConfigDict(extra="forbid")

    beta: str | None = None
    api_version: str | None = Field(None, alias="api-version")


async def _check(_: Annotated[EveryQuery, Query()]) -> None:
    """Refuse what has no meaning."""


#: For the `dependencies` of a route whose query says nothing.
NO_QUERY: Final = Depends(_check)
