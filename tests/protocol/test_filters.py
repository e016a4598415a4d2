"""Filters of files: what passes, and which of them are refused (spec §1.2)."""

import operator
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.protocol.filters import MOST_DEPTH, MOST_PARTS, MOST_TEXT, matcher, matches
from tests.protocol.asking import ask, refused

Json = dict[str, Any]
FILE: Json = {"name": "b", "year": 2020, "score": 0.5, "draft": True, "empty": "", "zero": 0}


def compare(type_: str, key: str, value: Any) -> Json:
    return {"type": type_, "key": key, "value": value}


def join(type_: str, *filters: Json) -> Json:
    return {"type": type_, "filters": list(filters)}


def searching(filters: Any) -> Json:
    """The field of a request with a tool that has these."""
    tool = {"type": "file_search", "vector_store_ids": ["vs_1"], "filters": filters}
    return {"tools": [tool]}


@pytest.mark.parametrize(
    ("filter_", "passes"),
    [
        (compare("eq", "name", "b"), True),
        (compare("eq", "name", "B"), False),
        (compare("eq", "year", 2020.0), True),
        (compare("eq", "year", "2020"), False),
        (compare("ne", "year", "2020"), True),
        (compare("ne", "name", "b"), False),
        (compare("eq", "empty", ""), True),
        (compare("eq", "empty", 0), False),
        (compare("eq", "draft", True), True),
        (compare("eq", "draft", 1), False),
        (compare("ne", "draft", 1), True),
        (compare("eq", "zero", False), False),
        (compare("gt", "year", 2019.5), True),
        (compare("gt", "year", 2020), False),
        (compare("gte", "year", 2020), True),
        (compare("lt", "year", 2020), False),
        (compare("lt", "score", 1), True),
        (compare("lte", "score", 0.5), True),
        (compare("gt", "name", "a"), True),
        (compare("lt", "name", "a"), False),
        (compare("gt", "name", 1), False),
        (compare("lt", "year", "3000"), False),
        (compare("gte", "draft", 1), False),
        (compare("lte", "draft", 1), False),
        (compare("in", "name", ["a", "b"]), True),
        (compare("in", "name", []), False),
        (compare("nin", "name", []), True),
        (compare("in", "year", ["2020", 2020.0]), True),
        (compare("in", "draft", [1, 0, "true"]), False),
        (compare("nin", "draft", [1, 0, "true"]), True),
        (compare("nin", "name", ["a", "b"]), False),
        *((compare(type_, "gone", "b"), False) for type_ in ("eq", "gt", "gte", "lt", "lte")),
        (compare("in", "gone", ["b"]), False),
        (compare("ne", "gone", "b"), True),
        (compare("nin", "gone", ["b"]), True),
        (join("and", compare("eq", "name", "b"), compare("gt", "year", 2000)), True),
        (join("and", compare("eq", "name", "b"), compare("lt", "year", 2000)), False),
        (join("or", compare("eq", "name", "x"), compare("gt", "year", 2000)), True),
        (join("or", compare("eq", "name", "x"), compare("lt", "year", 2000)), False),
        (join("and"), True),
        (join("or"), False),
        (join("and", join("or", join("and"), join("or")), compare("ne", "name", "c")), True),
    ],
)
def test_what_passes(filter_: Json, passes: bool) -> None:
    assert matches(filter_, FILE) is passes


