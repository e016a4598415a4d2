"""The strict subset of JSON Schema, refused in OpenAI's own words (spec §8).

Rules
1. The root is an object and not a union; every object names `additionalProperties: false` and
   requires each of its properties; every schema has a `type` or is an `anyOf` or a `$ref`.
2. `$ref` stands alone and points to ``#`` or to a definition at the top. It may recurse, but only
   through an object or an array: otherwise it would describe nothing.
3. Keywords of JSON Schema that are outside the subset are refused by name. Words that JSON Schema
   does not know are annotations and pass.
4. The walk is one pass; its depth is bounded by the caller (`schemas.MAX_DEPTH`).
"""

import re
from collections.abc import Iterator
from typing import Any, NoReturn, TypeAlias

from antiphon.errors import InvalidRequestError

Schema: TypeAlias = dict[str, Any]
#: Where in the schema: ``('properties', 'x', 'items')``, printed as Python prints it.
Context: TypeAlias = tuple[str, ...]

#: Limits of OpenAI's guide to structured outputs (spec §8).
MAX_PROPERTIES = 5_000
MAX_LEVELS = 10
MAX_STRING_LENGTH = 120_000
MAX_ENUM_VALUES = 1_000
LONG_ENUM = 250
MAX_LONG_ENUM_LENGTH = 15_000
#: Ours: a chain of definitions is slow to compile (1,000: 30 ms).
MAX_DEFINITIONS = 1_000

FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
DEFINITIONS = ("$defs", "definitions")
_INDEX = re.compile(r"[0-9]{1,9}")
_NOT_PERMITTED = frozenset(
    {
        *("allOf", "oneOf", "not", "if", "then", "else", "default", "uniqueItems", "contains"),
        *("dependentRequired", "dependentSchemas", "dependencies", "patternProperties"),
        *("propertyNames", "minProperties", "maxProperties", "minLength", "maxLength"),
        *("minContains", "maxContains", "prefixItems", "additionalItems", "$anchor"),
        *("unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$dynamicAnchor"),
        *("$recursiveRef", "$recursiveAnchor", "contentEncoding", "contentMediaType"),
        "contentSchema",
    }
)
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


def check_strict(schema: Any, *, subject: str, param: str, code: str) -> None:
    """Raise `InvalidRequestError` when `schema` is outside the strict subset.

    `subject` is ``response_format 'NAME'`` or ``function 'NAME'``.
    """
    _Walk(schema, subject, param, code).check()


def root_problem(schema: Any) -> str | None:
    """What is wrong with the root of a schema, strict or not; None when it is an object."""
    found = schema.get("type") if isinstance(schema, dict) else None
    if found == "object":
        return None
    return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{found}\"'."


def types_of(schema: Schema) -> tuple[Any, ...]:
    """The `type` of a schema as a tuple; empty when it names none."""
    found = schema.get("type")
    if isinstance(found, str):
        return (found,)
    return tuple(found) if isinstance(found, list) else ()


def resolve(root: Schema, ref: str) -> Any:
    """The target of a local `$ref` (a JSON pointer, RFC 6901), or None."""
    if ref == "#":
        return root
    if not ref.startswith("#/"):  # an anchor, or remote
        return None
    node: Any = root
    for word in ref[2:].split("/"):
        key = word.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict):
            node = node.get(key)
        elif isinstance(node, list) and _INDEX.fullmatch(key) and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node


