"""The strict subset, refused in OpenAI's own words (spec §8)."""

from typing import Any

import pytest

from antiphon.errors import InvalidRequestError
from antiphon.protocol.schemas import check_strict
from antiphon.protocol.schemas_strict import resolve

Json = dict[str, Any]

S: Json = {"type": "string"}
CLOSED: Json = {"type": "object", "additionalProperties": False}
ADDITIONAL = "'additionalProperties' is required to be supplied and to be false."
REQUIRED = (
    "'required' is required to be supplied and to be an array including every key in properties."
)
TOP = "reference can only point to definitions defined at the top level of the schema."
LOOP = "'$ref' may only recurse through an object or an array."


def closed(properties: Json | None = None, **more: Any) -> Json:
    """An object of the strict subset."""
    properties = properties or {}
    return {**CLOSED, "properties": properties, "required": list(properties), **more}


def prop(schema: Any) -> Json:
    """A property `x` with this schema."""
    return closed({"x": schema})


def at(words: str, problem: str) -> str:
    """The error text at a place: ``at("properties x", "…")``."""
    return f"In context={tuple(words.split())!r}, {problem}"


def not_permitted(word: str, value: Any) -> tuple[Any, str]:
    return prop({**S, word: value}), at("properties x", f"'{word}' is not permitted.")


def nested(levels: int) -> Json:
    schema: Json = S
    for _ in range(levels):
        schema = prop(schema)
    return schema


