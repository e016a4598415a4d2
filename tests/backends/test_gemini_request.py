"""Request parameters → the body for Gemini; what is dropped is named, never silent."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from antiphon.backends.base import Prompt
from antiphon.backends.gemini.messages import Target
from antiphon.backends.gemini.request import check_request, gemini_body
from antiphon.backends.gemini.traits import NEWEST, thinking, traits_of
from antiphon.backends.origins import Origin
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items.content import Filled
from antiphon.protocol.request import CreateResponse, parse_request

Json = dict[str, Any]
SCHEMA: Json = {"type": "object", "properties": {"a": {"type": "string"}}}
F: Json = {"type": "function", "name": "f", "parameters": SCHEMA}
G: Json = {"type": "function", "name": "g", "description": "G.", "parameters": SCHEMA}
T: Json = {"type": "custom", "name": "t", "description": "Free."}
DECLARED_F = {"name": "f", "parametersJsonSchema": SCHEMA}
DECLARED_G = {"name": "g", "description": "G.", "parametersJsonSchema": SCHEMA}
LOGPROBS = ["message.output_text.logprobs"]
FORMAT = {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}}
OBJECT = {"text": {"format": {"type": "json_object"}}}
JSON = "application/json"
NEW, FLASH, PRO, LITE, PLAIN, PRO3 = (
    *("gemini-flash-latest", "gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.5-flash-lite"),
    *("gemini-2.0-flash", "gemini-3-pro-preview"),
)


def request(parameters: Mapping[str, object]) -> CreateResponse:
    return parse_request(orjson.dumps({"model": "alias", "input": "Hi in json", **parameters}))


def body(parameters: Mapping[str, object], model: str = NEW) -> Json:
    asked = request(parameters)
    target = Target(model, traits_of(model), Origin("x"))
    return gemini_body(Prompt(asked, model, list(asked.input)), target)


def generation(parameters: Mapping[str, object], model: str = NEW) -> Json:
    """`generationConfig` without the thinking that is always asked for."""
    config: Json = body(parameters, model)["generationConfig"]
    if config.get("thinkingConfig") == {"includeThoughts": True}:
        del config["thinkingConfig"]
    return config


def test_a_plain_request() -> None:
    assert body({"instructions": "Be kind."}) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi in json"}]}],
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    }


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({}, {}),
        ({"temperature": None, "tools": None, "text": None}, {}),
        ({"temperature": 0, "top_p": 0.5}, {"temperature": 0, "topP": 0.5}),
        ({"max_output_tokens": 50}, {"maxOutputTokens": 50}),
        ({"top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"top_logprobs": 0}, {}),
        ({"include": LOGPROBS}, {"responseLogprobs": True}),
        (FORMAT, {"responseMimeType": JSON, "responseJsonSchema": SCHEMA}),
        (OBJECT, {"responseMimeType": JSON}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"store": True, "metadata": {"a": "b"}, "truncation": "auto"}, {}),
    ],
)
def test_generation(parameters: Json, sent: Json) -> None:
    assert generation(parameters) == sent
    assert check_request(request(parameters), NEWEST) == []


@pytest.mark.parametrize("model", ["gemma-3-27b-it", "models/gemma-3n-e4b-it", "gemma-2-9b"])
def test_a_model_without_a_system_instruction_is_told_by_the_user(model: str) -> None:
    """It refuses one: "Developer instruction is not enabled"."""
    sent = body({"instructions": "Be kind.", **OBJECT, "tools": [F]}, model)
    assert "systemInstruction" not in sent
    rules, words = sent["contents"][0]["parts"]
    assert rules["text"].startswith("<developer_message>\nBe kind.\n\nWhen you answer")
    assert rules["text"].endswith("\n</developer_message>")
    assert words == {"text": "Hi in json"}
    assert body({}, model)["contents"] == [{"role": "user", "parts": [{"text": "Hi in json"}]}]
    for newer in ("gemma-4-31b-it", PLAIN, NEW):
        assert body({"instructions": "x"}, newer)["systemInstruction"] == {"parts": [{"text": "x"}]}


def test_a_schema_with_functions() -> None:
    assert generation({**FORMAT, "tools": [F]})["responseJsonSchema"] == SCHEMA
    assert generation(FORMAT, FLASH)["responseJsonSchema"] == SCHEMA
    asked = body({**FORMAT, "tools": [F], "instructions": "Be kind."}, FLASH)
    assert "responseJsonSchema" not in asked["generationConfig"]
    (part,) = asked["systemInstruction"]["parts"]
    assert part["text"].startswith("Be kind.\n\n")
    assert orjson.dumps(SCHEMA).decode() in part["text"]
    silent = body({**FORMAT, "tools": [F], "tool_choice": "none"}, FLASH)
    assert "tools" not in silent
    assert silent["generationConfig"]["responseJsonSchema"] == SCHEMA
    asked = body({**OBJECT, "tools": [F]}, FLASH)
    assert "responseMimeType" not in asked["generationConfig"]
    assert "JSON object" in asked["systemInstruction"]["parts"][0]["text"]


@pytest.mark.parametrize(
    ("tier", "sent", "dropped"),
    [
        ("auto", None, []),
        ("default", None, []),
        ("flex", "flex", []),
        ("priority", "priority", []),
        ("scale", None, ["service_tier"]),
    ],
)
def test_service_tier(tier: str, sent: str | None, dropped: list[str]) -> None:
    assert body({"service_tier": tier}).get("serviceTier") == sent
    assert check_request(request({"service_tier": tier}), NEWEST) == dropped


# -- thinking ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "effort", "sent", "exact"),
    [
        (NEW, None, {"includeThoughts": True}, True),
        (NEW, "none", {"includeThoughts": True, "thinkingLevel": "LOW"}, False),
        (NEW, "minimal", {"includeThoughts": True, "thinkingLevel": "LOW"}, False),
        (NEW, "medium", {"includeThoughts": True, "thinkingLevel": "MEDIUM"}, True),
        (NEW, "xhigh", {"includeThoughts": True, "thinkingLevel": "HIGH"}, False),
        ("models/gemini-9-flash", "low", {"includeThoughts": True, "thinkingLevel": "LOW"}, True),
        (
            *("gemini-3.5-flash-lite", "minimal"),
            *({"includeThoughts": True, "thinkingLevel": "MINIMAL"}, True),
        ),
        (PRO3, "medium", {"includeThoughts": True, "thinkingLevel": "HIGH"}, False),
        (FLASH, None, {"includeThoughts": True}, True),
        (FLASH, "none", {"thinkingBudget": 0}, True),
        (FLASH, "low", {"includeThoughts": True, "thinkingBudget": 1024}, True),
        (FLASH, "high", {"includeThoughts": True, "thinkingBudget": 24576}, True),
        (FLASH, "xhigh", {"includeThoughts": True, "thinkingBudget": 24576}, False),
        (PRO, "none", {"includeThoughts": True, "thinkingBudget": 128}, False),
        (PRO, "max", {"includeThoughts": True, "thinkingBudget": 32768}, True),
        (LITE, None, None, True),
        (LITE, "minimal", {"includeThoughts": True, "thinkingBudget": 512}, True),
        (PLAIN, None, None, True),
        (PLAIN, "none", None, True),
        (PLAIN, "low", None, False),
        ("gemma-3-27b-it", "low", None, False),
        ("gemini-2.5-flash-image", "low", None, False),
    ],
)
def test_thinking(model: str, effort: str | None, sent: Json | None, exact: bool) -> None:
    asked = thinking(effort, traits_of(model))
    assert (asked.config, asked.exact) == (sent, exact)
    parameters = {"reasoning": {"effort": effort}} if effort else {}
    assert body(parameters, model)["generationConfig"].get("thinkingConfig") == sent
    dropped = check_request(request(parameters), traits_of(model))
    assert dropped == ([] if exact else ["reasoning.effort"])


# -- tools ---------------------------------------------------------------------------------------


def allowed(mode: str, *names: str) -> Json:
    tools = [{"type": "function", "name": name} for name in names]
    return {"type": "allowed_tools", "mode": mode, "tools": tools}


BOTH = [DECLARED_F, DECLARED_G]


@pytest.mark.parametrize(
    ("choice", "declared", "config"),
    [
        (None, BOTH, None),
        ("auto", BOTH, {"mode": "AUTO"}),
        ("none", BOTH, {"mode": "NONE"}),
        ("required", BOTH, {"mode": "ANY"}),
        (
            {"type": "function", "name": "g"},
            BOTH,
            {"mode": "ANY", "allowedFunctionNames": ["g"]},
        ),
        (allowed("required", "f"), BOTH, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (allowed("auto", "f"), [DECLARED_F], {"mode": "AUTO"}),
    ],
)
def test_tool_choice(choice: object, declared: list[Json], config: Json | None) -> None:
    sent = body({"tools": [F, G], "tool_choice": choice})
    assert sent["tools"] == [{"functionDeclarations": declared}]
    assert sent.get("toolConfig") == (config and {"functionCallingConfig": config})


def test_no_tools() -> None:
    cases: list[Json] = [{}, {"tools": []}, {"tools": [], "tool_choice": "auto"}]
    for parameters in cases:
        sent = body(parameters)
        assert "tools" not in sent
        assert "toolConfig" not in sent


def test_strict_functions() -> None:
    strict = {"tools": [{**F, "strict": True}]}
    config = body(strict)["toolConfig"]["functionCallingConfig"]
    assert config == {"mode": "VALIDATED"}
    assert check_request(request(strict), NEWEST) == []
    assert "toolConfig" not in body(strict, PLAIN)
    assert check_request(request(strict), traits_of(PLAIN)) == ["tools[0].strict"]
    must = {**strict, "tool_choice": "required"}
    assert body(must)["toolConfig"]["functionCallingConfig"] == {"mode": "ANY"}


def test_tools_of_all_kinds() -> None:
    sent = body({"tools": [{"type": "function", "name": "f"}, T]})
    (tools,) = sent["tools"]
    f, t = tools["functionDeclarations"]
    assert f == {"name": "f", "parametersJsonSchema": {"type": "object", "properties": {}}}
    assert t["description"] == "Free."
    assert t["parametersJsonSchema"]["required"] == ["input"]


# -- what is lost --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "dropped"),
    [
        ({"user": "u"}, ["user"]),
        ({"prompt_cache_key": "k"}, ["prompt_cache_key"]),
        ({"prompt_cache_retention": "24h"}, ["prompt_cache_retention"]),
        ({"safety_identifier": "s"}, ["safety_identifier"]),
        ({"text": {"verbosity": "low"}}, ["text.verbosity"]),
        ({"reasoning": {"mode": "pro"}}, ["reasoning.mode"]),
        ({"reasoning": {"summary": "auto"}}, []),
        ({"reasoning": {"summary": "concise"}}, ["reasoning.summary"]),
        ({"tools": [F], "parallel_tool_calls": False}, ["parallel_tool_calls"]),
        ({"parallel_tool_calls": False}, []),
        ({"tools": [{**F, "defer_loading": True}]}, ["tools[0].defer_loading"]),
    ],
)
def test_what_is_dropped(parameters: Json, dropped: list[str]) -> None:
    assert check_request(request(parameters), NEWEST) == dropped


def test_summaries_of_models_that_do_not_think() -> None:
    asked = request({"reasoning": {"summary": "auto"}})
    assert check_request(asked, traits_of(PLAIN)) == ["reasoning.summary"]


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


def test_media_where_there_is_no_place_for_it() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_request(request({"input": [{"role": "system", "content": [IMAGE]}]}), NEWEST)
    assert caught.value.param == "input[0].content[0]"
    film = {"type": "input_video", "video_url": "https://x.example/a.mp4"}
    with pytest.raises(InvalidRequestError) as caught:
        check_request(request({"input": [{"role": "user", "content": [film]}]}), NEWEST)
    assert caught.value.param == "input[0].content[0].video_url"
    assert check_request(request({"input": [{"role": "user", "content": [IMAGE]}]}), NEWEST) == []


def test_the_prompt_is_not_changed() -> None:
    asked = request({"input": [{"role": "user", "content": [IMAGE]}], "tools": [F]})
    asked.input[0]["content"][0] = Filled(IMAGE, {"type": "input_text", "text": "x"})
    before = orjson.dumps([asked.input, asked.tools])
    gemini_body(Prompt(asked, NEW, list(asked.input)), Target(NEW, NEWEST, Origin("x")))
    assert orjson.dumps([asked.input, asked.tools]) == before
