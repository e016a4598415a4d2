"""OpenAI's error texts, which error is told, and the limits of items (spec §1, §6)."""

from typing import Any

import pytest

from tests.protocol.asking import Json, ask, refuse, refused, user

# -- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "code", "message"),
    [
        (
            {"input": 7},
            "input",
            "invalid_type",
            (
                "Invalid type for 'input': expected one of an array of objects or string, but got "
                "an integer instead."
            ),
        ),
        (
            {"stream": "no"},
            "stream",
            "invalid_type",
            "Invalid type for 'stream': expected a boolean, but got a string instead.",
        ),
        (
            {"instructions": ["x"]},
            "instructions",
            "invalid_type",
            "Invalid type for 'instructions': expected a string, but got an array instead.",
        ),
        (
            {"temperature": "hot"},
            "temperature",
            "invalid_type",
            "Invalid type for 'temperature': expected a decimal, but got a string instead.",
        ),
        (
            {"max_output_tokens": 20.5},
            "max_output_tokens",
            "invalid_type",
            (
                "Invalid type for 'max_output_tokens': expected an integer, but got a decimal "
                "number instead."
            ),
        ),
        (
            {"truncation": {}},
            "truncation",
            "invalid_type",
            (
                "Invalid type for 'truncation': expected one of 'auto' or 'disabled', but got an "
                "object instead."
            ),
        ),
        (
            {"tool_choice": 7},
            "tool_choice",
            "invalid_type",
            (
                "Invalid type for 'tool_choice': expected one of an object or 'none', 'auto', or "
                "'required', but got an integer instead."
            ),
        ),
        (
            {"input": [{"role": "user", "content": 7}]},
            "input[0].content",
            "invalid_type",
            (
                "Invalid type for 'input[0].content': expected one of an array of objects or "
                "string, but got an integer instead."
            ),
        ),
        (
            {"truncation": "x"},
            "truncation",
            "invalid_value",
            "Invalid value: 'x'. Supported values are: 'auto' and 'disabled'.",
        ),
        (
            {"text": {"verbosity": "x"}},
            "text.verbosity",
            "invalid_value",
            "Invalid value: 'x'. Supported values are: 'low', 'medium', and 'high'.",
        ),
        (
            {"tool_choice": "x"},
            "tool_choice",
            "invalid_value",
            "Invalid value: 'x'. Supported values are: 'none', 'auto', and 'required'.",
        ),
        (
            {"input": [{"type": "web_search_call", "action": {"type": "other"}}]},
            "input[0].action.type",
            "invalid_value",
            (
                "Invalid value: 'other'. Supported values are: 'search', 'open_page', and "
                "'find_in_page'."
            ),
        ),
        (
            {"max_output_tokens": 10},
            "max_output_tokens",
            "integer_below_min_value",
            (
                "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, "
                "but got 10 instead."
            ),
        ),
        (
            {"temperature": 3},
            "temperature",
            "decimal_above_max_value",
            (
                "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but "
                "got 3 instead."
            ),
        ),
        (
            {"metadata": {"x": "v" * 695}},
            "metadata.x",
            "string_above_max_length",
            (
                "Invalid 'metadata.x': string too long. Expected a string with maximum length 512, "
                "but got a string with length 695 instead."
            ),
        ),
        (
            {"metadata": {"k" * 70: "v"}},
            f"metadata.{'k' * 70}",
            "property_name_above_max_length",
            (
                "Invalid property name in 'metadata': 'kkk...kkk' is too long. Expected a string "
                "with maximum length 64, but got a string with length 70 instead."
            ),
        ),
        (
            {"metadata": {str(number): "" for number in range(17)}},
            "metadata",
            "object_above_max_properties",
            (
                "Invalid 'metadata': too many properties. Expected an object with at most 16 "
                "properties, but got an object with 17 properties instead."
            ),
        ),
        (
            {"tools": [{"type": "shell"}] * 150},
            "tools",
            "array_above_max_length",
            (
                "Invalid 'tools': array too long. Expected an array with maximum length 128, but "
                "got an array with length 150 instead."
            ),
        ),
        (
            {"tools": [*[{"type": "shell"}] * 4, {"type": "function"}]},
            "tools[4].name",
            "missing_required_parameter",
            "Missing required parameter: 'tools[4].name'.",
        ),
        (
            {"tools": [{"type": "function", "name": "a b"}]},
            "tools[0].name",
            "invalid_value",
            (
                "Invalid 'tools[0].name': string does not match pattern. Expected a string that "
                "matches the pattern '^[a-zA-Z0-9_-]+$'."
            ),
        ),
        (
            {"tools": [{"type": "file_search", "vector_store_ids": []}]},
            "tools[0].vector_store_ids",
            "empty_array",
            (
                "Invalid 'tools[0].vector_store_ids': empty array. Expected an array with minimum "
                "length 1, but got an empty array instead."
            ),
        ),
        (
            {"tools": [{"type": "mcp", "server_label": "l"}]},
            "tools[0]",
            "missing_mutually_exclusive_parameters",
            (
                "Missing mutually exclusive parameters: 'tools[0]'. Ensure you are providing "
                "exactly one of: 'server_url', 'connector_id', or 'tunnel_id'."
            ),
        ),
        (
            {"reasoning": {"max_tokens": 1}},
            "reasoning.max_tokens",
            "unknown_parameter",
            "Unknown parameter: 'reasoning.max_tokens'.",
        ),
        ({"foo": 1}, "foo", "unknown_parameter", "Unknown parameter: 'foo'."),
        (
            {"previous_response_id": "resp 1!"},
            "previous_response_id",
            "invalid_value",
            (
                "Invalid 'previous_response_id': 'resp 1!'. Expected an ID that contains letters, "
                "numbers, underscores, or dashes, but this value contained additional characters."
            ),
        ),
        (
            {"input": [{"type": "message", "id": "", "role": "user", "content": "x"}]},
            "input[0].id",
            "invalid_value",
            (
                "Invalid 'input[0].id': ''. Expected an ID that contains letters, numbers, "
                "underscores, or dashes, but this value contained additional characters."
            ),
        ),
    ],
)
def test_openais_texts(fields: Json, param: str, code: str, message: str) -> None:
    """Spec §1 and §6."""
    error = refused(**fields)
    assert (error.param, error.code, error.message) == (param, code, message)


