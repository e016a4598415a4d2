"""A prompt → the body of ``POST /chat/completions``, and what of a request gets lost on the way.

Rules
1. Pure. The prompt is read, never changed.
2. Always streamed, always with usage.
3. What cannot be honoured raises in `check_request`; what is dropped is named there (never silent).
4. A custom tool is sent as a function with the one string parameter `input`, where the server does
   not know custom tools.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from antiphon.backends.base import Prompt
from antiphon.backends.chat_completions.messages import MEDIA, chat_messages, check_part
from antiphon.backends.functions import offered, parameters_of
from antiphon.backends.profiles import Profile
from antiphon.protocol.items.content import PARTS_IN
from antiphon.protocol.request import CreateResponse

_LOGPROBS = "message.output_text.logprobs"

#: Parameters that only some backends know.
_HINTS: dict[str, Callable[[CreateResponse], Any]] = {
    "prompt_cache_key": attrgetter("prompt_cache_key"),
    "prompt_cache_options": attrgetter("prompt_cache_options"),
    "prompt_cache_retention": attrgetter("prompt_cache_retention"),
    "safety_identifier": attrgetter("safety_identifier"),
    "service_tier": attrgetter("service_tier"),
    "user": attrgetter("user"),
}
#: Values that are no loss when they are dropped.
_NO_LOSS = {"service_tier": ("auto", "default")}
_NEAREST_EFFORT = {"minimal": "low", "xhigh": "high", "max": "high"}
#: Keys of a tool that chat-completions has no place for.
_TOOL_HINTS = ("allowed_callers", "async", "defer_loading", "output_schema")


def check_request(request: CreateResponse, profile: Profile) -> list[str]:
    """Raise `InvalidRequestError` for what cannot be honoured; give back the paths of the rest."""
    for i, item in enumerate(request.input):
        if item["type"] == "computer_call_output":
            check_part({"type": "input_image"}, f"input[{i}].output", profile, text_only=False)
        key = PARTS_IN.get(item["type"])
        if key and not isinstance(item[key], str):
            text_only = key == "content" and item["role"] != "user"
            for j, part in enumerate(item[key]):
                if part["type"] in MEDIA:
                    check_part(part, f"input[{i}].{key}[{j}]", profile, text_only=text_only)
    return _dropped(request, profile)


def chat_body(prompt: Prompt, profile: Profile) -> dict[str, Any]:
    """The JSON body; `prompt.items` are the whole history."""
    request = prompt.request
    body: dict[str, Any] = {
        "model": prompt.model,
        "messages": chat_messages(request.instructions, prompt.items, profile),
        "stream": True,
        "stream_options": {"include_usage": True},
        profile.max_tokens: request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        **_tools(request, profile),
        **_output(request, profile),
    }
    if request.top_logprobs or _LOGPROBS in (request.include or ()):
        body["logprobs"] = True
        body["top_logprobs"] = request.top_logprobs or None
    effort = _effort(request, profile)
    if profile.effort:
        body[profile.effort] = (
            {"effort": effort} if effort and profile.effort == "reasoning" else effort
        )
    for key in profile.forwards:
        body[key] = _HINTS[key](request)
    return {key: value for key, value in body.items() if value is not None}


def _output(request: CreateResponse, profile: Profile) -> dict[str, Any]:
    """`response_format` and `verbosity`."""
    text = request.text or {}
    output: dict[str, Any] = {}
    if profile.verbosity:
        output["verbosity"] = text.get("verbosity")
    asked = text.get("format") or {}
    match asked.get("type"):
        case "json_schema":
            keys = ("name", "description", "schema", "strict")
            schema = {key: asked[key] for key in keys if asked.get(key) is not None}
            output["response_format"] = {"type": "json_schema", "json_schema": schema}
        case "json_object" if profile.json_object:
            output["response_format"] = {"type": "json_object"}
        case "json_object":
            schema = {"name": "object", "schema": {"type": "object"}}
            output["response_format"] = {"type": "json_schema", "json_schema": schema}
    return output


def _effort(request: CreateResponse, profile: Profile) -> str | None:
    """`reasoning.effort` in the words of the backend; None when it knows none."""
    effort: str | None = (request.reasoning or {}).get("effort")
    if effort is None or profile.effort is None:
        return None
    known = profile.efforts is None or effort in profile.efforts
    return effort if known else _NEAREST_EFFORT[effort]


def _tools(request: CreateResponse, profile: Profile) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`."""
    choice = request.tool_choice
    tools = request.tools or []
    native = _native_choice(choice, profile)
    if isinstance(choice, dict) and not isinstance(native, dict):
        tools = offered(request).tools
    if not tools or (choice == "none" and native is None):
        return {}
    fields: dict[str, Any] = {
        "tools": [_tool(tool, profile) for tool in tools],
        "tool_choice": native,
    }
    if profile.parallel_tool_calls:
        fields["parallel_tool_calls"] = request.parallel_tool_calls
    return fields


