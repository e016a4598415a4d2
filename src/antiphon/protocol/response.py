"""The Response object: every key always present, null where OpenAI has null (spec §3.2).

Rules
1. `new_response` is the only constructor; from then on events change it (`effects.py`).
2. Keys come in the order of OpenAI's wire. `output_text` is ours in the body, as SDKs compute it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from antiphon.protocol.effects import Json
from antiphon.protocol.file_search import TOOL_RESULTS
from antiphon.protocol.image_usage import UNKNOWN, ImageUsage
from antiphon.protocol.items.base import Item
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.tool_secrets import public

Status: TypeAlias = Literal[
    "queued", "in_progress", "completed", "incomplete", "failed", "cancelled"
]

#: A Response on the wire: a JSON object with the keys of spec §3.2.
Response: TypeAlias = Json


@dataclass(slots=True)
class Usage:
    """Tokens, summed over all model turns of a response (spec §7)."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def total(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def body(self) -> Json:
        """The `usage` object."""
        return {
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": self.total(),
        }


def new_response(
    request: CreateResponse,
    *,
    id: str,  # noqa: A002
    created_at: int,
    status: Status,
    front: Sequence[Item] = (),
) -> Response:
    """The Response before its first event; `created_at` in Unix seconds, `front`: the messages of a
    prompt template."""
    sent = vars(request)  # a third of the time: a model looks for each attribute in three places
    return {
        "id": id,
        "object": "response",
        "created_at": created_at,
        "status": status,
        "background": bool(sent["background"]),
        "completed_at": None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": _instructions(request, front, id),
        "max_output_tokens": sent["max_output_tokens"],
        "max_tool_calls": sent["max_tool_calls"],
        "model": sent["model"],
        "moderation": None,
        "output": [],
        "output_text": "",
        "parallel_tool_calls": sent["parallel_tool_calls"] is not False,
        "presence_penalty": 0.0,
        "previous_response_id": sent["previous_response_id"],
        "prompt_cache_key": sent["prompt_cache_key"],
        "prompt_cache_retention": sent["prompt_cache_retention"],
        "reasoning": _reasoning(request),
        "safety_identifier": sent["safety_identifier"],
        "service_tier": sent["service_tier"] or "auto",
        "store": sent["store"] is not False,
        "temperature": 1.0 if sent["temperature"] is None else sent["temperature"],
        "text": _text(request),
        "tool_choice": "auto" if sent["tool_choice"] is None else sent["tool_choice"],
        "tool_usage": tool_usage([], UNKNOWN),
        "tools": [echo_tool(tool) for tool in sent["tools"] or ()],
        "top_logprobs": sent["top_logprobs"] or 0,
        "top_p": 1.0 if sent["top_p"] is None else sent["top_p"],
        "truncation": sent["truncation"] or "disabled",
        "usage": None,
        "user": sent["user"],
        "metadata": sent["metadata"] or {},
        **_optional(request),
    }


def _instructions(
    request: CreateResponse, front: Sequence[Item], response_id: str
) -> str | list[Item] | None:
    """All items that a prompt template put in front, where it has messages (spec §1). Those of the
    assistant have an id and a status, as OpenAI's type of an output message wants it."""
    if not front:
        return request.instructions
    told: list[Item] = []
    if request.instructions:
        part = {"type": "input_text", "text": request.instructions}
        told.append({"type": "message", "role": "developer", "content": [part]})
    stem = response_id.partition("_")[2]
    for index, message in enumerate(front):
        if message["role"] == "assistant":
            id_, status = message.get("id"), message.get("status")
            message = {
                **message,
                "id": id_ or f"msg_{stem}_{index}",
                "status": status or "completed",
            }
        told.append(message)
    return told


def _optional(request: CreateResponse) -> Json:
    """Keys that OpenAI shows only when the request had them."""
    optional: Json = {}
    if request.conversation_id is not None:
        optional["conversation"] = {"id": request.conversation_id}
    if request.prompt is not None:
        variables = request.prompt.get("variables") or {}
        optional["prompt"] = {"version": None, **request.prompt, "variables": variables}
    if request.prompt_cache_options is not None:
        options = request.prompt_cache_options
        optional["prompt_cache_options"] = {
            **options,
            "mode": options.get("mode") or "implicit",
            "ttl": options.get("ttl") or "30m",
        }
    if request.image is not None:
        optional["image"] = request.image
    if request.access_programs is not None:
        optional["access_programs"] = {"cyber": "standard", **request.access_programs}
    return optional


