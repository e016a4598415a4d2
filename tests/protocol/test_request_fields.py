"""Every parameter and nested field: wrong types, bounds, enums, null, missing and unknown keys.

The tables (`request_table`, `item_table`) are written from spec §1 and App. A to D by hand; nothing
is derived from the code under test. Holds R-01 to R-04, R-08 and R-14.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
import pytest

from antiphon.errors import InvalidRequestError
from antiphon.protocol.request import CreateResponse, parse_request
from tests.protocol.item_table import ITEMS
from tests.protocol.request_table import CLOSED, PARAMETERS, Json

TABLE = [*PARAMETERS, *ITEMS]


def _get(body: Any, path: str) -> tuple[Any, str | int]:
    """The holder of the last step of `path`, and that step."""
    steps: list[str | int] = [
        int(index) if index else name for name, index in re.findall(r"([A-Za-z_]+)|\[(\d+)\]", path)
    ]
    for step in steps[:-1]:
        body = body[step]
    return body, steps[-1]


def _with(base: Json, path: str, value: Any) -> Json:
    body = copy.deepcopy({"model": "m", "input": "json", **base})
    holder, last = _get(body, path)
    if isinstance(holder, list):
        holder[int(last) :] = [value]
    else:
        holder[last] = value
    return body


def _without(base: Json, path: str) -> Json:
    body = copy.deepcopy({"model": "m", "input": "json", **base})
    holder, last = _get(body, path)
    holder.pop(last, None)
    return body


#: Values that are not of the kind, for each kind; R-03: no coercion.
WRONG: dict[str, tuple[Any, ...]] = {
    "string": (7, 1.5, True, [], {}),
    "integer": ("64", 64.0, True, [], {}),
    "decimal": ("1", True, [], {}),
    "boolean": ("no", "true", 1, 0.0, [], {}),
    "object": ("x", 7, True, []),
    "array": ("x", 7, True, {}),
    "enum": (7, True, [], {}),
    "type": (7, True, [], {}),
}


class Case(NamedTuple):
    """A bad body and the error that it must cause."""

    body: Json
    code: str
    param: str


def _wrong_kinds() -> Iterator[Case]:
    for base, rows in TABLE:
        for row in rows:
            for value in WRONG[row.kind]:
                yield Case(_with(base, row.path, value), "invalid_type", row.path)
            if row.kind in ("enum", "type"):
                yield Case(_with(base, row.path, "bogus"), "invalid_value", row.path)


def _missing() -> Iterator[Case]:
    for base, rows in TABLE:
        for row in rows:
            if row.required:
                yield Case(_with(base, row.path, None), "invalid_type", row.path)
                if not row.path.endswith("]") and ".headers." not in row.path:
                    yield Case(_without(base, row.path), "missing_required_parameter", row.path)


def _out_of_bounds() -> Iterator[Case]:
    codes = {"integer": "integer", "decimal": "decimal"}
    for base, rows in TABLE:
        for row in rows:
            if row.kind in codes:
                if row.low is not None:
                    code = f"{codes[row.kind]}_below_min_value"
                    yield Case(_with(base, row.path, row.low - 1), code, row.path)
                if row.high is not None:
                    code = f"{codes[row.kind]}_above_max_value"
                    yield Case(_with(base, row.path, row.high + 1), code, row.path)
            elif row.kind == "string":
                if row.low is not None:
                    yield Case(_with(base, row.path, ""), "empty_string", row.path)
                if row.high is not None:
                    value = "x" * (int(row.high) + 1)
                    yield Case(_with(base, row.path, value), "string_above_max_length", row.path)


def _unknown_keys() -> Iterator[Case]:
    for base, path in CLOSED:
        yield Case(_with(base, path, 1), "unknown_parameter", path)


CASES = [*_wrong_kinds(), *_missing(), *_out_of_bounds(), *_unknown_keys()]


def refuse(body: Any) -> InvalidRequestError:
    """The error that the body causes; there must be one."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_request(orjson.dumps(body))
    return caught.value


def test_there_are_at_least_500_cases() -> None:
    assert len(CASES) >= 500


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.param}"[:60])
def test_a_bad_field_is_refused_with_its_path(case: Case) -> None:
    error = refuse(case.body)
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert (error.code, error.param) == (case.code, case.param)
    assert error.body()["error"].keys() == {"message", "type", "param", "code"}
    if case.code != "empty_string" and case.code != "invalid_value":
        assert f"'{case.param}'" in error.message


@pytest.mark.parametrize("base", [base for base, _ in TABLE])
def test_the_bases_are_valid(base: Json) -> None:
    request = parse_request(orjson.dumps({"model": "m", "input": "json", **base}))
    assert isinstance(request, CreateResponse)


def _limits() -> Iterator[tuple[Json, str]]:
    """Values on the edge, enum values and nulls: all must be accepted."""
    for base, rows in TABLE:
        for row in rows:
            if row.kind == "enum":
                for value in row.values:
                    yield _with(base, row.path, value), row.path
            for bound in (row.low, row.high):
                if bound is None:
                    continue
                if row.kind == "string":
                    yield _with(base, row.path, "x" * int(bound)), row.path
                else:
                    number = int(bound) if row.kind == "integer" else bound
                    yield _with(base, row.path, number), row.path
            if not row.required and row.path not in ("model", "input[0].id"):
                yield _with(base, row.path, None), row.path


@pytest.mark.parametrize(
    "body", [body for body, _ in _limits()], ids=[path[:60] for _, path in _limits()]
)
def test_edge_values_enum_values_and_nulls_are_accepted(body: Json) -> None:
    """R-14 and spec §1: null is accepted everywhere a field is optional."""
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and "name" in choice:
        body["tools"][0]["name"] = choice["name"]
    parse_request(orjson.dumps(body))
