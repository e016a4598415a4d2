"""Text in chunks (src/antiphon/documents/chunks.py): nothing is lost, nothing is too large."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter

from antiphon.documents.base import Chunking
from antiphon.documents.chunks import chunks, placed_chunks, stretches
from tests.pace import pace

SHORT = st.text(st.characters(codec="utf-8"), max_size=80)
PIECES = st.sampled_from(
    [
        *("word ", "Sentence. ", "\n", "\n\n", "# Heading\n", "- item\n", "| a | b |\n", "```\n"),
        *(
            "我们去公园。",
            "😀",
            "a\u0301",
            "_",
            "!",
            "/\n",
            "0",
            "{}",
            "x" * 300,
            " " * 300,
            "!" * 300,
        ),
    ]
)
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=2_000),
    st.builds(
        lambda parts: "".join(text * times for text, times in parts),
        st.lists(st.tuples(st.one_of(PIECES, SHORT), st.integers(1, 200)), max_size=12),
    ),
)
#: With a handful of tokens the splitter is not exact about overlaps; OpenAI has 100 at least.
CHUNKINGS = st.integers(100, 200).flatmap(
    lambda size: st.builds(Chunking, st.just(size), st.integers(0, size // 2))
)


def fits(text: str, size: int) -> bool:
    """Whether a text has so many tokens at most."""
    return len(TextSplitter.from_tiktoken_model("gpt-4o", size, trim=False).chunks(text)) <= 1


@settings(max_examples=120, deadline=None)
@given(TEXTS, CHUNKINGS, st.booleans())
def test_all_text_is_in_chunks_that_are_small(
    text: str, chunking: Chunking, is_markdown: bool
) -> None:
    end = 0
    for start, chunk in placed_chunks(text, chunking, is_markdown=is_markdown):
        assert chunk.strip()
        assert text[start : start + len(chunk)] == chunk
        assert not text[end:start].strip(), "something is lost"
        assert fits(chunk, chunking.size)
        assert start >= end or fits(text[start:end].strip(), max(chunking.overlap, 1))
        assert start >= end or chunking.overlap
        end = start + len(chunk)
    assert not text[end:].strip(), "something is lost"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", " ", "\n", "!", "a\u0301", "我", "a b. "]), st.integers(1, 2**15)
        ),
        max_size=9,
    )
)
def test_stretches_are_the_whole_text(runs: list[tuple[str, int]]) -> None:
    text = "".join(character * count for character, count in runs)
    places = list(stretches(text))
    assert places[0][0] == 0
    assert places[-1][1] == len(text)
    assert all(first[1] == second[0] for first, second in itertools.pairwise(places))


@pytest.mark.parametrize("size", [100, 800, 4_096])
def test_chunks_overlap(size: int) -> None:
    text = " ".join(f"Sentence {number} is here." for number in range(2_000))
    places = list(placed_chunks(text, Chunking(size, size // 2)))
    overlaps = [a + len(said) - b for (a, said), (b, _) in itertools.pairwise(places)]
    assert min(overlaps) > 0


def test_text_is_cut_at_its_borders() -> None:
    text = "\n\n".join(f"# Part {number}\n\n" + "It has words. " * 20 for number in range(20))
    made = chunks(text, Chunking(100, 0), is_markdown=True)
    assert len(made) == 20
    assert all(chunk.startswith("# Part ") for chunk in made)


#: Text → seconds for a MiB of it. Words and signs that never end are cut; the rest has what it may
#: take (`CHUNK_SECONDS_A_MIB`).
ODD = {
    "a" * 1_000_000: 3,
    "!" * 1_000_000: 3,
    "a\u0301" * 250_000: 10,
    "我" * 100_000: 10,
    "x" + " " * 1_000_000 + "y": 3,
    "x" + "\n" * 1_000_000 + "y": 3,
    "x" + " \n" * 500_000 + "y": 3,
    "0" * 100_000: 10,
    '{"a":1,"b":[2,3]},' * 10_000: 10,
    "a." * 50_000: 10,
    "a\n" * 50_000: 10,
}


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text[:12]))
def test_odd_text_takes_no_longer_than_it_may(text: str) -> None:
    """R-100: nor does it break anything."""
    chunks("text", Chunking())
    start = time.process_time()
    assert chunks(text, Chunking())
    took = time.process_time() - start
    assert took < pace() * (1 + ODD[text] * len(text) / (1024 * 1024))
