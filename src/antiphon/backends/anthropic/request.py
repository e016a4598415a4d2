"""A prompt → the body of ``POST /messages``, and what of a request gets lost on the way.

Rules
1. Pure. The prompt is read, never changed.
2. Always streamed. `max_tokens`, which is required, is what the request says, else the profile's.
3. What cannot be honoured raises in `check_request`; what is dropped is named there (never silent).
4. What a model cannot be held to is asked of it in words, after the instructions: a schema of the
   answer, and any JSON object.
5. The prompt is cached once a conversation goes on, or when the request names a cache: writing it
   costs, reading it saves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, TypeAlias

import orjson

from antiphon.backends.anthropic.messages import View, check_part, conversation
from antiphon.backends.anthropic.profiles import Profile
from antiphon.backends.anthropic.schemas import Room, arguments_of, held
from antiphon.backends.anthropic.thinking import Thinking, thinking_of
from antiphon.backends.anthropic.thoughts import Memory
from antiphon.backends.base import Prompt
from antiphon.backends.functions import Offered, offered, parameters_of
from antiphon.errors import UnsupportedParameter
from antiphon.protocol.items.content import PARTS_IN
from antiphon.protocol.request import CreateResponse

Json: TypeAlias = dict[str, Any]

_LOGPROBS: Final = "message.output_text.logprobs"
#: Parameters that have no place here → values that are no loss.
_UNKNOWN: Final[tuple[tuple[str, Callable[[CreateResponse], Any], tuple[Any, ...]], ...]] = (
    ("prompt_cache_options", attrgetter("prompt_cache_options"), ()),
    ("prompt_cache_retention", attrgetter("prompt_cache_retention"), ("in_memory",)),
    ("service_tier", attrgetter("service_tier"), ("auto", "default")),
    ("user", attrgetter("user"), ()),
)
#: Keys of a tool that have no place here.
_TOOL_HINTS: Final = ("allowed_callers", "async", "defer_loading", "output_schema")
#: More strict tools in one request are refused.
_MOST_STRICT: Final = 20
#: Its range is half of OpenAI's.
_HOTTEST: Final = 1.0
#: History with calls needs tools, even if none may be called.
_NO_TOOL: Final[Json] = {
    "name": "unavailable",
    "description": "No tool can be called now.",
    "input_schema": {"type": "object", "properties": {}},
}
_JSON_ONLY: Final = "Answer with nothing but a JSON {what}: no other text, no code fence."


@dataclass(frozen=True, slots=True)
class Asking:
    """What a request becomes for one model. `images`: it is shown those that tools here made."""

    request: CreateResponse
    profile: Profile
    images: bool = True

    @property
    def most(self) -> int:
        """`max_tokens`."""
        return self.request.max_output_tokens or self.profile.max_tokens

    @property
    def forces(self) -> bool:
        """A tool must be called."""
        return self.profile.forced and offered(self.request).mode == "required"

    def thinking(self, *, stopped: bool = False) -> Thinking:
        """`stopped`: the turn has begun without."""
        effort = (self.request.reasoning or {}).get("effort")
        return thinking_of(effort, self.profile, self.most, stopped=stopped or self.forces)

    def schema(self) -> Json | None:
        """What the API holds the answer to."""
        form = (self.request.text or {}).get("format") or {}
        if form.get("type") != "json_schema" or not self.profile.schemas:
            return None
        schema = held(form["schema"])
        return schema if Room().take(schema) else None


def check_request(request: CreateResponse, profile: Profile) -> list[str]:
    """Raise `InvalidRequestError` for what cannot be honoured; give back the paths of the rest."""
    if request.top_logprobs or _LOGPROBS in (request.include or ()):
        param = "top_logprobs" if request.top_logprobs else "include"
        raise UnsupportedParameter(
            f"Unsupported parameter: '{param}' is not supported with this model.", param=param
        )
    for i, item in enumerate(request.input):
        key = PARTS_IN.get(item["type"])
        if key and not isinstance(item[key], str):
            text_only = key == "content" and item["role"] != "user"
            for j, part in enumerate(item[key]):
                check_part(part, f"input[{i}].{key}[{j}]", text_only=text_only)
    return _dropped(Asking(request, profile))


def messages_body(prompt: Prompt, asking: Asking, memory: Memory) -> Json:
    """The JSON body; `prompt.items` are the whole history. `memory` is told what was said before
    the answer."""
    request, profile = asking.request, asking.profile
    tools = _tools(asking)
    system = "\n\n".join(filter(None, (request.instructions, _wanted(asking))))
    thinking = asking.thinking()
    recall = memory.recall if thinking.keeps else None
    head = tools.get("tools")  # `tool_choice` is no part of what thinking is bound to
    talk = conversation(system, prompt.items, View(asking.images, recall, head))
    if talk.lacks_thoughts and profile.thinking == "budget" and thinking.is_on:
        thinking = asking.thinking(stopped=True)
        talk = conversation(system, prompt.items, View(asking.images, None, head))
    memory.prefix = talk.prefix
    body: Json = {
        "model": prompt.model,
        "max_tokens": asking.most,
        "system": talk.system or None,
        "messages": talk.messages,
        "stream": True,
        "thinking": thinking.config,
        "output_config": _output_config(asking, thinking),
        **_sampling(asking, thinking),
        **_with_calls(tools, talk.messages),
    }
    if profile.native and request.safety_identifier:
        body["metadata"] = {"user_id": request.safety_identifier}
    if profile.native and (request.prompt_cache_key or len(talk.messages) > 1):
        body["cache_control"] = {"type": "ephemeral"}
    return {key: value for key, value in body.items() if value is not None}


def _output_config(asking: Asking, thinking: Thinking) -> Json | None:
    config: Json = {}
    if thinking.effort:
        config["effort"] = thinking.effort
    if (schema := asking.schema()) is not None:
        config["format"] = {"type": "json_schema", "schema": schema}
    return config or None


def _wanted(asking: Asking) -> str | None:
    """What the answer shall be, in words."""
    form = (asking.request.text or {}).get("format") or {}
    if form.get("type") == "json_object":
        return _JSON_ONLY.format(what="object")
    if form.get("type") != "json_schema" or asking.schema() is not None:
        return None
    schema = orjson.dumps(form["schema"]).decode()
    about = f" {form['description']}" if form.get("description") else ""
    return f"{_JSON_ONLY.format(what='value')} It matches this JSON Schema.{about}\n{schema}"


def _sampling(asking: Asking, thinking: Thinking) -> Json:
    """`temperature` and `top_p`, as far as they are taken."""
    request, taken = asking.request, asking.profile.sampling
    if taken == "none" or thinking.is_on:
        return {}
    temperature = request.temperature
    fields = {
        "temperature": None if temperature is None else min(temperature, _HOTTEST),
        "top_p": request.top_p,
    }
    if taken == "one" and temperature is not None:
        del fields["top_p"]
    return fields


def _tools(asking: Asking) -> Json:
    """`tools` and `tool_choice`."""
    request = asking.request
    choice = offered(request)
    tools = choice.tools
    if request.tool_choice == "none":
        named, tools = {"type": "none"}, request.tools or []
    elif not asking.forces:
        named = {"type": "auto"}
    elif choice.only:
        # All stay, so that what was thought after it can go back in the next turn.
        named, tools = {"type": "tool", "name": choice.only}, _around(choice, request)
    else:
        named = {"type": "any"}
    if not tools:
        return {}
    strict = _strict(tools, asking)
    fields: Json = {"tools": [_tool(tool, strict) for tool in tools]}
    if request.parallel_tool_calls is False and named["type"] != "none":
        return {**fields, "tool_choice": {**named, "disable_parallel_tool_use": True}}
    return fields if named["type"] == "auto" else {**fields, "tool_choice": named}


def _around(choice: Offered, request: CreateResponse) -> list[Json]:
    """All tools if the one that must be called was named; of a list, only what is in it."""
    chosen = request.tool_choice
    is_named = isinstance(chosen, dict) and chosen["type"] != "allowed_tools"
    return (request.tools or []) if is_named else choice.tools


def _with_calls(tools: Json, messages: list[Json]) -> Json:
    """The tools that go with these messages."""
    if tools or not any(
        block["type"] == "tool_use" for message in messages for block in message["content"]
    ):
        return tools
    return {"tools": [_NO_TOOL], "tool_choice": {"type": "none"}}


def _strict(tools: list[Json], asking: Asking) -> dict[str, Json]:
    """The schemas that arguments are held to, by the names of the tools: as many as there is room
    for beside that of the answer."""
    wanted = [tool for tool in tools if tool.get("strict")]
    if not wanted or not asking.profile.schemas or len(wanted) > _MOST_STRICT:
        return {}
    room = Room()
    room.take(asking.schema())
    schemas = {tool["name"]: held(parameters_of(tool)) for tool in wanted}
    return {
        name: schema for name, schema in schemas.items() if schema is not None and room.take(schema)
    }


def _tool(tool: Json, strict: dict[str, Json]) -> Json:
    name = tool["name"]
    if name in strict:
        schema, words = strict[name], ""
    else:
        schema, words = arguments_of(parameters_of(tool))
    made: Json = {"name": name, "input_schema": schema}
    if name in strict:
        made["strict"] = True
    described = "\n".join(filter(None, (tool.get("description"), words)))
    return {**made, "description": described} if described else made


def _dropped(asking: Asking) -> list[str]:
    request, profile = asking.request, asking.profile
    dropped = [key for key, read, no_loss in _UNKNOWN if read(request) not in (None, *no_loss)]
    if request.safety_identifier and not profile.native:
        dropped.append("safety_identifier")
    if request.prompt_cache_key and not profile.native:
        dropped.append("prompt_cache_key")
    thinking = asking.thinking()
    sent = _sampling(asking, thinking)
    for key, value in (("temperature", request.temperature), ("top_p", request.top_p)):
        # 1 is what it is when nothing is said.
        if value not in (None, 1, sent.get(key)):
            dropped.append(key)
    reasoning = request.reasoning or {}
    if not thinking.honoured:
        dropped.append("reasoning.effort")
    dropped += [
        f"reasoning.{key}"
        for key in ("summary", "generate_summary")
        if reasoning.get(key) not in (None, "auto", "detailed")
    ]
    if reasoning.get("mode"):
        dropped.append("reasoning.mode")
    if (request.text or {}).get("verbosity"):
        dropped.append("text.verbosity")
    if offered(request).mode == "required" and not profile.forced:
        dropped.append("tool_choice")
    return dropped + _dropped_of_tools(asking)


def _dropped_of_tools(asking: Asking) -> list[str]:
    tools = asking.request.tools or []
    strict = _strict([tool for tool in tools if "name" in tool], asking)
    dropped: list[str] = []
    for i, tool in enumerate(tools):
        dropped += [f"tools[{i}].{key}" for key in _TOOL_HINTS if tool.get(key)]
        if tool.get("strict") and tool.get("name") not in strict:
            dropped.append(f"tools[{i}].strict")
    return dropped