def _reasoning(request: CreateResponse) -> Json:
    sent = request.reasoning or {}
    reasoning: Json = {
        "effort": sent.get("effort"),
        "summary": sent.get("summary") or sent.get("generate_summary"),
    }
    for key in ("context", "mode"):
        if sent.get(key) is not None:
            reasoning[key] = sent[key]
    return reasoning


def _text(request: CreateResponse) -> Json:
    """The format echoed with the effective `strict`, as a function is (spec §1.2)."""
    sent = request.text or {}
    form = sent.get("format") or {"type": "text"}
    if form["type"] == "json_schema":
        form = {"description": None, **form, "strict": bool(form.get("strict"))}
    return {
        "format": form,
        "verbosity": sent.get("verbosity") or "medium",
    }


def echo_tool(tool: Json) -> Json:
    """Echo a tool with its defaults filled in, and without its secrets (spec §3.2, R-91)."""
    fill = _ECHOES.get(tool["type"])
    return dict(tool) if fill is None else fill(tool)


def _function(tool: Json) -> Json:
    echo = {"description": None, "parameters": None, **tool}
    return {**echo, "strict": bool(tool.get("strict"))}


def _custom(tool: Json) -> Json:
    return {"description": None, **tool, "format": tool.get("format") or {"type": "text"}}


def _tool_search(tool: Json) -> Json:
    return {"description": None, "parameters": None, **tool}


def _web_search(tool: Json) -> Json:
    filled = {"search_context_size": "medium", "user_location": None}
    if not tool["type"].startswith("web_search_preview"):
        filled["filters"] = None
    echo = {**tool, **{key: tool.get(key) or default for key, default in filled.items()}}
    if echo["user_location"] is not None:
        nulls = dict.fromkeys(("city", "country", "region", "timezone"))
        echo["user_location"] = {"type": "approximate", **nulls, **echo["user_location"]}
    return echo


def _file_search(tool: Json) -> Json:
    ranking = {k: v for k, v in (tool.get("ranking_options") or {}).items() if v is not None}
    return {
        "type": tool["type"],
        "filters": tool.get("filters"),
        "max_num_results": tool.get("max_num_results") or TOOL_RESULTS,
        "ranking_options": {"ranker": "auto", "score_threshold": 0, **ranking},
        "vector_store_ids": tool["vector_store_ids"],
    }


def _image_generation(tool: Json) -> Json:
    filled = {
        **dict.fromkeys(("background", "moderation", "quality", "size"), "auto"),
        "output_compression": 100,
        "output_format": "png",
    }
    said = {key: value for key, value in tool.items() if value is not None}
    return {"type": tool["type"], **filled, **said}


def _mcp(tool: Json) -> Json:
    echo = {
        **dict.fromkeys(("allowed_tools", "headers", "require_approval", "server_description")),
        **public(tool),
    }
    echo["require_approval"] = tool.get("require_approval") or "always"
    return echo


_ECHOES: Final[dict[str, Callable[[Json], Json]]] = {
    "function": _function,
    "custom": _custom,
    "tool_search": _tool_search,
    "mcp": _mcp,
    "file_search": _file_search,
    "image_generation": _image_generation,
    **dict.fromkeys(
        (
            "web_search",
            "web_search_2025_08_26",
            "web_search_preview",
            "web_search_preview_2025_03_11",
        ),
        _web_search,
    ),
}


def tool_usage(output: Sequence[Item], images: ImageUsage) -> Json:
    """What hosted tools cost beside tokens of the model (spec §7): those of images, and searches
    that came to their end."""
    searches = 0
    for item in output:
        if item["type"] == "web_search_call" and item.get("status") == "completed":
            searches += (item.get("action") or {}).get("type") == "search"
    return {"image_gen": images.body(), "web_search": {"num_requests": searches}}


def output_text(output: list[Any]) -> str:
    """All ``output_text`` parts joined, as the SDKs' `output_text` property does."""
    return "".join(
        part["text"]
        for item in output
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )
