"""The body of ``POST /v1/responses/compact`` (spec §2.1, App. G)."""

from typing import Final

from antiphon.protocol.jsonbody import parse_json
from antiphon.protocol.request import CreateResponse, check_request
from antiphon.protocol.validation import echo, invalid_type, missing, unknown

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
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise invalid_type(None, "an object", body)
    if stranger := next((key for key in body if key not in FIELDS), None):
        raise unknown(echo(stranger))
    if body.get("model") is None:
        raise missing("model")
    return check_request(body)
