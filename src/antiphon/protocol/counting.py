"""The body of ``POST /v1/responses/input_tokens`` (spec §2.1, App. G TokenCountsBody).

Rules
1. It is the body of ``POST /v1/responses`` without what makes no difference to the input: the same
   limits, rules and texts. Every field may be null, which is the same as absent.
2. `prompt` is our own extension: a template is part of the input, too.
3. `personality` has no place in a request: no backend has one.
"""

from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, StringConstraints, ValidationError

from antiphon.protocol.bodies import parse_fields
from antiphon.protocol.fields import CLOSED
from antiphon.protocol.request import CreateResponse, check_request
from antiphon.protocol.validation import refusal

FIELDS: Final = frozenset(
    {
        "conversation",
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "personality",
        "previous_response_id",
        "prompt",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    }
)


class Counting(NamedTuple):
    """What shall be counted, and the parameters of this endpoint alone that have no effect."""

    request: CreateResponse
    ignored: list[str]


class _Style(BaseModel):
    """`personality`: any name, not only those that there are today."""

    model_config = CLOSED

    personality: Annotated[str, StringConstraints(max_length=64)] | None = None


def parse_counting(raw: bytes) -> Counting:
    """The request whose input shall be counted. Raises `InvalidRequestError`."""
    body = parse_fields(raw, FIELDS)
    style: dict[str, Any] = {"personality": body.pop("personality", None)}
    request = check_request(body)
    try:
        _Style.model_validate(style)
    except ValidationError as error:
        raise refusal(error, style) from None
    return Counting(request, [key for key, value in style.items() if value is not None])
