"""A search in vector stores, as a tool of a request asks for it and as its own endpoint does.

Rules
1. Which `ranker` is asked for makes no difference: there is one way to rank.
2. Attributes of what was found are an object, empty where there are none (spec §3.3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

#: Results of one search, and how many a tool gets that does not say.
MOST_RESULTS: Final = 50
TOOL_RESULTS: Final = 20
#: Vector stores in which one tool searches: our own limit, OpenAI publishes none.
MOST_STORES: Final = 50


@dataclass(frozen=True, slots=True)
class Wish:
    """What is looked for. Passages with a score below `threshold` are none; the weights are those
    of vectors and of full text."""

    store_ids: tuple[str, ...]
    queries: tuple[str, ...]
    limit: int
    filters: Json | None = None
    threshold: float = 0.0
    vector_weight: float = 1.0
    text_weight: float = 1.0

    @classmethod
    def of(
        cls, asked: Mapping[str, Any], store_ids: Sequence[str], queries: Sequence[str], limit: int
    ) -> "Wish":
        """Of a tool or a body that has OpenAI's form; `limit`: if it does not say how many."""
        ranking = asked.get("ranking_options") or {}
        weights = ranking.get("hybrid_search") or {}
        return cls(
            tuple(dict.fromkeys(store_ids)),
            tuple(queries),
            asked.get("max_num_results") or limit,
            asked.get("filters"),
            ranking.get("score_threshold") or 0.0,
            weights.get("embedding_weight", 1.0),
            weights.get("text_weight", 1.0),
        )


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a file that was found; `position`: which one of the file, from 0."""

    file_id: str
    filename: str
    score: float
    text: str
    attributes: Mapping[str, str | float | bool]
    position: int
