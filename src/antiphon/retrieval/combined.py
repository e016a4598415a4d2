"""What several indexes answer to a question, as one ranking. Pure.

Rules
1. Chunks of all indexes are ranked together, by words and by vectors, before both rankings are
   fused: the first one of an index that has nothing to the point is not the first one of all.
2. Cosines can be compared as they are, scores of full text by their share (`full_text.together`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from antiphon.retrieval.base import Question
from antiphon.retrieval.full_text import Words, together
from antiphon.retrieval.fusion import Ranking, best, fused, merged
from antiphon.retrieval.inventory import File

#: Chunks of each ranking that are fused, at least.
_DEPTH: Final = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one index, and of each query; `files` are those that it had then."""

    store_id: str
    files: Mapping[int, File]
    words: Sequence[Words]
    vectors: Sequence[Ranking]


def combined(answers: Sequence[Answer], question: Question) -> Ranking:
    """What is found, best first."""
    most = depth(question)
    weights = question.weights
    queries = range(len(question.queries))
    words = [together([answer.words[at] for answer in answers], most) for at in queries]
    near = [merged([answer.vectors[at] for answer in answers], most) for at in queries]
    each = fused([(words, weights.text), (near, weights.vectors)])
    return best(each, question.threshold, question.limit)


def depth(question: Question) -> int:
    """So many chunks of each ranking are fused."""
    return max(_DEPTH, 2 * question.limit)
