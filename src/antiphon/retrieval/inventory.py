"""Which files an index has, and in which of them is searched.

Rules
1. What was read of an index is kept until its mark changes (`index_file.py`, rule 3).
2. A selection becomes the shorter of two lists: the files in which is searched, or the others.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class File(NamedTuple):
    """One file, the same as long as its mark; `size` in chunks."""

    mark: int
    size: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """All files of an index by number, and how many chunks they have."""

    mark: int
    files: Mapping[int, File]
    numbers: frozenset[int]
    chunks: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Chunks whose file is one of `numbers`, or none of them when `without`; `chunks` in all."""

    numbers: frozenset[int]
    without: bool
    chunks: int

    @property
    def all(self) -> bool:
        """Nothing is left out."""
        return self.without and not self.numbers

    @property
    def condition(self) -> str:
        """What SQL adds to a condition on `rowid`, with `:numbers`."""
        if self.all:
            return ""
        part = "rowid >> 20 IN (SELECT value FROM json_each(:numbers))"
        return f" AND NOT {part}" if self.without else f" AND {part}"

    @property
    def bound(self) -> str:
        """What `:numbers` is bound to."""
        return json.dumps(list(self.numbers))


def inventory(connection: sqlite3.Connection, known: Inventory | None) -> Inventory:
    """What the index has now."""
    (mark,) = connection.execute("SELECT mark FROM state").fetchone()
    if known is not None and known.mark == mark:
        return known
    rows = connection.execute("SELECT number, mark, count FROM files").fetchall()
    files = {number: File(mark, size) for number, mark, size in rows}
    return Inventory(mark, files, frozenset(files), sum(file.size for file in files.values()))


def choose(inventory: Inventory, numbers: frozenset[int]) -> Chosen:
    """The part of `inventory` that is in `numbers`."""
    outside = inventory.numbers - numbers
    if 2 * len(outside) < len(inventory.numbers):
        return Chosen(outside, without=True, chunks=inventory.chunks - _chunks(inventory, outside))
    inside = inventory.numbers - outside
    return Chosen(inside, without=False, chunks=_chunks(inventory, inside))


def _chunks(inventory: Inventory, numbers: frozenset[int]) -> int:
    return sum(inventory.files[number].size for number in numbers)
