"""How good retrieval is, beside plain FTS5: ``python -m benchmarks.quality``.

Rules
1. Texts and questions are those of `sources.py`, held out as `held_out.py` says. Nothing is tuned
   on the half that is shown (`--half dev` is for that).
2. Files are read and cut by the server's own reader, in its process, and found by its own indexes.
   They are called 0.txt, 1.txt, … except in the row that says so.
3. Vectors need a Python that has sentence-transformers, and a model: see `embedding_server.py`.
   Without them there are only the rows without vectors.
"""

import argparse
import asyncio
import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from antiphon.documents.base import Chunking
from antiphon.documents.reader import DocumentReader
from antiphon.retrieval.base import Weights
from antiphon.retrieval.embeddings import EmbeddingsServer, OpenAIEmbeddings
from benchmarks.held_out import QuestionSet, chosen
from benchmarks.rankings import Ours, Quality, Ranking, Remembering, difference, plain, quality
from benchmarks.sources import docstrings, manual_pages

#: Documents of each source, and its questions in each half. Some pages are too short or too long.
_DOCUMENTS: Final = 1_000
_PAGES: Final = 1_150
_QUESTIONS: Final = 300
_SERVER: Final = Path(__file__).with_name("embedding_server.py")
#: Other people's work may be going on.
_PATIENCE: Final = 600.0

_SMALL: Final = Chunking(200, 100)
_TOKENIZERS: Final = {"unicode61": "unicode61", "porter": "porter unicode61"}
_PAIRS: Final = (
    ("text", "plain FTS5, porter, chunks"),
    ("hybrid", "plain FTS5, porter, chunks"),
    ("hybrid", "text"),
    ("hybrid", "vectors"),
)
_TEXT: Final = Weights(vectors=0.0)
_VECTORS: Final = Weights(text=0.0)
_HYBRID: Final = Weights()


@dataclass(frozen=True, slots=True)
class Exam:
    """Files in chunks, and questions with the right file of each."""

    names: list[str]
    chunks: list[list[str]]
    questions: list[str]
    right: list[int]
    sources: list[str]


class Table:
    """Rows for the same questions."""

    def __init__(self, exam: Exam) -> None:
        self._exam = exam
        self._sources = sorted(set(exam.sources))
        self.rankings: dict[str, list[Ranking]] = {}
        heads = [f"{part}: {figure}" for part in ("all", *self._sources) for figure in _FIGURES]
        print(f"\n|  | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")

    def add(self, name: str, rankings: list[Ranking]) -> None:
        """Print a row."""
        self.rankings[name] = rankings
        parts = [self._figures(rankings, source) for source in (None, *self._sources)]
        cells = [f"{figure:.3f}" for part in parts for figure in part]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    def compare(self) -> None:
        """Print how sure differences are."""
        for name, other in _PAIRS:
            ours, others = self.rankings.get(name), self.rankings.get(other)
            if ours is None or others is None:
                continue
            for figure, of in _FIGURES.items():
                least, most = difference(ours, others, self._exam.right, of)
                print(f"{name} − {other}, {figure}: {least:+.3f} … {most:+.3f} (95 %)")

    def _figures(self, rankings: list[Ranking], source: str | None) -> Quality:
        places = [at for at, of in enumerate(self._exam.sources) if source in (None, of)]
        return quality([rankings[at] for at in places], [self._exam.right[at] for at in places])


_FIGURES: Final[dict[str, Callable[[Quality], float]]] = {
    "recall@5": lambda of: of.recall,
    "MRR@10": lambda of: of.reciprocal,
}


async def _chunks(found: QuestionSet, chunking: Chunking) -> list[list[str]]:
    """The chunks of each document, as the server makes them."""
    reader = DocumentReader()
    try:
        with tempfile.TemporaryDirectory() as folder:
            paths = _written(found, Path(folder))
            return [await reader.chunks("quality", path, path.name, chunking) for path in paths]
    finally:
        await reader.aclose()


def _written(found: QuestionSet, folder: Path) -> list[Path]:
    paths = []
    for number, document in enumerate(found.documents):
        paths.append(folder / f"{number}.txt")
        paths[-1].write_text(document.text, encoding="utf-8")
    return paths


def _exam(found: QuestionSet, places: Sequence[int], chunks: list[list[str]]) -> Exam:
    asked = [found.documents[place] for place in places]
    return Exam(
        [document.name for document in found.documents],
        chunks,
        [document.question for document in asked],
        list(places),
        [document.source for document in asked],
    )


@contextlib.contextmanager
def _model(python: str | None, folder: str) -> Iterator[EmbeddingsServer | None]:
    """A server with a model."""
    if python is None:
        yield None
        return
    with subprocess.Popen(
        [python, str(_SERVER), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
        try:
            yield EmbeddingsServer(url, PurePath(folder).name, timeout=_PATIENCE)
        finally:
            child.communicate()


async def _ours(
    table: Table, exam: Exam, titles: list[str], embedder: Remembering | None, note: str = ""
) -> None:
    """The rows of our index; `note`: what is said of them."""
    ways = {"text": _TEXT}
    if embedder is not None:
        ways |= {"vectors": _VECTORS, "hybrid": _HYBRID}
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder), embedder)
        try:
            await ours.fill(list(zip(titles, exam.chunks, strict=True)))
            for name, weights in ways.items():
                table.add(f"{name}{note}", await ours.ask(exam.questions, weights))
        finally:
            await ours.aclose()


def _plain(table: Table, exam: Exam, whole: list[list[str]]) -> None:
    """The rows to compare with; `whole`: each document in one piece."""
    for name, tokenizer in _TOKENIZERS.items():
        for files, of in ((exam.chunks, "chunks"), (whole, "whole files")):
            rows = list(plain(files, exam.questions, tokenizer))
            table.add(f"plain FTS5, {name}, {of}", rows)


async def _run(half: str, server: EmbeddingsServer | None, *, small: bool) -> None:
    found = chosen([manual_pages(_PAGES), docstrings()], _DOCUMENTS, _QUESTIONS)
    places = found.dev if half == "dev" else found.test
    whole = [[document.text] for document in found.documents]
    embedder = None if server is None else Remembering(OpenAIEmbeddings(server))
    try:
        for chunking in (Chunking(), _SMALL) if small else (Chunking(),):
            exam = _exam(found, places, await _chunks(found, chunking))
            print(f"\nChunks of {chunking.size} tokens, overlap {chunking.overlap}: {_size(exam)}")
            table = Table(exam)
            _plain(table, exam, whole)
            await _ours(table, exam, [str(number) for number in range(len(whole))], embedder)
            titles = [PurePath(name).stem for name in exam.names]
            await _ours(table, exam, titles, embedder, ", real names")
            table.compare()
    finally:
        if embedder is not None:
            await embedder.aclose()


def _size(exam: Exam) -> str:
    chunks = sum(map(len, exam.chunks))
    return f"{len(exam.names):,} files, {chunks:,} chunks, {len(exam.questions)} questions"


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description="How good retrieval is.")
    parser.add_argument("--half", choices=["dev", "test"], default="test")
    parser.add_argument("--python", help="a Python that has sentence-transformers")
    parser.add_argument("--model", help="the folder of its model", default="")
    parser.add_argument("--small", action="store_true", help="with chunks of 200 tokens, too")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with _model(arguments.python, arguments.model) as server:
        asyncio.run(_run(arguments.half, server, small=arguments.small))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
