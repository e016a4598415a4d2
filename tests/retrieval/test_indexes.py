"""The port, as anybody may use it: files come and go, and are found by word and vector."""

import asyncio
from pathlib import Path

import pytest

from antiphon.errors import Overloaded
from antiphon.retrieval.base import Place, Question, Selection, Weights
from antiphon.retrieval.indexes import Indexes
from tests.retrieval.asking import (
    STORE,
    TEXT_ONLY,
    VECTORS_ONLY,
    modes,
    names,
    open_files,
    places,
    search,
    vectors,
)


async def test_a_store_without_an_index_is_empty(indexes: Indexes, folder: Path) -> None:
    assert await indexes.stores() == frozenset()
    assert await indexes.numbers(STORE) == frozenset()
    assert await indexes.texts(STORE, 1) == []
    assert await search(indexes, [1], "word") == []
    await indexes.drop(STORE, [1])
    await indexes.remove(STORE)
    assert names(folder) == set()


async def test_what_was_put_is_there(indexes: Indexes) -> None:
    await indexes.put(STORE, 7, "a.txt", ["first chunk", "second chunk"], None)
    await indexes.put("vs_2", 8, "b.txt", ["of another store"], None)
    await indexes.put(STORE, 9, "empty.txt", [], None)
    assert await indexes.stores() == {STORE, "vs_2"}
    assert await indexes.numbers(STORE) == {7, 9}
    assert await indexes.texts(STORE, 7) == ["first chunk", "second chunk"]
    assert await indexes.texts(STORE, 8) == []


async def test_a_file_is_put_in_the_place_of_what_its_number_had(indexes: Indexes) -> None:
    await indexes.put(STORE, 1, "a.txt", ["old words", "more old"], vectors([1, 0], [0, 1]))
    assert await search(indexes, [1], "x", asked=vectors([0, 1]))
    await indexes.put(STORE, 1, "b.txt", ["new words"], vectors([1, 0]))
    assert await indexes.texts(STORE, 1) == ["new words"]
    assert await search(indexes, [1], "old") == []
    assert places(await search(indexes, [1], "new")) == [(1, 0)]
    assert places(await search(indexes, [1], "x", asked=vectors([0, 1]))) == [(1, 0)]


async def test_what_is_dropped_is_gone(indexes: Indexes, folder: Path) -> None:
    """R-104."""
    for number in (1, 2, 3):
        await indexes.put(STORE, number, "t", [f"shared unique{number}"], vectors([1, number]))
    assert len(await search(indexes, [1, 2, 3], "shared", asked=vectors([1, 1]))) == 3
    await indexes.drop(STORE, [1, 3, 99])
    assert await indexes.numbers(STORE) == {2}
    assert await indexes.texts(STORE, 1) == []
    found = await search(indexes, [1, 2, 3], "shared unique1", asked=vectors([1, 1]))
    assert places(found) == [(2, 0)]


async def test_a_removed_store_leaves_no_file(indexes: Indexes, folder: Path) -> None:
    """R-104."""
    await indexes.put(STORE, 1, "t", ["word"], vectors([1, 0]))
    await search(indexes, [1], "word", asked=vectors([1, 0]))
    await indexes.remove(STORE)
    assert names(folder) == set()
    assert await search(indexes, [1], "word", asked=vectors([1, 0])) == []
    await indexes.put(STORE, 2, "t", ["other"], None)
    assert await indexes.numbers(STORE) == {2}
    assert await search(indexes, [1, 2], "word", asked=vectors([1, 0])) == []


async def test_only_its_owner_can_read_an_index(indexes: Indexes, folder: Path) -> None:
    await indexes.put(STORE, 1, "t", ["word"], None)
    assert modes(folder) == {0o700, 0o600}
    assert names(folder) >= {"vs_1.db", "vs_1.db-wal"}


async def test_words_of_the_title_count_less_than_those_of_the_text(indexes: Indexes) -> None:
    filler = "some text about this and that"
    await indexes.put(STORE, 1, "annual_report.pdf", [filler], None)
    await indexes.put(STORE, 2, "letter.pdf", [f"{filler} report"], None)
    await indexes.put(STORE, 3, "other.pdf", [filler], None)
    found = await search(indexes, [1, 2, 3], "the annual report")
    assert places(await search(indexes, [1, 2, 3], "report")) == [(2, 0), (1, 0)]
    assert places(found)[0] == (1, 0)


