"""An instance of a JSON Schema: the same for the same schema, small, and valid where this can see.

Rules
1. First branch of a union, first value of an enum, first type that is not null.
2. Recursion ends: the depth limit grows from 1 until an instance exists, and then once more, so
   that lists have an item and a tree has a leaf. What exists at a limit is remembered per (schema,
   limit): the work is polynomial though the tries are many.
3. `not`, `if`, `dependent…`, `propertyNames` and `contains` are not looked at; the strict subset of
   OpenAI (spec §8) has none of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from antiphon.backends.simulator.values import SCALARS, NoInstanceError
from antiphon.protocol.schemas_strict import resolve, types_of

Schema: TypeAlias = Any

_MAX_DEPTH: Final = 24
#: JSON values in one instance; so many characters count as one more.
_MAX_SIZE: Final = 20_000
_CHARACTERS: Final = 8
#: Items that must differ from each other.
_MAX_DISTINCT: Final = 500
#: Keywords and properties that may be joined in all: a reference beside other keywords can unroll
#: for ever. And calls of `build` within each other, five Python frames each.
_MAX_MERGES: Final = 50_000
_MAX_NESTING: Final = 100
#: Schemas looked at in all, about 5 µs each.
_MAX_STEPS: Final = 10_000

#: Keywords that tell the type where `type` is missing.
_HINTS: Final = (
    ("object", ("properties", "required", "additionalProperties", "minProperties")),
    ("array", ("items", "prefixItems", "minItems")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)


def instance(schema: Schema) -> Any:
    """A JSON value that `schema` describes; raises `NoInstanceError`."""
    builder = _Builder(schema)
    for depth in range(1, _MAX_DEPTH):
        try:
            smallest, _ = builder.build(schema, depth)
        except NoInstanceError:
            continue
        try:
            return builder.build(schema, depth + 1)[0]
        except NoInstanceError:
            return smallest
    raise NoInstanceError


_Built: TypeAlias = tuple[Any, int]


class _Builder:
    """`build` gives a value and its size (`_MAX_SIZE`)."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._known: dict[tuple[int, int], _Built | None] = {}
        #: Keeps merged schemas alive, since `_known` goes by identity.
        self._merged: dict[tuple[int, int], Schema] = {}
        self._merge_budget = _MAX_MERGES
        self._nesting = 0
        self._steps = 0

    def build(self, schema: Schema, depth: int) -> _Built:
        key = (id(schema), depth)
        if key not in self._known:
            self._known[key] = None  # what needs itself at the same depth does not exist
            self._steps += 1
            if self._nesting > _MAX_NESTING or self._steps > _MAX_STEPS:
                raise NoInstanceError
            self._nesting += 1
            self._known[key] = self._try(schema, depth)
            self._nesting -= 1
        built = self._known[key]
        if built is None:
            raise NoInstanceError
        return built

    def _try(self, schema: Schema, depth: int) -> _Built | None:
        try:
            alternatives = list(self._alternatives(schema))
        except NoInstanceError:
            return None
        for alternative in alternatives:
            try:
                built = self._one(alternative, depth)
            except NoInstanceError:
                continue
            if built[1] <= _MAX_SIZE:
                return built
        return None

    def _alternatives(self, schema: Schema) -> Iterator[Schema]:
        """`schema` with its reference, or the next `allOf` or union, resolved by one step."""
        if not isinstance(schema, dict):
            yield schema
        elif "$ref" in schema:
            target = resolve(self._root, schema["$ref"])
            yield target if len(schema) == 1 else self._join(schema, "$ref", target)
        elif schema.get("allOf"):
            first, *others = schema["allOf"]
            yield self._join(schema, "allOf", first, others)
        else:
            union = next((word for word in ("anyOf", "oneOf") if schema.get(word)), None)
            if union is None:
                yield schema
            else:
                for branch in schema[union]:
                    yield self._join(schema, union, branch)

    def _join(
        self, schema: dict[str, Any], word: str, other: Schema, others: Sequence[Schema] = ()
    ) -> Schema:
        """`schema` without `word`, and `other`, as one; `others` stay to be joined."""
        key = (id(schema), id(other))
        if key not in self._merged:
            rest = {name: value for name, value in schema.items() if name != word}
            if others:
                rest["allOf"] = list(others)
            self._merge_budget -= sum(map(_width, (schema, other)))
            if self._merge_budget < 0:
                raise NoInstanceError
            self._merged[key] = _merge(rest, other)
        return self._merged[key]

    def _one(self, schema: Schema, depth: int) -> _Built:
        if schema is True or schema == {}:
            return "text", 1
        if not isinstance(schema, dict):
            raise NoInstanceError
        if any(schema.get(word) for word in ("$ref", "allOf", "anyOf", "oneOf")):
            return self.build(schema, depth)
        if "const" in schema:
            return schema["const"], _weight(schema["const"])
        if schema.get("enum"):
            value = _listed(schema)
            return value, _weight(value)
        for name in _types(schema):
            try:
                return self._typed(name, schema, depth)
            except NoInstanceError:
                continue
        raise NoInstanceError

    def _typed(self, name: str, schema: dict[str, Any], depth: int) -> _Built:
        if name == "object":
            return self._object(schema, depth)
        if name == "array":
            return self._array(schema, depth)
        scalar = SCALARS.get(name)
        if scalar is None:
            raise NoInstanceError
        value = scalar(schema)
        return value, _weight(value)

    def _object(self, schema: dict[str, Any], depth: int) -> _Built:
        if depth <= 0:
            raise NoInstanceError
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        extra = schema.get("additionalProperties", True)
        members = {**properties, **{name: extra for name in required if name not in properties}}
        value, size = {}, 1
        for name, member in members.items():
            try:
                value[name], cost = self.build(member, depth - 1)
            except NoInstanceError:
                if name in required:
                    raise
                continue
            size += cost + len(name) // _CHARACTERS
        least = min(int(schema.get("minProperties", 0)), _MAX_SIZE)
        for number in range(least - len(value)):
            value[f"key{number}"], cost = self.build(extra, depth - 1)
            size += cost
        return value, size

    def _array(self, schema: dict[str, Any], depth: int) -> _Built:
        # No deeper than the array itself: an array of itself is stopped by `build`.
        least = int(schema.get("minItems", 0))
        items = schema.get("items", True)
        built = [self.build(member, depth) for member in schema.get("prefixItems", ())]
        value = [member for member, _ in built]
        size = 1 + sum(cost for _, cost in built)
        wanted = min(max(least, 1), schema.get("maxItems", math.inf))
        if wanted > (_MAX_DISTINCT if schema.get("uniqueItems") else _MAX_SIZE):
            raise NoInstanceError
        try:
            while len(value) < wanted and size <= _MAX_SIZE:
                member, cost = self.build(items, depth)
                if schema.get("uniqueItems"):
                    member = _distinct(member, items, value)
                value.append(member)
                size += cost
        except NoInstanceError:
            if len(value) < least:
                raise
        return value, size


