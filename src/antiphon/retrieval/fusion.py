"""Rankings into one: of several indexes by score, of words and vectors by reciprocal rank fusion.
Pure.

Rules
1. A ranking is a list of (chunk, own score up to 1), best first; one below 0 becomes 0 in the end.
2. With two kinds of them the score is the fused one, relative to the best possible: what is first
   in both has 1. A kind counts nothing, or is none, when no query has a ranking of it; with one
   kind alone its own scores hold. So it is the same scale for all queries of a question.
3. A chunk that several queries find counts as the best of them says.
4. The order is total: of equal scores, the lower chunk goes first.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

Ranking: TypeAlias = Sequence[tuple[int, float]]

#: How little the first ranks differ. Cormack et al. (2009) took 60, for rankings of a thousand;
#: with a hundred what is middling in both would pass what is first in one (docs/benchmarks.md).
_K: Final = 10


def merged(rankings: Iterable[Ranking], most: int) -> Ranking:
    """The best of rankings of different chunks whose scores can be compared."""
    everything = [found for ranking in rankings for found in ranking]
    return sorted(everything, key=lambda found: (-found[1], found[0]))[:most]


def fused(kinds: Sequence[tuple[Sequence[Ranking], float]]) -> list[dict[int, float]]:
    """Chunk → score, of each query; `kinds`: a ranking of each query, and what these count."""
    counted = [(rankings, weight) for rankings, weight in kinds if any(rankings) and weight > 0]
    if len(counted) == 1:
        return [
            {chunk: min(1.0, max(0.0, score)) for chunk, score in ranking}
            for ranking in counted[0][0]
        ]
    total = sum(weight for _, weight in counted)
    queries = zip(*(rankings for rankings, _ in counted), strict=True)
    shares = [weight / total for _, weight in counted]
    return [_by_rank(rankings, shares) for rankings in queries]


def _by_rank(rankings: Sequence[Ranking], shares: Sequence[float]) -> dict[int, float]:
    scores: dict[int, float] = {}
    for ranking, share in zip(rankings, shares, strict=True):
        for rank, (chunk, _) in enumerate(ranking, 1):
            scores[chunk] = scores.get(chunk, 0.0) + share * (_K + 1) / (_K + rank)
    return {chunk: min(1.0, score) for chunk, score in scores.items()}


def best(answers: Iterable[dict[int, float]], threshold: float, limit: int) -> Ranking:
    """What several queries found, in order."""
    scores: dict[int, float] = {}
    for answer in answers:
        for chunk, score in answer.items():
            scores[chunk] = max(score, scores.get(chunk, 0.0))
    enough = [found for found in scores.items() if found[1] >= threshold]
    return sorted(enough, key=lambda found: (-found[1], found[0]))[:limit]
