"""What another Responses server says when it fails → our error, in our own words. Pure.

Rules
1. The upstream's text is only matched; it never goes into the error (R-42).
2. 401, 403 and 402 are the operator's fault, not the client's: 502 (R-41). So is a 404 that is not
   about the model: there is no such endpoint.
3. Once the stream has begun tokens were spent: `should_retry` is false (R-52).
4. Reasoning goes back to the deployment that made it only; should that refuse it all the same, it
   is asked without (`Ask.anew`), and if it still refuses the client is told what to leave out.
"""

import re
from typing import Any, Final

from antiphon.backends.complaints import Complaint, complaint
from antiphon.backends.faults import UNREADABLE_THOUGHTS, filtered, refused
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

_FILTERED: Final = frozenset(
    {
        *("content_filter", "content_policy_violation", "image_content_policy_violation"),
        *("bio_policy", "misalignment_policy_violation"),
    }
)
_FLAGGED: Final = "your prompt was flagged as potentially"
_LIMITED: Final = frozenset({"429", "rate_limit_exceeded"})
_BAD_IMAGE: Final = re.compile(
    r"invalid_(base64_)?image|image_(too|parse|file)|(unsupported|empty)_image|.*download_image"
)

#: What is sent under the client's own name of it, longer names first.
_SENT: Final = (
    *("max_output_tokens", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention"),
    *("reasoning.effort", "reasoning.mode", "reasoning.summary", "reasoning", "safety_identifier"),
    *("service_tier", "temperature", "text.format", "text.verbosity", "text", "tool_choice"),
    *("tools", "top_logprobs", "top_p", "user"),
)


def error_for_status(status: int, body: bytes, model: str) -> APIError:
    """The error for an answer with `status` other than 200, before the first delta.

    `model` is the client's name of the model. A 429 carries no `retry_after` yet.
    """
    said = complaint(body)
    match status:
        case 404:
            return ModelNotFound(model) if said.is_no_model else UpstreamError()
        case 413:
            return PayloadTooLarge("The input is too large for the model backend.")
        case 408 | 504:
            return UpstreamTimeout()
        case 429:
            return RateLimitError(should_retry=False if said.is_no_credit else None)
        case 400 | 422:
            return _error_for_refusal(said, model)
        case _:
            return UpstreamError()


def error_in_stream(error: Any) -> APIError:
    """The error for an `error` value inside the answer, when the status was 200."""
    said = complaint(error)
    if said.has(_LIMITED) or said.is_no_credit:
        return RateLimitError(should_retry=False)
    if error_in_input := _error_in_input(said):
        return error_in_input
    return refused() if "invalid_prompt" in said.codes else UpstreamError(should_retry=False)


def _error_in_input(said: Complaint) -> APIError | None:
    """What is wrong with what the client said, if it is that."""
    if said.is_too_long:
        return ContextLengthExceeded()
    if said.has(_FILTERED) or _FLAGGED in said.message:
        return filtered()
    if UNREADABLE_THOUGHTS in said.codes:
        return InvalidRequestError(
            "The model backend could not read reasoning of an earlier turn. Leave the reasoning "
            "items out of the input.",
            param="input",
            code=UNREADABLE_THOUGHTS,
        )
    if any(map(_BAD_IMAGE.match, said.codes)):
        return InvalidRequestError(
            "The model backend could not read an image of the input.", param="input"
        )
    return None


def _error_for_refusal(said: Complaint, model: str) -> APIError:
    error = _error_in_input(said)
    if error is not None:
        return error
    sent = next((name for name in _SENT if said.param.startswith(name)), None)
    if sent is not None:
        return UnsupportedParameter(
            f"Unsupported parameter: '{sent}' is not supported in this form with this model.",
            param=sent,
        )
    return ModelNotFound(model) if said.is_no_model else refused()
