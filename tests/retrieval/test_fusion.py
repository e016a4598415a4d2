"""Two rankings into one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.retrieval.fusion import Ranking, best, fused, merged

TEXT = [(1, 0.9), (2, 0.5), (3, 0.1)]
NEAR = [(1, 0.8), (3, 0.7), (4, 0.6)]


def alone(*kinds: tuple[Ranking, float]) -> dict[int, float]:
    """Of a question with one query."""
    (scores,) = fused([([ranking], weight) for ranking, weight in kinds])
    return scores


def test_first_in_both_is_the_best_possible() -> None:
    scores = alone((TEXT, 1.0), (NEAR, 1.0))
    assert scores[1] == 1.0
    assert scores[3] > scores[2] > scores[4]
    assert scores[2] == pytest.approx((1 / 12) / (2 / 11))


def test_weights_count() -> None:
    scores = alone((TEXT, 1.0), (NEAR, 3.0))
    assert scores[4] > scores[2]
    assert scores[4] == pytest.approx((3 / 13) / (4 / 11))


@pytest.mark.parametrize(
    "rankings",
    [[(TEXT, 1.0), (NEAR, 0.0)], [(TEXT, 1.0), ([], 1.0)], [(TEXT, 0.1)]],
)
def test_one_alone_has_its_own_scores(
    rankings: list[tuple[list[tuple[int, float]], float]],
) -> None:
    assert alone(*rankings) == dict(TEXT)


def test_all_queries_of_a_question_have_one_scale() -> None:
    """A cosine is nothing beside a rank: one query has words that nobody has."""
    near = [(90 + at, 0.95 - at / 100) for at in range(5)]
    both, by_vector = fused([([TEXT, []], 1.0), ([NEAR, near], 1.0)])
    assert both == alone((TEXT, 1.0), (NEAR, 1.0))
    assert by_vector[90] == 0.5 == alone((TEXT, 1.0), ([(90, 0.95), *NEAR], 1.0))[90]
    assert by_vector[94] < both[3]
    texts, nears = fused([([TEXT, []], 1.0), ([[], near], 1.0)])
    assert (texts[1], nears[90]) == (0.5, 0.5)
    assert fused([([[], []], 1.0), ([NEAR, near], 1.0)]) == [dict(NEAR), dict(near)]


def test_nothing_gives_nothing() -> None:
    assert fused([]) == fused([([TEXT], 0.0), ([[]], 1.0)]) == []


def test_rankings_of_other_chunks_become_one() -> None:
    other = [(9, 0.9), (8, 0.2), (7, -0.1)]
    everything = [(1, 0.9), (9, 0.9), (2, 0.5), (8, 0.2), (3, 0.1), (7, -0.1)]
    assert merged([other, TEXT, []], 10) == everything
    assert merged([TEXT, other], 3) == everything[:3]
    assert alone((everything, 1.0))[7] == 0


def test_a_chunk_counts_as_its_best_query_says() -> None:
    answers = [{1: 0.5, 2: 0.9}, {1: 0.7, 3: 0.7}, {4: 0.1}]
    assert best(answers, 0.2, 10) == [(2, 0.9), (1, 0.7), (3, 0.7)]
    assert best(answers, 0.0, 2) == [(2, 0.9), (1, 0.7)]
    assert best(answers, 0.7, 10) == [(2, 0.9), (1, 0.7), (3, 0.7)]


RANKING = st.lists(st.integers(0, 50), unique=True, max_size=20).map(
    lambda ids: [(id_, 1 - at / 20) for at, id_ in enumerate(ids)]
)


@given(RANKING, RANKING, st.floats(0, 1e6), st.floats(0, 1e6))
def test_scores_are_from_0_to_1(
    one: list[tuple[int, float]], other: list[tuple[int, float]], first: float, second: float
) -> None:
    for scores in fused([([one], first), ([other], second)]):
        _check(scores, one, other)


def _check(
    scores: dict[int, float], one: list[tuple[int, float]], other: list[tuple[int, float]]
) -> None:
    assert all(0 <= score <= 1 for score in scores.values())
    assert scores.keys() <= {id_ for id_, _ in one + other}
