"""Several stores, and what one of them costs the others."""

import asyncio
import random
import threading
from collections.abc import Sequence

import pytest
import structlog.testing

from antiphon.retrieval import combined, full_text
from antiphon.retrieval import indexes as module
from antiphon.retrieval.base import Found, Place, Question, Selection, Vectors
from antiphon.retrieval.full_text import Words
from antiphon.retrieval.fusion import Ranking
from antiphon.retrieval.indexes import Indexes
from tests.retrieval.asking import STORE, VECTORS_ONLY, search, vectors

QUESTION = "how do I reset the router password with the button"


def filler(generator: random.Random) -> str:
    """Words that nobody asks for."""
    return " ".join(f"x{generator.randrange(800)}" for _ in range(60))


async def ask(
    index: Indexes, numbers: Sequence[int], asked: Vectors | None = None, query: str = QUESTION
) -> list[Found]:
    """In the stores ``vs_1`` and ``vs_2``."""
    selection = Selection(frozenset(numbers))
    places = [Place(store, selection) for store in ("vs_1", "vs_2")]
    return await index.search("p", places, Question([query], asked, limit=5))


async def test_the_store_that_has_the_answer_comes_first(indexes: Indexes) -> None:
    """Not the one that has one word of the question, which is rare there."""
    generator = random.Random(3)
    for number in range(2, 40):
        await indexes.put(f"vs_{number % 2 + 1}", number, "t", [filler(generator)], None)
    answer = f"To reset the router password, hold the reset button. {filler(generator)}"
    await indexes.put("vs_1", 40, "router manual", [answer], None)
    await indexes.put("vs_2", 41, "finance", ["Button prices."], None)
    first, second = await ask(indexes, range(50))
    assert (first.number, second.number) == (40, 41)
    assert first.score > 1.5 * second.score
    other = await indexes.search(
        "p", [Place("vs_2", Selection(frozenset([41])))], Question([QUESTION], None)
    )
    assert other[0].score < 0.5, "also if it is asked alone"


async def test_a_store_of_one_chunk_is_not_worth_less(indexes: Indexes) -> None:
    """Where FTS5's own statistics say nothing."""
    generator = random.Random(3)
    for number in range(2, 30):
        await indexes.put("vs_1", number, "t", [f"button {filler(generator)}"], None)
    await indexes.put("vs_2", 1, "t", ["hold the button to reset the password"], None)
    found = await ask(indexes, range(50))
    assert found[0].number == 1
    assert found[0].score > 0.2
    alone = Place("vs_2", Selection(frozenset([1])))
    (other,) = await indexes.search("p", [alone], Question([QUESTION]))
    assert other.score > 0.25, "it has three of the four words"


async def test_rankings_of_several_stores_are_fused_once(indexes: Indexes) -> None:
    """The first one of a store that has nothing to the point is not as good as that of all."""
    for number in range(1, 6):
        rows = vectors([1, number / 50])
        await indexes.put("vs_1", number, "t", [f"router password reset x{number}"], rows)
        await indexes.put("vs_2", 10 + number, "t", [f"button x{number}"], vectors([number, 50]))
    found = await ask(indexes, range(20), vectors([1, 0]))
    assert [each.number for each in found] == [1, 2, 3, 4, 5]
    assert found[0].score == 1.0
    selection = Selection(frozenset(range(20)))
    near = await indexes.search(
        "p",
        [Place("vs_2", selection), Place("vs_1", selection), Place("vs_9", selection)],
        Question(["x"], vectors([1, 0]), limit=10, weights=VECTORS_ONLY),
    )
    assert [each.number for each in near] == [1, 2, 3, 4, 5, 15, 14, 13, 12, 11]


