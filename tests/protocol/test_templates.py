"""Prompt templates: what one may say, and the request that comes of it (spec §1, `prompt`)."""

from typing import Final

import orjson
import pytest
from openai.types.responses import ResponseOutputMessage, ResponsePrompt

from antiphon.errors import InvalidRequestError, ModelNotFound, PromptNotFound
from antiphon.protocol.request import CreateResponse, parse_request
from antiphon.protocol.response import new_response
from antiphon.protocol.templates import (
    MAX_BYTES,
    Applied,
    apply_template,
    check_steps,
    wanted_version,
)
from tests.protocol.template_talk import ID, Json, applied, ask, refusal, stored_template, user

FUNCTION: Final = {"type": "function", "name": "look", "parameters": {}}


# -- what a template may say ---------------------------------------------------------------------

FULL: Final[Json] = {
    "model": "m",
    "input": [user("Hi")],
    "include": ["message.output_text.logprobs"],
    "tools": [FUNCTION],
    "tool_choice": {"type": "function", "name": "look"},
    "text": {"format": {"type": "json_object"}},
    "temperature": 0.5,
    "top_p": 0.5,
    "parallel_tool_calls": False,
    "max_output_tokens": 100,
    "max_tool_calls": 2,
    "reasoning": {"effort": "low"},
    "truncation": "auto",
    "instructions": "Answer in JSON.",
    "top_logprobs": 2,
    "context_management": [{"type": "compaction", "compact_threshold": 5000}],
}


def test_what_a_template_may_set_reaches_the_request() -> None:
    template = stored_template(FULL)
    assert template == FULL
    made = apply_template(ask(), template, 1)
    assert made.front == FULL["input"]
    assert made.request.input == []
    taken = dict(made.request)
    assert {name: taken[name] for name in FULL if name != "input"} == {
        name: value for name, value in FULL.items() if name != "input"
    }


@pytest.mark.parametrize("name", sorted(set(CreateResponse.model_fields) - set(FULL)))
def test_what_is_the_requests_own_business(name: str) -> None:
    error = refusal(lambda: stored_template({name: None}))
    assert (error.code, error.param) == ("unknown_parameter", f"template.{name}")


def test_short_forms_are_written_out_and_nulls_left_out() -> None:
    long = {"input": [user("Hi")]}
    assert stored_template({"input": "Hi", "model": None, "tools": []}) == long
    assert stored_template({"input": [{"role": "user", "content": "Hi"}]}) == long
    assert stored_template({}) == {}


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        (
            {"tools": [{"type": "function"}]},
            "template.tools[0].name",
            "missing_required_parameter",
            "Missing required parameter: 'template.tools[0].name'.",
        ),
        (
            {"tools": "look"},
            "template.tools",
            "invalid_type",
            (
                "Invalid type for 'template.tools': expected an array of tools, "
                "but got a string instead."
            ),
        ),
        (
            {"temperature": 3},
            "template.temperature",
            "decimal_above_max_value",
            (
                "Invalid 'template.temperature': decimal above maximum value. "
                "Expected a value <= 2, but got 3 instead."
            ),
        ),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}]},
            "template.input[0].type",
            "invalid_value",
            "Invalid value: 'function_call'. Supported value is: 'message'.",
        ),
        (
            {"input": [{"id": "msg_1"}]},
            "template.input[0].type",
            "missing_required_parameter",
            "Missing required parameter: 'template.input[0].type'.",
        ),
        (
            {"tools": [FUNCTION, FUNCTION]},
            "template.tools[1].name",
            "invalid_value",
            (
                "Invalid 'tools[1].name': 'look' is already in use. "
                "Expected every tool to have another name."
            ),
        ),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "other"}},
            "template.tool_choice",
            None,
            "Tool choice 'other' not found in 'tools' parameter.",
        ),
    ],
)
def test_what_can_never_become_a_request(
    body: Json, param: str, code: str | None, message: str
) -> None:
    error = refusal(lambda: stored_template(body))
    assert (error.param, error.code, error.message) == (param, code, message)


