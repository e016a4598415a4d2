"""Full text: the chunks that have words of a query, ranked by bm25.

Rules
1. bm25 costs 1.2 µs a chunk, measured, and looking for a word 0.05 µs for each that has it. So
   chunks are chosen by the rare words of a query, and ranked by all of them.
2. FTS5 ranks by the phrases of the expression that it matches. So chunks with a rare word and a
   common one are asked for first, and then those with a rare one, ranked by the rare ones alone:
   which is right for those that have no other. The others were ranked before, and not worse.
3. A score is relative to the best possible, a chunk full of the words of the query. FTS5 tells that
   for the words that an index has (`Words.ranking`); how much of the query these are is told by the
   statistics of all indexes that are asked, so that one with few of the words, in which each of
   them is rare, has not the better scores (`together`).
"""

import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from antiphon.retrieval.fusion import Ranking, merged
from antiphon.retrieval.inventory import Chosen
from antiphon.retrieval.words import phrases

#: Chunks that are ranked, about; more when these give too few answers, or every word is common.
CANDIDATES: Final = 3_000
#: How much more is tried then.
_WIDER: Final = 10
#: What a word of the title counts; one of the text counts 1.
_TITLE: Final = 0.5
#: FTS5's own k1 of bm25, and its least idf.
_K1: Final = 1.2
_LEAST_IDF: Final = 1e-6
#: Chunks that there are, at least, when words are compared: what a few have not may be common.
_LEAST_TOTAL: Final = 100


@dataclass(frozen=True, slots=True)
class _Term:
    phrase: str
    count: int


@dataclass(frozen=True, slots=True)
class Words:
    """What an index of `total` chunks has for a query: a ranking whose scores are relative to the
    best that is possible with its own words, and how many chunks have each phrase."""

    ranking: Ranking = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    total: int = 0


def together(answers: Sequence[Words], most: int) -> Ranking:
    """What several indexes have for the same query, as one ranking of scores from 0 to 1."""
    total = max(_LEAST_TOTAL, sum(answer.total for answer in answers))
    counts: dict[str, int] = {}
    for answer in answers:
        for phrase, count in answer.counts.items():
            counts[phrase] = counts.get(phrase, 0) + count
    weights = {phrase: _weight(total, count) for phrase, count in counts.items()}
    whole = sum(weights.values()) or 1.0
    shares = [
        sum(weights[phrase] for phrase, count in answer.counts.items() if count) / whole
        for answer in answers
    ]
    return merged(
        (
            [(id_, share * score) for id_, score in answer.ranking]
            for answer, share in zip(answers, shares, strict=True)
        ),
        most,
    )


def ranked(
    connection: sqlite3.Connection, query: str, total: int, chosen: Chosen, want: tuple[int, int]
) -> Words:
    """Chunks in `chosen`, which is a part of the `total` of the index. `want`: so many are looked
    for, and so many returned at most."""
    counts = _counts(connection, query)
    terms = _terms(counts)
    least, most = want
    budget = CANDIDATES * max(1, total) // max(1, chosen.chunks)
    rows: list[tuple[int, float]] = []
    taken = 0
    while taken < len(terms) and len(rows) < least:
        taken = max(taken + 1, _fitting(terms, budget))
        rows = _rows(connection, terms[:taken], terms[taken:], chosen, most)
        budget *= _WIDER
    best = sum(_idf(total, term.count) for term in terms) * (_K1 + 1)
    return Words([(id_, min(1.0, max(0.0, -score / best))) for id_, score in rows], counts, total)


def _counts(connection: sqlite3.Connection, query: str) -> dict[str, int]:
    """The phrases of a query, and how many chunks of the index have each."""
    counts = {}
    for phrase in phrases(query):
        (counts[phrase],) = connection.execute(
            "SELECT count(*) FROM words WHERE words MATCH ?", (phrase,)
        ).fetchone()
    return counts


def _terms(counts: Mapping[str, int]) -> list[_Term]:
    """The phrases that the index has, rare ones first."""
    found = [_Term(phrase, count) for phrase, count in counts.items() if count]
    return sorted(found, key=lambda term: term.count)


def _fitting(terms: list[_Term], budget: int) -> int:
    """How many terms, from the first on, have not more chunks than `budget`."""
    for taken, term in enumerate(terms):
        budget -= term.count
        if budget < 0:
            return taken
    return len(terms)


def _rows(
    connection: sqlite3.Connection,
    rare: list[_Term],
    common: list[_Term],
    chosen: Chosen,
    most: int,
) -> list[tuple[int, float]]:
    """The best chunks with a rare word, and bm25 of all."""
    asked = [_any(rare), f"{_any(rare)} AND {_any(common)}"] if common else [_any(rare)]
    scores: dict[int, float] = {}
    for expression in asked:
        scores |= connection.execute(
            f"SELECT rowid, bm25(words, 1.0, {_TITLE}) AS score FROM words"  # noqa: S608
            f" WHERE words MATCH :expression{chosen.condition} ORDER BY score, rowid LIMIT :most",
            {"expression": expression, "most": most, "numbers": chosen.bound},
        ).fetchall()
    return sorted(scores.items(), key=lambda row: (row[1], row[0]))[:most]


def _any(terms: list[_Term]) -> str:
    return f"({' OR '.join(term.phrase for term in terms)})"


def _idf(total: int, count: int) -> float:
    """FTS5's own."""
    return max(_LEAST_IDF, math.log((max(0, total - count) + 0.5) / (count + 0.5)))


def _weight(total: int, count: int) -> float:
    """The same for all indexes; more than nothing for a common word, too."""
    return math.log(1 + (max(0, total - count) + 0.5) / (count + 0.5))