def test_values_are_echoed_short_and_without_control_characters() -> None:
    """R-24."""
    error = refused(truncation="a\r\n\x1b" + "x" * 10_000)
    assert "Invalid value: 'a\\u000d\\u000a\\u001bxxx" in error.message
    assert len(error.message) < 250
    assert error.message.isprintable()
    error = refused(**{"k\n" + "x" * 10_000: 1})
    assert error.param is not None
    assert error.param.isprintable()
    assert len(error.param) < 150


@pytest.mark.parametrize("key", ["<string>", "[key]", "<object>", "a.b", ""])
def test_keys_that_look_like_marks_stay_in_the_path(key: str) -> None:
    """R-02."""
    assert refused(metadata={key: 1}).param == f"metadata.{key}"


# -- which error ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"zzz": 1, "input": 7}, "model"),
        ({"model": "m", "zzz": 1, "input": [{"role": "user", "content": 7}]}, "zzz"),
        ({"model": "m", "truncation": "x", "input": 7}, "input"),
        ({"model": "m", "input": "x", "include": ["x"], "tools": "x"}, "include[0]"),
        ({"model": "m", "input": "x", "metadata": "x", "tools": "x"}, "tools"),
        ({"model": "m", "input": "x", "text": "x", "metadata": "x"}, "metadata"),
        ({"model": "m", "input": "x", "top_p": "x", "temperature": "x"}, "temperature"),
        ({"model": "m", "input": "x", "reasoning": "x", "max_tool_calls": "x"}, "max_tool_calls"),
        ({"model": "m", "input": "x", "store": "x", "instructions": 7}, "instructions"),
    ],
)
def test_errors_come_in_openais_order(body: Json, param: str) -> None:
    assert refuse(body).param == param


def test_a_body_full_of_unknown_keys_is_refused_quickly() -> None:
    """R-09."""
    assert refused(**{f"k{number}": 1 for number in range(50_000)}).param == "k0"
    nested = refused(reasoning={f"k{number}": 1 for number in range(50_000)})
    assert nested.code == "unknown_parameter"


