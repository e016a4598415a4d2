"""Bodies that no server may take (must show 6): each with the `param` that the error must name.

Rules
1. `PLACES` has every place of a value with the JSON kinds that may stand there; a row is made for
   each kind that may not.
2. `VALUES` are values of the right kind that are out of bounds, unknown, missing or contradictory.
3. `RAW` are bodies that are no JSON object at all, or no JSON.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from tests.api.talk import UNKNOWN, Json


class _Hole:
    """Stands in a template for the value."""


HOLE: Final = _Hole()

#: A value of each JSON kind that is right nowhere.
WRONG: Final[Json] = {
    "string": "wr\u00f6ng!",
    "integer": 7,
    "number": 1.5,
    "boolean": True,
    "array": [1],
    "object": {"wrong": 1},
}


@dataclass(frozen=True)
class Bad:
    """A body, the `param` of its error, and its code; None: any."""

    name: str
    body: bytes
    param: str | None
    code: str | None = None


def filled(template: Any, value: Any) -> Any:
    """The template with `value` in its hole."""
    match template:
        case _Hole():
            return value
        case dict():
            return {key: filled(inner, value) for key, inner in template.items()}
        case list():
            return [filled(inner, value) for inner in template]
    return template


def _format(**keys: Any) -> Json:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, **keys}
    return {"text": {"format": form}}


def _tool(**keys: Any) -> Json:
    return {"tools": [{"type": "function", "name": "f", **keys}]}


def _part(**keys: Any) -> Json:
    return {"input": [{"role": "user", "content": [keys]}]}


def _custom(**keys: Any) -> Json:
    return {"tools": [{"type": "custom", "name": "c", **keys}]}


def _call(**keys: Any) -> Json:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", **keys}
    return {"input": [call, {"type": "function_call_output", "call_id": "c", "output": ""}]}


#: Template, path, the kinds that may stand there.
PLACES: Final[list[tuple[Json, str, str]]] = [
    *(
        ({name: HOLE}, name, kinds)
        for name, kinds in {
            "model": "string",
            "input": "string array",
            "instructions": "string",
            "previous_response_id": "string",
            "conversation": "string object",
            "prompt": "object",
            "max_output_tokens": "integer",
            "max_tool_calls": "integer",
            "temperature": "integer number",
            "top_p": "integer number",
            "top_logprobs": "integer",
            "parallel_tool_calls": "boolean",
            "stream": "boolean",
            "stream_options": "object",
            "background": "boolean",
            "background_options": "object",
            "store": "boolean",
            "metadata": "object",
            "text": "object",
            "reasoning": "object",
            "tools": "array",
            "tool_choice": "string object",
            "include": "array",
            "truncation": "string",
            "context_management": "array",
            "service_tier": "string",
            "prompt_cache_key": "string",
            "prompt_cache_options": "object",
            "prompt_cache_retention": "string",
            "safety_identifier": "string",
            "user": "string",
            "moderation": "object",
            "image": "object",
            "access_programs": "object",
            "client_metadata": "object",
        }.items()
    ),
    ({"conversation": {"id": HOLE}}, "conversation.id", "string"),
    ({"prompt": {"id": HOLE}}, "prompt.id", "string"),
    ({"prompt": {"id": "p", "version": HOLE}}, "prompt.version", "string"),
    ({"prompt": {"id": "p", "variables": HOLE}}, "prompt.variables", "object"),
    ({"prompt": {"id": "p", "variables": {"k": HOLE}}}, "prompt.variables.k", "string object"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": HOLE}},
        "stream_options.include_obfuscation",
        "boolean",
    ),
    (
        {"background_options": {"completion_window": HOLE}},
        "background_options.completion_window",
        "",
    ),
    (
        {"background_options": {"continuation_id": HOLE}},
        "background_options.continuation_id",
        "string",
    ),
    ({"metadata": {"k": HOLE}}, "metadata.k", "string"),
    ({"text": {"verbosity": HOLE}}, "text.verbosity", ""),
    ({"text": {"format": HOLE}}, "text.format", "object"),
    ({"text": {"format": {"type": HOLE}}}, "text.format.type", ""),
    (_format(name=HOLE), "text.format.name", ""),
    (_format(schema=HOLE), "text.format.schema", "object"),
    (_format(description=HOLE), "text.format.description", "string"),
    (_format(strict=HOLE), "text.format.strict", "boolean"),
    *(
        ({"reasoning": {key: HOLE}}, f"reasoning.{key}", "")
        for key in ("effort", "summary", "generate_summary", "context", "mode")
    ),
    ({"prompt_cache_options": {"mode": HOLE}}, "prompt_cache_options.mode", ""),
    ({"prompt_cache_options": {"ttl": HOLE}}, "prompt_cache_options.ttl", ""),
    ({"prompt_cache_options": {"prewarm": HOLE}}, "prompt_cache_options.prewarm", "boolean"),
    ({"context_management": [HOLE]}, "context_management[0]", "object"),
    ({"context_management": [{"type": HOLE}]}, "context_management[0].type", ""),
    (
        {"context_management": [{"type": "compaction", "compact_threshold": HOLE}]},
        "context_management[0].compact_threshold",
        "",
    ),
    ({"moderation": {"model": HOLE}}, "moderation.model", "string"),
    ({"moderation": {"model": "m", "policy": HOLE}}, "moderation.policy", "object"),
    (
        {"moderation": {"model": "m", "policy": {"input": {"mode": HOLE}}}},
        "moderation.policy.input.mode",
        "",
    ),
    ({"image": {"context_compression": HOLE}}, "image.context_compression", ""),
    ({"access_programs": {"cyber": HOLE}}, "access_programs.cyber", ""),
    ({"include": [HOLE]}, "include[0]", ""),
    ({"tools": [HOLE]}, "tools[0]", "object"),
    ({"tools": [{"type": HOLE}]}, "tools[0].type", ""),
    (_tool(name=HOLE), "tools[0].name", ""),
    (_tool(description=HOLE), "tools[0].description", "string"),
    (_tool(parameters=HOLE), "tools[0].parameters", "object"),
    (_tool(strict=HOLE), "tools[0].strict", "boolean"),
    (_custom(name=HOLE), "tools[0].name", ""),
    (_custom(format=HOLE), "tools[0].format", "object"),
    (_custom(format={"type": HOLE}), "tools[0].format.type", ""),
    ({**_tool(), "tool_choice": {"type": HOLE}}, "tool_choice.type", ""),
    ({**_tool(), "tool_choice": {"type": "function", "name": HOLE}}, "tool_choice.name", ""),
    (
        {
            **_tool(),
            "tool_choice": {"type": "allowed_tools", "mode": HOLE, "tools": [{"type": "x"}]},
        },
        "tool_choice.mode",
        "",
    ),
    (
        {**_tool(), "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": HOLE}},
        "tool_choice.tools",
        "array",
    ),
    ({"input": [HOLE]}, "input[0]", "object"),
    ({"input": [{"type": HOLE, "role": "user", "content": "x"}]}, "input[0].type", ""),
    ({"input": [{"role": HOLE, "content": "x"}]}, "input[0].role", ""),
    ({"input": [{"role": "user", "content": HOLE}]}, "input[0].content", "string array"),
    ({"input": [{"role": "user", "content": [HOLE]}]}, "input[0].content[0]", "object"),
    (_part(type=HOLE, text="x"), "input[0].content[0].type", ""),
    (_part(type="input_text", text=HOLE), "input[0].content[0].text", "string"),
    (_part(type="input_image", image_url=HOLE), "input[0].content[0].image_url", ""),
    (_part(type="input_image", image_url="data:x", detail=HOLE), "input[0].content[0].detail", ""),
    (_part(type="input_file", file_data=HOLE), "input[0].content[0].file_data", "string"),
    (_call(call_id=HOLE), "input[0].call_id", "string"),
    (_call(name=HOLE), "input[0].name", "string"),
    (_call(arguments=HOLE), "input[0].arguments", "string"),
    ({"input": [{"type": "item_reference", "id": HOLE}]}, "input[0].id", "string"),
]


def _type_rows() -> Iterator[Bad]:
    for place, (template, path, kinds) in enumerate(PLACES):
        for kind, value in WRONG.items():
            if kind not in kinds.split():
                body = {"model": "m", "input": "Hi", **filled(template, value)}
                yield Bad(f"{place}: {path} = {kind}", orjson.dumps(body), path)


def _value(name: str, param: str | None, code: str | None, **body: Any) -> Bad:
    return Bad(name, orjson.dumps({"model": "m", "input": "Hi", **body}), param, code)


_LONG: Final = "x" * 600
_MANY_TOOLS: Final = [{"type": "function", "name": f"f{index}"} for index in range(129)]
_MANY_KEYS: Final = {f"k{index}": "" for index in range(17)}

VALUES: Final = [
    _value("unknown", "foo", "unknown_parameter", foo=1),
    _value("unknown null", "foo", "unknown_parameter", foo=None),
    _value("unknown and wrong", "foo", "unknown_parameter", temperature="x", foo=1),
    _value("unknown reasoning", "reasoning.x", "unknown_parameter", reasoning={"x": 1}),
    _value("unknown text", "text.x", "unknown_parameter", text={"x": 1}),
    _value("unknown tool key", "tools[0].x", "unknown_parameter", **_tool(x=1)),
    _value(
        "max_output_tokens 15", "max_output_tokens", "integer_below_min_value", max_output_tokens=15
    ),
    _value("max_output_tokens 2^63", "max_output_tokens", None, max_output_tokens=2**63),
    _value("max_tool_calls 0", "max_tool_calls", "integer_below_min_value", max_tool_calls=0),
    _value("temperature 2.1", "temperature", "decimal_above_max_value", temperature=2.1),
    _value("temperature -1", "temperature", "decimal_below_min_value", temperature=-1),
    _value("top_p 1.1", "top_p", "decimal_above_max_value", top_p=1.1),
    _value("top_p -0.1", "top_p", "decimal_below_min_value", top_p=-0.1),
    _value("top_logprobs 21", "top_logprobs", "integer_above_max_value", top_logprobs=21),
    _value("top_logprobs -1", "top_logprobs", "integer_below_min_value", top_logprobs=-1),
    _value("metadata 17", "metadata", "object_above_max_properties", metadata=_MANY_KEYS),
    _value("metadata long value", "metadata.k", "string_above_max_length", metadata={"k": _LONG}),
    _value("metadata null", "metadata.k", "invalid_type", metadata={"k": None}),
    _value("user long", "user", "string_above_max_length", user=_LONG),
    _value(
        "prompt_cache_key long",
        "prompt_cache_key",
        "string_above_max_length",
        prompt_cache_key="x" * 65,
    ),
    _value(
        "safety_identifier long",
        "safety_identifier",
        "string_above_max_length",
        safety_identifier="x" * 129,
    ),
    _value("model empty", "model", None, model=""),
    _value("model null", "model", "missing_required_parameter", model=None),
    _value("model NUL", "model", None, model="a\0b"),
    _value("model long", "model", "string_above_max_length", model=_LONG),
    _value("input null", "input", "missing_required_parameter", input=None),
    _value("input empty", "input", "empty_array", input=[]),
    _value("input item null", "input[0]", "invalid_type", input=[None]),
    _value("input item empty", "input[0].type", "missing_required_parameter", input=[{}]),
    _value("input unknown item", "input[0].type", "invalid_value", input=[{"type": "nonsense"}]),
    _value(
        "input no content",
        "input[0].content",
        "missing_required_parameter",
        input=[{"role": "user"}],
    ),
    _value("previous bad id", "previous_response_id", None, previous_response_id="../../etc"),
    _value("previous NUL", "previous_response_id", None, previous_response_id="resp_\0"),
    _value(
        "previous unknown",
        "previous_response_id",
        "previous_response_not_found",
        previous_response_id=UNKNOWN,
    ),
    _value("tools 129", "tools", "array_above_max_length", tools=_MANY_TOOLS),
    _value("tools null", "tools[0]", "invalid_type", tools=[None]),
    _value(
        "tool without name",
        "tools[0].name",
        "missing_required_parameter",
        tools=[{"type": "function"}],
    ),
    _value("tool name", "tools[0].name", None, tools=[{"type": "function", "name": "a b"}]),
    _value("tool name NUL", "tools[0].name", None, tools=[{"type": "function", "name": "a\0"}]),
    _value(
        "tool long name",
        "tools[0].name",
        "string_above_max_length",
        tools=[{"type": "function", "name": "x" * 129}],
    ),
    _value("tool unknown", "tools[0].type", "invalid_value", tools=[{"type": "nonsense"}]),
    _value("tool no type", "tools[0].type", "missing_required_parameter", tools=[{"name": "x"}]),
    _value(
        "format without name",
        "text.format.name",
        "missing_required_parameter",
        text={"format": {"type": "json_schema", "schema": {}}},
    ),
    _value(
        "format without schema",
        "text.format.schema",
        "missing_required_parameter",
        text={"format": {"type": "json_schema", "name": "n"}},
    ),
    _value(
        "format long name", "text.format.name", "string_above_max_length", **_format(name="x" * 65)
    ),
    _value(
        "schema not strict", "text.format.schema", "invalid_json_schema", **_format(strict=True)
    ),
    _value(
        "schema remote",
        "text.format.schema",
        "invalid_json_schema",
        **_format(schema={"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}}),
    ),
    _value(
        "schema file",
        "text.format.schema",
        "invalid_json_schema",
        **_format(schema={"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}}),
    ),
    _value(
        "function not strict",
        "tools[0].parameters",
        "invalid_function_parameters",
        **_tool(strict=True, parameters={"type": "object", "properties": {"a": {}}}),
    ),
    _value(
        "function no object",
        "tools[0].parameters",
        "invalid_function_parameters",
        **_tool(parameters={"type": "string"}),
    ),
    _value(
        "threshold",
        "context_management[0].compact_threshold",
        "integer_below_min_value",
        context_management=[{"type": "compaction", "compact_threshold": 999}],
    ),
    _value("verbosity", "text.verbosity", "invalid_value", text={"verbosity": "loud"}),
    _value(
        "call_id long", "input[0].call_id", "string_above_max_length", **_call(call_id="x" * 65)
    ),
    _value("call_id empty", "input[0].call_id", None, **_call(call_id="")),
    _value("choice unknown", "tool_choice", None, tool_choice="sometimes"),
    _value(
        "image ftp",
        "input[0].content[0].image_url",
        None,
        **_part(type="input_image", image_url="ftp://x/y"),
    ),
    _value("image nothing", "input[0].content[0]", None, **_part(type="input_image")),
]

_OK: Final = b'{"model":"m","input":"Hi"'

RAW: Final = [
    *(
        Bad(f"body {text!r}", text, None)
        for text in (b"null", b"[]", b"5", b'"x"', b"true", b"[{}]")
    ),
    Bad("empty", b"", None),
    Bad("blank", b"  \n", None),
    Bad("empty object", b"{}", "model", "missing_required_parameter"),
    Bad("cut off", _OK, None),
    Bad("two values", _OK + b"}{}", None),
    Bad("trailing comma", _OK + b",}", None),
    Bad("single quotes", b"{'model':'m'}", None),
    Bad("comment", _OK + b"/* */}", None),
    Bad("form", b"model=m&input=Hi", None),
    Bad("NaN", _OK + b',"temperature":NaN}', None),
    Bad("Infinity", _OK + b',"temperature":Infinity}', None),
    Bad("-Infinity", _OK + b',"top_p":-Infinity}', None),
    Bad("1e400", _OK + b',"temperature":1e400}', None),
    Bad("leading zero", _OK + b',"top_logprobs":01}', None),
    Bad("plus", _OK + b',"top_logprobs":+1}', None),
    Bad("hex", _OK + b',"top_logprobs":0x1}', None),
    Bad("4301 digits", _OK + b',"max_output_tokens":' + b"9" * 4301 + b"}", None),
    Bad("duplicate key", _OK + b',"model":"other"}', None),
    Bad("duplicate nested", _OK + b',"metadata":{"a":"1","a":"2"}}', None),
    Bad("duplicate escaped", _OK + b',"mod\\u0065l":"other"}', None),
    Bad("invalid UTF-8", b'{"model":"m","input":"\xff\xfe"}', None),
    Bad("overlong", b'{"model":"m","input":"\xc0\xaf"}', None),
    Bad("surrogate bytes", b'{"model":"m","input":"\xed\xa0\x80"}', None),
    Bad("surrogate escape", b'{"model":"m","input":"\\ud800"}', None),
    Bad("latin-1", b'{"model":"m","input":"caf\xe9"}', None),
    Bad("UTF-16", '{"model":"m","input":"Hi"}'.encode("utf-16"), None),
    Bad("byte order mark", b"\xef\xbb\xbf" + _OK + b"}", None),
    Bad("raw control", b'{"model":"m","input":"a\x00b"}', None),
    Bad("line break in a string", b'{"model":"m","input":"a\nb"}', None),
]

BODIES: Final = [*_type_rows(), *VALUES, *RAW]
