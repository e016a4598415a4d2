"""Forms and names of files (spec §2.3, R-96)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import APIError
from antiphon.protocol.files import (
    BATCH_LIFETIME,
    FILE_FIELDS,
    MAX_FILENAME,
    check_early,
    clean_filename,
    lifetime,
    parse_file_form,
)


@given(st.text() | st.text("/\\.\u202e\u0000a\ud800"))
def test_a_name_is_one_line_that_can_be_seen(name: str) -> None:
    clean = clean_filename(name)
    assert 1 <= len(clean) <= MAX_FILENAME
    assert not set(clean) & {"/", "\\"}
    assert clean not in (".", "..")
    assert not {unicodedata.category(char)[0] for char in clean} & {"C"}
    assert clean_filename(clean) == clean
    clean.encode()


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.txt", "a.txt"),
        (" a.txt ", "a.txt"),
        ("x/..", "upload"),
        (".env", ".env"),
        ("a" * 300 + ".gz", "a" * 252 + ".gz"),
        ("." + "a" * 300, "." + "a" * 254),
        ("a." + "b" * 300, "a." + "b" * 253),
    ],
)
def test_names(name: str, clean: str) -> None:
    assert clean_filename(name) == clean


def test_how_long_a_file_is_kept() -> None:
    assert lifetime("vision", None) is None
    assert lifetime("batch", None) == BATCH_LIFETIME
    assert lifetime("batch", {"anchor": "created_at", "seconds": 3600}) == 3600


def test_a_form_is_read_as_an_object() -> None:
    values = ("vision", "created_at", "3600")
    form = parse_file_form(dict(zip(FILE_FIELDS, values, strict=True)))
    assert form.purpose == "vision"
    assert form.expires_after == {"anchor": "created_at", "seconds": 3600}


@pytest.mark.parametrize("seconds", ["", "1.5", "٣٦٠٠", "3599", "2592001", "9" * 40, "-1"])
def test_seconds(seconds: str) -> None:
    form = {FILE_FIELDS[0]: "vision", FILE_FIELDS[1]: "created_at", FILE_FIELDS[2]: seconds}
    with pytest.raises(APIError) as caught:
        parse_file_form(form)
    assert caught.value.param == "expires_after.seconds"


def test_a_large_limit_is_said_in_full() -> None:
    form = {FILE_FIELDS[0]: "vision", FILE_FIELDS[1]: "created_at", FILE_FIELDS[2]: "2592001"}
    with pytest.raises(APIError) as caught:
        parse_file_form(form)
    assert caught.value.message.endswith("a value <= 2592000, but got 2592001 instead.")


def test_a_purpose_is_refused_before_the_file() -> None:
    check_early({})
    check_early({"purpose": "vision", FILE_FIELDS[1]: "nonsense"})
    with pytest.raises(APIError, match="Invalid value: 'fun'"):
        check_early({"purpose": "fun"})
