"""Text that somebody else wrote (src/antiphon/protocol/plain.py): R-123."""

import sys

import pytest

from antiphon.protocol.plain import charset_named, declared, marked, seen, seen_inline

ALL = "".join(map(chr, range(sys.maxunicode + 1)))


def test_lines_have_one_end() -> None:
    """Those that Python knows, too."""
    text = "".join(
        f"{number}{end}" for number, end in enumerate(ALL) if len(f"a{end}b".splitlines()) > 1
    )
    assert seen(text).split("\n") == [*text.splitlines(), ""]
    assert seen("a\r\nb\rc\n\rd") == "a\nb\nc\n\nd"


@pytest.mark.parametrize(
    "unseen", list("\0\x1b\x7f\xad\u200b\u202e\u2066\ufeff\ud800\udfff\U000e0041")
)
def test_what_nobody_sees_is_left_out(unseen: str) -> None:
    assert seen(f"a{unseen}b") == seen_inline(f"a{unseen}b") == "ab"


@pytest.mark.parametrize("text", ["a\tb", "می\u200cخواهم", "👩\u200d💻", "e\u0301"])
def test_what_is_needed_stays(text: str) -> None:
    assert seen(text) == seen_inline(text) == text


def test_what_is_left_can_be_said() -> None:
    """In UTF-8, as JSON wants it."""
    assert len(seen(ALL).encode()) > 4_000_000


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        *[("latin1", "cp1252"), ("US-ASCII", "cp1252"), ("Shift_JIS", "cp932"), ("gbk", "gb18030")],
        *[("UTF8", "utf-8"), ("utf-16", "utf-16-le"), ("koi8-r", "koi8-r")],
        *[("rot13", None), ("zlib", None), ("unicode_escape", None), ("no such", None)],
    ],
)
def test_charsets_of_the_web(name: str, charset: str | None) -> None:
    assert charset_named(name) == charset


def test_marks_and_declarations() -> None:
    assert marked("a".encode("utf-16")) == ("utf-16-le", 2)
    assert marked("a".encode("utf-8-sig")) == ("utf-8", 3)
    assert marked(b"a") is None
    assert declared(b"<?xml version='1.0' encoding='Latin1'?>") == "cp1252"
    assert declared(b'<meta http-equiv=x content="text/html; charset=big5">') == "big5"
    assert declared(b'<meta charset="utf-16">') == "utf-8"
    assert declared(b" " * 5_000 + b'<meta charset="big5">') is None
