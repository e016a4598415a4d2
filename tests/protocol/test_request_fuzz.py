"""Arbitrary JSON never causes anything but an APIError (R-01)."""

import copy
import random
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import APIError
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.request import CreateResponse, parse_request
from tests.protocol.item_table import ITEMS
from tests.protocol.request_table import PARAMETERS

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["auto", "message", "user", "function", "<message>", "[key]", "json_object"])
)
KEYS = st.text(max_size=8) | st.sampled_from(
    ["type", "role", "content", "id", "name", "tools", "format", "output", "text", "<string>"]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
#: Bodies that are almost right: each parameter with anything in it.
BODIES = st.dictionaries(st.sampled_from(sorted(CreateResponse.model_fields)), JSON, max_size=4)
FIELDS = ("id", "role", "content", "call_id", "name", "arguments", "output", "action")
ITEM = st.tuples(
    st.sampled_from(sorted(ITEM_TYPES)), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4)
).map(lambda pair: {"type": pair[0], **pair[1]})


def check(body: Any) -> None:
    """Refused as it should be, or read."""
    try:
        raw = orjson.dumps(body)
    except orjson.JSONEncodeError:  # a lone surrogate
        return
    try:
        request = parse_request(raw)
    except APIError as refusal:
        error = refusal
    else:
        check_items(request)
        return
    assert error.status == 400
    assert error.message.isprintable()
    assert isinstance(error.param, str | None)


def check_items(request: CreateResponse) -> None:
    """Everything that was accepted can be read back and encoded."""
    assert all(item["type"] in ITEM_TYPES for item in request.input)
    for item in request.input:
        item_type = ITEM_TYPES[item["type"]]
        if item_type.as_call:
            orjson.loads(orjson.dumps(item_type.as_call(item).call_id))
        if item_type.as_result:
            orjson.dumps(item_type.as_result(item).output)
    orjson.dumps(request.model_dump())


@given(JSON)
def test_any_json(body: Any) -> None:
    check(body)


@settings(max_examples=200)
@given(BODIES)
def test_any_parameter(body: Any) -> None:
    check({"model": "m", "input": "x", **body})


@settings(max_examples=200)
@given(st.lists(ITEM | JSON, max_size=2))
def test_any_items(items: list[Any]) -> None:
    check({"model": "m", "input": items})


@settings(max_examples=400)
@given(st.sampled_from([base for base, _ in [*PARAMETERS, *ITEMS]]), JSON, st.integers())
def test_one_wrong_value_in_a_valid_body(base: Any, value: Any, seed: int) -> None:
    """Some place of a valid body gets another value."""
    body = copy.deepcopy({"model": "m", "input": "json", **base})
    holders: list[Any] = []
    pending: list[Any] = [body]
    while pending:
        holder = pending.pop()
        holders.append(holder)
        children = holder.values() if isinstance(holder, dict) else holder
        pending.extend(child for child in children if isinstance(child, dict | list) and child)
    chosen = random.Random(seed)
    holder = chosen.choice(holders)
    keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    holder[chosen.choice(keys)] = value
    check(body)