REFUSED: list[tuple[Any, str]] = [
    # the root
    (
        {"type": "array", "items": S},
        "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'.",
    ),
    ({}, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'."),
    (
        {"anyOf": [closed()]},
        "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'.",
    ),
    (
        {"$ref": "#/$defs/a", "$defs": {"a": closed()}},
        "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'.",
    ),
    (True, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'."),
    (closed(anyOf=[closed()]), "In context=(), 'anyOf' is not permitted."),
    # objects
    ({"type": "object", "properties": {}}, f"In context=(), {ADDITIONAL}"),
    ({**CLOSED, "additionalProperties": True}, f"In context=(), {ADDITIONAL}"),
    ({**CLOSED, "additionalProperties": {}}, f"In context=(), {ADDITIONAL}"),
    ({**CLOSED, "additionalProperties": None}, f"In context=(), {ADDITIONAL}"),
    ({**CLOSED, "additionalProperties": 0}, f"In context=(), {ADDITIONAL}"),
    (prop({"type": "object"}), at("properties x", ADDITIONAL)),
    (prop({"type": ["object", "null"]}), at("properties x", ADDITIONAL)),
    ({**CLOSED, "properties": {"params": S}}, f"In context=(), {REQUIRED} Missing 'params'."),
    (
        closed(
            {
                "organizations": {
                    "type": "array",
                    "items": {**CLOSED, "properties": {"id": S, "roles": S}, "required": ["id"]},
                }
            }
        ),
        at("properties organizations items", f"{REQUIRED} Missing 'roles'."),
    ),
    (
        closed({"a": S}, required=["a", "recipe"]),
        f"In context=(), {REQUIRED} Extra required key 'recipe' supplied.",
    ),
    ({**CLOSED, "required": ["x"]}, f"In context=(), {REQUIRED} Extra required key 'x' supplied."),
    (closed({"a": S}, required="a"), f"In context=(), {REQUIRED}"),
    (closed({"a": S}, required=[["a"]]), f"In context=(), {REQUIRED}"),
    (closed(required=None), f"In context=(), {REQUIRED}"),
    ({**CLOSED, "properties": []}, "In context=(), 'properties' must be an object."),
    # types
    (prop({}), at("properties x", "schema must have a 'type' key.")),
    (prop({"const": "fact"}), at("properties x", "schema must have a 'type' key.")),
    (prop({"enum": ["a"]}), at("properties x", "schema must have a 'type' key.")),
    (prop({"type": None}), at("properties x", "schema must have a 'type' key.")),
    (prop({"type": []}), at("properties x", "schema must have a 'type' key.")),
    (prop({"type": "strin"}), at("properties x", "'strin' is not a valid type.")),
    (prop({"type": ["string", 3]}), at("properties x", "3 is not a valid type.")),
    (prop({"type": [["string"]]}), at("properties x", "['string'] is not a valid type.")),
    (prop(True), at("properties x", "True is not of type 'object'.")),
    (prop("string"), at("properties x", "'string' is not of type 'object'.")),
    # arrays
    (prop({"type": "array"}), at("properties x", "array schema missing items.")),
    (
        prop({"type": "array", "items": {}}),
        at("properties x items", "schema must have a 'type' key."),
    ),
    (
        prop({"type": "array", "items": [S]}),
        at("properties x items", f"[{S}] is not of type 'object'."),
    ),
    # unions
    (prop({"anyOf": []}), at("properties x", "'anyOf' must be a non-empty array.")),
    (prop({"anyOf": {"type": "string"}}), at("properties x", "'anyOf' must be a non-empty array.")),
    (prop({"anyOf": [S, {"type": "object"}]}), at("properties x anyOf 1", ADDITIONAL)),
    # values
    (prop({"type": "string", "enum": []}), at("properties x", "'enum' must be a non-empty array.")),
    (
        prop({"type": "string", "enum": "a"}),
        at("properties x", "'enum' must be a non-empty array."),
    ),
    (
        prop({"type": ["integer", "null"], "enum": ["0"]}),
        at("properties x", "enum value 0 does not validate against {'type': ['integer', 'null']}."),
    ),
    (
        prop({"type": "integer", "const": True}),
        at("properties x", "enum value True does not validate against {'type': 'integer'}."),
    ),
    (prop({"type": "string", "format": "uri"}), at("properties x", "'uri' is not a valid format.")),
    (
        prop({"type": "string", "format": ["date"]}),
        at("properties x", "['date'] is not a valid format."),
    ),
    # keywords outside the subset
    *(
        not_permitted(word, value)
        for word, value in {
            "allOf": [S],
            "oneOf": [S],
            "not": S,
            "if": S,
            "then": S,
            "else": S,
            "default": "a",
            "minLength": 1,
            "maxLength": 9,
            "uniqueItems": True,
            "contains": S,
            "patternProperties": {},
            "propertyNames": S,
            "minProperties": 1,
            "maxProperties": 1,
            "dependentRequired": {},
            "dependentSchemas": {},
            "prefixItems": [S],
            "unevaluatedProperties": False,
            "$dynamicRef": "#",
        }.items()
    ),
    # references
    (
        closed({"x": {"$ref": "#/$defs/a", "description": "d"}}, **{"$defs": {"a": S}}),
        "context=('properties', 'x'), $ref cannot have keywords {'description'}.",
    ),
    (
        closed({"x": {"$ref": "#/$defs/a", "title": "t", "default": 1}}, **{"$defs": {"a": S}}),
        "context=('properties', 'x'), $ref cannot have keywords {'default', 'title'}.",
    ),
    (prop({"$ref": "#/$defs/a"}), at("properties x", TOP)),
    (prop({"$ref": "https://example.com/schema"}), at("properties x", TOP)),
    (prop({"$ref": "file:///etc/passwd"}), at("properties x", TOP)),
    (closed({"a": S, "b": {"$ref": "#/properties/a"}}), at("properties b", TOP)),
    (prop({"$ref": 5}), at("properties x", TOP)),
    (prop({"$ref": None}), at("properties x", TOP)),
    (closed({}, **{"$defs": {"a": {"type": "object"}}}), at("$defs a", ADDITIONAL)),
    (closed({}, **{"$defs": []}), "In context=(), '$defs' must be an object."),
    (closed({}, **{"$defs": {"a": {"$ref": "#/$defs/a"}}}), at("$defs a", LOOP)),
    (
        closed(
            {},
            **{"$defs": {"a": {"anyOf": [S, {"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}},
        ),
        at("$defs a", LOOP),
    ),
    # limits
    (nested(11), "11 levels of nesting exceeds limit of 10."),
    (closed({f"p{i}": S for i in range(5001)}), "5001 parameters exceeds limit of 5000."),
    (closed({"p" * 120_001: S}), "120001 characters in names and values exceeds limit of 120000."),
    (
        prop({"type": "integer", "enum": list(range(1001))}),
        "1001 enum values exceeds limit of 1000.",
    ),
    (
        prop({"type": "string", "enum": [f"{i:060}" for i in range(251)]}),
        at(
            "properties x",
            "a single enum property with more than 250 values exceeds the maximum combined enum "
            "string length of 15000 characters.",
        ),
    ),
    (
        closed({}, **{"$defs": {f"d{i}": S for i in range(1001)}}),
        "1001 definitions exceeds limit of 1000.",
    ),
]

ACCEPTED: dict[str, Json] = {
    "empty": CLOSED,
    "all types": closed(
        {
            "s": S,
            "n": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.1},
            "i": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
            "b": {"type": "boolean"},
            "z": {"type": "null"},
            "a": {"type": "array", "items": S, "minItems": 1, "maxItems": 2},
            "o": closed(),
            "u": {"anyOf": [S, {"type": "null"}]},
            "t": {"type": ["string", "null"]},
            "c": {"type": "string", "const": "c"},
            "e": {"type": "integer", "enum": [1, 2.0]},
            "p": {"type": "string", "pattern": "^a", "format": "date"},
        }
    ),
    "annotations": closed({"x": {**S, "title": "t", "description": "d", "x-note": 1}}, title="T"),
    "recursion through #": prop({"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
    "recursion through a definition": closed(
        {"x": {"$ref": "#/$defs/a~1b"}},
        **{"$defs": {"a/b": closed({"next": {"anyOf": [{"$ref": "#/$defs/a~1b"}, S]}})}},
    ),
    "definitions": closed({"x": {"$ref": "#/definitions/a"}}, definitions={"a": S}),
    "two ways to one definition": closed(
        {"x": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]}},
        **{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": S}},
    ),
    "properties named like keywords": closed({"allOf": S, "default": S, "$ref": S}),
    "ten levels": nested(10),
    "5,000 properties": closed({f"p{i}": S for i in range(5000)}),
    "120,000 characters": closed({"p" * 120_000: S}),
    "1,000 enum values": prop({"type": "integer", "enum": list(range(1000))}),
    "250 long values": prop({"type": "string", "enum": [f"{i:070}" for i in range(250)]}),
    "15,000 characters in 300 values": prop(
        {"type": "string", "enum": [f"{i:050}" for i in range(300)]}
    ),
}


@pytest.mark.parametrize(("schema", "problem"), REFUSED)
def test_refused_in_openais_words(schema: Any, problem: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_strict(schema, subject="function 'f'", param="tools[1].parameters", code="bad")
    assert caught.value.message == f"Invalid schema for function 'f': {problem}"
    assert (caught.value.param, caught.value.code) == ("tools[1].parameters", "bad")


@pytest.mark.parametrize("schema", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(schema: Json) -> None:
    check_strict(schema, subject="function 'f'", param="p", code="c")


def test_the_table_is_long_enough() -> None:
    assert len(REFUSED) >= 40


def test_only_pointers_are_resolved() -> None:
    root = {"a": [{"b": 1}]}
    assert resolve(root, "#") is root
    assert resolve(root, "#/a/0/b") == 1
    for ref in ("#a", "http://x/#/a", "#/a/1", "#/a/b", "#/a/0/b/c", "#/c"):
        assert resolve(root, ref) is None