async def test_a_file_that_was_replaced_meanwhile_is_not_shown(
    indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunk of that number may be about something else."""
    await indexes.put(STORE, 1, "t", ["cat"], None)
    await indexes.put(STORE, 2, "t", ["cat and dog"], None)

    def late(answers: Sequence[combined.Answer], question: Question) -> Ranking:
        indexes._put(STORE, 1, "t", ["secret"], None)
        return combined.combined(answers, question)

    monkeypatch.setattr(module, "combined", late)
    assert [each.text for each in await search(indexes, [1, 2], "cat")] == ["cat and dog"]


async def test_of_stores_that_are_equal_none_is_better(indexes: Indexes) -> None:
    for store in (1, 2):
        for number in range(3):
            await indexes.put(f"vs_{store}", 10 * store + number, "t", ["cat", "cow", "dog"], None)
    found = await ask(indexes, range(30), query="cat")
    assert len({each.score for each in found}) == 1
    assert [each.number for each in found] == [10, 11, 12, 20, 21]


async def test_one_store_is_in_nobodys_way(
    indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-118: however often it is asked, and whoever of those who asked has left."""
    running, gate = threading.Semaphore(0), threading.Event()
    ranked = full_text.ranked

    def slow(*args: object) -> Words:
        if args[1] == "slow":
            running.release()
            gate.wait(30)
        return ranked(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(full_text, "ranked", slow)
    await indexes.put(STORE, 1, "t", ["slow"], None)
    await indexes.put("vs_2", 2, "t", ["small"], None)
    other = Place("vs_2", Selection(frozenset([2])))
    large = [asyncio.create_task(search(indexes, [1], "slow")) for _ in range(12)]
    try:
        for _ in range(3):
            await asyncio.to_thread(running.acquire)
        async with asyncio.timeout(20):
            assert await indexes.search("p", [other], Question(["small"]))
            for task in large[:6]:
                task.cancel()
            await asyncio.wait(large[:6])
            assert await indexes.search("p", [other], Question(["small"]))
    except TimeoutError:
        pytest.fail("it waits for the other store")
    finally:
        gate.set()
    assert all(await asyncio.gather(*large[6:]))


async def test_one_project_is_in_nobodys_way(
    indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-118: however many of its stores it asks."""
    running, gate = threading.Semaphore(0), threading.Event()
    ranked = full_text.ranked

    def slow(*args: object) -> Words:
        if args[1] == "slow":
            running.release()
            gate.wait(30)
        return ranked(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(full_text, "ranked", slow)
    places = [Place(f"vs_{at}", Selection(frozenset([at]))) for at in range(12)]
    for at, place in enumerate(places):
        await indexes.put(place.store_id, at, "t", ["slow"], None)
    many = [
        asyncio.create_task(indexes.search("p", [place], Question(["slow"])))
        for place in places[:11]
    ]
    try:
        for _ in range(4):
            await asyncio.to_thread(running.acquire)
        async with asyncio.timeout(20):
            assert await indexes.search("other", [places[11]], Question(["slow down"]))
    except TimeoutError:
        pytest.fail("it waits for the other project")
    finally:
        gate.set()
    assert all(await asyncio.gather(*many))


async def test_what_no_row_knows_lends_its_text_to_nobody(indexes: Indexes) -> None:
    """R-104 comes later: a number is given again after an older database was restored."""
    await indexes.put("vs_1", 1, "t", ["apple pie"], None)
    await indexes.put("vs_1", 7, "t", ["the secret zebra of nobody"], None)
    await indexes.put("vs_2", 7, "t", ["the quarterly zebra report"], None)
    places = [
        Place("vs_1", Selection(frozenset([1]))),
        Place("vs_2", Selection(frozenset([7]))),
    ]
    for order in (places, places[::-1]):
        found = await indexes.search("p", order, Question(["zebra"]))
        assert [each.text for each in found] == ["the quarterly zebra report"]


async def test_that_vectors_exceed_the_memory_is_logged_once(indexes: Indexes) -> None:
    small = Indexes(indexes._folder, vector_bytes=1_000)
    await small.put(STORE, 1, "t", ["x"] * 100, vectors(*[[1, 0]] * 100))
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            assert await search(small, [1], "y", asked=vectors([1, 0]))
    assert [(line["event"], line["store_id"]) for line in lines] == [
        ("vectors_exceed_memory", STORE)
    ]
    await small.aclose()
