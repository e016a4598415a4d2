"""A chat request → what any-llm is asked with, and what of a request gets lost on the way. Pure.

Rules
1. The body is that of ``chat_completions``; here is only what a provider has other words for.
2. What any-llm would leave out is refused or reported (`traits`).
"""

from typing import Any, Final

import orjson

from antiphon.backends.any_llm.traits import Traits
from antiphon.backends.base import Prompt
from antiphon.backends.chat_completions.request import chat_body
from antiphon.backends.chat_completions.request import check_request as check_chat_request
from antiphon.errors import UnsupportedParameter
from antiphon.protocol.request import CreateResponse

_LOGPROBS: Final = "message.output_text.logprobs"


def check_request(request: CreateResponse, traits: Traits) -> list[str]:
    """Raise `InvalidRequestError` for what cannot be honoured; give back the paths of the rest."""
    if not traits.logprobs and (request.top_logprobs or _LOGPROBS in (request.include or ())):
        param = "top_logprobs" if request.top_logprobs else "include"
        raise UnsupportedParameter(
            f"Unsupported parameter: '{param}' is not supported with this model.", param=param
        )
    dropped = check_chat_request(request, traits.profile)
    if "reasoning.effort" not in dropped and not _is_obeyed(request, traits):
        dropped.append("reasoning.effort")
    if not traits.strict:
        tools = enumerate(request.tools or ())
        dropped += [f"tools[{i}].strict" for i, tool in tools if tool.get("strict")]
    return dropped


def library_body(prompt: Prompt, traits: Traits) -> bytes:
    """The arguments of ``acompletion``, as JSON."""
    body = chat_body(prompt, traits.profile)
    _say_choice(body, traits)
    if "top_p" in body:
        body[traits.top_p] = body.pop("top_p")
    if not traits.reasons_with_tools and "tools" in body:
        body.pop("reasoning_effort", None)
    if not traits.strict:
        for tool in body.get("tools", ()):
            tool["function"].pop("strict", None)
    if not traits.text_results:
        for message in body["messages"]:
            if message["role"] == "tool":
                message["content"] = _object_or_text(message["content"])
    return orjson.dumps(body)


def _is_obeyed(request: CreateResponse, traits: Traits) -> bool:
    """Whether `reasoning.effort` is what the model is told."""
    effort = (request.reasoning or {}).get("effort")
    if effort is None:
        return True
    if request.tools and not traits.reasons_with_tools:
        return False
    return traits.efforts is None or effort in traits.efforts


def _say_choice(body: dict[str, Any], traits: Traits) -> None:
    """`tool_choice` in the provider's words. ``auto`` is what all do by themselves."""
    match body.get("tool_choice"):
        case "auto":
            del body["tool_choice"]
        case "required":
            body["tool_choice"] = traits.required
        case "none" if traits.none is None:
            for key in ("tools", "tool_choice", "parallel_tool_calls"):
                body.pop(key, None)
        case "none":
            body["tool_choice"] = traits.none


def _object_or_text(content: str) -> str:
    """A result that is JSON, as an object."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content
    return content if isinstance(value, dict) else orjson.dumps({"output": value}).decode()
