"""Request parameters → the body for the upstream; what is dropped is named, never silent."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from antiphon.backends.base import Prompt
from antiphon.backends.chat_completions.request import chat_body, check_request
from antiphon.backends.functions import custom_tool_names
from antiphon.backends.profiles import (
    GENERIC,
    PROFILES,
    Profile,
    profile_for,
    profile_named,
    profile_of_owner,
)
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items.content import Filled
from antiphon.protocol.request import CreateResponse, parse_request

Json = dict[str, Any]
OPENAI, VLLM, OLLAMA = PROFILES["openai"], PROFILES["vllm"], PROFILES["ollama"]
LLAMA = PROFILES["llama.cpp"]
LMSTUDIO, OPENROUTER = PROFILES["lmstudio"], PROFILES["openrouter"]

SCHEMA: Json = {"type": "object", "properties": {"a": {"type": "string"}}}
F: Json = {"type": "function", "name": "f", "parameters": SCHEMA}
G: Json = {"type": "function", "name": "g", "parameters": SCHEMA}
T: Json = {"type": "custom", "name": "t", "description": "Free."}
CHAT_F = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
CHAT_G = {"type": "function", "function": {"name": "g", "parameters": SCHEMA}}
CHOOSE_F = {"type": "function", "function": {"name": "f"}}
ALLOW_G: Json = {
    "type": "allowed_tools",
    "mode": "required",
    "tools": [{"type": "function", "name": "g"}],
}
EFFORT = {"effort": "low"}
LOGPROBS = ["message.output_text.logprobs"]
CORE = {"model", "messages", "stream", "stream_options"}


def request(parameters: Mapping[str, object]) -> CreateResponse:
    return parse_request(orjson.dumps({"model": "alias", "input": "Hi in json", **parameters}))


def sent(parameters: Mapping[str, object], profile: Profile = GENERIC) -> Json:
    """The body without what is always in it."""
    asked = request(parameters)
    body = chat_body(Prompt(asked, "real", list(asked.input)), profile)
    return {key: value for key, value in body.items() if key not in CORE}


def schema_format(**more: object) -> Json:
    return {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, **more}}}


def response_format(**more: object) -> Json:
    schema = {"name": "n", "schema": SCHEMA, **more}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


#: name, parameters, what is sent, profile
SENT: list[tuple[str, Json, Json, Profile]] = [
    ("nothing", {}, {}, GENERIC),
    ("nulls", {"temperature": None, "tools": None, "text": None}, {}, GENERIC),
    ("sampling", {"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}, GENERIC),
    ("max_tokens", {"max_output_tokens": 50}, {"max_tokens": 50}, GENERIC),
    ("max_completion_tokens", {"max_output_tokens": 50}, {"max_completion_tokens": 50}, OPENAI),
    ("top_logprobs", {"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}, GENERIC),
    ("no top_logprobs", {"top_logprobs": 0}, {}, GENERIC),
    ("logprobs by include", {"include": LOGPROBS}, {"logprobs": True}, GENERIC),
    ("effort", {"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}, VLLM),
    (
        "effort object",
        {"reasoning": {"effort": "low"}},
        {"reasoning": {"effort": "low"}},
        OPENROUTER,
    ),
    ("effort's neighbour", {"reasoning": {"effort": "max"}}, {"reasoning_effort": "high"}, OLLAMA),
    ("any effort", {"reasoning": {"effort": "max"}}, {"reasoning_effort": "max"}, OPENAI),
    ("effort unknown", {"reasoning": {"effort": "low"}}, {}, GENERIC),
    ("verbosity", {"text": {"verbosity": "low"}}, {"verbosity": "low"}, OPENAI),
    ("verbosity unknown", {"text": {"verbosity": "low"}}, {}, GENERIC),
    ("schema", schema_format(), response_format(), GENERIC),
    ("strict schema", schema_format(strict=False), response_format(strict=False), GENERIC),
    ("described", schema_format(description="d"), response_format(description="d"), GENERIC),
    (
        "json_object",
        {"text": {"format": {"type": "json_object"}}},
        {"response_format": {"type": "json_object"}},
        GENERIC,
    ),
    (
        "json_object where only schemas are known",
        {"text": {"format": {"type": "json_object"}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "object", "schema": {"type": "object"}},
            }
        },
        LMSTUDIO,
    ),
    ("plain text", {"text": {"format": {"type": "text"}}}, {}, GENERIC),
    (
        "hints for OpenAI",
        {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "service_tier": "flex"},
        {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "service_tier": "flex"},
        OPENAI,
    ),
    ("hints for others", {"user": "u", "prompt_cache_key": "k", "service_tier": "flex"}, {}, VLLM),
    ("what Antiphon keeps itself", {"store": True, "metadata": {"a": "b"}}, {}, OPENAI),
]

TOOLS: list[tuple[str, Json, Json, Profile]] = [
    ("function", {"tools": [F]}, {"tools": [CHAT_F]}, GENERIC),
    (
        "strict is kept",
        {"tools": [{**F, "strict": False, "description": "d"}]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "description": "d",
                        "parameters": SCHEMA,
                        "strict": False,
                    },
                }
            ]
        },
        GENERIC,
    ),
    (
        "function without parameters",
        {"tools": [{"type": "function", "name": "f"}]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
                }
            ]
        },
        GENERIC,
    ),
    *(
        (
            f"choice {choice}",
            {"tools": [F], "tool_choice": choice},
            {"tools": [CHAT_F], "tool_choice": choice},
            GENERIC,
        )
        for choice in ("none", "auto", "required")
    ),
    (
        "choice of a function",
        {"tools": [F, G], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [CHAT_F, CHAT_G], "tool_choice": CHOOSE_F},
        GENERIC,
    ),
    (
        "choice of a function where only words are known",
        {"tools": [F, G], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [CHAT_F], "tool_choice": "required"},
        LLAMA,
    ),
    (
        "allowed tools where only words are known",
        {"tools": [F, G], "tool_choice": ALLOW_G},
        {"tools": [CHAT_G], "tool_choice": "required"},
        LLAMA,
    ),
    (
        "allowed tools",
        {"tools": [F, G], "tool_choice": ALLOW_G},
        {"tools": [CHAT_G], "tool_choice": "required"},
        GENERIC,
    ),
    (
        "allowed tools, natively",
        {"tools": [F, G], "tool_choice": ALLOW_G},
        {
            "tools": [CHAT_F, CHAT_G],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "g"}}],
                },
            },
        },
        OPENAI,
    ),
    ("none without tool_choice", {"tools": [F], "tool_choice": "none"}, {}, OLLAMA),
    ("required without tool_choice", {"tools": [F], "tool_choice": "required"},
     {"tools": [CHAT_F]}, OLLAMA),
    (
        "one function without tool_choice",
        {"tools": [F, G], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [CHAT_F]},
        OLLAMA,
    ),
    ("allowed without tool_choice", {"tools": [F, G], "tool_choice": ALLOW_G},
     {"tools": [CHAT_G]}, OLLAMA),
    ("choice without tools", {"tool_choice": "none"}, {}, GENERIC),
    (
        "parallel calls",
        {"tools": [F], "parallel_tool_calls": False},
        {"tools": [CHAT_F], "parallel_tool_calls": False},
        GENERIC,
    ),
    ("parallel calls without tools", {"parallel_tool_calls": False}, {}, GENERIC),
    (
        "parallel calls unknown",
        {"tools": [F], "parallel_tool_calls": False},
        {"tools": [CHAT_F]},
        LMSTUDIO,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "body", "profile"),
    [row[1:] for row in (*SENT, *TOOLS)],
    ids=[row[0] for row in (*SENT, *TOOLS)],
)
def test_what_is_sent(parameters: Json, body: Json, profile: Profile) -> None:
    assert sent(parameters, profile) == body


def test_what_is_always_sent() -> None:
    asked = request({})
    body = chat_body(Prompt(asked, "real", list(asked.input)), GENERIC)
    assert body == {
        "model": "real",
        "messages": [{"role": "user", "content": "Hi in json"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_custom_tool_is_a_function_with_one_string() -> None:
    (tool,) = sent({"tools": [T]})["tools"]
    parameters = tool["function"].pop("parameters")
    assert tool == {"type": "function", "function": {"name": "t", "description": "Free."}}
    assert parameters["required"] == ["input"]
    assert parameters["properties"]["input"]["type"] == "string"
    assert sent({"tools": [T], "tool_choice": {"type": "custom", "name": "t"}})["tool_choice"] == {
        "type": "function",
        "function": {"name": "t"},
    }
    assert custom_tool_names(request({"tools": [T, F]})) == {"t"}


def test_the_model_reads_the_grammar_of_a_custom_tool() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'}
    body = sent({"tools": [{**T, "format": grammar}]})
    assert 'start: "a"' in str(body)


#: name, parameters, what is named as dropped, profile
DROPPED: list[tuple[str, Json, list[str], Profile]] = [
    ("nothing", {}, [], GENERIC),
    ("effort", {"reasoning": {"effort": "low"}}, ["reasoning.effort"], GENERIC),
    ("effort known", {"reasoning": {"effort": "low"}}, [], VLLM),
    ("effort's neighbour", {"reasoning": {"effort": "minimal"}}, ["reasoning.effort"], VLLM),
    ("summary", {"reasoning": {"summary": "auto"}}, [], VLLM),
    ("summary by its old name", {"reasoning": {"generate_summary": "detailed"}}, [], GENERIC),
    ("summary made shorter", {"reasoning": {"summary": "concise"}}, ["reasoning.summary"], VLLM),
    ("summary of what is hidden", {"reasoning": {"summary": "auto"}}, ["reasoning.summary"],
     OPENAI),
    ("context", {"reasoning": {"context": "all_turns"}}, [], VLLM),
    ("mode", {"reasoning": {"mode": "pro"}}, ["reasoning.mode"], VLLM),
    ("verbosity", {"text": {"verbosity": "low"}}, ["text.verbosity"], VLLM),
    ("verbosity known", {"text": {"verbosity": "low"}}, [], OPENAI),
    ("tier", {"service_tier": "flex"}, ["service_tier"], GENERIC),
    ("tier auto", {"service_tier": "auto"}, [], GENERIC),
    ("tier known", {"service_tier": "flex"}, [], OPENAI),
    ("cache", {"prompt_cache_key": "k", "prompt_cache_retention": "24h"},
     ["prompt_cache_key", "prompt_cache_retention"], GENERIC),
    ("cache options", {"prompt_cache_options": {"mode": "explicit"}},
     ["prompt_cache_options"], OPENAI),
    ("who asks", {"user": "u", "safety_identifier": "s"}, ["safety_identifier", "user"], GENERIC),
    ("serial calls", {"tools": [F], "parallel_tool_calls": False}, ["parallel_tool_calls"], OLLAMA),
    ("serial calls without tools", {"parallel_tool_calls": False}, [], OLLAMA),
    ("required", {"tools": [F], "tool_choice": "required"}, ["tool_choice"], OLLAMA),
    ("none", {"tools": [F], "tool_choice": "none"}, [], OLLAMA),
    ("grammar", {"tools": [F, {**T, "format": {"type": "grammar", "syntax": "regex",
                                               "definition": "a"}}]}, [], GENERIC),
    ("deferred", {"tools": [{**F, "defer_loading": True}]}, ["tools[0].defer_loading"], OPENAI),
]  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "paths", "profile"), [r[1:] for r in DROPPED], ids=[r[0] for r in DROPPED]
)
def test_what_is_dropped_is_named(parameters: Json, paths: list[str], profile: Profile) -> None:
    """Lessons §1 rule 2: never silent."""
    assert check_request(request(parameters), profile) == paths


def message(*parts: Json, role: str = "user") -> Json:
    return {"role": role, "content": [{"type": "input_text", "text": "a"}, *parts]}


def output(*parts: Json) -> Json:
    return {"type": "function_call_output", "call_id": "1", "output": list(parts)}


FILE_ID = {"type": "input_file", "file_id": "file-1"}
FILE_URL = {"type": "input_file", "file_url": "http://example.com/a"}
PDF = {"type": "input_file", "file_data": "data:application/pdf;base64,AA"}
IMAGE = {"type": "input_image", "image_url": "http://example.com/a.png"}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
VIDEO = {"type": "input_video", "video_url": "http://example.com/a.mp4"}
BLIND = replace(LLAMA, media=frozenset())
IMAGE_ID = {"type": "input_image", "file_id": "file-1"}


@pytest.mark.parametrize(
    ("items", "param", "profile"),
    [
        ([message(IMAGE, role="system")], "input[0].content[1]", OPENAI),
        ([message(PDF, role="developer")], "input[0].content[1]", OPENAI),
        ([message(), message(AUDIO, role="assistant")], "input[1].content[1]", OPENAI),
        ([message(VIDEO, role="assistant")], "input[0].content[1]", OPENAI),
        ([message(), message(VIDEO)], "input[1].content[1]", BLIND),
        ([message(), output(AUDIO)], "input[1].output[0]", BLIND),
    ],
)
def test_a_part_that_cannot_be_sent_is_refused_by_its_path(
    items: list[Json], param: str, profile: Profile
) -> None:
    """R-02."""
    with pytest.raises(InvalidRequestError) as caught:
        check_request(request({"input": items}), profile)
    assert caught.value.param == param


@pytest.mark.parametrize("part", [FILE_ID, FILE_URL, IMAGE_ID])
def test_what_nobody_has_filled_cannot_be_sent(part: Json) -> None:
    """Files are the engine's business (`engine.attachments`)."""
    asked = request({"input": [message(part)]})
    assert check_request(asked, GENERIC) == []
    with pytest.raises(InvalidRequestError, match="can be taken inline only"):
        chat_body(Prompt(asked, "m", asked.input), GENERIC)


