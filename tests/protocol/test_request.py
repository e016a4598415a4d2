"""The request as a whole: short forms, and rules about several parameters."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from antiphon.errors import InvalidRequestError
from antiphon.protocol.compaction import parse_compact
from antiphon.protocol.counting import parse_counting
from antiphon.protocol.request import CreateResponse, parse_request
from tests.protocol.asking import Json, ask, refuse, refused, user

#: Spec App. A, `ResponseCreateParamsBase`, and `stream`.
PARAMETERS = {
    "access_programs",
    "background",
    "client_metadata",  # of Codex, in no published type
    "background_options",
    "context_management",
    "conversation",
    "image",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
}


# -- short forms ---------------------------------------------------------------------------------


def test_every_parameter_is_an_attribute_and_absent_is_none() -> None:
    request = ask()
    assert set(CreateResponse.model_fields) == PARAMETERS
    assert all(getattr(request, name) is None for name in PARAMETERS - {"model", "input"})


def test_null_is_the_same_as_absent() -> None:
    nulls = dict.fromkeys(PARAMETERS - {"model", "input"})
    assert ask(**nulls).model_dump() == ask().model_dump()


def test_a_string_is_a_message_of_the_user() -> None:
    assert ask(input="hi").input == user({"type": "input_text", "text": "hi"})
    assert ask(input="").input == user({"type": "input_text", "text": ""})
    assert CreateResponse(model="m", input="hi").input == ask(input="hi").input


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            {"role": "user", "content": "x"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
        ),
        (
            {"type": None, "role": "developer", "content": "x", "id": None, "status": None},
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "x"}],
            },
        ),
        (
            {"role": "assistant", "content": "x"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "x", "annotations": []}],
            },
        ),
        (
            {"role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "x", "annotations": []}],
            },
        ),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]},
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_image", "image_url": "data:,", "detail": "auto"}],
            },
        ),
        ({"id": "msg_1"}, {"type": "item_reference", "id": "msg_1"}),
        ({"id": "msg_1", "type": None}, {"type": "item_reference", "id": "msg_1"}),
        (
            {"type": "function_call_output", "call_id": "c", "output": "1", "status": None},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        ),
    ],
)
def test_items_get_their_long_form(item: Json, expected: Json) -> None:
    assert ask(input=[item]).input == [expected]


@pytest.mark.parametrize(
    "field",
    [
        {"type": "message", "role": "user", "content": []},
        {"type": "function_call_output", "call_id": "c", "output": []},
        {"type": "custom_tool_call_output", "call_id": "c", "output": []},
    ],
    ids=lambda item: str(item["type"]),
)
def test_nulls_of_parts_are_left_out(field: Json) -> None:
    """Spec §10.2: a strict schema has optional fields that may not be null."""
    text: Json = {"type": "input_text", "text": "x"}
    file: Json = {"type": "input_file", "file_data": "aGk="}
    nulls = {"file_url": None, "file_id": None, "filename": None, "new_key": None}
    key = "content" if "content" in field else "output"
    sent = {**field, key: [text, {**file, **nulls}, {**text, "prompt_cache_breakpoint": None}]}
    assert ask(input=[sent]).input == [{**field, key: [text, file, text]}]


def test_unknown_keys_of_items_and_parts_stay() -> None:
    """Spec §1, last paragraph: lenient on items."""
    item = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "x", "new_key": 1}],
        "parsed_arguments": {"a": 1},
    }
    assert ask(input=[item]).input == [item]


@pytest.mark.parametrize("id_", ["item-3.b_C", "run:1/2=", "a b", "é№🙂", "x" * 512])
def test_an_item_may_have_any_printable_id(id_: str) -> None:
    """Spec §3.1, advice: histories come from many servers."""
    item = {"type": "message", "id": id_, "role": "user", "content": "x"}
    reference = {"type": "item_reference", "id": id_}
    answer = {"type": "mcp_approval_response", "approval_request_id": id_, "approve": True}
    items = ask(input=[item, reference, answer]).input
    assert (items[0]["id"], items[1]["id"], items[2]["approval_request_id"]) == (id_,) * 3


@pytest.mark.parametrize("id_", ["", "a\x00", "\n", "a\x1bb", "a\x7f", "a\x85", "a\u2028b"])
@pytest.mark.parametrize("type_", ["message", "item_reference"])
def test_an_item_id_has_no_control_characters(type_: str, id_: str) -> None:
    """R-24: ids are repeated in errors and logs."""
    error = refused(input=[{"type": type_, "id": id_, "role": "user", "content": "x"}])
    assert (error.status, error.param) == (400, "input[0].id")
    assert "Expected an ID" in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "call_id": "c", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "custom_tool_call", "call_id": "c", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "x"},
        {"type": "mcp_call", "server_label": "l", "arguments": "{}"},
        {"type": "mcp_approval_request", "server_label": "l", "arguments": "{}"},
    ],
    ids=lambda item: str(item["type"]),
)
def test_a_long_name_that_a_model_called_may_come_back(item: Json) -> None:
    """What was passed on is not refused; what was never a name is (R-09)."""
    assert ask(input=[{**item, "name": "f" * 4096}]).input[0]["name"] == "f" * 4096
    error = refused(input=[{**item, "name": "f" * 4097}])
    assert (error.param, error.code) == ("input[0].name", "string_above_max_length")


def test_an_integer_is_a_number() -> None:
    assert ask(temperature=1, top_p=0).temperature == 1.0


def test_an_empty_previous_response_id_is_none() -> None:
    assert ask(previous_response_id="").previous_response_id is None


def test_what_is_nested_stays_as_it_was_sent() -> None:
    schema = {"type": "object", "properties": {"b": {}, "a": {}}, "x-extra": [None]}
    tools = [{"type": "function", "name": "f", "parameters": schema, "strict": None}]
    request = ask(tools=tools, metadata={"a": "b"}, reasoning={"effort": "low", "summary": None})
    assert request.tools == tools
    assert list(request.tools[0]["parameters"]["properties"]) == ["b", "a"]
    assert request.reasoning == {"effort": "low", "summary": None}


# -- rules about several parameters --------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"prompt": {"id": "pmpt_1"}}], ids=["plain", "prompt"])
def test_a_compaction_trigger_is_the_last_item(more: Json) -> None:
    """Spec §3.4; elsewhere it would be ignored without a word."""
    trigger = {"type": "compaction_trigger"}
    hi = {"role": "user", "content": "Hi"}
    assert ask(input=[hi, trigger], **more).input[-1] == trigger
    for items, index in (([hi, trigger, hi], 1), ([trigger, trigger], 0)):
        error = refused(input=items, **more)
        assert (error.param, error.code) == (f"input[{index}]", "invalid_value")
        assert error.message == (
            f"Invalid 'input[{index}]': a 'compaction_trigger' is only allowed as the last item."
        )


@pytest.mark.parametrize("parse", [parse_compact, lambda raw: parse_counting(raw).request])
def test_so_it_is_where_nothing_is_run(parse: Callable[[bytes], CreateResponse]) -> None:
    trigger = {"type": "compaction_trigger"}
    body = {"model": "m", "input": [{"role": "user", "content": "Hi"}, trigger]}
    assert parse(orjson.dumps(body)).input[-1] == trigger
    with pytest.raises(InvalidRequestError, match="only allowed as the last item"):
        parse(orjson.dumps({**body, "input": [trigger, *body["input"]]}))


@pytest.mark.parametrize("body", [{"input": "x"}, {"input": "x", "model": None}, {}])
def test_a_model_is_needed_unless_a_prompt_brings_one(body: Json) -> None:
    error = refuse(body)
    assert (error.param, error.code) == ("model", "missing_required_parameter")
    assert error.message == "Missing required parameter: 'model'."
    assert parse_request(orjson.dumps({"prompt": {"id": "pmpt_1"}})).model is None


def test_an_empty_model_does_not_exist() -> None:
    assert refused(model="").code == "model_not_found"


HISTORY = [
    {"previous_response_id": "resp_1"},
    {"conversation": "conv_1"},
    {"prompt": {"id": "pmpt_1"}},
]


@pytest.mark.parametrize("history", HISTORY)
def test_input_may_be_missing_where_there_is_history(history: Json) -> None:
    absent: list[Json] = [{}, {"input": None}, {"input": []}]
    for fields in absent:
        assert parse_request(orjson.dumps({"model": "m", **history, **fields})).input == []


def test_input_is_needed_otherwise() -> None:
    assert refuse({"model": "m"}).code == "missing_required_parameter"
    assert refused(input=None).code == "missing_required_parameter"
    assert (refused(input=[]).code, refused(input=[]).param) == ("empty_array", "input")


def test_one_history_only() -> None:
    error = refused(previous_response_id="resp_1", conversation="conv_1")
    assert error.code == "mutually_exclusive_parameters"
    assert "'previous_response_id' or 'conversation'" in error.message


def test_stream_options_need_a_stream() -> None:
    assert refused(stream_options={}).param == "stream_options"
    assert refused(stream_options={}, stream=False).param == "stream_options"
    assert ask(stream_options={"include_obfuscation": False}, stream=True).stream is True


@pytest.mark.parametrize("window", ["2h", "8h"])
def test_a_late_window_needs_background_and_no_stream(window: str) -> None:
    options = {"completion_window": window}
    wrong: list[Json] = [{}, {"background": True, "stream": True}]
    for fields in wrong:
        error = refused(background_options=options, **fields)
        assert error.param == "background_options.completion_window"
    assert ask(background_options=options, background=True).background is True
    assert ask(background_options={"completion_window": "soonest"}).background is None


JSON_OBJECT = {"format": {"type": "json_object"}}


def test_json_object_needs_the_word_json() -> None:
    error = refused(text=JSON_OBJECT, instructions="Answer in JSON.")
    assert (error.param, error.code) == ("text.format", None)
    assert error.message == (
        "Response input messages must contain the word 'json' in some form to use 'text.format' "
        "of type 'json_object'."
    )
    assert ask(text=JSON_OBJECT, input="Give me JsOn").text == JSON_OBJECT
    assert ask(text=JSON_OBJECT, input=[{"role": "system", "content": "json"}]).text
    assert ask(text=JSON_OBJECT, previous_response_id="resp_1").text
    assert refused(text=JSON_OBJECT, input=user({"type": "refusal", "refusal": "no"})).param


FUNCTION = {"type": "function", "name": "f"}
CUSTOM = {"type": "custom", "name": "c"}
MCP = {"type": "mcp", "server_label": "l", "server_url": "https://x"}
NAMESPACE = {"type": "namespace", "name": "n", "description": "d", "tools": [FUNCTION]}


def test_names_of_tools_are_unique() -> None:
    error = refused(tools=[FUNCTION, CUSTOM, FUNCTION])
    assert (error.param, error.code) == ("tools[2].name", "invalid_value")
    assert refused(tools=[CUSTOM, {**FUNCTION, "name": "c"}]).param == "tools[1].name"
    assert refused(tools=[MCP, MCP]).param == "tools[1].server_label"
    space = {**NAMESPACE, "tools": [CUSTOM, FUNCTION, CUSTOM]}
    assert refused(tools=[FUNCTION, space]).param == "tools[1].tools[2].name"
    assert ask(tools=[FUNCTION, CUSTOM, MCP, NAMESPACE, {"type": "shell"}]).tools


FOUND = [
    ([FUNCTION], {"type": "function", "name": "f"}),
    ([NAMESPACE], {"type": "function", "name": "f"}),
    ([CUSTOM], {"type": "custom", "name": "c"}),
    ([MCP], {"type": "mcp", "server_label": "l", "name": "any"}),
    ([{"type": "web_search_2025_08_26"}], {"type": "web_search"}),
    ([{"type": "web_search_preview"}], {"type": "web_search_preview_2025_03_11"}),
    ([{"type": "computer"}], {"type": "computer_use"}),
    ([{"type": "shell"}], {"type": "shell"}),
    ([{"type": "apply_patch"}], {"type": "apply_patch"}),
    ([FUNCTION], "required"),
    ([FUNCTION], "none"),
    ([], "auto"),
    (
        [FUNCTION, MCP],
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [FUNCTION, {"type": "mcp", "server_label": "l"}],
        },
    ),
]


@pytest.mark.parametrize(("tools", "choice"), FOUND)
def test_a_choice_of_a_tool_that_is_there(tools: list[Json], choice: Any) -> None:
    assert ask(tools=tools, tool_choice=choice).tool_choice == choice


LOST = [
    ([], {"type": "web_search_preview"}, "web_search_preview"),
    ([{"type": "web_search"}], {"type": "web_search_preview"}, "web_search_preview"),
    ([FUNCTION], {"type": "function", "name": "g"}, "g"),
    ([CUSTOM], {"type": "function", "name": "c"}, "c"),
    ([MCP], {"type": "mcp", "server_label": "other"}, "other"),
    (
        [FUNCTION],
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "file_search"}]},
        "file_search",
    ),
]


@pytest.mark.parametrize(("tools", "choice", "name"), LOST)
def test_a_choice_of_a_tool_that_is_not_there(tools: list[Json], choice: Json, name: str) -> None:
    error = refused(tools=tools, tool_choice=choice)
    assert error.message == f"Tool choice '{name}' not found in 'tools' parameter."
    assert error.param == "tool_choice"


def test_required_needs_tools() -> None:
    error = refused(tool_choice="required")
    assert error.message == "Tool choice 'required' must be specified with 'tools' parameter."
    assert ask(tool_choice="required", prompt={"id": "pmpt_1"}).tools is None


def test_tools_may_come_in_the_input() -> None:
    item = {"type": "additional_tools", "role": "developer", "tools": [FUNCTION]}
    request = ask(input=[item], tool_choice={"type": "function", "name": "f"})
    assert request.input == [item]