def test_a_bad_schema_is_refused() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": True}
    form = {"type": "json_schema", "name": "n", "strict": True, "schema": schema}
    error = refusal(lambda: stored_template({"text": {"format": form}}))
    assert (error.param, error.code) == ("template.text.format.schema", "invalid_json_schema")


def test_what_a_request_can_mend_is_stored() -> None:
    """The word "json", tools for a choice, a model: the request may bring them."""
    for body in (
        {"text": {"format": {"type": "json_object"}}},
        {"tool_choice": {"type": "function", "name": "look"}},
        {"instructions": "Hi"},
    ):
        assert stored_template(body) == body
    assert refusal(lambda: stored_template({"model": ""})).param == "template.model"


def test_a_template_has_a_size() -> None:
    """R-09."""
    overhead = len(orjson.dumps({"instructions": ""}))
    assert stored_template({"instructions": "x" * (MAX_BYTES - overhead)})
    error = refusal(lambda: stored_template({"instructions": "x" * (MAX_BYTES - overhead + 1)}))
    assert (error.param, error.code) == ("template", "template_too_large")


def test_a_template_is_an_object() -> None:
    assert refusal(lambda: stored_template([])).code == "invalid_type"


# -- the request with its template ---------------------------------------------------------------


def test_the_request_overrides_whole_fields() -> None:
    template = {
        "temperature": 0.5,
        "top_p": 0.5,
        "text": {"verbosity": "low", "format": {"type": "text"}},
        "tools": [FUNCTION],
        "instructions": "Old",
    }
    made = applied(
        template,
        temperature=0,
        top_p=None,
        text={"format": {"type": "json_object"}},
        tools=[{**FUNCTION, "name": "new"}],
        instructions="JSON",
        model="mine",
    ).request
    assert (made.model, made.temperature, made.top_p) == ("mine", 0, 0.5)
    assert made.text == {"format": {"type": "json_object"}}
    assert [tool["name"] for tool in made.tools or ()] == ["new"]
    assert made.instructions == "JSON"


def test_input_does_not_override_the_messages() -> None:
    made = applied({"input": [user("first")]}, input="then", user="u", stream=True)
    assert made.front == [user("first")]
    assert made.request.input == [user("then")]
    assert (made.request.user, made.request.stream) == ("u", True)


def test_the_request_and_the_template_stay_as_they_were() -> None:
    request = ask({"a": "1"}, tools=[FUNCTION])
    template = stored_template({**FULL, "instructions": "{{a}} JSON", "input": [user("{{a}}")]})
    before = (request.model_copy(deep=True), orjson.dumps(template))
    apply_template(request, template, 1)
    assert (request, orjson.dumps(template)) == before


def test_the_version_that_was_used_is_echoed() -> None:
    assert applied({"input": "Hi"}).request.prompt == {"id": ID, "version": "3", "variables": {}}
    given = {"a": {"type": "input_text", "text": "1"}}
    made = applied({"instructions": "{{a}}"}, given, version=12)
    assert made.request.prompt == {"id": ID, "version": "12", "variables": given}


@pytest.mark.parametrize(
    ("template", "body", "param", "message"),
    [
        ({"model": None, "input": "Hi"}, {}, "model", "Missing required parameter: 'model'."),
        ({}, {}, "input", "Missing required parameter: 'input'."),
        ({}, {"input": []}, "input", None),
        ({"input": "Hi", "text": {"format": {"type": "json_object"}}}, {}, "text.format", None),
        (
            {"tool_choice": {"type": "function", "name": "look"}},
            {"input": "Hi"},
            "tool_choice",
            "Tool choice 'look' not found in 'tools' parameter.",
        ),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "look"}},
            {"input": "Hi", "tools": [{**FUNCTION, "name": "other"}]},
            "tool_choice",
            None,
        ),
        ({"model": "m"}, {"input": "Hi", "tool_choice": "required"}, "tool_choice", None),
    ],
)
def test_the_outcome_obeys_the_rules(
    template: Json, body: Json, param: str, message: str | None
) -> None:
    error = refusal(lambda: applied(template, **body))
    assert error.param == param
    assert message in (None, error.message)


def test_a_model_without_a_name_is_unknown() -> None:
    with pytest.raises(ModelNotFound):
        applied({"input": "Hi"}, model="")


