"""A prompt → the body of ``POST /messages``, what of it is dropped, and what is refused."""

from typing import Any

import pytest

from antiphon.backends.anthropic.profiles import Profile, profile_for
from antiphon.backends.anthropic.request import Asking, check_request, messages_body
from antiphon.backends.anthropic.thoughts import Memory
from antiphon.backends.base import Prompt
from antiphon.backends.origins import Origin
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items.reasoning import restored
from antiphon.protocol.request import check_request as parsed

Json = dict[str, Any]
F: Json = {"type": "function", "name": "f", "description": "Does f.", "parameters": None}
G: Json = {"type": "function", "name": "g", "parameters": {"type": "object", "properties": {}}}
ANY_OBJECT: Json = {"type": "object", "properties": {}}
CLOSED: Json = {
    "type": "object",
    "properties": {"a": {"type": "string", "minLength": 2}},
    "required": ["a"],
    "additionalProperties": False,
}
OLD, BUDGET, ADAPTIVE = "claude-3-haiku", "claude-sonnet-4-5", "claude-sonnet-4-6"
LATER, NEWEST, BETWEEN = "claude-opus-4-8", "claude-opus-5", "claude-sonnet-5-5"
ALWAYS, BOUND, OTHER = "claude-fable-5", "claude-opus-5-5", "kimi-k3"


def memory(model: str) -> Memory:
    return Memory(Origin.of("anthropic", "https://x/v1"), model)


def body(model: str = NEWEST, **parameters: Any) -> Json:
    request = parsed({"model": "alias", "input": "Hi", **parameters})
    prompt = Prompt(request, model, list(request.input))
    return messages_body(prompt, Asking(request, profile_for(model)), memory(model))


def dropped(model: str = NEWEST, **parameters: Any) -> list[str]:
    request = parsed({"model": "alias", "input": "Hi", **parameters})
    return check_request(request, profile_for(model))


def effort(value: str, **parameters: Any) -> Json:
    return {"reasoning": {"effort": value}, **parameters}


# -- the body ------------------------------------------------------------------------------------


def test_a_plain_request() -> None:
    assert body(LATER, instructions="Be kind.") == {
        "model": LATER,
        "max_tokens": 64_000,
        "system": "Be kind.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
    }


@pytest.mark.parametrize(
    ("model", "most"), [(OLD, 4_096), ("claude-opus-4-1", 32_000), (NEWEST, 64_000), (OTHER, 8_192)]
)
def test_an_answer_has_an_end(model: str, most: int) -> None:
    assert body(model)["max_tokens"] == most
    assert body(model, max_output_tokens=100)["max_tokens"] == 100


TOOLS: list[tuple[str, str, Json, Json]] = [
    ("none given", NEWEST, {}, {}),
    ("auto", NEWEST, {"tools": [F]}, {}),
    (
        "one call at a time",
        NEWEST,
        {"tools": [F], "parallel_tool_calls": False},
        {"type": "auto", "disable_parallel_tool_use": True},
    ),
    ("required", NEWEST, {"tools": [F, G], "tool_choice": "required"}, {"type": "any"}),
    (
        "the only one is required",
        NEWEST,
        {"tools": [F], "tool_choice": "required"},
        {"type": "tool", "name": "f"},
    ),
    (
        "named, one at a time",
        NEWEST,
        {
            "tools": [F, G],
            "tool_choice": {"type": "function", "name": "g"},
            "parallel_tool_calls": False,
        },
        {"type": "tool", "name": "g", "disable_parallel_tool_use": True},
    ),
    (
        "none allowed",
        NEWEST,
        {"tools": [F], "tool_choice": "none", "parallel_tool_calls": False},
        {"type": "none"},
    ),
    ("not to be forced", BOUND, {"tools": [F, G], "tool_choice": "required"}, {}),
]


@pytest.mark.parametrize(
    ("model", "parameters", "choice"), [row[1:] for row in TOOLS], ids=[row[0] for row in TOOLS]
)
def test_tool_choice(model: str, parameters: Json, choice: Json) -> None:
    made = body(model, **parameters)
    assert made.get("tool_choice", {}) == choice
    names = [tool["name"] for tool in parameters.get("tools", ())]
    assert [tool["name"] for tool in made.get("tools", ())] == names