class _Walk:
    """One check: the schema, how to name it in an error, and what was counted so far."""

    def __init__(self, root: Any, subject: str, param: str, code: str) -> None:
        self.root = root
        self.subject = subject
        self.param = param
        self.code = code
        self.properties = 0
        self.levels = 0
        self.string_length = 0
        self.enum_values = 0
        self.definition_count = 0

    def check(self) -> None:
        if problem := root_problem(self.root):
            self.refuse(problem)
        if "anyOf" in self.root:
            self.refuse_at((), "'anyOf' is not permitted.")
        self.node(self.root, (), 0)
        limits = (
            (self.levels, MAX_LEVELS, "levels of nesting"),
            (self.properties, MAX_PROPERTIES, "parameters"),
            (self.string_length, MAX_STRING_LENGTH, "characters in names and values"),
            (self.enum_values, MAX_ENUM_VALUES, "enum values"),
            (self.definition_count, MAX_DEFINITIONS, "definitions"),
        )
        for count, limit, noun in limits:
            if count > limit:
                self.refuse(f"{count} {noun} exceeds limit of {limit}.")
        self.check_recursion()

    def refuse(self, problem: str) -> NoReturn:
        message = f"Invalid schema for {self.subject}: {problem}"
        raise InvalidRequestError(message, param=self.param, code=self.code)

    def refuse_at(self, context: Context, problem: str) -> NoReturn:
        self.refuse(f"In context={context!r}, {problem}")

    def node(self, schema: Any, context: Context, level: int) -> None:
        self.levels = max(self.levels, level)
        if not isinstance(schema, dict):
            self.refuse_at(context, f"{schema!r} is not of type 'object'.")
        if "$ref" in schema:
            self.reference(schema, context)
            return
        for word in schema:
            if word in _NOT_PERMITTED:
                self.refuse_at(context, f"'{word}' is not permitted.")
        types = self.types(schema, context)
        if "object" in types:
            self.object(schema, context, level)
        if "array" in types:
            if "items" not in schema:
                self.refuse_at(context, "array schema missing items.")
            self.node(schema["items"], (*context, "items"), level + 1)
        self.union(schema, context, level)
        self.values(schema, context, types)
        self.definitions(schema, context)

    def reference(self, schema: Schema, context: Context) -> None:
        siblings = sorted(word for word in schema if word != "$ref")
        if siblings:
            words = ", ".join(f"'{word}'" for word in siblings)
            self.refuse(f"context={context!r}, $ref cannot have keywords {{{words}}}.")
        ref = schema["$ref"]
        words_ = ref.split("/") if isinstance(ref, str) else []
        top = len(words_) == 3 and words_[0] == "#" and words_[1] in DEFINITIONS
        if ref != "#" and not (top and isinstance(resolve(self.root, ref), dict)):
            self.refuse_at(
                context,
                "reference can only point to definitions defined at the top level of the schema.",
            )

    def types(self, schema: Schema, context: Context) -> tuple[Any, ...]:
        types = types_of(schema)
        if not types and ("type" in schema or "anyOf" not in schema):
            self.refuse_at(context, "schema must have a 'type' key.")
        for name in types:
            if not isinstance(name, str) or name not in _PYTHON_TYPES:
                self.refuse_at(context, f"{name!r} is not a valid type.")
        return types

    def object(self, schema: Schema, context: Context, level: int) -> None:
        if schema.get("additionalProperties") is not False:
            self.refuse_at(
                context, "'additionalProperties' is required to be supplied and to be false."
            )
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, dict):
            self.refuse_at(context, "'properties' must be an object.")
        rule = (
            "'required' is required to be supplied and to be an array including every key in "
            "properties."
        )
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            self.refuse_at(context, rule)
        asked = set(required)
        for name, member in properties.items():
            if name not in asked:
                self.refuse_at(context, f"{rule} Missing '{name}'.")
            self.properties += 1
            self.string_length += len(name)
            self.node(member, (*context, "properties", name), level + 1)
        for name in required:
            if name not in properties:
                self.refuse_at(context, f"{rule} Extra required key '{name}' supplied.")

    def union(self, schema: Schema, context: Context, level: int) -> None:
        if "anyOf" not in schema:
            return
        branches = schema["anyOf"]
        if not isinstance(branches, list) or not branches:
            self.refuse_at(context, "'anyOf' must be a non-empty array.")
        for index, branch in enumerate(branches):
            self.node(branch, (*context, "anyOf", str(index)), level)

    def values(self, schema: Schema, context: Context, types: tuple[str, ...]) -> None:
        named = schema.get("format", "date")
        if "string" in types and not (isinstance(named, str) and named in FORMATS):
            self.refuse_at(context, f"{named!r} is not a valid format.")
        listed = schema.get("enum", [])
        if not isinstance(listed, list) or ("enum" in schema and not listed):
            self.refuse_at(context, "'enum' must be a non-empty array.")
        for value in [*listed, *([schema["const"]] if "const" in schema else [])]:
            if types and not any(_is(value, name) for name in types):
                self.refuse_at(
                    context,
                    f"enum value {value} does not validate against {{'type': {schema['type']!r}}}.",
                )
            self.string_length += len(value) if isinstance(value, str) else 0
        self.enum_values += len(listed)
        length = sum(len(value) for value in listed if isinstance(value, str))
        if len(listed) > LONG_ENUM and length > MAX_LONG_ENUM_LENGTH:
            self.refuse_at(
                context,
                "a single enum property with more than 250 values exceeds the maximum combined "
                "enum string length of 15000 characters.",
            )

    def definitions(self, schema: Schema, context: Context) -> None:
        for word in DEFINITIONS:
            group = schema.get(word, {})
            if not isinstance(group, dict):
                self.refuse_at(context, f"'{word}' must be an object.")
            for name, member in group.items():
                self.definition_count += 1
                self.string_length += len(name)
                self.node(member, (*context, word, name), 0)

    def check_recursion(self) -> None:
        """Refuse definitions that lead to themselves at the same place of the instance."""
        done: set[int] = set()
        for word in DEFINITIONS:
            for name, member in self.root.get(word, {}).items():
                if _loops(self.root, member, done):
                    self.refuse_at(
                        (word, name), "'$ref' may only recurse through an object or an array."
                    )


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _PYTHON_TYPES[name])


def in_place(root: Schema, schema: Schema) -> Iterator[Schema]:
    """What a checked `schema` applies to the same instance: its target, its union's branches."""
    if "$ref" in schema:
        yield resolve(root, schema["$ref"])
    yield from schema.get("anyOf", ())


def _loops(root: Schema, start: Schema, done: set[int]) -> bool:
    """Whether `start` applies itself to the same instance. Depth-first, without recursion."""
    path: set[int] = set()
    stack: list[tuple[Schema, bool]] = [(start, False)]
    while stack:
        schema, leaving = stack.pop()
        if leaving:
            path.discard(id(schema))
            done.add(id(schema))
        elif id(schema) in path:
            return True
        elif id(schema) not in done:
            path.add(id(schema))
            stack.append((schema, True))
            stack.extend((member, False) for member in in_place(root, schema))
    return False
