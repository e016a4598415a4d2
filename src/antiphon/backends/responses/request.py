"""A prompt → the body of ``POST /responses``, and what of a request gets lost on the way.

Rules
1. Pure. The prompt is read, never changed.
2. Always streamed, and never stored there: the whole history is sent each time.
3. What is this server's own work is not sent: `truncation`, `metadata`, `prompt`, `background`,
   `max_tool_calls` and the like.
4. What cannot be honoured raises in `check_request`; what is dropped is named there (never silent).
5. A function has its `strict` as we have it: without one, servers have defaults of their own.
6. Where several system messages are one too many, those at the start go into `instructions`, and
   later ones are the user's, marked.
7. Tools that the server runs itself go as the client has them.
8. A custom tool is sent as a function with the one string parameter `input`, where the server does
   not know custom tools.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, TypeAlias

from antiphon.backends.base import Prompt
from antiphon.backends.functions import offered, parameters_of
from antiphon.backends.origins import Origin
from antiphon.backends.profiles import Profile
from antiphon.backends.responses.dialects import Dialect
from antiphon.backends.responses.hosted import INCLUDED
from antiphon.backends.responses.messages import MEDIA, check_part, input_items
from antiphon.errors import UnsupportedParameter
from antiphon.protocol.items.content import PARTS_IN
from antiphon.protocol.request import CreateResponse

Json: TypeAlias = dict[str, Any]

_LOGPROBS: Final = "message.output_text.logprobs"
_ENCRYPTED: Final = "reasoning.encrypted_content"
#: Around what the system says, where the user has to say it.
_OPENED: Final = "<system_message>"
_CLOSED: Final = "</system_message>"

#: Parameters that only some backends know.
_HINTS: Final[dict[str, Callable[[CreateResponse], Any]]] = {
    "prompt_cache_key": attrgetter("prompt_cache_key"),
    "prompt_cache_options": attrgetter("prompt_cache_options"),
    "prompt_cache_retention": attrgetter("prompt_cache_retention"),
    "safety_identifier": attrgetter("safety_identifier"),
    "service_tier": attrgetter("service_tier"),
    "user": attrgetter("user"),
}
#: Values that are no loss when they are dropped.
_NO_LOSS: Final = {"service_tier": ("auto", "default")}
_NO_FORMAT: Final = (None, "text")
_NEAREST_EFFORT: Final = {"minimal": "low", "xhigh": "high", "max": "high"}
#: Keys of a tool that are not sent.
_TOOL_HINTS: Final = ("allowed_callers", "async", "defer_loading", "output_schema")
#: What tokens are counted of.
_COUNTED: Final = (
    *("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls"),
    *("reasoning", "text"),
)


def check_request(request: CreateResponse, dialect: Dialect) -> list[str]:
    """Raise `InvalidRequestError` for what cannot be honoured; give back the paths of the rest."""
    for i, item in enumerate(request.input):
        key = PARTS_IN.get(item["type"])
        if key and not isinstance(item[key], str):
            by_assistant = key == "content" and item["role"] == "assistant"
            for j, part in enumerate(item[key]):
                if part["type"] in MEDIA:
                    check_part(part, f"input[{i}].{key}[{j}]", by_assistant=by_assistant)
    wanted = (request.text or {}).get("format") or {}
    if not dialect.formats and wanted.get("type") not in _NO_FORMAT:
        raise UnsupportedParameter(
            "Unsupported parameter: 'text.format' is not supported with this model backend.",
            param="text.format",
        )
    return _dropped(request, dialect)


def responses_body(prompt: Prompt, dialect: Dialect, origin: Origin) -> Json:
    """The JSON body; `prompt.items` are the whole history."""
    request = prompt.request
    wants_logprobs = _wants_logprobs(request) and dialect.logprobs
    include = [_ENCRYPTED] if dialect.is_sealing(prompt.model) else []
    include += _included(request, dialect)
    instructions = request.instructions or ""
    items = input_items(prompt.items, dialect, origin, reasons=dialect.reasons(prompt.model))
    if dialect.profile.merge_system:
        instructions, items = _merged(instructions, items)
    body: Json = {
        "model": prompt.model,
        "instructions": instructions or None,
        "input": items,
        "stream": True,
        "store": False,
        "include": (include + ([_LOGPROBS] if wants_logprobs else [])) or None,
        "top_logprobs": (request.top_logprobs or None) if wants_logprobs else None,
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "text": _text(request, dialect.profile) or None,
        "reasoning": _reasoning(request, dialect) or None,
        **_tools(request, dialect),
        **{key: _HINTS[key](request) for key in dialect.profile.forwards},
    }
    return {key: value for key, value in body.items() if value is not None}


def counted_body(prompt: Prompt, dialect: Dialect, origin: Origin) -> Json:
    """The JSON body of ``POST /responses/input_tokens``."""
    body = responses_body(prompt, dialect, origin)
    return {key: body[key] for key in _COUNTED if key in body}


def _merged(instructions: str, items: list[Json]) -> tuple[str, list[Json]]:
    """Instructions with the texts of the system at the start, and the other items: with later ones,
    and images, as the user's."""
    texts: list[str] = []
    for item in items:
        if item.get("role") != "system" or not isinstance(item["content"], str):
            break
        texts.append(item["content"])
    rest = [_by_user(one) if one.get("role") == "system" else one for one in items[len(texts) :]]
    if not rest:
        return instructions, items
    return "\n\n".join(filter(None, [instructions, *texts])), rest


def _by_user(item: Json) -> Json:
    content = item["content"]
    if isinstance(content, str):
        return {**item, "role": "user", "content": f"{_OPENED}\n{content}\n{_CLOSED}"}
    first, last = ({"type": "input_text", "text": text} for text in (_OPENED, _CLOSED))
    return {**item, "role": "user", "content": [first, *content, last]}