def test_of_a_list_only_what_is_in_it_can_be_called() -> None:
    named = {"type": "function", "name": "g"}
    for mode, choice in (("auto", None), ("required", {"type": "tool", "name": "g"})):
        allowed = {"type": "allowed_tools", "mode": mode, "tools": [named]}
        made = body(tools=[F, G], tool_choice=allowed)
        assert [tool["name"] for tool in made["tools"]] == ["g"]
        assert made.get("tool_choice") == choice
    made = body(BOUND, tools=[F, G], tool_choice=named)
    assert [tool["name"] for tool in made["tools"]] == ["g"], "as near as it gets"


def test_tools() -> None:
    custom = {"type": "custom", "name": "sh", "description": "Runs."}
    union = {"anyOf": [{"required": ["a"]}], "properties": {"a": {}}}
    strict = {**G, "name": "h", "parameters": CLOSED, "strict": True}
    tools = [F, custom, {**G, "parameters": union}, strict]
    one, two, three, four = body(tools=tools)["tools"]
    assert one == {"name": "f", "description": "Does f.", "input_schema": ANY_OBJECT}
    assert two["input_schema"]["required"] == ["input"]
    assert three["input_schema"] == {"type": "object", "properties": {"a": {}}}
    assert '{"anyOf":[{"required":["a"]}]}' in three["description"]
    assert four["strict"] is True
    assert four["input_schema"]["properties"]["a"] == {
        "type": "string",
        "description": '{"minLength":2}',
    }


def test_strict_is_for_models_that_have_it_and_for_few_tools() -> None:
    tools = [{**G, "name": f"g{n}", "parameters": CLOSED, "strict": True} for n in range(21)]
    for model, made in ((OTHER, tools[:1]), (NEWEST, tools)):
        assert not any("strict" in tool for tool in body(model, tools=made)["tools"])
        assert dropped(model, tools=made) == [f"tools[{i}].strict" for i in range(len(made))]
    assert all(tool["strict"] for tool in body(tools=tools[:20])["tools"])
    assert dropped(tools=tools[:20]) == []


def test_strict_is_for_few_optional_properties_and_alternatives() -> None:
    """The API refuses a request with more, in all of its schemas together."""
    free = {**CLOSED, "required": []}
    either = {**CLOSED, "properties": {"a": {"type": ["string", "null"]}}}
    for schema, most in ((free, 24), (either, 16)):
        tools = [
            {**G, "name": f"g{n}", "strict": True, "parameters": one}
            for n, one in enumerate([_wide(schema, most - 3), _wide(schema, 4), _wide(schema, 3)])
        ]
        made = body(tools=tools)["tools"]
        assert ["strict" in tool for tool in made] == [True, False, True]
        assert dropped(tools=tools) == ["tools[1].strict"]
        form = {"type": "json_schema", "name": "a", "schema": _wide(schema, 1)}
        made = body(tools=tools, text={"format": form})
        assert "format" in made["output_config"]
        assert ["strict" in tool for tool in made["tools"]] == [True, False, False]
        form["schema"] = _wide(schema, most + 1)
        assert "output_config" not in body(text={"format": form})
        assert "JSON Schema" in body(text={"format": form})["system"]


def _wide(schema: Json, width: int) -> Json:
    """The schema with so many properties, one of them further in."""
    (one,) = schema["properties"].values()
    many = {f"p{n}": one for n in range(width - 1)}
    inner = {"$ref": "#/$defs/inner"}
    required = [*many, "in"] if schema["required"] else ["in"]
    return {
        **schema,
        "properties": {**many, "in": {"type": "array", "items": inner}},
        "required": required,
        "$defs": {"inner": schema},
    }


def test_calls_of_the_history_need_tools() -> None:
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "ok"}
    made = body(input=[call, output])
    assert [tool["name"] for tool in made["tools"]] == ["unavailable"]
    assert made["tool_choice"] == {"type": "none"}
    assert body(input=[call, output], tools=[F])["tools"][0]["name"] == "f"


