"""What is JSON and what is not (R-01, R-05 to R-07, R-09, R-10, R-12)."""

import contextlib
import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import InvalidRequestError
from antiphon.protocol.jsonbody import parse_json

UNREADABLE = [
    b"",
    b" ",
    b"{",
    b'{"a":1',
    b'{"a":1}x',
    b"{'a':1}",
    b'{"a":1,}',
    b"[1 2]",
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":1e400}',
    b'{"a":01}',
    b'{"a":"\xff"}',
    b'{"a":"\xc0\xaf"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\\ud800"}',
    b'{"a":"\\udc00\\ud800"}',
    b'{"a":"\x01"}',
    b'\xef\xbb\xbf{"a":1}',
    b'{"a":' + b"9" * 5_000 + b"}",
    b"\x00",
    "{}".encode("utf-16"),
]


@pytest.mark.parametrize("raw", UNREADABLE, ids=lambda raw: repr(raw[:20]))
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    """R-05, R-07, R-10."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_json(raw)
    error = caught.value
    assert error.message.startswith("We could not parse the JSON body of your request. (HINT:")
    assert (error.status, error.code, error.param) == (400, None, None)


def nested(levels: int) -> bytes:
    """`levels` objects and arrays inside each other."""
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_128_levels_are_read() -> None:
    assert parse_json(nested(128)) == orjson.loads(nested(128))


def test_the_limit_is_the_same_where_there_are_many_brackets() -> None:
    crowd = b"[" + b"{}," * 200 + nested(127) + b"]"
    assert parse_json(crowd) == orjson.loads(crowd)
    with pytest.raises(InvalidRequestError):
        parse_json(b"[" + b"{}," * 200 + nested(128) + b"]")


@pytest.mark.parametrize("levels", [129, 200, 254, 255, 1_000, 1_025, 20_000, 200_000])
def test_deeper_nesting_is_refused_at_once(levels: int) -> None:
    """R-09: no RecursionError, and no time to speak of."""
    start = time.perf_counter()
    with pytest.raises(InvalidRequestError):
        parse_json(nested(levels))
    assert time.perf_counter() - start < 1


def test_depth_counts_and_not_the_number_of_brackets() -> None:
    wide = b"[" + b",".join([b"[{}]"] * 5_000) + b"]"
    assert len(parse_json(wide)) == 5_000


DUPLICATES = [
    b'{"a":1,"a":1}',
    b'{"a":1,"\\u0061":2}',
    b'{"a" :1,"a":2}',
    b'{"a"\n:1,"b":2,"a":3}',
    b'{"x":[{"y":{"a":1,"a":2}}]}',
    b'[{"a":1},{"a":1,"b":2,"a":3}]',
    b'{"a\\\\":1,"a\\\\":2}',
    b'{"a":"\\"b\\":1","a":"\\u0022:"}',
    b'{"":1,"":2}',
]


@pytest.mark.parametrize("raw", DUPLICATES, ids=repr)
def test_a_key_must_not_be_there_twice(raw: bytes) -> None:
    """R-12."""
    with pytest.raises(InvalidRequestError, match="twice in one object"):
        parse_json(raw)


def test_the_name_of_a_doubled_key_is_shown_safely() -> None:
    key = "\n" + "k" * 500
    raw = b"{" + json.dumps(key).encode() + b":1," + json.dumps(key).encode() + b":2}"
    with pytest.raises(InvalidRequestError) as caught:
        parse_json(raw)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 250


ODD_BUT_FINE = [
    b'{"a":1.0,"b":1e2,"c":-0}',
    b' { "a" : [ 1 , 2 ] } \r\n',
    b'{"text":"a : b, {\\"a\\": 1, \\"a\\": 2}"}',
    b'{"a":"\\u00e9\\ud83d\\ude00\\/"}',
    b'{"a":{"a":{"a":1}}}',
    b'{"a":18446744073709551615}',
    b'{"a":"\\u0000"}',
]


@pytest.mark.parametrize("raw", ODD_BUT_FINE, ids=repr)
def test_other_spellings_are_read(raw: bytes) -> None:
    assert parse_json(raw) == json.loads(raw)


def test_an_integer_beyond_64_bits_is_a_decimal() -> None:
    """R-07: so every integer parameter refuses it."""
    assert isinstance(parse_json(b'{"a":18446744073709551616}')["a"], float)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_reads_what_python_reads(value: Any, ascii_only: bool) -> None:
    try:
        raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    try:
        ours = parse_json(raw)
    except InvalidRequestError:
        assert "\\ud" in raw.decode()  # a lone surrogate
        return
    assert ours == value


@given(st.binary())
def test_any_bytes_are_json_or_refused(raw: bytes) -> None:
    """R-01."""
    with contextlib.suppress(InvalidRequestError):
        parse_json(raw)
