"""What another Responses server says when it fails → our error, in our own words. Pure.

Rules
1. The upstream's text is only matched; it never goes into the error (R-42).
2. 401, 403 and 402 are the operator's fault, not the client's: 502 (R-41). So is a 404 that is not
   about the model: there is no such endpoint.
3. Once the stream has begun tokens were spent: `should_retry` is false (R-52).
4. Reasoning goes back to the deployment that made it only; should that refuse it all the same, the
   client is told what to leave out.
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

#: The words of OpenAI, vLLM, llama.cpp, LM Studio, Ollama and OpenRouter.
_TOO_LONG: Final = re.compile(
    r"context_length_exceeded|exceed_context_size"
    r"|maximum (context|model|input) length|context (length|size|window)"
    r"|(prompt|input) is too long|input token count",
    re.IGNORECASE,
)
_FILTERED: Final = re.compile(
    r"content_filter|content_policy_violation|bio_policy|misalignment_policy_violation"
    r"|flagged as potentially",
    re.IGNORECASE,
)
_NO_MODEL: Final = re.compile(
    r"(model|deployment).{0,80}(not (be )?found|not exist)|model_not_found|DeploymentNotFound",
    re.IGNORECASE,
)
_NO_CREDIT: Final = re.compile(r"insufficient_quota|credit_balance_exhausted", re.IGNORECASE)
_BAD_IMAGE: Final = re.compile(
    r"invalid_(base64_)?image|image_(too|parse|file)|(unsupported|empty)_image|download_image",
)
_UNREADABLE: Final = "invalid_encrypted_content"

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
    text = body.decode(errors="replace")
    match status:
        case 404:
            return ModelNotFound(model) if _NO_MODEL.search(text) else UpstreamError()
        case 413:
            return PayloadTooLarge("The input is too large for the model backend.")
        case 408 | 504:
            return UpstreamTimeout()
        case 429:
            spent = bool(_NO_CREDIT.search(text))
            return RateLimitError(should_retry=False if spent else None)
        case 400 | 422:
            return _error_for_refusal(text, model)
        case _:
            return UpstreamError()


def error_in_stream(error: Any) -> APIError:
    """The error for an `error` value inside the answer, when the status was 200."""
    text = error if isinstance(error, str) else orjson.dumps(error).decode()
    code = str(error.get("code")) if isinstance(error, dict) else ""
    if code in ("429", "rate_limit_exceeded", "insufficient_quota"):
        return RateLimitError(should_retry=False)
    if error_in_input := _error_in_input(text):
        return error_in_input
    return refused() if code == "invalid_prompt" else UpstreamError(should_retry=False)


def _error_in_input(text: str) -> APIError | None:
    """What is wrong with what the client said, if it is that."""
    if _TOO_LONG.search(text):
        return ContextLengthExceeded()
    if _FILTERED.search(text):
        return filtered()
    if _UNREADABLE in text:
        return InvalidRequestError(
            "The model backend could not read reasoning of an earlier turn. Leave the reasoning "
            "items out of the input.",
            param="input",
            code=_UNREADABLE,
        )
    if _BAD_IMAGE.search(text):
        return InvalidRequestError(
            "The model backend could not read an image of the input.", param="input"
        )
    return None


def _error_for_refusal(text: str, model: str) -> APIError:
    error = _error_in_input(text)
    if error is not None:
        return error
    param = _param(text)
    sent = next((name for name in _SENT if param.startswith(name)), None)
    if sent is not None:
        return UnsupportedParameter(
            f"Unsupported parameter: '{sent}' is not supported in this form with this model.",
            param=sent,
        )
    if _NO_MODEL.search(text):
        return ModelNotFound(model)
    return refused()


def _param(text: str) -> str:
    """`error.param` of an OpenAI-shaped body."""
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    return param if isinstance(param, str) else ""