def test_the_answer_is_held_to_a_schema() -> None:
    form = {"type": "json_schema", "name": "a", "schema": CLOSED, "strict": True}
    made = body(text={"format": form}, **effort("low"))
    assert made["output_config"]["effort"] == "low"
    assert made["output_config"]["format"]["type"] == "json_schema"
    assert made["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert "system" not in made


@pytest.mark.parametrize(
    ("model", "schema"),
    [(OTHER, CLOSED), (NEWEST, ANY_OBJECT)],
    ids=["a model without", "an open schema"],
)
def test_or_it_is_asked_for_in_words(model: str, schema: Json) -> None:
    form = {"type": "json_schema", "name": "a", "schema": schema, "description": "Of a."}
    made = body(model, text={"format": form}, instructions="Be kind.")
    assert "output_config" not in made
    assert made["system"].startswith("Be kind.\n\nAnswer with nothing but a JSON value")
    assert "Of a.\n{" in made["system"]


def test_any_object() -> None:
    made = body(input="json", text={"format": {"type": "json_object"}})
    assert made["system"].startswith("Answer with nothing but a JSON object")


def test_who_asks_is_told_to_anthropic() -> None:
    assert body(safety_identifier="u1")["metadata"] == {"user_id": "u1"}
    assert "metadata" not in body(OTHER, safety_identifier="u1")
    assert dropped(OTHER, safety_identifier="u1") == ["safety_identifier"]


def test_the_prompt_is_cached_when_the_conversation_goes_on() -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    longer = [*said, {"role": "user", "content": "c"}]
    assert "cache_control" not in body()
    assert body(input=longer)["cache_control"] == {"type": "ephemeral"}
    assert body(prompt_cache_key="k")["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in body(OTHER, input=longer, prompt_cache_key="k")
    assert dropped(OTHER, prompt_cache_key="k") == ["prompt_cache_key"]
    assert dropped(prompt_cache_key="k") == []


# -- thinking ------------------------------------------------------------------------------------

SHOWN = {"type": "adaptive", "display": "summarized"}
OFF = {"type": "disabled"}

#: model, parameters → thinking, effort, what is dropped.
THINKING: list[tuple[str, Json, Json | None, str | None, list[str]]] = [
    (OLD, {}, None, None, []),
    (OLD, effort("high"), None, None, ["reasoning.effort"]),
    (OLD, effort("none"), None, None, []),
    (BUDGET, {}, None, None, []),
    (BUDGET, effort("none"), None, None, []),
    (BUDGET, effort("low"), {"type": "enabled", "budget_tokens": 2_048}, None, []),
    (BUDGET, effort("max"), {"type": "enabled", "budget_tokens": 32_000}, None, []),
    (
        BUDGET,
        effort("high", max_output_tokens=4_000),
        {"type": "enabled", "budget_tokens": 2_000},
        None,
        [],
    ),
    (
        BUDGET,
        effort("high", max_output_tokens=1_025),
        {"type": "enabled", "budget_tokens": 1_024},
        None,
        [],
    ),
    (BUDGET, effort("high", max_output_tokens=1_024), None, None, ["reasoning.effort"]),
    (ADAPTIVE, {}, None, None, []),
    (ADAPTIVE, effort("none"), None, None, []),
    (ADAPTIVE, effort("high"), {"type": "adaptive"}, "high", []),
    (ADAPTIVE, effort("xhigh"), {"type": "adaptive"}, "high", ["reasoning.effort"]),
    (ADAPTIVE, effort("max"), {"type": "adaptive"}, "max", []),
    (LATER, {}, None, None, []),
    (LATER, effort("xhigh"), SHOWN, "xhigh", []),
    (LATER, effort("minimal"), SHOWN, "low", ["reasoning.effort"]),
    (NEWEST, {}, SHOWN, None, []),
    (NEWEST, effort("none"), OFF, None, []),
    (NEWEST, effort("medium"), SHOWN, "medium", []),
    (BETWEEN, effort("none"), {"type": "between_tools"}, None, []),
    (ALWAYS, effort("none"), SHOWN, "low", ["reasoning.effort"]),
    (OTHER, {}, None, None, []),
    (OTHER, effort("none"), OFF, None, []),
    (OTHER, effort("medium"), {"type": "enabled", "budget_tokens": 4_096}, None, []),
]


@pytest.mark.parametrize(
    ("model", "parameters", "thinking", "level", "lost"),
    THINKING,
    ids=[f"{row[0]}-{row[1]}" for row in THINKING],
)
def test_thinking(
    model: str, parameters: Json, thinking: Json | None, level: str | None, lost: list[str]
) -> None:
    made = body(model, **parameters)
    assert made.get("thinking") == thinking
    assert made.get("output_config", {}).get("effort") == level
    assert dropped(model, **parameters) == lost


FORCED: Json = {"tools": [F, G], "tool_choice": "required"}


@pytest.mark.parametrize(
    ("model", "thinking", "level", "lost"),
    [
        (BUDGET, None, None, ["reasoning.effort"]),
        (ADAPTIVE, None, "high", ["reasoning.effort"]),
        (NEWEST, OFF, "high", ["reasoning.effort"]),
        (ALWAYS, SHOWN, "max", []),
        (BOUND, SHOWN, "max", ["tool_choice"]),
        (BETWEEN, SHOWN, "max", ["tool_choice"]),
    ],
)
def test_a_forced_call_is_made_without_thinking(
    model: str, thinking: Json | None, level: str | None, lost: list[str]
) -> None:
    made = body(model, **effort("max", **FORCED))
    assert made.get("thinking") == thinking
    assert made.get("output_config", {}).get("effort") == level
    assert dropped(model, **effort("max", **FORCED)) == lost
    assert ("tool_choice" in made) == (lost != ["tool_choice"])


def _loop(model: str, *, thought: bool, choice: object = None) -> Json:
    """A request in the middle of a turn, with thinking of its first message or without; `choice`:
    the `tool_choice` that it has now."""
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "ok"}
    request = parsed({"model": "a", "input": "Hi", **effort("high"), "tools": [F]})
    asked = list(request.input)
    asking, mine = Asking(request, profile_for(model)), memory(model)
    messages_body(Prompt(request, model, asked), asking, mine)
    block = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    payload = {"content": "hm", "state": mine.state([block]).state}
    item = restored({"type": "reasoning", "summary": []}, payload)
    items = [*asked, *([item] if thought else []), call, output]
    request = request.model_copy(update={"tool_choice": choice})
    asking = Asking(request, profile_for(model))
    return messages_body(Prompt(request, model, items), asking, memory(model))


@pytest.mark.parametrize("model", [BUDGET, ADAPTIVE, NEWEST, OTHER])
def test_a_turn_goes_on_as_it_has_begun(model: str) -> None:
    made = _loop(model, thought=True)
    assert made["messages"][1]["content"][0]["signature"] == "c2ln"
    assert made["thinking"]["type"] in ("adaptive", "enabled")
    made = _loop(model, thought=False)
    assert made["messages"][1]["content"][0]["type"] == "tool_use"
    assert ("thinking" in made) == (model in (ADAPTIVE, NEWEST))


@pytest.mark.parametrize("choice", ["none", "auto", {"type": "function", "name": "f"}])
def test_another_tool_choice_leaves_thinking_where_it_was(choice: object) -> None:
    """The API binds it to tools, system and messages ("Prefix checks on thinking blocks")."""
    made = _loop("claude-opus-5-5", thought=True, choice=choice)
    assert made["messages"][1]["content"][0]["signature"] == "c2ln"


# -- what is dropped -----------------------------------------------------------------------------

SAMPLING: list[tuple[str, Json, Json, list[str]]] = [
    (OLD, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}, []),
    (OTHER, {"temperature": 1.5}, {"temperature": 1.0}, ["temperature"]),
    (BUDGET, {"temperature": 0.5}, {"temperature": 0.5}, []),
    (BUDGET, {"top_p": 0.9}, {"top_p": 0.9}, []),
    (BUDGET, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}, ["top_p"]),
    (BUDGET, effort("low", temperature=0.5), {}, ["temperature"]),
    (ADAPTIVE, {"temperature": 0}, {"temperature": 0}, []),
    (LATER, {"temperature": 0.5, "top_p": 0.9}, {}, ["temperature", "top_p"]),
    (LATER, {"temperature": 1, "top_p": 1}, {}, []),
]


