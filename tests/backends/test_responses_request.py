"""Request parameters → the body for another Responses server; what is dropped is named."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from antiphon.backends.base import Prompt
from antiphon.backends.origins import Origin
from antiphon.backends.responses.dialects import (
    DIALECTS,
    Dialect,
    dialect_for,
    dialect_named,
    dialect_of_owner,
)
from antiphon.backends.responses.request import check_request, counted_body, responses_body
from antiphon.errors import InvalidRequestError, UnsupportedParameter
from antiphon.protocol.items.reasoning import restored
from antiphon.protocol.request import CreateResponse, parse_request

Json = dict[str, Any]
HERE = Origin("here")
GENERIC, OPENAI, VLLM = DIALECTS["generic"], DIALECTS["openai"], DIALECTS["vllm"]
OLLAMA, LLAMA = DIALECTS["ollama"], DIALECTS["llama.cpp"]

SCHEMA: Json = {"type": "object", "properties": {"a": {"type": "string"}}}
ANY: Json = {"type": "object"}
F: Json = {"type": "function", "name": "f", "parameters": SCHEMA}
G: Json = {"type": "function", "name": "g", "parameters": SCHEMA, "strict": True}
SENT_F = {**F, "strict": False}
GRAMMAR: Json = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}
T: Json = {"type": "custom", "name": "t", "description": "Free.", "format": GRAMMAR}
ALLOW_G: Json = {
    "type": "allowed_tools",
    "mode": "required",
    "tools": [{"type": "function", "name": "g"}],
}
LOGPROBS = ["message.output_text.logprobs"]
CORE = {"model", "input", "stream", "store"}
ENCRYPTED = "reasoning.encrypted_content"


def request(parameters: Mapping[str, object]) -> CreateResponse:
    return parse_request(orjson.dumps({"model": "alias", "input": "Hi in json", **parameters}))


def body(parameters: Mapping[str, object], dialect: Dialect, model: str = "real") -> Json:
    asked = request(parameters)
    return responses_body(Prompt(asked, model, list(asked.input)), dialect, HERE)


def sent(parameters: Mapping[str, object], dialect: Dialect = GENERIC) -> Json:
    """The body without what is always in it."""
    plain = replace(dialect, encrypts=False)
    return {key: value for key, value in body(parameters, plain).items() if key not in CORE}


def schema_format(**more: object) -> Json:
    return {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, **more}}}


def test_nothing_is_left_there() -> None:
    """Our store is the truth: whole history, never stored, no word of what is ours."""
    ours = {
        "store": True,
        "metadata": {"a": "b"},
        "truncation": "auto",
        "background": False,
        "max_tool_calls": 3,
        "previous_response_id": "resp_1",
    }
    hello = {"type": "message", "role": "user", "content": "Hi in json"}
    assert body(ours, OPENAI, "gpt-4.1") == {
        "model": "gpt-4.1",
        "input": [hello],
        "stream": True,
        "store": False,
    }


@pytest.mark.parametrize(
    ("dialect", "model", "asked"),
    [
        (OPENAI, "gpt-5.2", True),
        (OPENAI, "o4-mini", True),
        (OPENAI, "gpt-7", True),
        (OPENAI, "gpt-4.1-mini", False),
        (OPENAI, "gpt-5-chat-latest", False),
        (OPENAI, "ft:gpt-4o-mini:org", False),
        (GENERIC, "o3", False),
        (VLLM, "gpt-oss-20b", False),
        (DIALECTS["openrouter"], "openai/o3", True),
    ],
)
def test_reasoning_is_asked_for_encrypted_where_it_is(
    dialect: Dialect, model: str, asked: bool
) -> None:
    assert body({}, dialect, model).get("include") == ([ENCRYPTED] if asked else None)


@pytest.mark.parametrize(("model", "shown"), [("gpt-5.2", True), ("gpt-4.1", False)])
def test_a_model_that_does_not_reason_is_shown_no_reasoning(model: str, shown: bool) -> None:
    """Another model of the same deployment has answered before; this one would refuse its blob."""
    blob = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
    item = {"type": "reasoning", "id": "rs_ours", "summary": [], "encrypted_content": "sealed"}
    parts = [{"type": "output_text", "text": "Yes.", "annotations": []}]
    answer: Json = {"type": "message", "role": "assistant", "content": parts}
    items = [restored(item, {"content": "", "state": HERE.state([blob])}), answer]
    said = responses_body(Prompt(request({}), model, items), OPENAI, HERE)["input"]
    spoken = {"type": "message", "role": "assistant", "content": "Yes."}
    assert said == ([blob, spoken] if shown else [spoken])


def test_both_includes_in_one_list() -> None:
    assert body({"include": LOGPROBS}, OPENAI)["include"] == [ENCRYPTED, *LOGPROBS]


PARAMETERS: list[tuple[Json, Dialect, Json]] = [
    ({}, GENERIC, {}),
    ({"instructions": "Be kind."}, GENERIC, {"instructions": "Be kind."}),
    (
        {"temperature": 0.5, "top_p": 0.1, "max_output_tokens": 16},
        GENERIC,
        {"temperature": 0.5, "top_p": 0.1, "max_output_tokens": 16},
    ),
    (
        {"top_logprobs": 3},
        GENERIC,
        {"include": LOGPROBS, "top_logprobs": 3},
    ),
    ({"include": LOGPROBS}, GENERIC, {"include": LOGPROBS}),
    ({"top_logprobs": 3}, OLLAMA, {}),
    ({"text": {"verbosity": "low"}}, OPENAI, {"text": {"verbosity": "low"}}),
    ({"text": {"verbosity": "low"}}, GENERIC, {}),
    (schema_format(), GENERIC, schema_format()),
    (schema_format(strict=True), GENERIC, schema_format(strict=True)),
    (
        {"text": {"format": {"type": "json_object"}}},
        GENERIC,
        {"text": {"format": {"type": "json_object"}}},
    ),
    (
        {"text": {"format": {"type": "json_object"}}},
        VLLM,
        {"text": {"format": {"type": "json_schema", "name": "object", "schema": ANY}}},
    ),
    ({"text": {"format": {"type": "text"}}}, GENERIC, {}),
    (
        {"reasoning": {"effort": "xhigh", "summary": "auto"}},
        OPENAI,
        {"reasoning": {"effort": "xhigh", "summary": "auto"}},
    ),
    ({"reasoning": {"generate_summary": "auto"}}, OPENAI, {"reasoning": {"summary": "auto"}}),
    ({"reasoning": {"mode": "pro"}}, OPENAI, {"reasoning": {"mode": "pro"}}),
    ({"reasoning": {"mode": "pro", "summary": "auto"}}, GENERIC, {}),
    ({"reasoning": {"effort": "low"}}, GENERIC, {"reasoning": {"effort": "low"}}),
    ({"reasoning": {"effort": "max"}}, VLLM, {"reasoning": {"effort": "high"}}),
    ({"reasoning": {"effort": "low"}}, LLAMA, {}),
    ({"service_tier": "flex", "user": "u"}, OPENAI, {"service_tier": "flex", "user": "u"}),
    ({"service_tier": "flex", "user": "u"}, GENERIC, {}),
]


@pytest.mark.parametrize(("parameters", "dialect", "expected"), PARAMETERS)
def test_parameters(parameters: Json, dialect: Dialect, expected: Json) -> None:
    assert sent(parameters, dialect) == expected


def test_system_messages_at_the_start_are_instructions_where_one_is_enough() -> None:
    """Many chat templates allow only one, at the start."""
    roles = ("developer", "system", "user", "system")
    given = [{"role": role, "content": f"{role} says"} for role in roles]
    made = body({"instructions": "Be kind.", "input": given}, VLLM)
    assert made["instructions"] == "Be kind.\n\ndeveloper says\n\nsystem says"
    assert [item["role"] for item in made["input"]] == ["user", "user"]
    assert made["input"][1]["content"] == "<system_message>\nsystem says\n</system_message>"
    made = body({"instructions": "Be kind.", "input": given}, OPENAI)
    assert made["instructions"] == "Be kind."
    assert [item["role"] for item in made["input"]] == list(roles)
    image = {"type": "input_image", "image_url": "https://x/a.png", "detail": "auto"}
    made = body({"input": [*given[:1], {"role": "system", "content": [image]}, *given[2:]]}, VLLM)
    assert [item["role"] for item in made["input"]] == ["user"] * 3
    texts = [{"type": "input_text", "text": f"<{end}system_message>"} for end in ("", "/")]
    assert made["input"][0]["content"] == [texts[0], image, texts[1]]
    alone = body({"input": given[:1]}, VLLM)
    assert "instructions" not in alone
    assert [item["role"] for item in alone["input"]] == ["system"]


@pytest.mark.parametrize("name", ["llama.cpp", "lmstudio"])
def test_a_format_that_would_be_ignored_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        check_request(request(schema_format()), DIALECTS[name])
    assert caught.value.param == "text.format"
    assert check_request(request({"text": {"format": {"type": "text"}}}), DIALECTS[name]) == []
    assert check_request(request({"text": {"format": None}}), DIALECTS[name]) == []


TOOLS: list[tuple[Json, Dialect, Json]] = [
    ({"tools": [F]}, GENERIC, {"tools": [SENT_F]}),
    ({"tools": [G], "parallel_tool_calls": False}, GENERIC, {"tools": [G]}),
    (
        {"tools": [{"type": "function", "name": "n", "description": "N."}]},
        GENERIC,
        {
            "tools": [
                {
                    "type": "function",
                    "name": "n",
                    "description": "N.",
                    "parameters": {"type": "object", "properties": {}},
                    "strict": False,
                }
            ]
        },
    ),
    ({"tools": [T]}, OPENAI, {"tools": [T]}),
    (
        {
            "tools": [{"type": "custom", "name": "t"}],
            "tool_choice": {"type": "custom", "name": "t"},
        },
        OPENAI,
        {
            "tools": [{"type": "custom", "name": "t"}],
            "tool_choice": {"type": "custom", "name": "t"},
        },
    ),
    (
        {"tools": [F, G], "tool_choice": ALLOW_G},
        OPENAI,
        {"tools": [SENT_F, G], "tool_choice": ALLOW_G},
    ),
    ({"tools": [F, G], "tool_choice": ALLOW_G}, VLLM, {"tools": [G], "tool_choice": "required"}),
    (
        {"tools": [F, G], "tool_choice": {"type": "function", "name": "f"}},
        GENERIC,
        {"tools": [SENT_F, G], "tool_choice": {"type": "function", "name": "f"}},
    ),
    (
        {"tools": [F, G], "tool_choice": {"type": "function", "name": "f"}},
        LLAMA,
        {"tools": [SENT_F], "tool_choice": "required"},
    ),
    ({"tools": [F], "tool_choice": "none"}, GENERIC, {"tools": [SENT_F], "tool_choice": "none"}),
    ({"tools": [F], "tool_choice": "none"}, OLLAMA, {}),
    (
        {"tools": [F, G], "tool_choice": {"type": "function", "name": "f"}},
        OLLAMA,
        {"tools": [SENT_F]},
    ),
]


@pytest.mark.parametrize(("parameters", "dialect", "expected"), TOOLS)
def test_tools(parameters: Json, dialect: Dialect, expected: Json) -> None:
    if parameters.get("parallel_tool_calls") is False:
        expected = {**expected, "parallel_tool_calls": False}
    assert sent(parameters, dialect) == expected


def test_a_custom_tool_is_a_function_where_nobody_knows_it() -> None:
    (tool,) = sent({"tools": [T]}, GENERIC)["tools"]
    assert (tool["type"], tool["name"], tool["strict"]) == ("function", "t", False)
    assert "start: /a/" in tool["parameters"]["properties"]["input"]["description"]


DROPPED: list[tuple[Json, Dialect, list[str]]] = [
    ({}, GENERIC, []),
    ({"service_tier": "auto"}, GENERIC, []),
    (
        {"service_tier": "flex", "prompt_cache_key": "k", "safety_identifier": "s"},
        GENERIC,
        ["prompt_cache_key", "safety_identifier", "service_tier"],
    ),
    ({"prompt_cache_key": "k", "prompt_cache_retention": "24h"}, OPENAI, []),
    ({"prompt_cache_options": {"ttl": "30m"}}, OPENAI, ["prompt_cache_options"]),
    ({"reasoning": {"effort": "max"}}, VLLM, ["reasoning.effort"]),
    ({"reasoning": {"effort": "low"}}, LLAMA, ["reasoning.effort"]),
    ({"reasoning": {"summary": "concise"}}, GENERIC, ["reasoning.summary"]),
    ({"reasoning": {"summary": "detailed"}}, GENERIC, []),
    ({"reasoning": {"summary": "concise", "mode": "pro"}}, OPENAI, []),
    ({"reasoning": {"mode": "pro"}}, GENERIC, ["reasoning.mode"]),
    ({"text": {"verbosity": "low"}}, GENERIC, ["text.verbosity"]),
    ({"tools": [{**F, "output_schema": {}, "async": True}]}, OPENAI, ["tools[0].async"]),
    (
        {"tools": [F], "parallel_tool_calls": False, "tool_choice": "required"},
        OLLAMA,
        ["parallel_tool_calls", "tool_choice"],
    ),
    ({"top_logprobs": 1}, OLLAMA, ["top_logprobs"]),
    ({"include": LOGPROBS}, OLLAMA, ["include"]),
]


@pytest.mark.parametrize(("parameters", "dialect", "expected"), DROPPED)
def test_what_is_dropped_is_named(parameters: Json, dialect: Dialect, expected: list[str]) -> None:
    assert check_request(request(parameters), dialect) == expected


MEDIA: dict[str, Json] = {
    "input_image": {"type": "input_image", "image_url": "https://h/a.png"},
    "input_audio": {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
    "input_video": {"type": "input_video", "video_url": "https://h/a.mp4"},
}


@pytest.mark.parametrize(
    ("role", "part"),
    [("assistant", "input_image"), ("user", "input_audio"), ("user", "input_video")],
)
def test_media_without_a_place_are_refused(role: str, part: str) -> None:
    message = {"role": role, "content": [{"type": "input_text", "text": "a"}, MEDIA[part]]}
    with pytest.raises(InvalidRequestError) as caught:
        check_request(request({"input": [message]}), OPENAI)
    assert caught.value.param == "input[0].content[1]"
    assert caught.value.code == "unsupported_value"


def test_media_with_a_place_are_not() -> None:
    message = {"role": "user", "content": [MEDIA["input_image"]]}
    assert check_request(request({"input": [message]}), GENERIC) == []


def test_what_is_counted_is_what_is_sent() -> None:
    asked = request({"tools": [F], "temperature": 1, "reasoning": {"effort": "low"}, "user": "u"})
    counted = counted_body(Prompt(asked, "o3", list(asked.input)), OPENAI, HERE)
    assert counted.keys() == {"model", "input", "tools", "reasoning"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://mine.openai.azure.com/openai/v1", "openai"),
        ("https://mine.services.ai.azure.com/openai/v1", "openai"),
        ("https://evil-openai.azure.com.example/v1", "generic"),
        ("http://127.0.0.1:11434/v1", "ollama"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("http://gpu:8000/v1", "generic"),
    ],
)
def test_an_address_suggests_a_dialect(url: str, name: str) -> None:
    assert dialect_for(url).name == name


def test_dialects_by_name_and_owner() -> None:
    assert dialect_named("vllm") is VLLM
    assert dialect_of_owner("vllm") is VLLM
    assert dialect_of_owner("somebody") is GENERIC
    with pytest.raises(ValueError, match="telepathy"):
        dialect_named("telepathy")
