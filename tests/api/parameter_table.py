"""One row for every request parameter (spec §1, App. A): what it does, or how it is refused.

Rules
1. A row claims something: what reached the upstream, what the Response echoes, that the header
   ``x-antiphon-ignored`` names it, or the error. The header of a row names exactly `ignored`.
2. Models are backends with the profile of the same name; ``plain`` is a server nobody knows.
3. Paths have dots: ``tools.0.function.name``. `ABSENT` claims that nothing stands there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.api.talk import ABSENT, UNKNOWN, Json

#: Status, code, param.
Error = tuple[int, str | None, str | None]


@dataclass(frozen=True)
class Row:
    """One request and all that must be seen of it."""

    name: str
    body: Json
    upstream: Mapping[str, Any] = field(default_factory=dict)
    echo: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    error: Error | None = None


def _echoed(parameter: str, value: Any) -> Row:
    """Stored and shown, of no concern to a model."""
    return Row(f"{parameter} {value}", {parameter: value}, echo={parameter: value})


def _hint(parameter: str, value: Any, shown: Any = None) -> list[Row]:
    """What only OpenAI's own servers know: passed on to them, named where it is dropped; then the
    Response has `shown`."""
    return [
        Row(
            f"{parameter} to openai",
            {"model": "openai", parameter: value},
            {parameter: value},
            {parameter: value},
        ),
        Row(
            f"{parameter} dropped",
            {parameter: value},
            {parameter: ABSENT},
            {parameter: shown or value},
            (parameter,),
        ),
    ]


def _unsupported(parameter: str, value: Any) -> Row:
    return Row(
        f"{parameter} unsupported",
        {parameter: value},
        error=(400, "unsupported_parameter", parameter),
    )


BASIC: Final = [
    Row("model", {"model": "plain"}, {"model": "plain"}, {"model": "plain"}),
    Row("model alias", {"model": "alias"}, {"model": "its-real-name"}, {"model": "alias"}),
    Row("model missing", {"model": None}, error=(400, "missing_required_parameter", "model")),
    Row("model unknown", {"model": "other"}, error=(400, "model_not_found", "model")),
    Row("input text", {"input": "Ho"}, {"messages": [{"role": "user", "content": "Ho"}]}),
    Row("input missing", {"input": None}, error=(400, "missing_required_parameter", "input")),
    Row("input empty", {"input": []}, error=(400, "empty_array", "input")),
    Row(
        "input roles",
        {
            "input": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": [{"type": "input_text", "text": "U"}]},
                {"role": "assistant", "content": [{"type": "output_text", "text": "A"}]},
                {"role": "developer", "content": "D"},
            ]
        },
        {
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": "U"},
                {"role": "assistant", "content": "A"},
                {"role": "user", "content": "<system_message>\nD\n</system_message>"},
            ]
        },
    ),
    Row(
        "instructions",
        {"instructions": "Be kind."},
        {"messages.0": {"role": "system", "content": "Be kind."}, "messages.1.content": "Hi"},
        {"instructions": "Be kind."},
    ),
    Row(
        "instructions to openai",
        {"model": "openai", "instructions": "Be kind."},
        {"messages.0.role": "developer"},
    ),
    Row(
        "previous_response_id unknown",
        {"previous_response_id": UNKNOWN},
        error=(400, "previous_response_not_found", "previous_response_id"),
    ),
    Row("previous_response_id blank", {"previous_response_id": ""}, {"messages.0.content": "Hi"}),
    Row("conversation", {"conversation": "conv_1"}, error=(404, None, "conversation")),
    Row("conversation.id", {"conversation": {"id": "conv_1"}}, error=(404, None, "conversation")),
    Row(
        "conversation beside previous_response_id",
        {"conversation": "conv_1", "previous_response_id": UNKNOWN},
        error=(400, "mutually_exclusive_parameters", None),
    ),
    Row(
        "prompt",
        {"prompt": {"id": "pmpt_1", "version": "2", "variables": {"city": "Rome"}}},
        error=(404, None, "prompt"),
    ),
    _echoed("metadata", {"k": "v", "": ""}),
    _echoed("store", True),
    _echoed("store", False),
]

SAMPLING: Final = [
    Row("temperature", {"temperature": 0.25}, {"temperature": 0.25}, {"temperature": 0.25}),
    Row("temperature 2", {"temperature": 2}, {"temperature": 2}, {"temperature": 2}),
    Row("temperature default", {}, {"temperature": ABSENT}, {"temperature": 1}),
    Row("top_p", {"top_p": 0.5}, {"top_p": 0.5}, {"top_p": 0.5}),
    Row("top_p default", {}, {"top_p": ABSENT}, {"top_p": 1}),
    Row(
        "max_output_tokens",
        {"max_output_tokens": 16},
        {"max_tokens": 16},
        {"max_output_tokens": 16},
    ),
    Row(
        "max_output_tokens to openai",
        {"model": "openai", "max_output_tokens": 99},
        {"max_completion_tokens": 99, "max_tokens": ABSENT},
    ),
    _echoed("max_tool_calls", 3),  # of hosted tools, which other rows refuse: nothing to count
    Row(
        "top_logprobs",
        {"top_logprobs": 5},
        {"top_logprobs": 5, "logprobs": True},
        {"top_logprobs": 5},
    ),
    Row("top_logprobs 0", {"top_logprobs": 0}, {"logprobs": ABSENT}, {"top_logprobs": 0}),
    Row("truncation", {"truncation": "disabled"}, echo={"truncation": "disabled"}),
    Row("truncation auto", {"truncation": "auto"}, echo={"truncation": "auto"}),
]

MODES: Final = [
    Row("stream", {"stream": True}, {"stream": True}, {"status": "completed"}),
    Row("stream off", {"stream": False}, {"stream": True}, {"status": "completed"}),
    Row(
        "stream_options",
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        echo={"status": "completed"},
    ),
    Row(
        "stream_options alone",
        {"stream_options": {"include_obfuscation": True}},
        error=(400, None, "stream_options"),
    ),
    Row("background off", {"background": False}, echo={"background": False}),
    Row(
        "background",
        {"model": "simulator", "background": True},
        echo={"background": True, "status": "queued", "output": [], "usage": None},
    ),
    Row(
        "background stream",
        {"model": "simulator", "background": True, "stream": True},
        echo={"background": True, "status": "completed"},
    ),
    Row(
        "background store off",
        {"model": "simulator", "background": True, "store": False},
        echo={"background": True, "status": "queued", "store": False},
    ),
    Row(
        "background_options soonest",
        {"background_options": {"completion_window": "soonest"}},
        echo={"status": "completed"},
    ),
    Row(
        "background_options window",
        {"background_options": {"completion_window": "2h"}},
        error=(400, None, "background_options.completion_window"),
    ),
    *(
        Row(
            f"background_options {window} in the background",
            {
                "model": "simulator",
                "background": True,
                "background_options": {"completion_window": window},
            },
            echo={"status": "queued", "background": True},
        )
        for window in ("soonest", "2h", "8h")
    ),
    Row(
        "background_options window streamed",
        {
            "background": True,
            "stream": True,
            "background_options": {"completion_window": "8h"},
        },
        error=(400, None, "background_options.completion_window"),
    ),
    Row(
        "background_options continuation",
        {"background_options": {"continuation_id": "c"}},
        ignored=("background_options.continuation_id",),
    ),
    Row(
        "context_management",
        {"context_management": [{"type": "compaction", "compact_threshold": 1000}]},
        echo={"status": "completed"},
    ),
    Row(
        "context_management where nobody knows the window",
        {"context_management": [{"type": "compaction"}]},
        ignored=("context_management",),
    ),
    _unsupported(
        "moderation",
        {"model": "x", "policy": {"input": {"mode": "score"}, "output": {"mode": "block"}}},
    ),
]

HINTS: Final = [
    *_hint("user", "u-1"),
    *_hint("safety_identifier", "s-1"),
    *_hint("prompt_cache_key", "k-1"),
    *_hint("prompt_cache_retention", "24h"),
    *_hint("service_tier", "flex", "default"),  # it says which tier it was (spec §1)
    Row("user to openrouter", {"model": "openrouter", "user": "u-1"}, {"user": "u-1"}),
    Row("service_tier auto", {"service_tier": "auto"}, {}, {"service_tier": "default"}),
    Row("service_tier default", {"service_tier": "default"}, {}, {"service_tier": "default"}),
    *(
        Row(
            f"prompt_cache_options.{key}",
            {"prompt_cache_options": {key: value}},
            {"prompt_cache_options": ABSENT},
            {f"prompt_cache_options.{key}": value},
            ("prompt_cache_options",),
        )
        for key, value in (
            ("mode", "explicit"),
            ("ttl", "12h"),
            ("prewarm", True),
            ("comparison_response_id", UNKNOWN),
        )
    ),
    Row("image", {"image": {"context_compression": "enabled"}}, ignored=("image",)),
    Row(
        "access_programs",
        {"access_programs": {"cyber": "standard"}},
        {},
        {"access_programs": {"cyber": "standard"}},
        ("access_programs",),
    ),
    Row(
        "client_metadata",
        {"client_metadata": {"session_id": "s-1"}},
        {},
        {"client_metadata": ABSENT},
        ("client_metadata",),
    ),
]

INCLUDES: Final = [
    *(
        # What they reveal is made by hosted tools or stands in the input: it is always shown.
        Row(f"include {value}", {"include": [value]}, echo={"status": "completed"})
        for value in (
            "file_search_call.results",
            "web_search_call.results",
            "web_search_call.action.sources",
            "message.input_image.image_url",
            "computer_call_output.output.image_url",
            "code_interpreter_call.outputs",
        )
    ),
    # What is in it: test_reasoning_items.
    Row(
        "include reasoning.encrypted_content",
        {
            "model": "simulator",
            "input": "[[reason=3]]",
            "include": ["reasoning.encrypted_content"],
        },
        echo={"output.0.type": "reasoning"},
    ),
    Row(
        "include message.output_text.logprobs",
        {"include": ["message.output_text.logprobs"]},
        {"logprobs": True},
    ),
]

#: What the upstream answers to every row.
ANSWER: Final = '{"hello": "you"}'
_SCHEMA: Final = {
    "type": "object",
    "properties": {"hello": {"type": "string"}},
    "required": ["hello"],
    "additionalProperties": False,
}
FORMAT: Final = {
    "type": "json_schema",
    "name": "greeting",
    "description": "How to greet.",
    "schema": _SCHEMA,
    "strict": False,
}
_ASKED: Final = {key: value for key, value in FORMAT.items() if key != "type"}

OUTPUT: Final = [
    Row("text default", {}, {"response_format": ABSENT}, {"text.format": {"type": "text"}}),
    Row(
        "text.format text",
        {"text": {"format": {"type": "text"}}},
        {"response_format": ABSENT},
        {"text.format": {"type": "text"}},
    ),
    Row(
        "text.format json_schema",
        {"text": {"format": FORMAT}},
        {"response_format": {"type": "json_schema", "json_schema": _ASKED}},
        {"text.format": FORMAT},
    ),
    Row(
        "text.format json_object",
        {"input": "As JSON, please", "text": {"format": {"type": "json_object"}}},
        {"response_format": {"type": "json_object"}},
        {"text.format": {"type": "json_object"}},
    ),
    Row(
        "text.format json_object without the word",
        {"text": {"format": {"type": "json_object"}}},
        error=(400, None, "text.format"),
    ),
    Row(
        "text.verbosity",
        {"model": "openai", "text": {"verbosity": "low"}},
        {"verbosity": "low"},
        {"text.verbosity": "low"},
    ),
    Row("text.verbosity dropped", {"text": {"verbosity": "high"}}, ignored=("text.verbosity",)),
    *(
        Row(
            f"reasoning.effort {effort}",
            {"model": "openai", "reasoning": {"effort": effort}},
            {"reasoning_effort": effort},
            {"reasoning.effort": effort},
        )
        for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    ),
    Row(
        "reasoning.effort to openrouter",
        {"model": "openrouter", "reasoning": {"effort": "high"}},
        {"reasoning": {"effort": "high"}},
    ),
    Row(
        "reasoning.effort dropped", {"reasoning": {"effort": "low"}}, ignored=("reasoning.effort",)
    ),
    *(
        Row(
            f"reasoning.{key} {value}",
            {"reasoning": {key: value}},
            {"reasoning": ABSENT},
            {f"reasoning.{shown}": value},
            ignored,
        )
        for key, value, shown, ignored in (
            ("summary", "auto", "summary", ()),
            ("summary", "detailed", "summary", ()),
            ("generate_summary", "concise", "summary", ("reasoning.generate_summary",)),
            ("context", "all_turns", "context", ()),
            ("mode", "pro", "mode", ("reasoning.mode",)),
        )
    ),
]

_SIMULATED: Final = {
    "temperature": 0.5,
    "top_p": 0.5,
    "text.verbosity": "low",
    "reasoning.effort": "low",
    "reasoning.summary": "concise",
    "reasoning.mode": "pro",
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"ttl": "30m"},
    "service_tier": "flex",
}


def _nested(path: str, value: Any) -> Json:
    first, _, rest = path.partition(".")
    return {first: _nested(rest, value) if rest else value}


#: The simulator honours what it can show (docs/simulator.md) and names the rest.
SIMULATED: Final = [
    Row(f"{path} to simulator", {"model": "simulator", **_nested(path, value)}, ignored=(path,))
    for path, value in _SIMULATED.items()
]
