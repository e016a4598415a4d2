"""What an upstream says when it fails → our error, in our own words. Pure.

Rules
1. The upstream's text is only matched; it never goes into the error (R-42).
2. 401, 403 and 402 are the operator's fault, not the client's: 502 (R-41).
3. Once the stream has begun tokens were spent: `should_retry` is false (R-52).
"""

import re
from typing import Any

import orjson

from antiphon.backends.faults import filtered, refused
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

#: The words of OpenAI, OpenRouter, vLLM, SGLang, llama.cpp, LM Studio, Ollama, TGI, Mistral and
#: Gemini.
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size"
    r"|maximum (context|model|input) length|context (length|size|window)"
    r"|(prompt|input) is too long|input token count|inputs tokens \+ max_new_tokens",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content_filter|content_policy_violation", re.IGNORECASE)
_NO_MODEL = re.compile(r"model.{0,80}(not found|does not exist)|model_not_found", re.IGNORECASE)
_NO_CREDIT = re.compile(r"insufficient_quota|credit_balance_exhausted", re.IGNORECASE)

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
    text = body.decode(errors="replace")
    match status:
        case 404:
            return ModelNotFound(model)
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
    code = error.get("code") if isinstance(error, dict) else None
    if _TOO_LONG.search(text):
        return ContextLengthExceeded()
    if str(code) in {"429", "rate_limit_exceeded"}:
        return RateLimitError(should_retry=False)
    if _FILTERED.search(text):
        return filtered()
    return UpstreamError(should_retry=False)


def _error_for_refusal(text: str, model: str) -> APIError:
    if _TOO_LONG.search(text):
        return ContextLengthExceeded()
    if _FILTERED.search(text):
        return filtered()
    param = _CLIENT_NAMES.get(_param(text))
    if param:
        return UnsupportedParameter(
            f"Unsupported parameter: '{param}' is not supported in this form with this model.",
            param=param,
        )
    if _NO_MODEL.search(text):
        return ModelNotFound(model)
    return refused()


def _param(text: str) -> str:
    """`error.param` of an OpenAI-shaped body, without what follows a dot or bracket."""
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    return re.split(r"[.\[]", param)[0] if isinstance(param, str) else ""
