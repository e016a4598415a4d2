"""What an upstream says when it fails → our error, in our own words. Pure.

Rules
1. The upstream's text is only matched; it never goes into the error (R-42).
2. 401, 403 and 402 are the operator's fault, not the client's: 502 (R-41).
3. Once the stream has begun tokens were spent: `should_retry` is false (R-52).
4. What a chat template refuses is no failure of the server, which says 500 (llama.cpp, Ollama).
"""

import re
from typing import Any

from antiphon.backends.chat_completions.quirks import quirk_in
from antiphon.backends.complaints import Complaint, complaint
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

_FILTERED = frozenset({"content_filter", "content_policy_violation"})
_REFUSED = frozenset({"400", "422"})
_LIMITED = frozenset({"429", "rate_limit_exceeded"})
#: llama.cpp's 500 for what is wrong with the request: a text for a vector is longer than its
#: batch; it was loaded without eyes or ears.
_TOO_LARGE = re.compile(r"is too large to process", re.IGNORECASE)
_NOT_TAKEN = re.compile(r"(image|audio|video) input is not supported", re.IGNORECASE)
#: OpenRouter (404), Ollama, and vLLM that was started without a parser of calls.
_NO_TOOLS = re.compile(
    r"endpoints found that support tool use|does not support tools"
    r"|requires --enable-auto-tool-choice",
    re.IGNORECASE,
)

#: Parameters of the chat API as the client knows them.
_CLIENT_NAMES = {
    "frequency_penalty": "frequency_penalty",
    "logprobs": "top_logprobs",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "parallel_tool_calls": "parallel_tool_calls",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "service_tier": "service_tier",
    "temperature": "temperature",
    "tool_choice": "tool_choice",
    "tools": "tools",
    "top_logprobs": "top_logprobs",
    "top_p": "top_p",
    "verbosity": "text.verbosity",
}


def error_for_status(status: int, body: bytes, model: str) -> APIError:
    """The error for an answer with `status` other than 200, before the first delta.

    `model` is the client's name of the model. A 429 carries no `retry_after` yet.
    """
    said = complaint(body)
    match status:
        case 404 if not _NO_TOOLS.search(said.message):
            return ModelNotFound(model)
        case 413:
            return PayloadTooLarge("The input is too large for the model backend.")
        case 408 | 504:
            return UpstreamTimeout()
        case 429:
            return RateLimitError(should_retry=False if said.is_no_credit else None)
        case 400 | 404 | 422:
            return _error_for_refusal(said, model)
        case _:
            return _error_for_failure(said)


def error_in_stream(error: Any) -> APIError:
    """The error for an `error` value inside the answer, when the status was 200."""
    said = complaint(error)
    if said.is_too_long:
        return ContextLengthExceeded()
    if said.has(_LIMITED):
        return RateLimitError(should_retry=False)
    if said.has(_FILTERED):
        return filtered()
    if quirk := quirk_in(said):
        return quirk
    # vLLM says so of what it would have answered with that status.
    return refused() if said.has(_REFUSED) else UpstreamError(should_retry=False)


def _error_for_refusal(said: Complaint, model: str) -> APIError:
    if said.is_too_long:
        return ContextLengthExceeded()
    if said.has(_FILTERED):
        return filtered()
    if quirk := quirk_in(said):
        return quirk
    param = _CLIENT_NAMES.get(re.split(r"[.\[]", said.param)[0])
    if _NO_TOOLS.search(said.message):
        param = "tools"
    if param:
        return UnsupportedParameter(
            f"Unsupported parameter: '{param}' is not supported in this form with this model.",
            param=param,
        )
    if said.is_no_model:
        return ModelNotFound(model)
    return refused()


def _error_for_failure(said: Complaint) -> APIError:
    if _TOO_LARGE.search(said.message):
        return ContextLengthExceeded()
    if quirk := quirk_in(said):
        return quirk
    if found := _NOT_TAKEN.search(said.message):
        name = {"image": "images", "audio": "sounds", "video": "videos"}[found[1].lower()]
        return InvalidRequestError(f"This model takes no {name}.", param="input")
    return UpstreamError()