def _native_choice(choice: Any, profile: Profile) -> Any:
    """`tool_choice` as the backend knows it. What is no object there needs fewer tools."""
    if choice is None or profile.tool_choice == "ignored":
        return None
    if isinstance(choice, str):
        return choice
    if choice["type"] != "allowed_tools":
        return "required" if profile.tool_choice == "words" else _named(choice, profile)
    if profile.tool_choice != "all":
        return choice["mode"]
    allowed = {"mode": choice["mode"], "tools": [_named(t, profile) for t in choice["tools"]]}
    return {"type": "allowed_tools", "allowed_tools": allowed}


def _named(tool: dict[str, Any], profile: Profile) -> dict[str, Any]:
    kind = "custom" if tool["type"] == "custom" and profile.custom_tools else "function"
    return {"type": kind, kind: {"name": tool["name"]}}


def _tool(tool: dict[str, Any], profile: Profile) -> dict[str, Any]:
    function = {"name": tool["name"]}
    if tool.get("description"):
        function["description"] = tool["description"]
    if tool["type"] == "custom" and profile.custom_tools:
        if (text_format := _native_format(tool.get("format") or {})) is not None:
            function["format"] = text_format
        return {"type": "custom", "custom": function}
    function["parameters"] = parameters_of(tool)
    if tool["type"] != "custom" and tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _native_format(text_format: dict[str, Any]) -> dict[str, Any] | None:
    if text_format.get("type") != "grammar":
        return None
    grammar = {key: text_format[key] for key in ("syntax", "definition")}
    return {"type": "grammar", "grammar": grammar}


def _dropped(request: CreateResponse, profile: Profile) -> list[str]:
    dropped = [
        key
        for key, read in _HINTS.items()
        if key in request.model_fields_set
        and key not in profile.forwards
        and read(request) not in (None, *_NO_LOSS.get(key, ()))
    ]
    reasoning = request.reasoning or {}
    if reasoning.get("effort") != _effort(request, profile):
        dropped.append("reasoning.effort")
    dropped += _dropped_summaries(reasoning, profile)
    if reasoning.get("mode"):
        dropped.append("reasoning.mode")
    if (request.text or {}).get("verbosity") and not profile.verbosity:
        dropped.append("text.verbosity")
    for i, tool in enumerate(request.tools or ()):
        dropped += [f"tools[{i}].{key}" for key in _TOOL_HINTS if tool.get(key)]
    if request.tools and request.parallel_tool_calls is False and not profile.parallel_tool_calls:
        dropped.append("parallel_tool_calls")
    choice = request.tool_choice
    if profile.tool_choice == "ignored" and choice not in (None, "none", "auto"):
        dropped.append("tool_choice")
    return dropped


def _dropped_summaries(reasoning: dict[str, Any], profile: Profile) -> list[str]:
    """Raw reasoning serves as a summary, but nobody makes it shorter."""
    honoured = () if profile.hides_reasoning else ("auto", "detailed")
    keys = ("summary", "generate_summary")
    return [f"reasoning.{key}" for key in keys if reasoning.get(key) not in (None, *honoured)]
