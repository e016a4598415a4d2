"""Bytes inside JSON: data URLs and bare base64."""

import base64
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.protocol.inline import Inline, head_of, inlined, read_inline, with_media_type


@given(st.binary(max_size=2_000))
def test_what_is_written_is_read(body: bytes) -> None:
    assert read_inline(inlined("image/png", body)) == Inline(body, "image/png")
    assert read_inline(base64.b64encode(body).decode()) == Inline(body, "")


def test_long_texts_are_whole() -> None:
    """They go in pieces: none may break a character or lose a byte."""
    body = "grüß dich 😀 ".encode() * 100_001
    assert read_inline(inlined("text/plain", body)).body == body
    assert (
        inlined("text/plain", body) == "data:text/plain;base64," + base64.b64encode(body).decode()
    )
    assert head_of(inlined("text/plain", body), 3_000) == body[:3_000]


def test_a_data_url_may_be_plain() -> None:
    assert read_inline("data:text/plain;charset=utf-8,hé") == Inline("hé".encode(), "text/plain")
    assert read_inline("DATA:Text/HTML;BASE64,aGk=") == Inline(b"hi", "text/html")


@pytest.mark.parametrize(
    "text",
    [
        "data:text/plain",
        "data:text/plain;base64,QQ==QQ==",
        "data:text/plain;base64,Q-==",
        "data:text/plain;base64,QQ\u00e4=",
        "data:text/plain;base64,QQ=",
        "not base64!",
        "QQ==\n",
    ],
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        read_inline(text)


def test_the_head_of_what_is_broken_is_nothing() -> None:
    assert head_of("data:image/png;base64", 30) == b""
    assert head_of("data:image/png;base64,A", 30) == b""


def test_what_is_escaped_is_read() -> None:
    """RFC 2397; a per cent sign that escapes nothing is one."""
    assert read_inline("data:,100%25%20o%6b %zz").body == b"100% ok %zz"
    assert head_of("data:image/png,%89PNG%0d", 4) == b"\x89PNG"


@given(st.text("%%%4a1Fgé=\n +", max_size=12))
def test_escapes_are_those_that_python_reads(text: str) -> None:
    expected = unquote_to_bytes(text)
    assert read_inline("data:," + text).body == expected
    assert head_of("data:," + text, len(expected)) == expected


def test_escapes_are_read_wherever_a_piece_ends() -> None:
    for before in range(2**16 - 6, 2**16 + 1):
        assert read_inline("data:," + "x" * before + "%41%%42").body[before:] == b"A%B"


def test_a_head_is_read_as_the_most_lenient_reader_would() -> None:
    """R-99: what is checked must be what somebody else sees."""
    body = bytes(range(256)) * 4
    written = base64.encodebytes(body).decode()
    for text in (written, written.replace("\n", "\r\n\t "), "%41" + written[1:], written[:-3]):
        assert head_of(f"data:image/png;BASE64,{text}", 90)[:60] == body[:60]
    assert head_of("data:" + "x" * 2_000 + ";base64,AAAA", 90) == b""


def test_a_url_gets_another_media_type() -> None:
    for url, right in (
        ("data:image/jpg;base64,AA", "data:image/png;base64,AA"),
        ("data:;base64,AA", "data:image/png;base64,AA"),
        ("data:,AA", "data:image/png,AA"),
        ("data:text/plain;charset=x;base64,A,A", "data:image/png;charset=x;base64,A,A"),
    ):
        assert with_media_type(url, "image/png") == right
    long = inlined("image/gif", bytes(3_000_000))
    assert with_media_type(long, "image/png") == inlined("image/png", bytes(3_000_000))
    url = "DATA:Image/PNG;base64,AA"
    assert with_media_type(url, "image/png") is url