@pytest.mark.parametrize(
    ("model", "parameters", "sent", "lost"),
    SAMPLING,
    ids=[f"{row[0]}-{row[1]}" for row in SAMPLING],
)
def test_sampling(model: str, parameters: Json, sent: Json, lost: list[str]) -> None:
    made = body(model, **parameters)
    assert {key: made[key] for key in ("temperature", "top_p") if key in made} == sent
    assert dropped(model, **parameters) == lost


def test_what_is_dropped_is_named() -> None:
    lost = dropped(
        user="u",
        service_tier="flex",
        prompt_cache_retention="24h",
        prompt_cache_options={"mode": "explicit"},
        reasoning={"effort": "low", "summary": "concise"},
        text={"verbosity": "low"},
        tools=[{**G, "defer_loading": True}],
    )
    assert sorted(lost) == [
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning.summary",
        "service_tier",
        "text.verbosity",
        "tools[0].defer_loading",
        "user",
    ]


def test_what_is_no_loss_is_not() -> None:
    assert dropped(service_tier="auto", prompt_cache_retention="in_memory", include=[]) == []
    assert dropped(reasoning={"effort": "low", "summary": "auto"}) == []


def _part(role: str, **part: Any) -> Json:
    return {"input": [{"role": "user", "content": "a"}, {"role": role, "content": [part]}]}