@pytest.mark.parametrize(
    ("filters", "param", "says"),
    [
        (compare("gt", "k", True), "value", "string, decimal, or integer, but got a boolean"),
        (compare("eq", "k", ["a"]), "value", "got an array"),
        (compare("in", "k", "a"), "value", "expected an array"),
        (compare("in", "k", [["a"]]), "value[0]", "got an array"),
        (compare("eq", "k", None), "value", "got null"),
        (compare("eq", "k", {}), "value", "got an object"),
        (compare("eq", "", "a"), "key", "empty string"),
        ({"type": "eq", "key": "k"}, "value", "Missing required parameter"),
        ({"type": "eq", "value": "k"}, "key", "Missing required parameter"),
        ({"key": "k", "value": "k"}, "type", "Missing required parameter"),
        ({**compare("eq", "k", "v"), "more": 1}, "more", "Unknown parameter"),
        (compare("like", "k", "v"), "type", "'eq', 'ne', 'gt', 'gte', 'lt', 'lte', 'in', 'nin'"),
        (join("and", {"type": "eq"}), "filters[0].key", "Missing required parameter"),
        (compare("in", "k", ["a"] * 1_001), "value", "maximum length 1000"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(filters: Any, param: str, says: str) -> None:
    error = refused(**searching(filters))
    assert error.param == f"tools[0].filters.{param}"
    assert says in error.message


def test_a_filter_is_bounded_as_a_whole() -> None:
    """R-118: it is asked for each file of a store."""
    most = join("and", *[compare("eq", "k", "v")] * (MOST_PARTS - 1))
    deep: Json = compare("eq", "k", "v")
    for _ in range(MOST_DEPTH - 1):
        deep = join("or", deep)
    for good, bad in ((most, join("or", most)), (deep, join("or", deep))):
        assert ask(**searching(good)).tools == searching(good)["tools"]
        error = refused(**searching(bad))
        assert (error.param, error.code) == ("tools[0].filters", "invalid_value")
        assert error.message == (
            "Invalid 'tools[0].filters': expected at most 256 comparisons and joints, nested 16 "
            "deep."
        )


def test_the_values_of_a_filter_are_bounded_as_a_whole() -> None:
    """R-118: it is hashed at every search, and compared when it is a new one."""
    thousand = compare("in", "k", list(range(1_000)))
    long = compare("eq", "k", "x" * (MOST_TEXT // 2))
    for good, bad in (
        ([thousand] * 10, compare("ne", "k", True)),
        ([long, long], compare("in", "k", ["", "x"])),
    ):
        ask(**searching(join("and", *good)))
        error = refused(**searching(join("and", join("or", *good), bad)))
        assert (error.param, error.code) == ("tools[0].filters", "invalid_value")
        assert error.message == (
            "Invalid 'tools[0].filters': expected at most 10000 values of together 262144 "
            "characters."
        )


def test_long_lists_cost_no_more_than_short_ones() -> None:
    """R-118: measured 0.1 s."""
    lists = [compare("nin", "k", [f"{n}-{m}" for m in range(1_000)]) for n in range(200)]
    passes = matcher(join("and", *lists))
    started = time.process_time()
    assert all(passes({"k": str(n)}) for n in range(1_000))
    assert time.process_time() - started < 5


def test_weights_must_leave_something_to_rank_by() -> None:
    weights = {"embedding_weight": 0, "text_weight": 0.0}
    tool = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    error = refused(tools=[{**tool, "ranking_options": {"hybrid_search": weights}}])
    assert error.param == "tools[0].ranking_options.hybrid_search"
    assert "a weight above 0 for at least one of the two searches" in error.message
    for one in ("embedding_weight", "text_weight"):
        ask(tools=[{**tool, "ranking_options": {"hybrid_search": {**weights, one: 0.1}}}])


def test_a_tool_names_so_many_stores_and_ids_only() -> None:
    tool = {"type": "file_search", "vector_store_ids": [f"vs_{n}" for n in range(51)]}
    assert refused(tools=[tool]).code == "array_above_max_length"
    error = refused(tools=[{**tool, "vector_store_ids": ["vs_1", "vs/2"]}])
    assert (error.status, error.param) == (400, "tools[0].vector_store_ids[1]")


_VALUES = st.sampled_from(["a", "b", "", 0, 1, 2.5, 1.0, True, False])
_ORDERS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def _is_same_kind(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return isinstance(one, bool) and isinstance(other, bool)
    return isinstance(one, str) == isinstance(other, str)


@given(st.dictionaries(st.sampled_from("kl"), _VALUES), _VALUES, st.lists(_VALUES, max_size=3))
def test_each_comparison_means_what_it_says(
    attributes: Json, value: Any, values: list[Any]
) -> None:
    there = "k" in attributes
    mine: Any = attributes.get("k")
    same = there and _is_same_kind(mine, value) and mine == value
    among = there and any(_is_same_kind(mine, one) and mine == one for one in values)
    assert matches(compare("eq", "k", value), attributes) is same
    assert matches(compare("ne", "k", value), attributes) is not same
    assert matches(compare("in", "k", values), attributes) is among
    assert matches(compare("nin", "k", values), attributes) is not among
    if not isinstance(value, bool):
        for type_, order in _ORDERS.items():
            expected = there and _is_same_kind(mine, value) and order(mine, value)
            assert matches(compare(type_, "k", value), attributes) is expected
