"""Vectors: kept as float16, compared as float32, exactly.

Rules
1. A `View` has some vectors of one kind, of length 1, and the ids of their chunks. What is no
   vector (zeros, NaN, infinite) is in none.
2. numpy is in the extra `files`, and loaded with the first vector. Without it vectors are refused,
   and words alone are found.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from antiphon.errors import APIError
from antiphon.retrieval.base import Vectors
from antiphon.retrieval.fusion import Ranking
from antiphon.retrieval.index_file import POSITION_BITS, Packed
from antiphon.retrieval.inventory import Chosen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Ints: TypeAlias = NDArray[np.int64]

#: Bytes of float32 that are read from a file at a time.
_BLOCK: Final = 16 * 1024 * 1024
#: Below this part of all rows, those that are chosen are copied and compared alone.
_FEW: Final = 0.25


@dataclass(frozen=True, slots=True)
class Kind:
    """Vectors that can be compared."""

    model: str
    dimensions: int

    @property
    def row(self) -> int:
        """Bytes of a vector in memory, and of its id."""
        return 4 * self.dimensions + 8


@dataclass(frozen=True, slots=True)
class View:
    """Some rows, and the chunks that they belong to."""

    ids: "Ints"
    rows: "Floats"


def available() -> bool:
    """Whether vectors can be compared."""
    return numpy() is not None


def halves(rows: Sequence[bytes]) -> list[bytes]:
    """float32 of any length as float16 of length 1. Raises `APIError` when that cannot be done,
    ValueError when they are no vectors of one size."""
    np = numpy()
    if np is None:
        raise APIError(
            "Vectors need the extra 'files' of this server: pip install 'antiphon[files]'."
        )
    _check_sizes(rows, 4)
    floats = np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1)
    return [row.tobytes() for row in _unit(floats).astype("<f2")]


def pack(vectors: Vectors) -> Packed:
    """As they are kept. Raises what `halves` does."""
    rows = vectors.rows if vectors.halves else halves(vectors.rows)
    _check_sizes(rows, 2)
    return Packed(vectors.model, len(rows[0]) // 2, b"".join(rows))


def _check_sizes(rows: Sequence[bytes], number: int) -> None:
    size = len(rows[0])
    if not size or size % number or any(len(row) != size for row in rows):
        raise ValueError("vectors of different sizes")


def kind_of(vectors: Vectors) -> Kind | None:
    """What they can be compared with; None: nothing."""
    sizes = {len(row) for row in vectors.rows}
    size = sizes.pop() if len(sizes) == 1 else 0
    return Kind(vectors.model, size // 4) if size and not size % 4 else None


def blocks(connection: sqlite3.Connection, kind: Kind) -> Iterator[View]:
    """All vectors of this kind, some at a time."""
    return Part(kind, None).views(connection)


def nearest(
    views: Iterable[View], queries: Sequence[bytes], chosen: Chosen, most: int
) -> list[Ranking]:
    """For each query, the chunks in `chosen` whose vectors are closest, by their cosine."""
    np = numpy()
    asked: Floats = _unit(np.frombuffer(b"".join(queries), "<f4").reshape(len(queries), -1))
    numbers: Ints = np.array(sorted(chosen.numbers), "i8")
    found: list[list[tuple[float, int]]] = [[] for _ in queries]
    for view in views:
        ids, cosines = _compared(view, asked, numbers, chosen)
        for at, best in enumerate(found):
            best[:] = sorted([*best, *_top(ids, cosines[at], most)])[:most]
    return [
        [(id_, -distance) for distance, id_ in best] if vector.any() else []
        for best, vector in zip(found, asked, strict=True)
    ]


def _compared(
    view: View, asked: "Floats", numbers: "Ints", chosen: Chosen
) -> tuple["Ints", "Floats"]:
    """The chosen chunks of a view, and for each vector their cosines with it."""
    np = numpy()
    if chosen.all:
        return view.ids, _cosines(view.rows, asked)
    picked = np.flatnonzero(np.isin(view.ids >> POSITION_BITS, numbers, invert=chosen.without))
    if len(picked) < _FEW * len(view.ids):
        return view.ids[picked], _cosines(view.rows[picked], asked)
    return view.ids[picked], _cosines(view.rows, asked)[:, picked]


def _cosines(rows: "Floats", asked: "Floats") -> "Floats":
    """Not by a matrix product: BLAS takes all cores for it, is hardly faster with one, since memory
    takes the time, and much slower when other threads want the cores."""
    np = numpy()
    return cast("Floats", np.stack([np.einsum("rd,d->r", rows, vector) for vector in asked]))


def _top(ids: "Ints", cosines: "Floats", most: int) -> list[tuple[float, int]]:
    """The best of them, as (distance, id); of equal ones the lower id goes first."""
    np = numpy()
    if len(ids) > most:
        picked = np.flatnonzero(cosines >= np.partition(cosines, -most)[-most])
        ids, cosines = ids[picked], cosines[picked]
    order = np.lexsort((ids, -cosines))[:most]
    return list(zip((-cosines[order]).tolist(), ids[order].tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Part:
    """Vectors in a file: of these `numbers`, or all."""

    kind: Kind
    numbers: Sequence[int] | None

    def count(self, connection: sqlite3.Connection) -> int:
        """How many they are; SQLite knows the size of a blob without reading it."""
        (size,) = self._select(connection, "coalesce(sum(length(rows)), 0)").fetchone()
        return int(size) // (2 * self.kind.dimensions)

    def views(self, connection: sqlite3.Connection) -> Iterator[View]:
        """The vectors, in blocks."""
        block: list[tuple[int, bytes]] = []
        size = 0
        for number, rows in self._select(connection, "number, rows"):
            block.append((number, rows))
            size += 2 * len(rows)
            if size >= _BLOCK:
                yield _view(block, self.kind)
                block, size = [], 0
        if block:
            yield _view(block, self.kind)

    def _select(self, connection: sqlite3.Connection, what: str) -> sqlite3.Cursor:
        some = "" if self.numbers is None else " AND number IN (SELECT value FROM json_each(?3))"
        return connection.execute(
            f"SELECT {what} FROM vectors WHERE model = ?1 AND dimensions = ?2{some}",  # noqa: S608
            (self.kind.model, self.kind.dimensions, *([json.dumps(self.numbers)] if some else [])),
        )


def _view(block: Sequence[tuple[int, bytes]], kind: Kind) -> View:
    np = numpy()
    size = 2 * kind.dimensions
    if any(len(rows) % size for _, rows in block):
        raise sqlite3.DatabaseError("vectors of a wrong length")
    ids = np.concatenate(
        [np.arange(len(rows) // size) | number << POSITION_BITS for number, rows in block]
    )
    halves = np.frombuffer(b"".join(rows for _, rows in block), "<f2")
    rows = _unit(halves.reshape(-1, kind.dimensions))
    real = rows.any(axis=1)
    return View(ids, rows) if real.all() else View(ids[real], rows[real])


def _unit(rows: Any) -> "Floats":
    """The rows as float32 of length 1; zeros for what is no vector."""
    np = numpy()
    unit = rows.astype("f4")
    unit[~np.isfinite(unit).all(axis=1)] = 0
    with np.errstate(over="ignore"):
        length = np.linalg.norm(unit, axis=1)
    length[~np.isfinite(length) | (length == 0)] = np.inf
    unit /= length[:, None]
    return cast("Floats", unit)


@cache
def numpy() -> Any:
    """The module, or None."""
    try:
        import numpy as np  # noqa: PLC0415
    except ImportError:
        return None
    return np