async def test_only_the_selection_is_seen(indexes: Indexes) -> None:
    for number in range(1, 9):
        await indexes.put(STORE, number, "t", ["word " * number], vectors([1, number / 10]))
    for numbers in ([3], [1, 2, 3, 4, 5, 6], range(1, 9), [99], []):
        found = await search(indexes, numbers, "word", asked=vectors([1, 0]))
        assert {each.number for each in found} == set(numbers) & set(range(1, 9))


async def test_best_in_both_has_the_best_score(indexes: Indexes) -> None:
    chunks = ["the cat sat on the mat", "a dog", "cat and dog"]
    await indexes.put(STORE, 1, "t", chunks, vectors([1, 0], [0, 1], [1, 1]))
    found = await search(indexes, [1], "cat", asked=vectors([1, 0.9]))
    assert places(found) == [(1, 2), (1, 0), (1, 1)]
    assert found[0].score == 1.0
    assert found[0].text == "cat and dog"


async def test_a_weight_of_0_leaves_the_scores_of_the_other(indexes: Indexes) -> None:
    await indexes.put(STORE, 1, "t", ["cat", "dog", "cow"], vectors([1, 0], [0, 1], [-1, 0]))
    where = Selection(frozenset([1]))
    asked = vectors([3, 4])
    near = await indexes.search(
        "p", [Place(STORE, where)], Question(["cat"], asked, weights=VECTORS_ONLY)
    )
    assert places(near) == [(1, 1), (1, 0), (1, 2)]
    assert [each.score for each in near] == pytest.approx([0.8, 0.6, 0.0], abs=1e-3)
    text = await indexes.search(
        "p", [Place(STORE, where)], Question(["cat"], asked, weights=TEXT_ONLY)
    )
    assert places(text) == [(1, 0)]
    assert text == await search(indexes, [1], "cat")
    assert 0 < text[0].score < 1


async def test_what_counts_more_decides(indexes: Indexes) -> None:
    await indexes.put(STORE, 1, "t", ["cat", "dog"], vectors([0, 0], [1, 0]))
    where, asked = Selection(frozenset([1])), vectors([1, 0])
    for weights, order in ((Weights(1, 3), [(1, 0), (1, 1)]), (Weights(3, 1), [(1, 1), (1, 0)])):
        found = await indexes.search(
            "p", [Place(STORE, where)], Question(["cat"], asked, weights=weights)
        )
        assert places(found) == order
        assert [each.score for each in found] == pytest.approx([0.75, 0.25])


async def test_vectors_of_another_model_or_length_are_not_compared(indexes: Indexes) -> None:
    await indexes.put(STORE, 1, "t", ["one"], vectors([1, 0]))
    await indexes.put(STORE, 2, "t", ["two"], vectors([1, 0], model="other"))
    await indexes.put(STORE, 3, "t", ["three"], vectors([1, 0, 0]))
    await indexes.put(STORE, 4, "t", ["four"], None)
    everywhere = [1, 2, 3, 4]
    assert places(await search(indexes, everywhere, "x", asked=vectors([1, 0]))) == [(1, 0)]
    assert places(await search(indexes, everywhere, "x", asked=vectors([1, 0, 0]))) == [(3, 0)]
    other = await search(indexes, everywhere, "four", asked=vectors([1, 0], model="other"))
    assert sorted(places(other)) == [(2, 0), (4, 0)]
    assert await search(indexes, everywhere, "x", asked=vectors([1, 0], model="third")) == []


async def test_what_is_no_vector_breaks_nothing(indexes: Indexes) -> None:
    nan, inf = float("nan"), float("inf")
    rows = vectors([0, 0], [nan, 1], [inf, 1], [1, 0], [1e30, 1e30])
    await indexes.put(STORE, 1, "t", ["zero", "nan", "inf", "one", "huge"], rows)
    assert places(await search(indexes, [1], "x", asked=vectors([1, 0]))) == [(1, 3)]
    for asked in ([0, 0], [nan, 0], [-inf, inf]):
        assert await search(indexes, [1], "x", asked=vectors(asked)) == []
        assert places(await search(indexes, [1], "nan", asked=vectors(asked))) == [(1, 1)]


