"""A prompt → the body of ``:streamGenerateContent``, and what of a request gets lost on the way.

Rules
1. Pure. The prompt is read, never changed.
2. What cannot be honoured raises in `check_request`; what is dropped is named there (never silent).
3. A schema is sent as JSON Schema: `responseJsonSchema`, `parametersJsonSchema`. Models that do not
   take a schema together with functions get it in words; who asked for a strict answer is told
   when it is none.
4. A custom tool is a function with the one string parameter `input`.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import orjson

from antiphon.backends.base import Prompt
from antiphon.backends.functions import offered, parameters_of
from antiphon.backends.gemini.messages import (
    MEDIA,
    Json,
    Target,
    check_part,
    conversation,
    rule_part,
)
from antiphon.backends.gemini.traits import Traits, thinking
from antiphon.protocol.items.content import PARTS_IN
from antiphon.protocol.request import CreateResponse

_LOGPROBS: Final = "message.output_text.logprobs"
_JSON: Final = "application/json"
_IN_WORDS: Final = "When you answer, and call no function, answer with nothing but a JSON "

#: Parameters that Gemini does not know.
_HINTS: Final[dict[str, Callable[[CreateResponse], Any]]] = {
    "prompt_cache_key": attrgetter("prompt_cache_key"),
    "prompt_cache_options": attrgetter("prompt_cache_options"),
    "prompt_cache_retention": attrgetter("prompt_cache_retention"),
    "safety_identifier": attrgetter("safety_identifier"),
    "user": attrgetter("user"),
}
#: `service_tier` → `serviceTier`; None: as it is without.
_TIERS: Final[dict[str | None, str | None]] = {
    None: None,
    "auto": None,
    "default": None,
    "flex": "flex",
    "priority": "priority",
}
#: Summaries that raw thoughts can serve as: nobody makes them shorter.
_SUMMARIES: Final = (None, "auto", "detailed")
#: Keys of a tool that a function declaration has no place for.
_TOOL_HINTS: Final = ("allowed_callers", "async", "defer_loading", "output_schema")


def check_request(request: CreateResponse, traits: Traits) -> list[str]:
    """Raise `InvalidRequestError` for what cannot be honoured; give back the paths of the rest."""
    for i, item in enumerate(request.input):
        key = PARTS_IN.get(item["type"])
        if key and not isinstance(item[key], str):
            text_only = key == "content" and item["role"] != "user"
            for j, part in enumerate(item[key]):
                if part["type"] in MEDIA:
                    check_part(part, f"input[{i}].{key}[{j}]", text_only=text_only)
    return _dropped(request, traits)


def gemini_body(prompt: Prompt, target: Target) -> Json:
    """The JSON body; `prompt.items` are the whole history."""
    request = prompt.request
    said = conversation(request.instructions, prompt.items, target)
    tools = _tools(request, target.traits)
    schema = _schema(request)
    if schema and tools and not target.traits.schema_with_functions:
        said.rules.append(_in_words(schema))
        schema = {}
    body: Json = {
        "contents": said.contents,
        **tools,
        "generationConfig": _generation(request, target.traits) | schema,
    }
    rules = "\n\n".join(said.rules)
    if rules and target.traits.system:
        body["systemInstruction"] = {"parts": [{"text": rules}]}
    elif rules:
        said.contents[0]["parts"].insert(0, rule_part("developer", rules))
    if tier := _TIERS.get(request.service_tier):
        body["serviceTier"] = tier
    return body


def _generation(request: CreateResponse, traits: Traits) -> Json:
    config: Json = {
        "maxOutputTokens": request.max_output_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "thinkingConfig": thinking(_effort(request), traits).config,
    }
    if request.top_logprobs or _LOGPROBS in (request.include or ()):
        config["responseLogprobs"] = True
        config["logprobs"] = request.top_logprobs or None
    return {key: value for key, value in config.items() if value is not None}


def _schema(request: CreateResponse) -> Json:
    """`text.format`, as far as it is JSON."""
    asked = (request.text or {}).get("format") or {}
    match asked.get("type"):
        case "json_schema":
            return {"responseMimeType": _JSON, "responseJsonSchema": asked["schema"]}
        case "json_object":
            return {"responseMimeType": _JSON}
        case _:
            return {}


def _in_words(schema: Json) -> str:
    wanted = schema.get("responseJsonSchema")
    if wanted is None:
        return _IN_WORDS + "object."
    return f"{_IN_WORDS}value that matches this schema:\n{orjson.dumps(wanted).decode()}"


def _effort(request: CreateResponse) -> str | None:
    effort: str | None = (request.reasoning or {}).get("effort")
    return effort


def _tools(request: CreateResponse, traits: Traits) -> Json:
    """`tools` and `toolConfig`. A model that must call one of some is told all, as ever, and which:
    so the beginning of the prompt stays the same."""
    every = request.tools or []
    may = offered(request)
    if request.tool_choice == "none":
        config: Json | None = {"mode": "NONE"}
        every = every if traits.schema_with_functions else []
    elif may.mode == "required":
        config = {"mode": "ANY"}
        if len(may.tools) < len(every):
            config["allowedFunctionNames"] = [tool["name"] for tool in may.tools]
    else:
        every = may.tools
        strict = traits.validated and any(tool.get("strict") for tool in every)
        asked = strict or request.tool_choice is not None
        config = {"mode": "VALIDATED" if strict else "AUTO"} if asked else None
    if not every:
        return {}
    declared = [{"functionDeclarations": [_declaration(tool) for tool in every]}]
    choice = {} if config is None else {"toolConfig": {"functionCallingConfig": config}}
    return {"tools": declared, **choice}


def _declaration(tool: Json) -> Json:
    described = {"description": tool["description"]} if tool.get("description") else {}
    return {"name": tool["name"], **described, "parametersJsonSchema": parameters_of(tool)}


def _dropped(request: CreateResponse, traits: Traits) -> list[str]:
    dropped = [key for key, read in _HINTS.items() if read(request) is not None]
    if request.service_tier not in _TIERS:
        dropped.append("service_tier")
    reasoning = request.reasoning or {}
    if not thinking(_effort(request), traits).exact:
        dropped.append("reasoning.effort")
    for key in ("summary", "generate_summary"):
        honoured = _SUMMARIES if traits.can_think else (None,)
        if reasoning.get(key) not in honoured:
            dropped.append(f"reasoning.{key}")
    if reasoning.get("mode"):
        dropped.append("reasoning.mode")
    if (request.text or {}).get("verbosity"):
        dropped.append("text.verbosity")
    for i, tool in enumerate(request.tools or ()):
        dropped += [f"tools[{i}].{key}" for key in _TOOL_HINTS if tool.get(key)]
        if tool.get("strict") and not traits.validated:
            dropped.append(f"tools[{i}].strict")
    if request.tools and request.parallel_tool_calls is False:
        dropped.append("parallel_tool_calls")
    return dropped