def _weight(value: Any) -> int:
    return 1 + len(value if isinstance(value, str) else repr(value)) // _CHARACTERS


def _width(schema: Schema) -> int:
    return 1 + len(schema) + len(schema.get("properties", ())) if isinstance(schema, dict) else 1


def _merge(schema: Schema, other: Schema) -> Schema:
    """One schema for both, for the keywords that this module knows."""
    if other is True or schema is False:
        return schema
    if not (isinstance(schema, dict) and isinstance(other, dict)):
        return False
    merged = {**schema, **other}
    for word in schema.keys() & other.keys():
        join = _JOINS.get(word)
        if join is not None:
            merged[word] = join(schema[word], other[word])
    return merged


def _join_members(one: dict[str, Schema], two: dict[str, Schema]) -> dict[str, Schema]:
    both = {name: _merge(one[name], two[name]) for name in one if name in two}
    return {**one, **two, **both}


def _join_types(one: Any, two: Any) -> list[Any]:
    names = types_of({"type": two})
    return [
        name if name in names else "integer"
        for name in types_of({"type": one})
        if name in names or (name == "number" and "integer" in names)
    ] or (["integer"] if one == "integer" and "number" in names else [])


_JOINS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "properties": _join_members,
    "required": lambda one, two: [*one, *(name for name in two if name not in one)],
    "enum": lambda one, two: [value for value in one if value in two],
    "type": _join_types,
    "allOf": lambda one, two: [*one, *two],
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems"), min),
}


def _types(schema: dict[str, Any]) -> tuple[Any, ...]:
    named = types_of(schema)
    if named:
        return (*(name for name in named if name != "null"), *(n for n in named if n == "null"))
    for name, words in _HINTS:
        if any(word in schema for word in words):
            return (name,)
    return ("string",) if "type" not in schema else ()


_PYTHON_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "string": str,
    "object": dict,
    "array": list,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def _listed(schema: dict[str, Any]) -> Any:
    """The first value of the enum that has one of the types."""
    names = types_of(schema)
    for value in schema["enum"]:
        if not names or any(isinstance(value, _PYTHON_TYPES.get(name, ())) for name in names):
            return value
    raise NoInstanceError


def _distinct(member: Any, items: Schema, others: list[Any]) -> Any:
    """`member`, changed as little as needed to be new among `others`."""
    if member not in others:
        return member
    listed = items.get("enum", []) if isinstance(items, dict) else []
    for value in listed:
        if value not in others:
            return value
    if listed or isinstance(member, bool):
        raise NoInstanceError
    if isinstance(member, str):
        return f"{member}{len(others)}"
    if isinstance(member, int | float):
        step = items.get("multipleOf", 1) if isinstance(items, dict) else 1
        return member + step * len(others)
    raise NoInstanceError
