"""Filters of files by their attributes: their form, and what they let through (spec §1.2).

Rules
1. Values of different types are never equal, and none of them is greater; true is no number. Only
   texts and numbers have an order, that of code points and their own.
2. A file that lacks the attribute passes `ne` and `nin`, and nothing else.
3. ``and`` of nothing lets everything through, ``or`` of nothing lets nothing.
4. A filter is bounded as a whole: it is asked for each file of a store.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from antiphon.protocol.fields import (
    CLOSED,
    MAX_LIST,
    Int,
    Name,
    Number,
    Text,
    by_kind,
    by_type,
)

Json: TypeAlias = dict[str, Any]
Attributes: TypeAlias = Mapping[str, str | float | bool]
Matcher: TypeAlias = Callable[[Attributes], bool]

#: Comparisons and joints (``and``, ``or``) of a filter, and how deep they may be nested.
MOST_PARTS: Final = 256
MOST_DEPTH: Final = 16
#: Values of a filter, and characters of these.
MOST_VALUES: Final = 10_000
MOST_TEXT: Final = 256 * 1024

# -- their form ----------------------------------------------------------------------------------

_Scalar: TypeAlias = Annotated[Any, by_kind(string=Text, number=Number, integer=Int, boolean=bool)]
_Ordered: TypeAlias = Annotated[Any, by_kind(string=Text, number=Number, integer=Int)]


@with_config(CLOSED)
class EqualityFilter(TypedDict):
    """Is an attribute this value?"""

    type: Literal["eq", "ne"]
    key: Name
    value: _Scalar


@with_config(CLOSED)
class OrderFilter(TypedDict):
    """Where does an attribute stand?"""

    type: Literal["gt", "gte", "lt", "lte"]
    key: Name
    value: _Ordered


@with_config(CLOSED)
class ListFilter(TypedDict):
    """Is an attribute one of these values?"""

    type: Literal["in", "nin"]
    key: Name
    value: Annotated[list[_Scalar], Field(max_length=MAX_LIST, fail_fast=True)]


@with_config(CLOSED)
class CompoundFilter(TypedDict):
    """Joins filters."""

    type: Literal["and", "or"]
    filters: Annotated[list["_Filter"], Field(max_length=MAX_LIST, fail_fast=True)]


_Filter: TypeAlias = Annotated[
    Json,
    by_type(
        {
            **dict.fromkeys(("eq", "ne"), EqualityFilter),
            **dict.fromkeys(("gt", "gte", "lt", "lte"), OrderFilter),
            **dict.fromkeys(("in", "nin"), ListFilter),
            **dict.fromkeys(("and", "or"), CompoundFilter),
        }
    ),
]


def _bounded(whole: Json) -> Json:
    parts, depth, level = [whole], 1, [whole]
    while level := [inner for part in level for inner in part.get("filters", ())]:
        parts += level
        depth += 1
    if len(parts) > MOST_PARTS or depth > MOST_DEPTH:
        raise _too_large(f"{MOST_PARTS} comparisons and joints, nested {MOST_DEPTH} deep")
    values = [value for part in parts for value in _values(part)]
    text = sum(len(value) for value in values if isinstance(value, str))
    if len(values) > MOST_VALUES or text > MOST_TEXT:
        raise _too_large(f"{MOST_VALUES} values of together {MOST_TEXT} characters")
    return whole


def _values(part: Json) -> list[Any]:
    value = part.get("value", [])
    return value if isinstance(value, list) else [value]


def _too_large(most: str) -> PydanticCustomError:
    return PydanticCustomError("expected", "too large", {"expected": f"at most {most}"})


#: Of a tool, and of a search in a vector store.
Filter: TypeAlias = Annotated[_Filter, AfterValidator(_bounded)]

# -- what they let through -----------------------------------------------------------------------

_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def matches(filter_: Json, attributes: Attributes) -> bool:
    """Whether a file with these attributes passes `filter_`, which has its form. For many files:
    `matcher`."""
    return matcher(filter_)(attributes)


def matcher(filter_: Json) -> Matcher:
    """The same, made ready for many files."""
    type_ = filter_["type"]
    if type_ in ("and", "or"):
        joined = all if type_ == "and" else any
        inner = [matcher(part) for part in filter_["filters"]]
        return lambda attributes: joined(passes(attributes) for passes in inner)
    key, value = filter_["key"], filter_["value"]
    if type_ in _ORDERS:
        return _ordered(key, _typed(value), _ORDERS[type_])
    wanted = frozenset(map(_typed, value if type_ in ("in", "nin") else [value]))
    if type_ in ("eq", "in"):
        return lambda attributes: key in attributes and _typed(attributes[key]) in wanted
    return lambda attributes: key not in attributes or _typed(attributes[key]) not in wanted


_Typed: TypeAlias = tuple[str, Any]


def _ordered(key: str, wanted: _Typed, compare: Callable[[Any, Any], bool]) -> Matcher:
    kind, value = wanted

    def passes(attributes: Attributes) -> bool:
        if key not in attributes:
            return False
        kind_there, there = _typed(attributes[key])
        return kind_there == kind and compare(there, value)

    return passes


def _typed(value: str | float | bool) -> _Typed:
    """The value and what it can be compared with."""
    if isinstance(value, bool):
        return "boolean", value
    return ("string" if isinstance(value, str) else "number"), value
