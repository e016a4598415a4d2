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

import orjson

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

_TOO_LONG: Final = re.compile(
    r"input token count|exceeds the maximum number of tokens|(input|prompt|context) is too long",
    re.IGNORECASE,
)
_TOO_LARGE: Final = re.compile(r"request payload size exceeds", re.IGNORECASE)
_OPERATORS: Final = re.compile(
    r"API[ _]key|API_KEY_INVALID|FAILED_PRECONDITION|location is not supported|billing",
    re.IGNORECASE,
)
_PER_DAY: Final = re.compile(r"PerDay")
#: Where a 400 says what it is about, and the parameter as the client knows it.
_PLACE: Final = re.compile(r"GenerateContentRequest\.([\w.\[\]]+)")
_CLIENT_NAMES: Final = (
    (re.compile(r"thinking", re.IGNORECASE), "reasoning.effort"),
    (re.compile(r"response_?(json_?)?schema|mime_?type", re.IGNORECASE), "text.format"),
    (re.compile(r"logprobs", re.IGNORECASE), "top_logprobs"),
    (re.compile(r"max_?output_?tokens", re.IGNORECASE), "max_output_tokens"),
    (re.compile(r"temperature", re.IGNORECASE), "temperature"),
    (re.compile(r"top_?p\b", re.IGNORECASE), "top_p"),
    (re.compile(r"service_?tier", re.IGNORECASE), "service_tier"),
    (re.compile(r"tool_?config", re.IGNORECASE), "tool_choice"),
    (re.compile(r"^tools|function_?declarations", re.IGNORECASE), "tools"),
)
_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)s")
#: Longer waits are capped, as those of headers are.
_LONGEST_WAIT: Final = 3600.0


def error_for_status(status: int, body: bytes, model: str) -> APIError:
    """The error for an answer with `status` other than 200, before the first delta.

    `model` is the client's name of the model.
    """
    text = body.decode(errors="replace")
    error = _error_in(body)
    match status:
        case 404:
            return ModelNotFound(model)
        case 413:
            return PayloadTooLarge("The input is too large for the model backend.")
        case 408 | 504:
            return UpstreamTimeout()
        case 429:
            spent = bool(_PER_DAY.search(text))  # it will not pass while a client waits
            return RateLimitError(retry_after=_delay(error), should_retry=False if spent else None)
        case 400 | 422:
            return _error_for_refusal(text, error)
        case _:
            return UpstreamError()


def error_in_stream(error: Any) -> APIError:
    """The error for an `error` value inside the answer, when the status was 200."""
    text = error if isinstance(error, str) else orjson.dumps(error).decode()
    known = error if isinstance(error, dict) else {}
    if _TOO_LONG.search(text):
        return ContextLengthExceeded()
    if known.get("code") == 429 or known.get("status") == "RESOURCE_EXHAUSTED":
        return RateLimitError(should_retry=False)
    if known.get("code") == 504 or known.get("status") == "DEADLINE_EXCEEDED":
        return UpstreamTimeout(should_retry=False)
    return UpstreamError(should_retry=False)


def _error_for_refusal(text: str, error: dict[str, Any]) -> APIError:
    if _TOO_LONG.search(text):
        return ContextLengthExceeded()
    if _TOO_LARGE.search(text):
        return PayloadTooLarge("The input is too large for the model backend.")
    if _OPERATORS.search(text):
        return UpstreamError(should_retry=False)
    for place in _places(error):
        for pattern, param in _CLIENT_NAMES:
            if pattern.search(place):
                return UnsupportedParameter(
                    f"Unsupported parameter: '{param}' is not supported in this form with this "
                    "model.",
                    param=param,
                )
    return refused()


def _error_in(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(said, list) and said:
        said = said[0]
    error = said.get("error") if isinstance(said, dict) else None
    return error if isinstance(error, dict) else {}


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
    if "ogprobs is not enabled" in message:
        yield "logprobs"


def _delay(error: dict[str, Any]) -> float | None:
    for detail in _details(error):
        found = _DELAY.fullmatch(str(detail.get("retryDelay")))
        if found:
            return min(float(found[1]), _LONGEST_WAIT)
    return None
