"""What jsonschema-rs does for schemas. The first schema loads this module: it takes some 5 ms and
3 MB.

Rules
1. The validator never fetches: a remote `$ref` was refused before, and the retriever refuses again
   (jsonschema-rs would read http:// and file://).
2. Patterns run on a linear-time engine only. One that this engine cannot take (look-around, too
   large) is not enforced: zod's `.email()` sends such, and OpenAI takes them.
"""

import re
from typing import Any

import jsonschema_rs

from antiphon.protocol.schemas_strict import DEFINITIONS, Schema

#: Bytes of one compiled pattern: keeps compiling below 1 ms (measured: 0.65 ms for ``\p{L}{60}``).
_REGEX_OPTIONS = jsonschema_rs.RegexOptions(size_limit=65_536, dfa_size_limit=1_048_576)
#: Estimated cost of all patterns of a schema, and of one; 200 units take at most 0.65 ms.
_PATTERN_BUDGET = 4_000
_PATTERN_MAX = 200
_REPEAT = re.compile(r"(\)?)\{(\d{1,6})(?:,(\d{0,6}))?\}")
_PROPERTY_CLASS = re.compile(r"\\[pP](?:\{[^}]*\}|[A-Za-z])")


def complaint(schema: Schema) -> str | None:
    """What the meta-schema of its draft has against `schema`, and where; None when nothing."""
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        context = tuple(str(word) for word in error.instance_path)
        return f"In context={context!r}, {_complaint(error)}."
    return None


def _complaint(error: jsonschema_rs.ValidationError) -> str:
    value = f"{error.instance!r}"[:80]
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Type(types=types):
            return f"{value} is not of type {', '.join(repr(name) for name in types)}"
        case jsonschema_rs.ValidationErrorKind.AnyOf():
            return f"{value} is not valid under any of the given schemas"
    return f"{value} is not valid: '{error.kind.name}' fails"


def _refuse_to_fetch(uri: str) -> Any:
    """The `retriever` of every validator here."""
    raise ValueError(f"remote reference: {uri}")


class Validator:
    """A strict schema, compiled."""

    def __init__(self, schema: Schema) -> None:
        """Raises ValueError, which says why it does not compile."""
        enforceable = _Patterns().enforceable(schema)
        try:
            self._compiled = jsonschema_rs.Draft202012Validator(
                enforceable,
                validate_formats=True,
                retriever=_refuse_to_fetch,
                pattern_options=_REGEX_OPTIONS,
            )
        except (ValueError, jsonschema_rs.ReferencingError):
            raise ValueError("schema is not a valid JSON Schema.") from None

    def mismatch(self, value: Any, *, explain: bool) -> str | None:
        """None when `value` obeys the schema, else why not in one line; `explain`: and where."""
        try:
            if self._compiled.is_valid(value):
                return None
            if explain:
                self._compiled.validate(value)
        except jsonschema_rs.ValidationError as error:
            where = "".join(f"/{word}" for word in error.instance_path) or "/"
            return f"The answer does not match the schema: '{error.kind.name}' fails at '{where}'."
        return "The answer does not match the schema."


class _Patterns:
    """Removes the patterns that cannot run in linear time, within a budget."""

    def __init__(self) -> None:
        self._left = _PATTERN_BUDGET
        self._verdicts: dict[str, bool] = {}

    def enforceable(self, schema: Schema) -> Schema:
        """A copy of `schema` without the patterns that are not enforced."""
        copy = dict(schema)
        if isinstance(schema.get("pattern"), str) and not self._keep(schema["pattern"]):
            del copy["pattern"]
        for word in ("properties", *DEFINITIONS):
            if word in schema:
                copy[word] = {key: self.enforceable(sub) for key, sub in schema[word].items()}
        if "items" in schema:
            copy["items"] = self.enforceable(schema["items"])
        if "anyOf" in schema:
            copy["anyOf"] = [self.enforceable(branch) for branch in schema["anyOf"]]
        return copy

    def _keep(self, pattern: str) -> bool:
        cost = _pattern_cost(pattern)
        if cost > self._left:
            return False
        self._left -= cost
        if pattern not in self._verdicts:
            self._verdicts[pattern] = _is_linear(pattern)
        return self._verdicts[pattern]


def _pattern_cost(pattern: str) -> int:
    """Roughly the states of its automaton, capped: counted repetitions multiply."""
    cost, factor = len(pattern), 1
    for match in _REPEAT.finditer(pattern):
        times = max(int(match[2]), int(match[3] or 0), 1)
        if match[1]:
            factor = min(factor * times, _PATTERN_MAX)
        else:
            cost += 4 * times
    return min(cost * factor, _PATTERN_MAX)


def _is_linear(pattern: str) -> bool:
    """Whether the linear-time engine takes `pattern`; raises ValueError when none would."""
    try:
        jsonschema_rs.Draft202012Validator(
            {"pattern": pattern}, retriever=_refuse_to_fetch, pattern_options=_REGEX_OPTIONS
        )
    except jsonschema_rs.ValidationError:
        if len(pattern) <= _PATTERN_MAX and not _looks_valid(pattern):
            raise ValueError(f"'{pattern}' is not a valid regular expression.") from None
        return False
    return True


def _looks_valid(pattern: str) -> bool:
    # Python has look-around but not \p{…}; it only judges the syntax here and never runs.
    try:
        re.compile(_PROPERTY_CLASS.sub(r"\\w", pattern))
    except (re.error, RecursionError, OverflowError):
        return False
    return True
