"""What Gemini answers instead of a turn → the error that a client sees."""

from typing import Any

import orjson
import pytest

from antiphon.backends.gemini.faults import error_for_status
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    InvalidRequestError,
    ModelNotFound,
    PayloadTooLarge,
    RateLimitError,
    UnsupportedParameter,
    UpstreamError,
    UpstreamTimeout,
)
from tests.conformance.gemini import error

Json = dict[str, Any]


def invalid(message: str, *details: Json) -> Json:
    return error(400, "INVALID_ARGUMENT", f"{message} SECRET", details)


def about(field: str) -> Json:
    violation = {"field": field, "description": "SECRET"}
    kind = "type.googleapis.com/google.rpc.BadRequest"
    return invalid("Invalid.", {"@type": kind, "fieldViolations": [violation]})


NO_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
DAILY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}
TOO_LONG = "The input token count (9) exceeds the maximum number of tokens allowed (8)."
CASES: list[tuple[int, Any, type[APIError]]] = [
    (400, invalid("Bad."), InvalidRequestError),
    (400, [invalid("Bad.")], InvalidRequestError),
    (400, "no JSON SECRET", InvalidRequestError),
    (400, [], InvalidRequestError),
    (400, {"error": "SECRET"}, InvalidRequestError),
    (
        400,
        {"error": {"details": [5, {"fieldViolations": 5}, {"fieldViolations": [5]}]}},
        InvalidRequestError,
    ),
    (400, invalid(TOO_LONG), ContextLengthExceeded),
    (400, [invalid(TOO_LONG)], ContextLengthExceeded),
    (400, invalid("Request payload size exceeds the limit: 20971520 bytes."), PayloadTooLarge),
    (400, invalid("API key not valid.", NO_KEY), UpstreamError),
    (400, invalid("API key expired. Please renew the API key."), UpstreamError),
    (400, error(400, "FAILED_PRECONDITION", "User location is not supported."), UpstreamError),
    (401, error(401, "UNAUTHENTICATED", "SECRET"), UpstreamError),
    (403, error(403, "PERMISSION_DENIED", "SECRET"), UpstreamError),
    (404, error(404, "NOT_FOUND", "SECRET"), ModelNotFound),
    (413, "SECRET", PayloadTooLarge),
    (429, error(429, "RESOURCE_EXHAUSTED", "SECRET"), RateLimitError),
    (499, error(499, "CANCELLED", "SECRET"), UpstreamError),
    (500, error(500, "INTERNAL", "SECRET"), UpstreamError),
    (503, error(503, "UNAVAILABLE", "SECRET"), UpstreamError),
    (504, error(504, "DEADLINE_EXCEEDED", "SECRET"), UpstreamTimeout),
]


@pytest.mark.parametrize(("status", "body", "expected"), CASES)
def test_refusals(status: int, body: Any, expected: type[APIError]) -> None:
    """R-39 to R-43."""
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    raised = error_for_status(status, raw, "alias")
    assert type(raised) is expected
    assert "SECRET" not in raised.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (about("generation_config.temperature"), "temperature"),
        (about("generation_config.thinking_config.thinking_level"), "reasoning.effort"),
        (about("generationConfig.responseJsonSchema"), "text.format"),
        (about("tools[0].function_declarations[0].parameters"), "tools"),
        (about("service_tier"), "service_tier"),
        (invalid("* GenerateContentRequest.generation_config.top_p: must be less."), "top_p"),
        (invalid("Logprobs is not enabled for models/x"), "top_logprobs"),
    ],
)
def test_what_it_is_about(body: Json, param: str) -> None:
    raised = error_for_status(400, orjson.dumps(body), "alias")
    assert type(raised) is UnsupportedParameter
    assert raised.param == param


@pytest.mark.parametrize(
    ("details", "wait", "retry"),
    [
        ([], None, None),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}], 17.0, None),
        ([{"retryDelay": "0.25s"}], 0.25, None),
        ([{"retryDelay": "99999s"}], 3600.0, None),
        ([{"retryDelay": "soon"}], None, None),
        ([DAILY, {"retryDelay": "17s"}], 17.0, False),
    ],
)
def test_how_long_to_wait(details: list[Json], wait: float | None, retry: bool | None) -> None:
    """R-39: it stands in the body."""
    body = error(429, "RESOURCE_EXHAUSTED", "SECRET", details)
    raised = error_for_status(429, orjson.dumps(body), "alias")
    assert (raised.retry_after, raised.should_retry) == (wait, retry)
