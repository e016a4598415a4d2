"""What Gemini says when it fails → our error, in our own words. Pure.

Rules
1. Gemini's text is only matched; it never goes into the error (R-42).
2. Keys, permissions, billing and the place of the server are the operator's fault, also where
   Gemini answers 400: 502 (R-41).
3. A 429 says how long to wait in its body (`RetryInfo`), not in a header.
4. Once the stream has begun tokens were spent: `should_retry` is false (R-52).
5. An error is an object with `error`, or a list with one such object.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from antiphon.backends.complaints import complaint, error_in
from antiphon.backends.faults import refused
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    ModelNotFound,
    PayloadTooLarge,
    RateLimitError,
    UnsupportedParameter,
    UpstreamError,
    UpstreamTimeout,
)

_TOO_LARGE: Final = re.compile(r"request payload size exceeds", re.IGNORECASE)
#: How it says 400 to what the operator has to mend: a status, reasons of details, and beginnings of
#: messages that have no reason.
_NOT_READY: Final = "FAILED_PRECONDITION"
_REASONS: Final = ("API_KEY_", "BILLING_", "SERVICE_", "CONSUMER_")
_OPERATORS: Final = re.compile(r"API key|User location is not supported", re.IGNORECASE)
_PER_DAY: Final = re.compile(r"PerDay")
#: Where a 400 says what it is about, and the parameter as the client knows it. Names that clients
#: chose may follow.
_PLACE: Final = re.compile(r"GenerateContentRequest\.([\w.\[\]]+)")
_CONFIG: Final = r"(generation_?config\.)?"
_CLIENT_NAMES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), param)
    for pattern, param in (
        (_CONFIG + r"thinking", "reasoning.effort"),
        (_CONFIG + r"response_?(json_?)?(schema|mime_?type)", "text.format"),
        (_CONFIG + r"(response_?)?logprobs", "top_logprobs"),
        (_CONFIG + r"max_?output_?tokens", "max_output_tokens"),
        (_CONFIG + r"temperature", "temperature"),
        (_CONFIG + r"top_?p\b", "top_p"),
        (r"service_?tier", "service_tier"),
        (r"tool_?config", "tool_choice"),
        (r"tools|function_?declarations", "tools"),
    )
)
_LIMITED: Final = frozenset({"429", "RESOURCE_EXHAUSTED"})
_LATE: Final = frozenset({"504", "DEADLINE_EXCEEDED"})
_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)s")
#: Longer waits are capped, as those of headers are.
_LONGEST_WAIT: Final = 3600.0


def error_for_status(status: int, body: bytes, model: str) -> APIError:
    """The error for an answer with `status` other than 200, before the first delta.

    `model` is the client's name of the model.
    """
    error = error_in(body)
    match status:
        case 404:
            return ModelNotFound(model)
        case 413:
            return PayloadTooLarge("The input is too large for the model backend.")
        case 408 | 504:
            return UpstreamTimeout()
        case 429:
            # What it has for a day will not come back while a client waits.
            spent = bool(_PER_DAY.search(body.decode(errors="replace")))
            return RateLimitError(retry_after=_delay(error), should_retry=False if spent else None)
        case 400 | 422:
            return _error_for_refusal(error)
        case _:
            return UpstreamError()


def error_in_stream(error: Any) -> APIError:
    """The error for an `error` value inside the answer, when the status was 200."""
    said = complaint(error)
    if said.is_too_long:
        return ContextLengthExceeded()
    if said.has(_LIMITED):
        return RateLimitError(should_retry=False)
    if said.has(_LATE):
        return UpstreamTimeout(should_retry=False)
    return UpstreamError(should_retry=False)


def _error_for_refusal(error: dict[str, Any]) -> APIError:
    said = complaint(error)
    if said.is_too_long:
        return ContextLengthExceeded()
    if _TOO_LARGE.match(said.message):
        return PayloadTooLarge("The input is too large for the model backend.")
    reasons = (str(detail.get("reason")) for detail in _details(error))
    if (
        _NOT_READY in said.codes
        or any(reason.startswith(_REASONS) for reason in reasons)
        or _OPERATORS.match(said.message)
    ):
        return UpstreamError(should_retry=False)
    for place in _places(error):
        for pattern, param in _CLIENT_NAMES:
            if pattern.match(place):
                return UnsupportedParameter(
                    f"Unsupported parameter: '{param}' is not supported in this form with this "
                    "model.",
                    param=param,
                )
    return refused()


def _details(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield detail


def _places(error: dict[str, Any]) -> Iterator[str]:
    """Fields of Gemini's that the error is about."""
    for detail in _details(error):
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict):
                yield str(violation.get("field"))
    message = str(error.get("message"))
    yield from _PLACE.findall(message)
    if message.startswith("Logprobs is not enabled"):
        yield "logprobs"


def _delay(error: dict[str, Any]) -> float | None:
    for detail in _details(error):
        found = _DELAY.fullmatch(str(detail.get("retryDelay")))
        if found:
            return min(float(found[1]), _LONGEST_WAIT)
    return None
