"""What the Messages API says when it fails → our error (R-39 to R-43)."""

import orjson
import pytest

from antiphon.backends.anthropic.faults import error_for_status
from antiphon.errors import (
    ContextLengthExceeded,
    InvalidRequestError,
    ModelNotFound,
    PayloadTooLarge,
    RateLimitError,
    UnsupportedParameter,
    UpstreamError,
    UpstreamTimeout,
)

SECRET = "SECRET-of-the-upstream"


def said(message: str, kind: str = "invalid_request_error") -> bytes:
    error = {"type": kind, "message": f"{message} {SECRET}"}
    return orjson.dumps({"type": "error", "error": error, "request_id": "req_1"})


CASES: list[tuple[int, bytes, type[Exception], str | None]] = [
    (401, said("invalid x-api-key", "authentication_error"), UpstreamError, None),
    (402, said("no credit", "billing_error"), UpstreamError, None),
    (403, said("no right", "permission_error"), UpstreamError, None),
    (404, said("model: x", "not_found_error"), ModelNotFound, "model"),
    (408, said("slow"), UpstreamTimeout, None),
    (413, said("too large", "request_too_large"), PayloadTooLarge, None),
    (429, said("slow down", "rate_limit_error"), RateLimitError, None),
    (500, said("oops", "api_error"), UpstreamError, None),
    (504, said("slow", "timeout_error"), UpstreamTimeout, None),
    (529, said("Overloaded", "overloaded_error"), UpstreamError, None),
    (400, said("prompt is too long: 210000 tokens > 200000"), ContextLengthExceeded, "input"),
    (
        400,
        said("input length and `max_tokens` exceed context limit: 190000 + 64000 > 200000"),
        ContextLengthExceeded,
        "input",
    ),
    (400, said("Your credit balance is too low to access the API"), UpstreamError, None),
    (400, said("You have reached your specified API usage limits."), UpstreamError, None),
    (400, said("no credit", "billing_error"), UpstreamError, None),
    (400, said("Input blocked by content filtering policy"), InvalidRequestError, "input"),
    (400, said("Output blocked by content filtering policy"), InvalidRequestError, None),
    (400, said("messages.0.content.1.image.source.base64: bad"), InvalidRequestError, "input"),
    (400, said("Could not process image"), InvalidRequestError, "input"),
    (400, said("messages.2.content.0: image exceeds 5 MB"), InvalidRequestError, "input"),
    (400, said("The PDF specified was not valid."), InvalidRequestError, "input"),
    (
        400,
        said("max_tokens: 99999999 > 64000, which is the maximum"),
        UnsupportedParameter,
        "max_output_tokens",
    ),
    (400, said("`temperature` is deprecated for this model."), UnsupportedParameter, "temperature"),
    (400, said("tools.0.custom.input_schema: bad"), UnsupportedParameter, "tools"),
    (400, said("thinking.type: bad"), UnsupportedParameter, "reasoning.effort"),
    (400, said("messages.1: bad"), InvalidRequestError, None),
    (400, SECRET.encode(), InvalidRequestError, None),
    (422, orjson.dumps([SECRET]), InvalidRequestError, None),
]


@pytest.mark.parametrize(
    ("status", "body", "expected", "param"), CASES, ids=[f"{c[0]}-{c[1][:70]!r}" for c in CASES]
)
def test_errors(status: int, body: bytes, expected: type[Exception], param: str | None) -> None:
    error = error_for_status(status, body, "alias")
    assert type(error) is expected
    assert error.param == param
    assert SECRET not in error.message