def _included(request: CreateResponse, dialect: Dialect) -> list[str]:
    """What of calls that the server runs itself was asked for."""
    known = {name for tool in dialect.hosted for name in INCLUDED[tool]}
    asked = request.include or () if _hosted_tools(request, dialect) else ()
    return [name for name in dict.fromkeys(asked) if name in known]


def _hosted_tools(request: CreateResponse, dialect: Dialect) -> list[Json]:
    return [tool for tool in request.tools or () if dialect.runs(tool)]


def _wants_logprobs(request: CreateResponse) -> bool:
    return bool(request.top_logprobs) or _LOGPROBS in (request.include or ())


def _text(request: CreateResponse, profile: Profile) -> Json:
    """`format` and `verbosity`."""
    asked = request.text or {}
    text: Json = {}
    if profile.verbosity and asked.get("verbosity"):
        text["verbosity"] = asked["verbosity"]
    wanted = asked.get("format") or {}
    match wanted.get("type"):
        case "json_schema":
            keys = ("type", "name", "description", "schema", "strict")
            text["format"] = {key: wanted[key] for key in keys if wanted.get(key) is not None}
        case "json_object" if profile.json_object:
            text["format"] = {"type": "json_object"}
        case "json_object":
            schema = {"type": "object"}
            text["format"] = {"type": "json_schema", "name": "object", "schema": schema}
    return text


def _reasoning(request: CreateResponse, dialect: Dialect) -> Json:
    """`effort`, `summary` and `mode`."""
    asked = request.reasoning or {}
    reasoning: Json = {"effort": _effort(request, dialect.profile)}
    if dialect.summaries:
        reasoning["summary"] = asked.get("summary") or asked.get("generate_summary")
    if dialect.modes:
        reasoning["mode"] = asked.get("mode")
    return {key: value for key, value in reasoning.items() if value is not None}


def _effort(request: CreateResponse, profile: Profile) -> str | None:
    """`reasoning.effort` in the words of the backend; None when it knows none."""
    effort: str | None = (request.reasoning or {}).get("effort")
    if effort is None or profile.effort is None:
        return None
    known = profile.efforts is None or effort in profile.efforts
    return effort if known else _NEAREST_EFFORT[effort]


def _tools(request: CreateResponse, dialect: Dialect) -> Json:
    """`tools`, `tool_choice`, `parallel_tool_calls`, and `max_tool_calls` for those that the server
    runs itself."""
    profile = dialect.profile
    choice = request.tool_choice
    tools = request.tools or []
    native = _native_choice(choice, profile)
    if isinstance(choice, dict) and not isinstance(native, dict):
        tools = offered(request).tools
    if not tools or (choice == "none" and native is None):
        return {}
    sent = [_hosted(tool) if dialect.runs(tool) else _tool(tool, profile) for tool in tools]
    fields: Json = {"tools": sent, "tool_choice": native}
    if any(dialect.runs(tool) for tool in tools):
        fields["max_tool_calls"] = request.max_tool_calls
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
    tools = [_named(tool, profile) for tool in choice["tools"]]
    return {"type": "allowed_tools", "mode": choice["mode"], "tools": tools}


def _named(tool: Json, profile: Profile) -> Json:
    if "name" not in tool:  # one that the server runs itself
        return {"type": tool["type"]}
    kind = "custom" if tool["type"] == "custom" and profile.custom_tools else "function"
    return {"type": kind, "name": tool["name"]}


def _hosted(tool: Json) -> Json:
    """As the client has it."""
    return {key: value for key, value in tool.items() if value is not None}


def _tool(tool: Json, profile: Profile) -> Json:
    named = _named(tool, profile)
    if tool.get("description"):
        named["description"] = tool["description"]
    if named["type"] == "custom":
        text_format = tool.get("format") or {}
        if text_format.get("type") == "grammar":
            named["format"] = {key: text_format[key] for key in ("type", "syntax", "definition")}
        return named
    return {**named, "parameters": parameters_of(tool), "strict": bool(tool.get("strict"))}


def _dropped(request: CreateResponse, dialect: Dialect) -> list[str]:
    profile = dialect.profile
    dropped = [
        key
        for key, read in _HINTS.items()
        if key not in profile.forwards and read(request) not in (None, *_NO_LOSS.get(key, ()))
    ]
    reasoning = request.reasoning or {}
    if reasoning.get("effort") != _effort(request, profile):
        dropped.append("reasoning.effort")
    if not dialect.summaries:
        # Reasoning in the clear serves as a summary, but nobody makes it shorter.
        keys = ("summary", "generate_summary")
        dropped += [f"reasoning.{key}" for key in keys if reasoning.get(key) == "concise"]
    if reasoning.get("mode") and not dialect.modes:
        dropped.append("reasoning.mode")
    if (request.text or {}).get("verbosity") and not profile.verbosity:
        dropped.append("text.verbosity")
    for i, tool in enumerate(request.tools or ()):
        hints = () if dialect.runs(tool) else _TOOL_HINTS
        dropped += [f"tools[{i}].{key}" for key in hints if tool.get(key)]
    if request.tools and request.parallel_tool_calls is False and not profile.parallel_tool_calls:
        dropped.append("parallel_tool_calls")
    if profile.tool_choice == "ignored" and request.tool_choice not in (None, "none", "auto"):
        dropped.append("tool_choice")
    if _wants_logprobs(request) and not dialect.logprobs:
        dropped.append("top_logprobs" if request.top_logprobs else "include")
    return dropped