@pytest.mark.parametrize("body", [None, [], 5, "x", True, 1.5])
def test_the_body_must_be_an_object(body: Any) -> None:
    """R-06."""
    error = refuse(body)
    assert (error.code, error.param) == ("invalid_type", None)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "a\0b"},
        {"metadata": {"a\0b": "x"}},
        {"previous_response_id": "resp_\0"},
        {"conversation": "conv_\0"},
        {"conversation": {"id": "conv_\0"}},
        {"prompt": {"id": "pmpt_\0"}},
        {"input": [{"type": "message", "id": "msg_\0", "role": "user", "content": "x"}]},
        {"input": [{"type": "item_reference", "id": "msg_\0"}]},
        {"input": [{"type": "function_call_output", "call_id": "c\0", "output": "x"}]},
        {"input": user({"type": "input_file", "file_id": "file-\0"})},
    ],
)
def test_nul_in_names_is_refused(fields: Json) -> None:
    """R-11."""
    assert refused(**fields).code == "invalid_value"


def test_nul_in_a_text_is_kept() -> None:
    """R-11."""
    assert ask(input="a\0b").input[0]["content"][0]["text"] == "a\0b"


# -- limits of items -----------------------------------------------------------------------------


def test_at_most_10_000_items() -> None:
    item = {"role": "user", "content": "x"}
    assert len(ask(input=[item] * 10_000).input) == 10_000
    error = refused(input=[item] * 10_001)
    assert (error.param, error.code) == ("input", "array_above_max_length")


@pytest.mark.parametrize(
    ("part", "field", "limit"),
    [
        ({"type": "input_text"}, "text", 10_485_760),
        ({"type": "input_image"}, "image_url", 20_971_520),
        ({"type": "input_file", "filename": "f"}, "file_data", 73_400_320),
    ],
)
def test_lengths_of_parts(part: Json, field: str, limit: int) -> None:
    """Spec §1, "Other limits"."""
    value = "data:," + "x" * (limit - 6)
    assert ask(input=user({**part, field: value})).input
    error = refused(input=user({**part, field: value + "x"}))
    assert (error.param, error.code) == (
        f"input[0].content[0].{field}",
        "string_above_max_length",
    )


@pytest.mark.parametrize("url", ["", "x", "ftp://x/y", "file:///etc/passwd", "javascript:1"])
def test_an_image_is_fetched_by_http_or_inline(url: str) -> None:
    error = refused(input=user({"type": "input_image", "image_url": url}))
    assert error.param == "input[0].content[0].image_url"
    assert error.message == (
        "Invalid 'input[0].content[0].image_url'. Expected a valid URL, but got a value with an "
        "invalid format."
    )


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"type": "input_image"}, "missing_mutually_exclusive_parameters"),
        ({"type": "input_image", "image_url": None}, "missing_mutually_exclusive_parameters"),
        ({"type": "input_file", "filename": "a"}, "missing_mutually_exclusive_parameters"),
        (
            {"type": "input_image", "image_url": "data:,", "file_id": "f"},
            "mutually_exclusive_parameters",
        ),
        (
            {"type": "input_file", "file_url": "http://x", "file_id": "f"},
            "mutually_exclusive_parameters",
        ),
    ],
)
def test_a_part_has_one_source(part: Json, code: str) -> None:
    error = refused(input=user({"type": "input_text", "text": ""}, part))
    assert (error.param, error.code) == ("input[0].content[1]", code)


@pytest.mark.parametrize(
    ("item", "param", "code"),
    [
        (5, "input[0]", "invalid_type"),
        ({}, "input[0].type", "missing_required_parameter"),
        ({"content": "x"}, "input[0].type", "missing_required_parameter"),
        ({"type": 5}, "input[0].type", "invalid_type"),
        ({"type": "bogus"}, "input[0].type", "invalid_value"),
        ({"role": "tool", "content": "x"}, "input[0].role", "invalid_value"),
        ({"role": "user"}, "input[0].content", "missing_required_parameter"),
        ({"role": "user", "content": None}, "input[0].content", "invalid_type"),
        ({"role": "user", "content": [5]}, "input[0].content[0]", "invalid_type"),
        (
            {"role": "user", "content": [{"text": "x"}]},
            "input[0].content[0].type",
            "missing_required_parameter",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "x"}]},
            "input[0].content[0].type",
            "invalid_value",
        ),
        ({"type": "item_reference"}, "input[0].id", "missing_required_parameter"),
        ({"type": "item_reference", "id": 5}, "input[0].id", "invalid_type"),
    ],
)
def test_bad_items(item: Any, param: str, code: str) -> None:
    error = refused(input=[item])
    assert (error.param, error.code) == (param, code)
