"""The ways in which files are found, and how good each is.

Rules
1. Every way sees the same chunks, and gives files: a file stands where its first chunk does.
2. Ours is what the server does: `Indexes`, its defaults, one vector store with a file a document.
3. Plain FTS5 is one table with a column, bm25 as it comes, and any word of the question.
4. A question has one right file. Recall@5: how often it is among the first five. MRR@10: one by its
   rank, nothing from the eleventh on.
"""

import contextlib
import math
import random
import re
import sqlite3
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from antiphon.retrieval.base import Embedder, Place, Question, Selection, Vectors, Weights
from antiphon.retrieval.indexes import Indexes

#: Files, by number, best first.
Ranking: TypeAlias = list[int]

#: Chunks that are asked for; the files among them are counted.
LIMIT: Final = 50
_FIRST: Final = 5
_DEEPEST: Final = 10
_DRAWS: Final = 2_000
_STORE: Final = "vs_quality"
_PROJECT: Final = "quality"
#: Chunks whose vectors are asked for at once.
_AT_ONCE: Final = 2_000


class Quality(NamedTuple):
    """Of some questions."""

    recall: float
    reciprocal: float


class Remembering:
    """An `Embedder` that asks another one once for each document."""

    def __init__(self, embedder: Embedder) -> None:
        self.name = embedder.name
        self._embedder = embedder
        self._known: dict[str, bytes] = {}

    async def documents(self, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder.documents`."""
        new = [text for text in texts if text not in self._known]
        if new:
            self._known.update(zip(new, await self._embedder.documents(new), strict=True))
        return [self._known[text] for text in texts]

    async def queries(self, project: str, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder.queries`."""
        return await self._embedder.queries(project, texts)

    async def aclose(self) -> None:
        """See `Embedder.aclose`."""
        await self._embedder.aclose()


class Ours:
    """A vector store of ours."""

    def __init__(self, folder: Path, embedder: Remembering | None) -> None:
        self._indexes = Indexes(folder)
        self._embedder = embedder
        self._numbers: set[int] = set()

    async def fill(self, files: Sequence[tuple[str, list[str]]]) -> None:
        """Put files, each a title and chunks, under the numbers from 0 on."""
        if self._embedder is not None:  # many at once: full batches take half the time
            whole = [chunk for _, chunks in files for chunk in chunks]
            for start in range(0, len(whole), _AT_ONCE):
                await self._embedder.documents(whole[start : start + _AT_ONCE])
        for number, (title, chunks) in enumerate(files):
            rows = None
            if self._embedder is not None:
                made = await self._embedder.documents(chunks)
                rows = Vectors(self._embedder.name, made, halves=True)
            await self._indexes.put(_STORE, number, title, chunks, rows)
            self._numbers.add(number)

    async def ask(self, questions: Sequence[str], weights: Weights) -> list[Ranking]:
        """The files for each question."""
        selection = Selection(frozenset(self._numbers))
        answers = []
        for question in questions:
            rows = None
            if self._embedder is not None and weights.vectors:
                made = await self._embedder.queries(_PROJECT, [question])
                rows = Vectors(self._embedder.name, made)
            asked = Question([question], rows, limit=LIMIT, weights=weights)
            found = await self._indexes.search(_PROJECT, [Place(_STORE, selection)], asked)
            answers.append(list(dict.fromkeys(chunk.number for chunk in found)))
        return answers

    async def aclose(self) -> None:
        """Its threads end."""
        await self._indexes.aclose()


def plain(
    files: Sequence[list[str]], questions: Sequence[str], tokenizer: str
) -> Iterator[Ranking]:
    """The files for each question, by plain FTS5."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE plain USING fts5 (text, tokenize='{tokenizer}')")
        numbers: list[int] = []
        for number, chunks in enumerate(files):
            connection.executemany("INSERT INTO plain VALUES (?)", [(chunk,) for chunk in chunks])
            numbers += [number] * len(chunks)
        for question in questions:
            asked = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
            rows = connection.execute(
                "SELECT rowid FROM plain WHERE plain MATCH ? ORDER BY bm25(plain) LIMIT ?",
                (asked, LIMIT),
            )
            yield list(dict.fromkeys(numbers[row - 1] for (row,) in rows))


def quality(rankings: Sequence[Ranking], right: Sequence[int]) -> Quality:
    """Both figures."""
    ranks = [_rank(*pair) for pair in zip(rankings, right, strict=True)]
    return Quality(
        statistics.fmean(rank <= _FIRST for rank in ranks),
        statistics.fmean(1 / rank if rank <= _DEEPEST else 0.0 for rank in ranks),
    )


def difference(
    ours: Sequence[Ranking],
    other: Sequence[Ranking],
    right: Sequence[int],
    figure: Callable[[Quality], float],
) -> tuple[float, float]:
    """Within which `ours` minus `other` is, 95 of 100 times: the same questions, drawn again."""
    pairs = [
        figure(quality([a], [place])) - figure(quality([b], [place]))
        for a, b, place in zip(ours, other, right, strict=True)
    ]
    generator = random.Random(len(pairs))
    draws = [statistics.fmean(generator.choices(pairs, k=len(pairs))) for _ in range(_DRAWS)]
    cuts = statistics.quantiles(draws, n=40)
    return cuts[0], cuts[-1]


def _rank(ranking: Ranking, right: int) -> float:
    return ranking.index(right) + 1 if right in ranking else math.inf