def test_what_was_filled_is_sent() -> None:
    image = Filled(IMAGE_ID, {"type": "input_image", "image_url": "data:image/png;base64,AA"})
    text = Filled(FILE_ID, {"type": "input_text", "text": "File a.txt:\nhi"})
    items = [{"type": "message", **message(image)}, {"type": "message", **message(text)}]
    asked = request({"input": "a"})
    said = chat_body(Prompt(asked, "m", items), GENERIC)["messages"]
    assert said[0]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,AA"},
    }
    assert said[1]["content"] == "a\nFile a.txt:\nhi"


def test_models_without_eyes_read_that_there_was_something() -> None:
    shot = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA"}
    items: list[Json] = [
        {"type": "message", **message(IMAGE)},
        {"type": "computer_call", "call_id": "c", "actions": []},
        {"type": "computer_call_output", "call_id": "c", "output": shot},
    ]
    said = chat_body(Prompt(request({"input": "a"}), "m", items), BLIND)["messages"]
    assert said[0]["content"] == "a\n[An image that you cannot see.]"
    assert said[2]["content"] == "[An image that you cannot see.]"


def test_keys_that_only_the_client_knows_are_not_looked_at() -> None:
    thought = {"type": "reasoning", "summary": [], "output": [1, {"type": "input_image"}]}
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    result = {**output(IMAGE), "role": "assistant"}
    assert check_request(request({"input": [thought, call, result]}), GENERIC) == []


