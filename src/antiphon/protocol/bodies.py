"""Request bodies by their form: the first thing that is wrong is the error (spec §6)."""

from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from antiphon.protocol.jsonbody import parse_json
from antiphon.protocol.validation import echo, invalid_type, refusal, unknown

_Body = TypeVar("_Body", bound=BaseModel)


def parse_object(raw: bytes) -> dict[str, Any]:
    """The object in the body `raw`. Raises `InvalidRequestError`."""
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise invalid_type(None, "an object", body)
    return body


def parse_fields(raw: bytes, fields: Collection[str]) -> dict[str, Any]:
    """The same where the object may have these fields only."""
    body = parse_object(raw)
    for key in body:
        if key not in fields:
            raise unknown(echo(key))
    return body


def parse_body(raw: bytes, form: type[_Body]) -> _Body:
    """The body `raw` of a request. Raises `InvalidRequestError`: the first thing wrong."""
    # Pydantic would describe each of a million unknown keys first.
    body = parse_fields(raw, form.model_fields)
    try:
        return form.model_validate(body)
    except ValidationError as error:
        raise refusal(error, body) from None
