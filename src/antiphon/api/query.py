"""What queries have in common: as strict as a body (spec §6).

Rules
1. A parameter that has no meaning is a 400 `unknown_parameter`. Where no query has a meaning
   (``POST /v1/responses``, ``/v1/models``, health) it is let pass.
2. What SDKs add to every request is taken everywhere, without effect.
3. Of a parameter that is given twice the last one counts, unless it is a list.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Self, TypeAlias, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from antiphon.api.errors import MAX_ECHO
from antiphon.api.logs import printable
from antiphon.errors import InvalidRequestError, UnknownParameter


def _digits(value: object) -> object:
    """Pydantic would take ``1.0`` and ``1_0`` for integers."""
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise ValueError("not an integer")
    return value


#: For a parameter that is a number; behind its limits, so that the description has them.
DIGITS: Final = BeforeValidator(_digits)
Integer: TypeAlias = Annotated[int, DIGITS]
#: How many a page has at most.
Limit: TypeAlias = Annotated[int, Field(ge=1, le=100), DIGITS]


class EveryQuery(BaseModel):
    """What every query may have: ``?beta=true`` (spec §2.1), and Azure's version."""

    model_config = ConfigDict(extra="forbid")

    beta: str | None = None
    api_version: str | None = Field(None, alias="api-version")

    @classmethod
    def read(cls, query: QueryParams) -> Self:
        """What a request asks. Raises `InvalidRequestError`."""
        lists = {
            field.alias or name
            for name, field in cls.model_fields.items()
            if get_origin(field.annotation) is list
        }
        given = {name: query.getlist(name) if name in lists else query[name] for name in query}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise _refusal(error) from error

    @classmethod
    def parameters(cls) -> list[dict[str, Any]]:
        """The same in the words of OpenAPI."""
        schemas = cls.model_json_schema()["properties"]
        for schema in schemas.values():
            if schema.get("default", ...) is None:  # that is: left out
                del schema["default"]
        return [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in schemas.items()
        ]


def _refusal(error: ValidationError) -> InvalidRequestError:
    """The first unknown parameter, else the first one that is wrong: OpenAI's own order."""
    problems = error.errors()
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            name = printable(_path(problem["loc"]), MAX_ECHO)
            return UnknownParameter(f"Unknown parameter: '{name}'.", param=name)
    param = _path(problems[0]["loc"])
    return InvalidRequestError(f"Invalid value for '{param}'.", param=param, code="invalid_value")


def _path(location: Iterable[int | str]) -> str:
    """``include[0]`` for the first value of ``?include[]=`` (R-02)."""
    return "".join(
        f"[{step}]" if isinstance(step, int) else step.removesuffix("[]") for step in location
    )
