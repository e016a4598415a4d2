"""Does an answer have the asked form? Strict schemas compiled, JSON objects parsed (spec §8, R-13).

Rules
1. Recursive unions can cost time exponential in the depth of the answer. The worst case is computed
   first; an answer beyond the budget is not validated rather than block the server (R-118).
2. The validator (`schemas_validator.py`) is loaded by the first schema.
"""

from typing import TYPE_CHECKING, Any

import orjson

from antiphon.protocol.schemas_strict import Schema, in_place

if TYPE_CHECKING:
    from antiphon.protocol.schemas_validator import Validator

#: Steps of the validator for one answer; about 50 ns each.
_VALIDATION_BUDGET = 1_000_000
#: Steps for working out the cost, over the life of one schema; about 2 µs each.
_COST_STEPS = 20_000
#: Beyond it the first error is not located: its report repeats every branch of every union.
_EXPLANATION_BUDGET = 2_000


class AnswerSchema:
    """What `text.format` promises about the answer."""

    def __init__(self, schema: Schema | None) -> None:
        """`schema` has passed `check_strict`; None asks for any JSON object (``json_object``).

        Raises ValueError, which says why the schema does not compile.
        """
        self._validator: Validator | None = None
        if schema is None:
            return
        self._cost = _Cost(schema)
        self._validator = _compiled(schema)

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
        return self._validator.mismatch(value, explain=cost <= _EXPLANATION_BUDGET)


def _compiled(schema: Schema) -> "Validator":
    from antiphon.protocol.schemas_validator import Validator  # noqa: PLC0415

    return Validator(schema)


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
