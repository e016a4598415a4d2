"""Instances of schemas are valid, the same every time, and never cost more than a moment."""

import time
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.backends.simulator.pattern import UnsupportedPatternError, example
from antiphon.backends.simulator.schema import instance
from antiphon.backends.simulator.values import FORMATS, NoInstanceError
from antiphon.protocol.schemas import AnswerSchema, check_strict
from antiphon.protocol.schemas_strict import FORMATS as STRICT_FORMATS

Json = dict[str, Any]


def closed(properties: Json, **more: Any) -> Json:
    """An object of the strict subset."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def is_valid(schema: Any, value: Any) -> bool:
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    return validator.is_valid(orjson.loads(orjson.dumps(value)))


NODE = closed(
    {
        "value": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    }
)

EXPECTED: list[tuple[Any, Any]] = [
    ({"const": {"a": [1]}}, {"a": [1]}),
    ({"enum": ["b", "a"]}, "b"),
    ({"type": "integer", "enum": ["b", 3]}, 3),
    ({"type": "string"}, "text"),
    ({"type": "string", "minLength": 6}, "texttext"[:6]),
    ({"type": "string", "minLength": 2.0, "maxLength": 2}, "te"),
    ({"type": "string", "maxLength": 0}, ""),
    ({"type": "string", "pattern": "^[A-Z]{3}-\\d+$"}, "AAA-0"),
    ({"type": "string", "pattern": "^a*$", "minLength": 3}, "aaa"),
    ({"type": "boolean"}, True),
    ({"type": "null"}, None),
    ({"type": ["null", "integer"]}, 1),
    ({"type": "integer", "minimum": 7}, 7),
    ({"type": "integer", "exclusiveMinimum": 7}, 8),
    ({"type": "integer", "exclusiveMaximum": -3}, -4),
    ({"type": "integer", "multipleOf": 4, "minimum": 5}, 8),
    ({"type": "integer", "multipleOf": 0.5}, 1),
    ({"type": "integer", "multipleOf": 1.5, "minimum": 2}, 3),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, 0.5),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
    ({"type": "number", "multipleOf": 0.01, "minimum": 0.105}, 0.11),
    ({"type": "number", "exclusiveMinimum": 1}, 2),
    ({"type": "array", "items": {"type": "integer"}}, [1]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [1, 1, 1]),
    ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, []),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "uniqueItems": True}, [1, 2]),
    (
        {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2, "uniqueItems": True},
        ["x", "y"],
    ),
    ({"type": "array", "prefixItems": [{"type": "null"}, {"type": "integer"}]}, [None, 1]),
    ({"type": "object", "required": ["a"]}, {"a": "text"}),
    ({"type": "object", "minProperties": 1}, {"key0": "text"}),
    ({"properties": {"a": {"minimum": 2}}}, {"a": 2}),
    ({"anyOf": [{"type": "integer", "minimum": 2, "maximum": 1}, {"type": "null"}]}, None),
    ({"oneOf": [{"type": "string"}, {"type": "null"}]}, "text"),
    (
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"a": {"minimum": 5}, "b": {"const": 2}}, "required": ["b"]},
            ]
        },
        {"a": 5, "b": 2},
    ),
    (
        {"allOf": [{"type": "number", "minimum": 1}, {"type": "integer", "minimum": 3}]},
        3,
    ),
    (
        closed({"root": {"$ref": "#/$defs/node"}}, **{"$defs": {"node": NODE}}),
        {
            "root": {
                "value": "text",
                "next": {"value": "text", "next": None, "children": []},
                "children": [{"value": "text", "next": None, "children": []}],
            }
        },
    ),
    (closed({"self": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}), {"self": {"self": None}}),
    ({"$ref": "#/$defs/x", "description": "d", "$defs": {"x": {"const": 4}}}, 4),
    ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 4}}}, 4),
    (True, "text"),
]


@pytest.mark.parametrize(("schema", "expected"), EXPECTED)
def test_instance(schema: Any, expected: Any) -> None:
    assert instance(schema) == expected
    assert is_valid(schema, expected)


def test_every_format_of_the_strict_subset_is_met() -> None:
    assert set(FORMATS) >= STRICT_FORMATS
    for name in STRICT_FORMATS:
        schema = closed({"a": {"type": "string", "format": name}})
        assert AnswerSchema(schema).validate(orjson.dumps(instance(schema)).decode()) is None, name


_LAUGHS = {
    f"d{i}": closed({key: {"$ref": f"#/$defs/d{i + 1}"} for key in "abcdefghij"}) for i in range(9)
}
_UNROLLS = {"anyOf": [{"$ref": "#/$defs/a", "t": 1}, {"$ref": "#/$defs/a", "t": 2}]}

IMPOSSIBLE = {
    "recursion without an end": closed({"a": {"$ref": "#"}}),
    "false": closed({"a": False}),
    "no number between": {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
    "a billion laughs": {"$ref": "#/$defs/d0", "$defs": {**_LAUGHS, "d9": {"type": "null"}}},
    "a billion tuples": {
        "$ref": "#/$defs/d0",
        "$defs": {
            **{f"d{i}": {"prefixItems": [{"$ref": f"#/$defs/d{i + 1}"}] * 10} for i in range(9)},
            "d9": {"type": "null"},
        },
    },
    "many long strings": {"items": {"type": "string", "minLength": 9999}, "minItems": 9999},
    "many long values": {"items": {"const": "x" * 9999}, "minItems": 9999},
    "many distinct": {"items": {"type": "integer"}, "minItems": 9999, "uniqueItems": True},
    "too many items": {"type": "array", "items": {"type": "null"}, "minItems": 10**9},
    "too long": {"type": "string", "minLength": 10**12},
    "huge pattern": {"type": "string", "pattern": "((a{999}){999}){9}"},
    "look-ahead": {"type": "string", "pattern": "(?=a)a"},
    "itself": {"$ref": "#"},
    "references that unroll": {"$ref": "#/$defs/a", "$defs": {"a": _UNROLLS}},
    "too few distinct": {
        "type": "array",
        "items": {"const": True},
        "minItems": 2,
        "uniqueItems": True,
    },
    "unknown type": {"type": "strin"},
    "a reference to nothing": {"$ref": "#/$defs/none"},
    "a long chain": {
        "$ref": "#/$defs/d0",
        "$defs": {**{f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(500)}, "d500": {}},
    },
}


@pytest.mark.parametrize("schema", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_has_no_small_instance_is_refused_quickly(schema: Any) -> None:
    """R-13, R-118: no schema blocks the event loop. A full garbage collection may fall into one."""
    spent = []
    for _ in range(3):
        started = time.process_time()
        with pytest.raises(NoInstanceError):
            instance(schema)
        spent.append(time.process_time() - started)
    assert min(spent) < 0.5


# -- any schema of the strict subset ---------------------------------------------------------------

_names = st.sampled_from(["a", "b", "c", "long name", "ü"])
_scalars = st.one_of(
    st.sampled_from([{"type": "string"}, {"type": "boolean"}, {"type": "null"}]),
    st.sampled_from([{"type": "string", "format": name} for name in sorted(STRICT_FORMATS)]),
    st.lists(st.text(max_size=5), min_size=1, max_size=3).map(
        lambda values: {"type": "string", "enum": values}
    ),
    st.integers(-5, 5).map(lambda value: {"type": "integer", "const": value}),
    st.builds(
        lambda low, span, step: {
            "type": "integer",
            "minimum": low,
            "maximum": low + span + step,
            "multipleOf": step,
        },
        st.integers(-1000, 1000),
        st.integers(0, 10),
        st.integers(1, 20),
    ),
    st.builds(
        lambda low, span: {
            "type": "number",
            "exclusiveMinimum": low,
            "exclusiveMaximum": low + span,
        },
        st.integers(-1000, 1000),
        st.floats(0.25, 10),
    ),
    st.sampled_from([{"$ref": "#"}, {"$ref": "#/$defs/leaf"}]).map(
        lambda ref: {"anyOf": [ref, {"type": "null"}]}
    ),
)
_schemas = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.dictionaries(_names, inner, max_size=4).map(closed),
        st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least},
            inner,
            st.integers(0, 3),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_names, _schemas, max_size=4))
def test_instances_of_strict_schemas_are_valid(properties: Json) -> None:
    schema = closed(properties, **{"$defs": {"leaf": {"type": "string"}}})
    check_strict(schema, subject="s", param="p", code="c")
    text = orjson.dumps(instance(schema)).decode()
    assert AnswerSchema(schema).validate(text) is None
    assert is_valid(schema, orjson.loads(text))
    assert orjson.dumps(instance(schema)).decode() == text
    assert list(orjson.loads(text)) == list(properties)  # key order is schema order (spec §8)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^\d{3}-\d{4}$", "000-0000"),
        (r"^(foo|bar)+baz?$", "fooba"),
        (r"[^a-z]x", "0x"),
        (r"[^\w]", "-"),
        (r"^\+?[1-9]\d{1,14}$", "10"),
        (r"^[\w.+-]+@[\w-]+\.[a-z]{2,}$", "a@a.aa"),
        (r"^#[0-9a-f]{6}$", "#000000"),
        (r"^[]x]$", "]"),
        (r"^a|b$", "a"),
        (r"(?:ab)+?c", "abc"),
        (r"a{2,3}\.\n", "aa.\n"),
        (r"\bword\b", "word"),
        ("", ""),
    ],
)
def test_pattern_example(pattern: str, expected: str) -> None:
    assert example(pattern) == expected
    assert jsonschema_rs.Draft202012Validator({"pattern": pattern}).is_valid(expected) or (
        "[]" in pattern  # an empty class in ECMA regular expressions
    )


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)", "(?P<n>a)", r"(a)\1", r"\p{L}", "a)", "(a", "[a", "*a", "a\\", "[^a0A_ .x1-]"],
)
def test_pattern_that_is_not_known(pattern: str) -> None:
    with pytest.raises(UnsupportedPatternError):
        example(pattern)


def test_pattern_length() -> None:
    assert example("^x+$", 7, 9) == "x" * 7
    with pytest.raises(UnsupportedPatternError):
        example("^(ab){3}$", 0, 5)
    with pytest.raises(UnsupportedPatternError):
        example("^ab$", 5)
