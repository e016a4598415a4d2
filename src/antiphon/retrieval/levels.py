"""The levels of FTS5's structure, of which each merge may leave two more (before SQLite 3.42, where
`index_file.erased` merges): above 2,000 FTS5 refuses the table for good.

Rules
1. FTS5 itself takes no level away. A level without a segment says nothing: only the order of the
   others is their age, and a merge that is under way has its next level in use. So the empty ones
   are left out of the record, which is of one page however large the index is.
2. The record is that of SQLite's ``fts5_index.c``; one that is not understood to its last byte
   stays as it is.
3. A connection that used the words keeps its own copy of the record, and writes that. So it is
   changed by one that did not; the others see that somebody wrote, and read it again.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final

#: The row of the record.
_RECORD: Final = 10
#: Bytes before the first number of the record.
_COOKIE: Final = 4
#: Empty levels that there may be; usual are fewer than ten.
_MOST_EMPTY: Final = 100


def deep(connection: sqlite3.Connection) -> bool:
    """There are so many empty levels that `lower` takes them away."""
    return _lower(connection) is not None


def lower(connection: sqlite3.Connection) -> None:
    """Take the empty levels away if there are many, in a transaction; see rule 3."""
    block = _lower(connection)
    if block is not None:
        connection.execute("UPDATE words_data SET block = ? WHERE id = ?", (block, _RECORD))


def without_empty(block: bytes, most: int) -> bytes | None:
    """The record without its empty levels; None if these are not more than `most`, or it is
    another sort of record. Pure."""
    numbers = _numbers(block)
    try:
        levels, segments, writes = next(numbers), next(numbers), next(numbers)
        left: list[list[int]] = []
        for _ in range(levels):
            merging, count = next(numbers), next(numbers)
            if count:
                left.append([merging, count, *[next(numbers) for _ in range(3 * count)]])
            elif merging:
                return None
    except StopIteration:
        return None
    whole = next(numbers, None) is None and sum(level[1] for level in left) == segments
    if not whole or levels - len(left) <= most:
        return None
    said = [len(left), segments, writes, *(number for level in left for number in level)]
    return block[:_COOKIE] + b"".join(map(_varint, said))


def _lower(connection: sqlite3.Connection) -> bytes | None:
    row = connection.execute("SELECT block FROM words_data WHERE id = ?", (_RECORD,)).fetchone()
    return without_empty(row[0], _MOST_EMPTY) if row is not None else None


def _numbers(block: bytes) -> Iterator[int]:
    """The numbers of a record: seven bits a byte, the high ones first, all but the last with the
    eighth bit; one that has no end is -1."""
    value = 0
    open_ = False
    for byte in block[_COOKIE:]:
        value = value << 7 | byte & 127
        open_ = byte > 127
        if not open_:
            yield value
            value = 0
    if open_:
        yield -1


def _varint(number: int) -> bytes:
    parts = [number & 127]
    while number := number >> 7:
        parts.append(number & 127 | 128)
    return bytes(reversed(parts))
