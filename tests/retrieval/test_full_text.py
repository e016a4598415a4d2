"""Full text in two steps finds what one step finds."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.retrieval import full_text, index_file
from antiphon.retrieval.inventory import choose, inventory

#: From rare to common.
WORDS = ("gnu", "yak", "emu", "owl", "cat", "dog")
CHUNK = st.lists(st.sampled_from([WORDS[min(5, at // 3)] for at in range(40)]), max_size=8)
CORPUS = st.lists(st.lists(CHUNK.map(" ".join), min_size=1, max_size=4), min_size=1, max_size=12)


@contextmanager
def filled(corpus: list[list[str]]) -> Iterator[sqlite3.Connection]:
    """An index with files 1, 2 …"""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        index_file.create(path)
        with closing(index_file.connect(path, "rw")) as connection:
            for number, chunks in enumerate(corpus, 1):
                index_file.put(connection, number, "title", chunks, None)
            yield connection


def ranked(
    connection: sqlite3.Connection, query: str, numbers: frozenset[int], least: int, most: int
) -> dict[int, float]:
    """Chunk → score, in order."""
    stock = inventory(connection, None)
    chosen = choose(stock, numbers)
    answer = full_text.ranked(connection, query, stock.chunks, chosen, (least, most))
    return dict(full_text.together([answer], most))


def in_one_step(connection: sqlite3.Connection, words: set[str]) -> dict[int, float]:
    """Chunk → bm25 of all words, of all chunks that have any."""
    expression = " OR ".join(f'"{word}"' for word in sorted(words))
    rows = connection.execute(
        "SELECT rowid, -bm25(words, 1.0, 0.5) FROM words WHERE words MATCH ?", (expression,)
    )
    return dict(rows.fetchall())


@settings(max_examples=60, deadline=None)
@given(
    CORPUS,
    st.sets(st.sampled_from(WORDS), min_size=1),
    st.frozensets(st.integers(1, 12)),
    st.integers(1, 20),
    st.integers(1, 6),
)
def test_every_chunk_has_the_score_of_all_words(
    corpus: list[list[str]],
    words: set[str],
    numbers: frozenset[int],
    candidates: int,
    limit: int,
) -> None:
    with filled(corpus) as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_text, "CANDIDATES", candidates)
        found = ranked(connection, " ".join(sorted(words)), numbers, limit, 100)
        plain = {
            chunk: score
            for chunk, score in in_one_step(connection, words).items()
            if chunk >> 20 in numbers
        }
    assert found.keys() <= plain.keys()
    assert len(found) >= min(limit, len(plain))
    assert all(0 <= score <= 1 for score in found.values())
    assert list(found) == sorted(found, key=lambda chunk: (-found[chunk], chunk))
    ratios = [plain[chunk] / score for chunk, score in found.items() if score]
    assert ratios == pytest.approx([ratios[0]] * len(ratios) if ratios else [])


def test_the_best_of_many_are_those_of_one_step() -> None:
    """Although more of them have a common word, too, than are returned."""
    corpus = [[f"yak {'dog ' * (at % 7)} {'owl ' * (at % 5)} {'x ' * at}"] for at in range(60)]
    corpus += [["dog owl x"]] * 200
    with filled(corpus) as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_text, "CANDIDATES", 60)
        found = ranked(connection, "yak dog owl", frozenset(range(1, 261)), 5, 10)
        plain = in_one_step(connection, {"yak", "dog", "owl"})
    assert list(found) == sorted(plain, key=lambda chunk: (-plain[chunk], chunk))[:10]


def test_a_rare_word_hides_nobody() -> None:
    with filled([["yak"], *[["dog"]] * 50]) as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_text, "CANDIDATES", 5)
        assert len(ranked(connection, "yak dog", frozenset(range(1, 52)), 10, 20)) == 20
        assert len(ranked(connection, "yak dog", frozenset(range(2, 52)), 10, 20)) == 20
        assert len(ranked(connection, "yak dog", frozenset([1]), 10, 20)) == 1
        assert ranked(connection, "emu", frozenset([1]), 10, 20) == {}
