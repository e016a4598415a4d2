"""JSON Schemas as the Messages API takes them."""

from typing import Any

import pytest

from antiphon.backends.anthropic.schemas import arguments_of, held

Json = dict[str, Any]


def closed(**properties: Any) -> Json:
    names = sorted(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


SAME = [
    closed(a={"type": "string", "format": "date"}, b={"type": "integer", "description": "n"}),
    closed(a={"type": "array", "items": {"type": "number"}, "minItems": 1}),
    closed(a={"enum": ["x", 1, None]}, b={"const": 2}),
    closed(a={"anyOf": [{"type": "string"}, closed(b={"type": "null"})]}),
    {**closed(a={"$ref": "#/$defs/x"}), "$defs": {"x": closed(b={"type": "string"})}},
]


@pytest.mark.parametrize("schema", SAME)
def test_what_can_be_held_stays(schema: Json) -> None:
    assert held(schema) == schema


CHANGED: list[tuple[Json, Json]] = [
    (
        {"type": "string", "minLength": 2, "description": "A name."},
        {"type": "string", "description": 'A name.\n{"minLength":2}'},
    ),
    ({"type": "string", "format": []}, {"type": "string", "description": '{"format":[]}'}),
    ({"type": "string", "format": "iban"}, {"type": "string", "description": '{"format":"iban"}'}),
    ({"oneOf": [{"type": "null"}]}, {"anyOf": [{"type": "null"}]}),
    (
        {"type": ["string", "null"], "description": "d", "maxLength": 3},
        {
            "description": "d",
            "anyOf": [
                {"type": "string", "description": '{"maxLength":3}'},
                {"type": "null", "description": '{"maxLength":3}'},
            ],
        },
    ),
    (
        {**closed(a={"type": "null"}), "type": ["object", "null"]},
        {"anyOf": [closed(a={"type": "null"}), {"type": "null"}]},
    ),
    ({"type": ["string", "null"], "enum": ["a", None]}, {"enum": ["a", None]}),
    ({"$schema": "x", "$id": "y", "type": "null"}, {"type": "null"}),
]


@pytest.mark.parametrize(("schema", "sent"), CHANGED)
def test_what_is_unknown_is_said_in_words(schema: Json, sent: Json) -> None:
    assert held(schema) == sent


OPEN = [
    {"type": "object"},
    {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
    {"properties": {"a": {}}},
    closed(a={"type": "object", "properties": {}}),
    closed(a=True),
    {**closed(), "properties": [1]},
    {**closed(a={"$ref": "#/$defs/x"}), "$defs": {"x": closed(b={"$ref": "#/$defs/x"})}},
    closed(a={"$ref": "#"}),
    closed(a={"$ref": "#/$defs/nowhere"}),
    closed(a={"$ref": 1}),
    closed(a={"$ref": ["#"]}),
    {**closed(a={"$ref": "#/$defs/x"}), "$defs": [1]},
    {**closed(), "required": None},
    {**closed(), "required": [["a"]]},
    {"type": ["string", "null"], "anyOf": [{"type": "string"}]},
]


@pytest.mark.parametrize("schema", OPEN)
def test_what_cannot_be_held(schema: Json) -> None:
    assert held(schema) is None


def test_references_are_read_once() -> None:
    """What doubles at each step would take for ever."""
    steps = 60
    link = {"$ref": "#/$defs/d0"}
    definitions: Json = {f"d{steps}": {"type": "null"}}
    for n in range(steps):
        next_one = {"$ref": f"#/$defs/d{n + 1}"}
        definitions[f"d{n}"] = {"anyOf": [next_one, next_one]}
    assert held({**closed(a=link), "$defs": definitions}) is not None


def test_arguments_are_an_object() -> None:
    assert arguments_of({}) == ({"type": "object"}, "")
    schema, words = arguments_of({"oneOf": [{"required": ["a"]}], "title": "T"})
    assert schema == {"type": "object", "title": "T"}
    assert words == 'The input matches this JSON Schema: {"oneOf":[{"required":["a"]}]}'


def test_a_long_chain_of_references_is_not_held() -> None:
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(2_000)}
    definitions = {**chain, "d2000": {"type": "string"}}
    assert held({**closed(a={"$ref": "#/$defs/d0"}), "$defs": definitions}) is None
