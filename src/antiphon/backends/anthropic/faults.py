"""What the Messages API says when it fails → our error, in our own words. Pure.

Rules
1. The upstream's text is only matched; it never goes into the error (R-42).
2. A wrong key, missing rights and missing credit are the operator's fault: 502 (R-41).
3. Whether tokens were spent before an error within the stream, its reader knows (R-52).
"""

import re
from typing import Any, Final

import orjson

from antiphon.backends.faults import filtered, refused
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

_TOO_LONG: Final = re.compile(
    r"prompt is too long|exceeds? (the )?(model's )?(maximum )?context (limit|window|length)"
    r"|input (length|is too long)|maximum context length|context_length_exceeded",
    re.IGNORECASE,
)
_FILTERED: Final = re.compile(r"content filter", re.IGNORECASE)
_NO_CREDIT: Final = re.compile(r"credit balance|billing|spend(ing)? limit", re.IGNORECASE)
_UNREADABLE: Final = re.compile(
    r"could not process (image|pdf)|image (exceeds|dimensions)|PDF (is|was|pages)"
    r"|\.source\.(base64|url)|unable to download",
    re.IGNORECASE,
)
#: The field that a message begins with, as the client knows it.
_FIELD: Final = re.compile(r"`?(\w+)`?[.:\s]")
_CLIENT_NAMES: Final = {
    "max_tokens": "max_output_tokens",
    "output_config": "text.format",
    "temperature": "temperature",
    "thinking": "reasoning.effort",
    "tool_choice": "tool_choice",
    "tools": "tools",
    "top_p": "top_p",
}


def error_for_status(status: int, body: bytes, model: str) -> APIError:
    """The error for an answer with `status` other than 200, before the first delta.

    `model` is the client's name of the model. A 429 carries no `retry_after` yet.
    """
    match status:
        case 404:
            return ModelNotFound(model)
        case 413:
            return PayloadTooLarge("The input is too large for the model backend.")
        case 408 | 504:
            return UpstreamTimeout()
        case 429:
            return RateLimitError()
        case 400 | 422:
            return _error_for_refusal(_message(body))
        case _:
            return UpstreamError()


def error_in_stream(error: Any) -> APIError:
    """The error for an ``error`` event, when the status was 200."""
    kind = error.get("type") if isinstance(error, dict) else None
    text = error.get("message") if isinstance(error, dict) else None
    if isinstance(text, str) and _TOO_LONG.search(text):
        return ContextLengthExceeded()
    if kind == "rate_limit_error":
        return RateLimitError()
    if kind == "timeout_error":
        return UpstreamTimeout()
    if isinstance(text, str) and _FILTERED.search(text):
        return filtered()
    return UpstreamError()


def _error_for_refusal(text: str) -> APIError:
    if _TOO_LONG.search(text):
        return ContextLengthExceeded()
    if _NO_CREDIT.search(text):
        return UpstreamError()
    if _FILTERED.search(text):
        return filtered()
    if _UNREADABLE.search(text):
        return InvalidRequestError(
            "The model backend could not take an image or a file of the input.", param="input"
        )
    field = _FIELD.match(text)
    param = _CLIENT_NAMES.get(field[1]) if field else None
    if param:
        return UnsupportedParameter(
            f"Unsupported parameter: '{param}' is not supported in this form with this model.",
            param=param,
        )
    return refused()


def _message(body: bytes) -> str:
    """`error.message` of the body, else all of it."""
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError:
        read = None
    error = read.get("error") if isinstance(read, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else body.decode(errors="replace")
