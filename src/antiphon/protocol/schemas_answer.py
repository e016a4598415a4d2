"""Does an answer have the asked form? Strict schemas compiled, JSON objects parsed (spec §8, R-13).

Rules
1. The validator never fetches: a remote `$ref` was refused before, and the retriever refuses again
   (jsonschema-rs would read http:// and file://).
2. Patterns run on a linear-time engine only. One that this engine cannot take (look-around, too
   large) is not enforced: zod's `.email()` sends such, and OpenAI takes them.
3. Recursive unions can cost time exponential in the depth of the answer. The worst case is computed
   first; an answer beyond the budget is not validated rather than block the server (R-118).
"""

import re
from typing import Any

import jsonschema_rs
import orjson

from antiphon.protocol.schemas_strict import DEFINITIONS, Schema, in_place

#: Bytes of one compiled pattern: keeps compiling below 1 ms (measured: 0.65 ms for ``\p{L}{60}``).
_REGEX_OPTIONS = jsonschema_rs.RegexOptions(size_limit=65_536, dfa_size_limit=1_048_576)
#: Estimated cost of all patterns of a schema, and of one; 200 units take at most 0.65 ms.
_PATTERN_BUDGET = 4_000
_PATTERN_MAX = 200
_REPEAT = re.compile(r"(\)?)\{(\d{1,6})(?:,(\d{0,6}))?\}")
_PROPERTY_CLASS = re.compile(r"\\[pP](?:\{[^}]*\}|[A-Za-z])")
#: Steps of the validator for one answer; about 50 ns each.
_VALIDATION_BUDGET = 1_000_000
#: Steps for working out the cost, over the life of one schema; about 2 µs each.
_COST_STEPS = 20_000
#: Beyond it the first error is not located: its report repeats every branch of every union.
_EXPLANATION_BUDGET = 2_000


class PatternError(ValueError):
    """A `pattern` is not a regular expression; the argument is the pattern."""


def refuse_to_fetch(uri: str) -> Any:
    """The `retriever` of every validator here."""
    raise ValueError(f"remote reference: {uri}")


class AnswerSchema:
    """What `text.format` promises about the answer."""

    def __init__(self, schema: Schema | None) -> None:
        """`schema` has passed `check_strict`; None asks for any JSON object (``json_object``).

        Raises `PatternError`, or `ValueError` when the schema does not compile.
        """
        self._schema = schema
        self._validator: jsonschema_rs.Draft202012Validator | None = None
        if schema is None:
            return
        self._cost = _Cost(schema)
        self._validator = jsonschema_rs.Draft202012Validator(
            _Patterns().enforceable(schema),
            validate_formats=True,
            retriever=refuse_to_fetch,
            pattern_options=_REGEX_OPTIONS,
        )

    def validate(self, text: str) -> str | None:
        """None when `text` is what was asked for, else the reason in one line."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return "The answer is not valid JSON."
        if not isinstance(value, dict):
            return "The answer is not a JSON object."
        if self._validator is None:
            return None
        cost = self._cost.of(value)
        if cost > _VALIDATION_BUDGET:
            return None
        return _mismatch(self._validator, value, explain=cost <= _EXPLANATION_BUDGET)


def _mismatch(
    validator: jsonschema_rs.Draft202012Validator, value: Any, *, explain: bool
) -> str | None:
    try:
        if validator.is_valid(value):
            return None
        if explain:
            validator.validate(value)
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
    """Whether the linear-time engine takes `pattern`; raises `PatternError` when none would."""
    try:
        jsonschema_rs.Draft202012Validator(
            {"pattern": pattern}, retriever=refuse_to_fetch, pattern_options=_REGEX_OPTIONS
        )
    except jsonschema_rs.ValidationError:
        if len(pattern) <= _PATTERN_MAX and not _looks_valid(pattern):
            raise PatternError(pattern) from None
        return False
    return True


def _looks_valid(pattern: str) -> bool:
    # Python has look-around but not \p{…}; it only judges the syntax here and never runs.
    try:
        re.compile(_PROPERTY_CLASS.sub(r"\\w", pattern))
    except (re.error, RecursionError, OverflowError):
        return False
    return True


class _Cost:
    """The most schemas that a validator may visit on one path into an answer, by its depth."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._order: list[Schema] = []  # made when the first answer comes
        #: Visits by id of the schema, for answers of the last depth in `_by_depth`.
        self._visits: dict[int, int] = {}
        self._by_depth: list[int] = []
        self._steps_left = _COST_STEPS

    def of(self, value: Any) -> int:
        """An upper bound of the visits for the whole `value`."""
        nodes, depth = _size(value)
        self._order = self._order or _in_place_order(self._root)
        while len(self._by_depth) <= depth:
            self._steps_left -= len(self._order)
            if self._steps_left < 0:
                return _VALIDATION_BUDGET + 1
            self._visits = self._deeper(self._visits)
            self._by_depth.append(self._visits[id(self._root)])
        return nodes * self._by_depth[depth]

    def _deeper(self, below: dict[int, int]) -> dict[int, int]:
        """The visits for answers one level deeper than in `below`."""
        visits: dict[int, int] = {}
        for schema in self._order:
            count = 1 + sum(visits[id(member)] for member in in_place(self._root, schema))
            count += max((below.get(id(child), 0) for child in _children(schema)), default=0)
            visits[id(schema)] = min(count, _VALIDATION_BUDGET + 1)
        return visits


def _in_place_order(root: Schema) -> list[Schema]:
    """All schemas that `root` leads to, each after those that it applies to the same instance."""
    order: list[Schema] = []
    seen: set[int] = set()
    starts = [root]
    while starts:
        stack = [(starts.pop(), False)]
        while stack:
            schema, leaving = stack.pop()
            if leaving:
                order.append(schema)
                starts.extend(_children(schema))
            elif id(schema) not in seen:
                seen.add(id(schema))
                stack.append((schema, True))
                stack.extend((member, False) for member in in_place(root, schema))
    return order


def _children(schema: Schema) -> list[Schema]:
    """The schemas of the members and items of an instance."""
    children = [*schema.get("properties", {}).values()]
    return [*children, schema["items"]] if "items" in schema else children


def _size(value: Any) -> tuple[int, int]:
    """Nodes and depth of a JSON value."""
    nodes, depth = 0, 0
    level: list[Any] = [value]
    while level:
        nodes += len(level)
        depth += 1
        level = [member for node in level for member in _members(node)]
    return nodes, depth - 1


def _members(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
