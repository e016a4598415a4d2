"""Chain of thought in tags: only at the start, cut anywhere, nothing lost but blanks."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.backends.chat_completions.think import ThinkSplitter
from tests.pace import pace

#: name, text, opened, reasoning, visible
TABLE: list[tuple[str, str, bool, str, str]] = [
    ("plain", "Hello", False, "", "Hello"),
    ("tags", "<think>why</think>Hello", False, "why", "Hello"),
    ("blanks of the template", "\n<think>\nwhy\n</think>\n\nHello ", False, "why", "Hello "),
    ("blanks inside stay", "<think>a\n\nb</think>c\n\nd", False, "a\n\nb", "c\n\nd"),
    ("empty thought", "<think>\n\n</think>\n\nHello", False, "", "Hello"),
    ("never closed", "<think>why </thin", False, "why </thin", ""),
    ("later tags are text", "See <think>x</think>", False, "", "See <think>x</think>"),
    ("second block is text", "<think>a</think>b<think>c</think>", False, "a", "b<think>c</think>"),
    ("another tag", "<thinker>a", False, "", "<thinker>a"),
    ("only half a tag", "<thi", False, "", "<thi"),
    ("leading blanks stay", "  Hello", False, "", "  Hello"),
    ("only blanks", "  ", False, "", "  "),
    ("bare closing tag without the profile", "why</think>Hi", False, "", "why</think>Hi"),
    ("bare closing tag", "why\n</think>\n\nHi", True, "why", "Hi"),
    ("opened and opened again", "<think>why</think>Hi", True, "why", "Hi"),
    ("opened, never closed", "why", True, "why", ""),
    ("nothing after", "<think>why</think>\n", False, "why", ""),
    ("closing look-alike", "<think>a </thing> b</think>c", False, "a </thing> b", "c"),
]


def split(pieces: list[str], opened: bool) -> tuple[str, str]:
    splitter = ThinkSplitter(opened=opened)
    out = [piece for text in pieces for piece in splitter.feed(text)] + splitter.close()
    assert all(text for _, text in out), "no empty pieces"
    kinds = [kind for kind, _ in itertools.groupby(out, lambda piece: piece.reasoning)]
    assert kinds in ([], [True], [False], [True, False]), "reasoning comes first, once"
    return (
        "".join(text for reasoning, text in out if reasoning),
        "".join(text for reasoning, text in out if not reasoning),
    )


@pytest.mark.parametrize(
    ("text", "opened", "reasoning", "visible"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE]
)
def test_table(text: str, opened: bool, reasoning: str, visible: str) -> None:
    assert split([text], opened) == (reasoning, visible)
    assert split(list(text), opened) == (reasoning, visible)


@given(
    parts=st.lists(st.sampled_from(["<think>", "</think>", " ", "\n", "a", "<", "</", "th", "é"])),
    cuts=st.lists(st.integers(0, 80)),
    opened=st.booleans(),
)
def test_no_cut_changes_the_split(parts: list[str], cuts: list[int], opened: bool) -> None:
    text = "".join(parts)
    at = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    whole = split([text], opened)
    assert split([text[a:b] for a, b in itertools.pairwise(at)], opened) == whole
    blank = str.maketrans("", "", " \n")
    said = "".join(whole).translate(blank)
    tags = text.translate(blank)
    unopened = tags.removeprefix("<think>")
    possible = {t for text in (tags, unopened) for t in (text, text.replace("</think>", "", 1))}
    assert said in possible, "all but blanks and at most one pair of tags is given out"


def test_text_is_not_held_back_longer_than_needed() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("<") == []
    assert [piece.text for piece in splitter.feed("b")] == ["<b"]
    assert splitter.finished


@pytest.mark.parametrize("begin", ["", "<think>", "<think>a", "<think>a</think>"])
@pytest.mark.parametrize("opened", [True, False])
def test_blanks_without_end_take_linear_time(begin: str, opened: bool) -> None:
    """R-118."""
    splitter = ThinkSplitter(opened=opened)
    splitter.feed(begin)
    start = time.process_time()
    for _ in range(200_000):
        splitter.feed(" \n")
    splitter.close()
    assert time.process_time() - start < 0.3 * pace()