REFUSED: list[tuple[str, Json]] = [
    ("top_logprobs", {"top_logprobs": 2}),
    ("include", {"include": ["message.output_text.logprobs"]}),
    (
        "input[1].content[0]",
        _part("user", type="input_audio", input_audio={"data": "AA", "format": "wav"}),
    ),
    (
        "input[1].content[0]",
        _part("user", type="input_image", image_url="data:image/svg+xml;base64,AA"),
    ),
    (
        "input[1].content[0]",
        _part("system", type="input_image", image_url="https://x/a.png"),
    ),
]


@pytest.mark.parametrize(("param", "parameters"), REFUSED, ids=[str(row[1]) for row in REFUSED])
def test_what_cannot_be_honoured_is_refused(param: str, parameters: Json) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        dropped(**parameters)
    assert caught.value.param == param


def test_images_are_no_problem() -> None:
    picture = _part("user", type="input_image", image_url="data:image/png;base64,AA")
    assert dropped(**picture) == []


# -- profiles ------------------------------------------------------------------------------------


def same(one: str, other: str) -> bool:
    return profile_for(one) == profile_for(other)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("claude-opus-5-20260724", NEWEST),
        ("claude-haiku-5-5", NEWEST),
        ("claude-sonnet-5", NEWEST),
        ("anthropic/claude-opus-4.8", LATER),
        ("us.anthropic.claude-opus-4-6-v1", ADAPTIVE),
        ("claude-haiku-4-5-20251001", BUDGET),
        ("claude-sonnet-4-20250514", "claude-3-7-sonnet-latest"),
        ("claude-opus-4@20250514", "claude-sonnet-4-0"),
        ("claude-fable-5-20260601", ALWAYS),
        ("claude-fable-5-2", BOUND),
        ("claude-mythos-5-1", BOUND),
        ("claude-future-9", NEWEST),
        ("claude-v2:1", OLD),
        ("deepseek-v4", OTHER),
    ],
)
def test_names_of_models(name: str, like: str) -> None:
    assert same(name, like)


def test_generations_differ() -> None:
    models = (OLD, BUDGET, ADAPTIVE, LATER, NEWEST, BETWEEN, ALWAYS, BOUND, OTHER)
    profiles: list[Profile] = [profile_for(model) for model in models]
    assert all(profiles.count(profile) == 1 for profile in profiles)
