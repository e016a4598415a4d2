"""JSON Schemas as the Messages API takes them. Pure.

Rules
1. What is held to a schema needs closed objects without recursion, and few keywords; the others are
   said in words, in the description (`held`). A schema that is not like that is not sent as one.
2. The arguments of a tool are an object: `arguments_of` says alternatives at the root in words.
3. All that is held in one request may have so many optional properties and alternatives in all
   (`Room`): the API refuses a request with more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

Json: TypeAlias = dict[str, Any]

_ALTERNATIVES: Final = ("anyOf", "oneOf", "allOf")
#: Where definitions stand.
_DEFINITIONS: Final = ("$defs", "definitions")
#: Keywords that are passed on as they are, and those that say nothing to a model.
_KNOWN: Final = frozenset({"type", "const", "enum", "description", "title", "required", "$ref"})
_SILENT: Final = frozenset({"additionalProperties", "$schema", "$id", "$comment"})
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
#: Keywords that are about one type only.
_OF_TYPE: Final = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "minItems": "array",
    "maxItems": "array",
}


#: Properties that may be left out, and schemas with alternatives, of all that is held together.
_MOST_OPTIONAL: Final = 24
_MOST_UNIONS: Final = 16


class _CannotHoldError(Exception):
    """Nothing can be held to this schema."""


def held(schema: Any) -> Json | None:
    """The schema without what the API refuses; None: nothing can be held to it."""
    try:
        return _Reader(schema).read(schema)
    except (_CannotHoldError, RecursionError):
        return None


@dataclass(slots=True)
class Room:
    """What more can be held in a request."""

    optional: int = _MOST_OPTIONAL
    unions: int = _MOST_UNIONS

    def take(self, schema: Json | None) -> bool:
        """Whether there was a place for what `held` gave; a schema that is none has one."""
        each = list(_schemas_in(schema))
        optional = sum(map(_optional, each))
        unions = sum("anyOf" in one for one in each)
        if optional > self.optional or unions > self.unions:
            return False
        self.optional -= optional
        self.unions -= unions
        return True


def _optional(schema: Json) -> int:
    return len(set(schema.get("properties", ())).difference(schema.get("required", ())))


def _schemas_in(schema: Any) -> Iterator[Json]:
    """A schema that is held, and all schemas in it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key in ("properties", *_DEFINITIONS):
        for one in schema.get(key, {}).values():
            yield from _schemas_in(one)
    for key in ("anyOf", "allOf"):
        for one in schema.get(key, ()):
            yield from _schemas_in(one)
    yield from _schemas_in(schema.get("items"))


def arguments_of(schema: Json) -> tuple[Json, str]:
    """The schema of the arguments of a tool, and what is to be said of it in words."""
    rest = {key: value for key, value in schema.items() if key not in _ALTERNATIVES}
    said = {key: schema[key] for key in _ALTERNATIVES if key in schema}
    words = f"The input matches this JSON Schema: {orjson.dumps(said).decode()}" if said else ""
    return {**rest, "type": "object"}, words


class _Reader:
    """Reads one schema."""

    def __init__(self, root: Any) -> None:
        self._root = root if isinstance(root, dict) else {}
        #: References that lead to what is being read, and those that were read.
        self._open: set[str] = set()
        self._done: set[str] = set()

    def read(self, schema: Any) -> Json:
        """The schema as it is sent. Raises `_CannotHoldError`."""
        if not isinstance(schema, dict):
            raise _CannotHoldError
        if isinstance(schema.get("type"), list):
            schema = _split(schema)
        self._check(schema)
        out: Json = {}
        words: Json = {}
        for key, value in schema.items():
            if key in _DEFINITIONS or key == "properties":
                out[key] = self._each(value)
            elif key in _ALTERNATIVES and isinstance(value, list):
                # What matches several of `oneOf` is an edge that no model is told about.
                out["anyOf" if key == "oneOf" else key] = [self.read(one) for one in value]
            elif key == "items":
                out[key] = self.read(value)
            elif key in _KNOWN or _is_known(key, value):
                out[key] = value
            elif key not in _SILENT:
                words[key] = value
        if schema.get("type") == "object":
            out["additionalProperties"] = False
        if words:
            said = orjson.dumps(words).decode()
            out["description"] = f"{out['description']}\n{said}" if "description" in out else said
        return out

    def _each(self, schemas: Any) -> Json:
        if not isinstance(schemas, dict):
            raise _CannotHoldError
        return {name: self.read(schema) for name, schema in schemas.items()}

    def _check(self, schema: Json) -> None:
        """Raise for an object that is open, for recursion, and for what is no schema: it may come
        before anybody else has looked at it."""
        is_object = schema.get("type") == "object"
        if is_object and schema.get("additionalProperties") is not False:
            raise _CannotHoldError
        if "properties" in schema and not is_object:
            raise _CannotHoldError
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(one, str) for one in required):
            raise _CannotHoldError
        reference = schema.get("$ref")
        if reference is None:
            return
        if not isinstance(reference, str):
            raise _CannotHoldError
        if reference in self._done:
            return
        if reference in self._open:
            raise _CannotHoldError
        self._open.add(reference)
        self.read(self._target(reference))
        self._open.remove(reference)
        self._done.add(reference)

    def _target(self, reference: str) -> Any:
        steps = reference.split("/")
        if len(steps) != 3 or steps[0] != "#" or steps[1] not in _DEFINITIONS:
            raise _CannotHoldError
        definitions = self._root.get(steps[1])
        return definitions.get(steps[2]) if isinstance(definitions, dict) else None


def _split(schema: Json) -> Json:
    """A schema of several types as alternatives; an `enum` says its types itself."""
    if "enum" in schema:
        return {key: value for key, value in schema.items() if key != "type"}
    if any(key in schema for key in _ALTERNATIVES):
        raise _CannotHoldError
    about: Json = {key: schema[key] for key in ("description", "title") if key in schema}
    return {**about, "anyOf": list(_one_by_one(schema, about))}


def _one_by_one(schema: Json, about: Json) -> Iterator[Json]:
    for kind in schema["type"]:
        own = {key: value for key, value in schema.items() if _OF_TYPE.get(key, kind) == kind}
        yield {key: value for key, value in own.items() if key not in about} | {"type": kind}


def _is_known(key: str, value: Any) -> bool:
    if key == "format":
        return isinstance(value, str) and value in _FORMATS
    return key == "minItems" and value in (0, 1)
