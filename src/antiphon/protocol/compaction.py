"""The body of ``POST /v1/responses/compact`` (spec §2.1, App. G)."""

from typing import Final

from antiphon.protocol.bodies import parse_fields
from antiphon.protocol.request import CreateResponse, check_request
from antiphon.protocol.validation import missing

FIELDS: Final = frozenset(
    {
        "image",
        "input",
        "instructions",
        "model",
        "previous_response_id",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
    }
)


def parse_compact(raw: bytes) -> CreateResponse:
    """The request whose context shall be compacted. Raises `InvalidRequestError`."""
    body = parse_fields(raw, FIELDS)
    if body.get("model") is None:
        raise missing("model")
    return check_request(body)
