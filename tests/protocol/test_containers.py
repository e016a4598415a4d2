"""Where the files of clients are in a container (R-96, R-97)."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from antiphon.errors import InvalidRequestError
from antiphon.protocol.containers import FOLDER, MAX_NAME_BYTES, path_of
from antiphon.protocol.files import last_name


@given(st.text() | st.text("/\\.\u202e\u0000aü\ud800\U0001f9a6") | st.text("ü.", min_size=130))
def test_a_path_is_right_below_the_folder(name: str) -> None:
    assume(last_name(name))
    path = path_of(name, "file")
    last = path.removeprefix(FOLDER)
    assert path == FOLDER + last
    assert 1 <= len(last.encode()) <= MAX_NAME_BYTES
    assert not set(last) & {"/", "\\"}
    assert last not in (".", "..")
    assert not {unicodedata.category(char)[0] for char in last} & {"C"}
    assert path_of(last, "file") == path


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("a.csv", "a.csv"),
        ("../../etc/passwd", "passwd"),
        (r"C:\dir\report.doc", "report.doc"),
        ("/mnt/data/a.csv", "a.csv"),
        ("-rf", "-rf"),
        (".env", ".env"),
        ("evil\u202etxt.exe\u200b", "eviltxt.exe"),
        ("a\nb\x00.txt", "ab.txt"),
        ("ü" * 200 + ".tar", "ü" * 125 + ".tar"),
        ("n" * 300, "n" * 255),
        ("a." + "b" * 300, "a." + "b" * 253),
    ],
)
def test_names(name: str, last: str) -> None:
    assert path_of(name, "file") == f"/mnt/data/{last}"


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/..", "/", "a/", "\\", "\u202e", "\x00"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="has no name") as caught:
        path_of(name, "file_id")
    assert caught.value.param == "file_id"