@pytest.mark.parametrize(
    ("template", "body"),
    [
        ({"instructions": "Say hello"}, {}),
        ({"input": "Hi"}, {}),
        ({}, {"input": "Hi"}),
        ({}, {"previous_response_id": "resp_1"}),
        ({}, {"conversation": "conv_1"}),
        ({"text": {"format": {"type": "json_object"}}, "instructions": "As JSON"}, {}),
        ({"text": {"format": {"type": "json_object"}}, "input": "As JSON"}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"input": "As JSON"}),
        ({"tool_choice": "required"}, {"input": "Hi", "tools": [FUNCTION]}),
        ({"tools": [FUNCTION]}, {"input": "Hi", "tool_choice": "required"}),
    ],
)
def test_either_side_may_bring_what_is_needed(template: Json, body: Json) -> None:
    assert applied(template, **body).request.model == "m"


@pytest.mark.parametrize(("sent", "version"), [(None, None), ("1", 1), ("999999999", 999_999_999)])
def test_which_version_is_wanted(sent: str | None, version: int | None) -> None:
    assert wanted_version({"id": ID, "version": sent}) == version
    assert wanted_version({"id": ID}) is None


@pytest.mark.parametrize(
    "sent", ["0", "01", "-1", "1.0", "v1", "1 ", "1\n", "١", "9" * 10, "draft"]
)
def test_a_version_that_cannot_be(sent: str) -> None:
    with pytest.raises(PromptNotFound) as caught:
        wanted_version({"id": ID, "version": sent})
    assert (caught.value.status, caught.value.param) == (404, "prompt")


# -- the Response --------------------------------------------------------------------------------


def echoed(made: Applied) -> Json:
    response = new_response(
        made.request, id="resp_1", created_at=1, status="queued", front=made.front
    )
    return {key: response.get(key) for key in ("prompt", "instructions", "model", "temperature")}


def test_the_response_shows_what_the_template_brought() -> None:
    made = applied({"instructions": "Be {{how}}", "temperature": 0.5}, {"how": "kind"}, input="Hi")
    assert echoed(made) == {
        "prompt": {"id": ID, "version": "3", "variables": {"how": "kind"}},
        "instructions": "Be kind",
        "model": "m",
        "temperature": 0.5,
    }


def test_instructions_are_items_where_the_template_has_messages() -> None:
    """Spec §1, `instructions`."""
    made = applied({"instructions": "Be kind", "input": "Hi"})
    developer = {**user("Be kind"), "role": "developer"}
    assert echoed(made)["instructions"] == [developer, user("Hi")]
    assert echoed(applied({"input": "Hi"}))["instructions"] == [user("Hi")]


def test_what_is_echoed_fits_openais_types() -> None:
    """Whole, without a look at what the types let pass: spec §1, `instructions` and `prompt`."""
    image = {"type": "input_image", "image_url": "https://a.example/b.png"}
    told = [{"role": "assistant", "content": "Hello", "status": None}]
    told += [{"role": "user", "content": "Hi {{x}}"}]
    made = applied({"input": told}, {"x": image})
    shown = echoed(made)
    hello = shown["instructions"][0]
    ResponseOutputMessage.model_validate(hello, strict=True)
    assert (hello["id"], hello["status"]) == ("msg_1_0", "completed")
    assert "id" not in made.front[0]
    ResponsePrompt.model_validate(shown["prompt"], strict=True)
    assert shown["prompt"]["variables"] == {"x": {**image, "detail": "auto"}}


def test_without_a_prompt_there_is_none() -> None:
    request = parse_request(b'{"model":"m","input":"Hi"}')
    assert "prompt" not in new_response(request, id="resp_1", created_at=1, status="queued")


@pytest.mark.parametrize("key", ["authorization", "headers"])
def test_a_template_holds_no_secrets(key: str) -> None:
    """R-91: it would be stored."""
    value = "Bearer x" if key == "authorization" else {"x-key": "v"}
    tool = {"type": "mcp", "server_label": "s", "server_url": "https://x", key: value}
    with pytest.raises(InvalidRequestError) as caught:
        list(check_steps({"input": [], "tools": [tool]}))
    assert caught.value.param == f"template.tools[0].{key}"