async def test_several_queries_find_what_each_finds(indexes: Indexes) -> None:
    await indexes.put(
        STORE, 1, "t", ["cat", "dog", "cow"], vectors([1, 0, 0], [0, 1, 0], [0, 0, 1])
    )
    asked = vectors([1, 0, 0], [0, 0, 1])
    found = await search(indexes, [1], "cat", "cow", asked=asked)
    assert places(found)[:2] == [(1, 0), (1, 2)]
    assert [each.score for each in found[:2]] == [1.0, 1.0]
    assert places(await search(indexes, [1], "cat", "dog")) == [(1, 0), (1, 1)]


async def test_a_query_whose_words_nobody_has_is_on_the_scale_of_the_others(
    indexes: Indexes,
) -> None:
    await indexes.put(STORE, 1, "t", ["cat", "dog"], vectors([1, 0], [0, 1]))
    found = await search(indexes, [1], "cat", "qqq", asked=vectors([1, 0], [0.1, 0.9]))
    assert places(found) == [(1, 0), (1, 1)]
    assert [each.score for each in found] == [1.0, 0.5]
    (first, _) = await search(indexes, [1], "qqq", asked=vectors([0, 1]))
    assert first.score == pytest.approx(1.0, abs=1e-3), "its cosine, when it is alone"


async def test_limit_and_threshold_are_held(indexes: Indexes) -> None:
    await indexes.put(STORE, 1, "t", ["cat " * count + "dog" for count in range(1, 30)], None)
    assert len(await search(indexes, [1], "cat", limit=3)) == 3
    scores = [each.score for each in await search(indexes, [1], "cat", limit=29)]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    middle = scores[14]
    assert all(each.score >= middle for each in await search(indexes, [1], "cat", threshold=middle))


async def test_a_number_of_vectors_that_does_not_fit_is_a_mistake(indexes: Indexes) -> None:
    for rows in (vectors([1, 0]), vectors([1, 0], [1]), vectors([], [])):
        with pytest.raises(ValueError, match="vector"):
            await indexes.put(STORE, 1, "t", ["one", "two"], rows)
    with pytest.raises(ValueError, match="vector"):
        await search(indexes, [1], "one", "two", asked=vectors([1, 0]))


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "a AND OR NOT",
        "NEAR(a b, 2)",
        "title : a*",
        "^a + b",
        "'; DROP TABLE files; --",
        "a\0b",
        "😀🤷‍♀️",
        "\ud800\udfff",
        "",
        "   ",
        "x" * 1_000_000,
        "word " * 200_000,
        "猫" * 300_000,
    ],
)
async def test_hostile_queries_find_nothing_and_break_nothing(indexes: Indexes, query: str) -> None:
    await indexes.put(STORE, 1, "t", ["plain text"], None)
    assert await search(indexes, [1], query) == []


async def test_hostile_texts_can_be_put_found_and_dropped(indexes: Indexes) -> None:
    texts = [
        "nul\0byte one",
        "half \ud800 surrogate two",
        "",
        "ﷺ" * 10_000,
        "x" * 500_000,
        "猫" * 9,
    ]
    await indexes.put(STORE, 1, "ti\0tle\udfff" * 1000, texts, None)
    assert places(await search(indexes, [1], "byte")) == [(1, 0)]
    assert places(await search(indexes, [1], "surrogate")) == [(1, 1)]
    assert (await indexes.texts(STORE, 1))[1] == "half \ufffd surrogate two"
    await indexes.put(STORE, 1, "t", ["other"], None)
    assert await search(indexes, [1], "byte surrogate 猫") == []


async def test_a_cancelled_search_leaks_nothing(indexes: Indexes, folder: Path) -> None:
    await indexes.put(STORE, 1, "t", ["word"] * 2000, vectors(*[[1, 0]] * 2000))
    for _ in range(20):
        tasks = [
            asyncio.create_task(search(indexes, [1], "word", asked=vectors([1, 0])))
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await search(indexes, [1], "word")
    assert open_files(folder) <= 3 * 5


async def test_open_files_stay_few_however_many_stores_there_are(
    indexes: Indexes, folder: Path
) -> None:
    for at in range(60):
        await indexes.put(f"vs_{at}", 1, "t", ["word"], None)
        assert await indexes.numbers(f"vs_{at}") == {1}
    assert open_files(folder) <= 3 * 33
    await indexes.aclose()
    assert open_files(folder) == 0
    assert names(folder) == {f"vs_{at}.db{end}" for at in range(60) for end in ("", "-writer")}
    with pytest.raises(Overloaded):
        await indexes.numbers("vs_1")
