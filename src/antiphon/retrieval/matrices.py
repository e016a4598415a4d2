"""The vectors of indexes in memory.

Rules
1. A matrix has all vectors of one kind that an index has.
2. What it has is told by the marks of the files, so it reads only what is new. Rows are appended,
   never changed: who compares meanwhile has a `View` of those that were there.
3. Matrices that are not used make way for others when there are more bytes than allowed. One that
   is larger alone is not kept: it is read from the file each time, block by block, and the log says
   so once.
4. No matrix takes more than the budget, with what it has to spare. While one grows its old rows are
   there, too, and the others have not made way yet: the peak is twice the budget, and once more for
   each other store that is read for the first time at that moment. A view that somebody compares
   lasts until that is done.
"""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import structlog

from antiphon.retrieval.index_file import POSITION_BITS
from antiphon.retrieval.inventory import File, Inventory
from antiphon.retrieval.vectors import Kind, Part, View, numpy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from antiphon.retrieval.vectors import Floats, Ints

_log = structlog.get_logger(__name__)

#: Bytes of all matrices.
MOST_BYTES: Final = 512 * 1024 * 1024
#: How much more than it needs a matrix takes when it grows.
_SPARE: Final = 1.25


class Matrix:
    """All vectors of one kind that an index has. One thread at a time may refresh it."""

    def __init__(self, kind: Kind) -> None:
        self._np = numpy()
        self._kind = kind
        self._files: Mapping[int, File] = {}
        self._length = 0
        self._ids: Ints = self._np.empty(0, "i8")
        self._rows: Floats = self._np.empty((0, kind.dimensions), "f4")

    @property
    def bytes(self) -> int:
        """What it takes."""
        return int(self._ids.nbytes + self._rows.nbytes)

    @property
    def view(self) -> View:
        """All that it has now."""
        return View(self._ids[: self._length], self._rows[: self._length])

    def refresh(
        self, connection: sqlite3.Connection, inventory: Inventory, most_bytes: int
    ) -> bool:
        """Have what the index has; False when that may be more than so many bytes."""
        known, files = self._files, inventory.files
        if known is files:
            return True
        gone = [number for number, file in known.items() if files.get(number) != file]
        if gone:
            self._keep(~self._np.isin(self._ids[: self._length] >> POSITION_BITS, gone))
        new = [number for number, file in files.items() if known.get(number) != file]
        part = Part(self._kind, None if len(new) == len(files) else new)
        count = part.count(connection)
        if (self._length + count) * self._kind.row > most_bytes:
            return False
        self._reserve(self._length + count, most_bytes // self._kind.row)
        for view in part.views(connection):
            end = self._length + len(view.ids)
            self._ids[self._length : end] = view.ids
            self._rows[self._length : end] = view.rows
            self._length = end
        self._files = files
        return True

    def _keep(self, rows: "NDArray[np.bool_]") -> None:
        """Only these; views keep what they have."""
        self._ids = self._ids[: self._length][rows]
        self._rows = self._rows[: self._length][rows]
        self._length = len(self._ids)

    def _reserve(self, needed: int, most: int) -> None:
        if needed <= len(self._ids):
            return
        size = min(int(needed * _SPARE), most) if self._length else needed
        ids = self._np.empty(size, "i8")
        rows = self._np.empty((size, self._kind.dimensions), "f4")
        ids[: self._length] = self._ids[: self._length]
        rows[: self._length] = self._rows[: self._length]
        self._ids, self._rows = ids, rows


class Matrices:
    """The matrices of all indexes, within a budget."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, Kind], Matrix] = OrderedDict()
        #: Those that are too large.
        self._refused: set[tuple[str, Kind]] = set()

    @property
    def bytes(self) -> int:
        """What they take."""
        with self._lock:
            return sum(matrix.bytes for matrix in self._kept.values())

    def view(
        self, store_id: str, connection: sqlite3.Connection, kind: Kind, inventory: Inventory
    ) -> View | None:
        """All vectors of this kind; None when they are too many to be kept. One thread a store at a
        time."""
        key = (store_id, kind)
        with self._lock:
            matrix = self._kept.pop(key, None) or Matrix(kind)
        if not matrix.refresh(connection, inventory, self._most):
            self._refuse(key)
            return None
        view = matrix.view
        with self._lock:
            self._refused.discard(key)
            self._kept[key] = matrix
            used = sum(kept.bytes for kept in self._kept.values())
            while used > self._most and len(self._kept) > 1:
                used -= self._kept.popitem(last=False)[1].bytes
        return view

    def forget(self, store_id: str) -> None:
        """Nobody asks for this index any more."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == store_id]:
                del self._kept[key]
            self._refused = {key for key in self._refused if key[0] != store_id}

    def _refuse(self, key: tuple[str, Kind]) -> None:
        with self._lock:
            known = key in self._refused
            self._refused.add(key)
        if not known:
            _log.warning(
                "vectors_exceed_memory", store_id=key[0], model=key[1].model, bytes=self._most
            )
