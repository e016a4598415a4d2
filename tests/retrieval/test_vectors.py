"""Vectors: compared exactly, whatever the memory that they may take."""

import asyncio
import math
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import APIError
from antiphon.retrieval import vectors as module
from antiphon.retrieval.base import Place, Question, Selection, Vectors
from antiphon.retrieval.indexes import Indexes
from tests.retrieval.asking import STORE, VECTORS_ONLY, places, search, vector, vectors

#: Such that float16 has them exactly, but for the length.
NUMBER = st.integers(-8, 8)
ROW = st.tuples(NUMBER, NUMBER, NUMBER).filter(any)
CORPUS = st.dictionaries(
    st.integers(0, 2**40), st.lists(ROW, min_size=1, max_size=6), min_size=1, max_size=8
)


def cosine(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """From -1 to 1."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.hypot(*one) / math.hypot(*other)


@settings(max_examples=40, deadline=None)
@given(CORPUS, ROW, st.randoms(use_true_random=False), st.sampled_from([0, 100, 1 << 20]))
def test_what_is_found_is_what_comparing_one_by_one_finds(
    corpus: dict[int, list[tuple[int, ...]]],
    asked: tuple[int, ...],
    random: object,
    budget: int,
) -> None:
    """At any budget: with all in memory, and block by block."""
    folder = Path(tempfile.mkdtemp())
    numbers = sorted(corpus)[::2]
    expected = {
        (number, position): max(0.0, cosine(row, asked))
        for number in numbers
        for position, row in enumerate(corpus[number])
    }

    async def ask() -> None:
        index = Indexes(folder, vector_bytes=budget)
        for number, rows in corpus.items():
            await index.put(STORE, number, "t", ["x"] * len(rows), vectors(*rows))
        question = Question(["x"], vectors(asked), limit=5, weights=VECTORS_ONLY)
        found = await index.search("p", [Place(STORE, Selection(frozenset(numbers)))], question)
        await index.aclose()
        for each in found:
            place = (each.number, each.position)
            assert each.score == pytest.approx(expected.pop(place), abs=2e-3)
        assert len(found) == min(5, len(found) + len(expected))
        worst = found[-1].score if found else 1.0
        assert all(score <= worst + 2e-3 for score in expected.values())

    try:
        asyncio.run(ask())
    finally:
        shutil.rmtree(folder)


STEP = st.tuples(st.sampled_from(["put", "drop", "other"]), st.integers(1, 4), ROW)


@settings(max_examples=25, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=10))
def test_memory_follows_the_file(steps: list[tuple[str, int, tuple[int, ...]]]) -> None:
    """What another connection, or another process, puts and drops is seen by the next search."""
    folder = Path(tempfile.mkdtemp())

    async def follow() -> None:
        index, other = Indexes(folder), Indexes(folder)
        there: dict[int, tuple[int, ...]] = {}
        for verb, number, row in steps:
            if verb == "drop":
                await other.drop(STORE, [number])
                there.pop(number, None)
            else:
                writer = index if verb == "put" else other
                await writer.put(STORE, number, "t", ["x"], vectors(row))
                there[number] = row
            question = Question(["x"], vectors((1, 2, 3)), weights=VECTORS_ONLY)
            found = await index.search(
                "p", [Place(STORE, Selection(frozenset(range(9))))], question
            )
            assert {each.number: each.score for each in found} == {
                number: pytest.approx(max(0.0, cosine(kept, (1, 2, 3))), abs=2e-3)
                for number, kept in there.items()
            }
        await index.aclose()
        await other.aclose()

    try:
        asyncio.run(follow())
    finally:
        shutil.rmtree(folder)


async def test_of_equal_ones_the_first_is_found(indexes: Indexes) -> None:
    """In whatever order they came."""
    question = Question(["x"], vectors([1, 0]), limit=3, weights=VECTORS_ONLY)
    for number in (5, 9, 2):
        await indexes.put(STORE, number, "t", ["x"] * 150, vectors(*[[1, 0]] * 150))
        found = await indexes.search("p", [Place(STORE, Selection(frozenset([2, 5, 9])))], question)
    assert places(found) == [(2, 0), (2, 1), (2, 2)]


async def test_halves_are_kept_as_they_are(indexes: Indexes) -> None:
    """As many bytes as the numbers that float32 would become."""
    rows = [vector(3, 4, 0), vector(0, 0, 2), vector(0, 0, 0)]
    made = Vectors("m", module.halves(rows), halves=True)
    assert [len(row) for row in made.rows] == [6, 6, 6]
    assert module.pack(made) == module.pack(Vectors("m", rows))
    await indexes.put(STORE, 1, "t", ["x", "y", "z"], made)
    question = Question(["q"], vectors([6, 8, 0.1]), weights=VECTORS_ONLY)
    found = await indexes.search("p", [Place(STORE, Selection(frozenset([1])))], question)
    assert [(each.position, round(each.score, 2)) for each in found] == [(0, 1.0), (1, 0.01)]
    for wrong in ([b"123", b"123"], [b"12", b"1234"], [b""]):
        with pytest.raises(ValueError, match="different sizes"):
            module.pack(Vectors("m", wrong, halves=True))


async def test_matrices_that_nobody_uses_make_way(folder: Path) -> None:
    index = Indexes(folder, vector_bytes=3_000)
    where = Selection(frozenset([1]))
    for at in range(6):
        await index.put(f"vs_{at}", 1, "t", ["x"] * 50, vectors(*[[1, 0]] * 50))
    for at in [*range(6), 0]:
        assert await index.search("p", [Place(f"vs_{at}", where)], Question(["y"], vectors([1, 0])))
        assert index._matrices.bytes <= 3_000
    assert index._matrices.bytes > 1_500
    await index.remove("vs_0")
    await index.remove("vs_5")
    assert index._matrices.bytes == 800
    await index.aclose()


async def test_a_matrix_that_grows_stays_within_the_memory(folder: Path) -> None:
    """What it has to spare, too."""
    index = Indexes(folder, vector_bytes=105 * 16)
    for number, count in ((1, 100), (2, 2), (3, 2)):
        await index.put(STORE, number, "t", ["x"] * count, vectors(*[[1, 0]] * count))
        assert await search(index, [1, 2, 3], "y", asked=vectors([1, 0]))
        assert 100 * 16 <= index._matrices.bytes <= 105 * 16
    await index.aclose()


async def test_searches_at_once_agree_while_files_come(indexes: Indexes) -> None:
    await indexes.put(STORE, 0, "t", ["x"], vectors([1, 0]))

    async def come() -> None:
        for number in range(1, 60):
            await indexes.put(STORE, number, "t", ["x"], vectors([1, number / 100]))

    async def ask() -> None:
        for _ in range(30):
            found = await search(indexes, range(60), "y", asked=vectors([1, 0]), limit=60)
            assert places(found) == [(number, 0) for number in range(len(found))]

    await asyncio.gather(come(), *(ask() for _ in range(4)))
    assert len(await search(indexes, range(60), "y", asked=vectors([1, 0]), limit=60)) == 60


async def test_without_numpy_words_are_found_and_vectors_refused(
    indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-133."""
    await indexes.put(STORE, 1, "t", ["cat", "dog"], vectors([1, 0], [0, 1]))
    monkeypatch.setattr(module, "numpy", lambda: None)
    assert places(await search(indexes, [1], "dog", asked=vectors([1, 0]))) == [(1, 1)]
    with pytest.raises(APIError, match=r"antiphon\[files\]"):
        await indexes.put(STORE, 2, "t", ["cow"], Vectors("m", [vector(1, 0)]))
    await indexes.put(STORE, 2, "t", ["cow"], None)
    assert await indexes.numbers(STORE) == {1, 2}
