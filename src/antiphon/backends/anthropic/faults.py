"""What the Messages API says when it fails → our error, in our own words. Pure.

Rules
1. The upstream's text is only matched; it never goes into the error (R-42).
2. A wrong key, missing rights and missing credit are the operator's fault: 502 (R-41).
3. Whether tokens were spent before an error within the stream, its reader knows (R-52).
"""

import re
from typing import Any, Final

from antiphon.backends.complaints import Complaint, complaint
from antiphon.backends.faults import filtered, refused, withheld
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

_FILTERED: Final = re.compile(r"^(Input|Output) blocked by content filter", re.IGNORECASE)
#: How a message begins that is about the operator's account.
_ACCOUNT: Final = re.compile(
    r"^(Your (\w+ )?credit balance|You have reached your (specified )?\w* ?(usage|spend)"
    r"|This organization has been disabled)",
    re.IGNORECASE,
)
#: The same of images and files, behind their place if it is given.
_UNREADABLE: Final = re.compile(
    r"^(messages\.[\w.]+: )?(could not process (image|pdf)|image (exceeds|dimensions)"
    r"|(the )?PDF |a maximum of \d+ PDF pages|unable to download)"
    r"|^messages\.[\w.]+\.source\.(base64|url)",
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
            return _error_for_refusal(complaint(body))
        case _:
            return UpstreamError()


def error_in_stream(error: Any) -> APIError:
    """The error for an ``error`` event, when the status was 200."""
    said = complaint(error)
    if "rate_limit_error" in said.codes:
        return RateLimitError()
    if "timeout_error" in said.codes:
        return UpstreamTimeout()
    return _error_in_words(said) or UpstreamError()


def _error_for_refusal(said: Complaint) -> APIError:
    if "billing_error" in said.codes or _ACCOUNT.match(said.message):
        return UpstreamError()
    field = _FIELD.match(said.message)
    param = _CLIENT_NAMES.get(field[1]) if field else None
    if param:
        return UnsupportedParameter(
            f"Unsupported parameter: '{param}' is not supported in this form with this model.",
            param=param,
        )
    if error := _error_in_words(said):
        return error
    if _UNREADABLE.match(said.message):
        return InvalidRequestError(
            "The model backend could not take an image or a file of the input.", param="input"
        )
    return refused()


def _error_in_words(said: Complaint) -> APIError | None:
    """What the API has no type for."""
    if said.is_too_long:
        return ContextLengthExceeded()
    blocked = _FILTERED.match(said.message)
    if blocked:
        return filtered() if blocked[1].lower() == "input" else withheld()
    return None