# -- profiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://mine.openai.azure.com/openai/v1", "openai"),
        ("https://mine.services.ai.azure.com/openai/v1", "generic"),
        ("https://evil-openai.azure.com.example/v1", "generic"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.deepseek.com/v1", "deepseek"),
        ("https://api.moonshot.ai/v1", "deepseek"),
        ("http://127.0.0.1:11434/v1", "ollama"),
        ("http://gpu-box:1234/v1", "lmstudio"),
        ("http://127.0.0.1:8080/v1", "llama.cpp"),
        ("http://127.0.0.1:8001/v1", "generic"),
        ("https://api.openai.com.example.org/v1", "generic"),
    ],
)
def test_the_address_tells_the_profile(url: str, name: str) -> None:
    assert profile_for(url).name == name


def test_an_unknown_profile_is_an_error_with_the_known_ones() -> None:
    """R-132."""
    assert profile_named("vllm") is VLLM
    with pytest.raises(ValueError, match="unknown profile 'vlm'; there are generic, openai, vllm"):
        profile_named("vlm")


def test_the_owner_of_the_models_tells_the_profile() -> None:
    assert profile_of_owner("vllm").name == "vllm"
    assert profile_of_owner("me").name == "generic"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_profile_can_send_everything(profile: Profile) -> None:
    parameters = {key: value for row in SENT for key, value in row[1].items()}
    body = sent({**parameters, "tools": [F, T], "tool_choice": "required"}, profile)
    assert [tool[tool["type"]]["name"] for tool in body["tools"]] == ["f", "t"]
    assert body["tools"][1]["type"] == ("custom" if profile.custom_tools else "function")
    assert orjson.dumps(body)
