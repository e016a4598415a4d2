"""Short ways to ask an index."""

import contextlib
import stat
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from antiphon.retrieval.base import Found, Index, Place, Question, Selection, Vectors, Weights

STORE: Final = "vs_1"
TEXT_ONLY: Final = Weights(vectors=0.0)
VECTORS_ONLY: Final = Weights(text=0.0)


def vector(*numbers: float) -> bytes:
    """As given, of whatever length."""
    return array("f", numbers).tobytes()


def vectors(*rows: Iterable[float], model: str = "m") -> Vectors:
    """One each."""
    return Vectors(model, [vector(*row) for row in rows])


async def search(
    index: Index, numbers: Iterable[int], *queries: str, asked: Vectors | None = None, **more: float
) -> list[Found]:
    """`more`: `limit`, `threshold`."""
    question = Question(
        queries, asked, limit=int(more.get("limit", 10)), threshold=more.get("threshold", 0.0)
    )
    return await index.search("p", [Place(STORE, Selection(frozenset(numbers)))], question)


def places(found: Iterable[Found]) -> list[tuple[int, int]]:
    """Number and position, in order."""
    return [(each.number, each.position) for each in found]


def names(folder: Path) -> set[str]:
    """The files in it."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def modes(folder: Path) -> set[int]:
    """The rights of the folder, and of the files in it."""
    return {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


def opened(folder: Path) -> set[str]:
    """The files of the folder that this process has open, removed ones too."""
    return {name for _, name in _opened(folder)}


def open_files(folder: Path) -> int:
    """How many files of the folder this process has open."""
    return len(list(_opened(folder)))


def _opened(folder: Path) -> Iterator[tuple[str, str]]:
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            path = link.readlink()
            if path.is_relative_to(folder):
                yield link.name, path.name
