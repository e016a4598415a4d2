"""Request bodies by their form: the first thing that is wrong is the error (spec §6)."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from antiphon.protocol.jsonbody import parse_json
from antiphon.protocol.validation import echo, invalid_type, refusal, unknown

_Body = TypeVar("_Body", bound=BaseModel)


def parse_body(raw: bytes, form: type[_Body]) -> _Body:
    """The body `raw` of a request. Raises `InvalidRequestError`: the first thing wrong."""
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise invalid_type(None, "an object", body)
    fields = form.model_fields
    if len(body) > len(fields):
        # Said here, because pydantic would describe each of a million unknown keys first.
        raise unknown(echo(next(key for key in body if key not in fields)))
    try:
        return form.model_validate(body)
    except ValidationError as error:
        raise refusal(error, body) from None
