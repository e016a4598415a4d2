"""The structure of FTS5, which merges make deeper without an end."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import Overloaded
from antiphon.retrieval import index_file, levels
from antiphon.retrieval.connections import Connections
from antiphon.retrieval.indexes import Indexes
from tests.retrieval.asking import STORE, search

#: Above so many levels FTS5 refuses the table.
MOST_LEVELS = 2_000


def varint(number: int) -> bytes:
    parts = [number & 127]
    while number := number >> 7:
        parts.append(number & 127 | 128)
    return bytes(reversed(parts))


def record(structure: list[list[int]]) -> bytes:
    """Of levels: how many of its segments are being merged, and three numbers for each segment."""
    counts = [len(level) // 3 for level in structure]
    numbers = [len(structure), sum(counts), 300]
    for level, count in zip(structure, counts, strict=True):
        numbers += [level[0] if count else 0, count, *level[1:]]
    return b"\0\1\2\3" + b"".join(map(varint, numbers))


SEGMENT = st.lists(st.integers(0, 1 << 20), min_size=3, max_size=3)
LEVEL = st.tuples(st.integers(0, 3), st.lists(SEGMENT, max_size=3)).map(
    lambda level: [level[0], *(number for segment in level[1] for number in segment)]
)


@given(st.lists(LEVEL, max_size=30))
def test_only_empty_levels_are_left_out(structure: list[list[int]]) -> None:
    others = [level for level in structure if len(level) > 1]
    expected = record(others) if len(others) < len(structure) else None
    assert levels.without_empty(record(structure), 0) == expected
    assert levels.without_empty(record(structure), len(structure)) is None


def test_a_record_that_is_not_understood_stays() -> None:
    good = record([[0], [0, 1, 1, 9]])
    assert levels.without_empty(good, 0)
    merging_nothing = good[:8] + b"\1" + good[9:]
    more_segments = good[:5] + b"\2" + good[6:]
    for other in (b"", good[:-1], good + b"\0", good + b"\x80", merging_nothing, more_segments):
        assert levels.without_empty(other, 0) is None


@pytest.mark.parametrize("seed", range(4))
def test_a_table_without_its_empty_levels_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever is put in, deleted and merged before and after, and merges under way among it."""
    monkeypatch.setattr(levels, "_MOST_EMPTY", 0)
    generator = random.Random(seed)
    kept: dict[int, str] = {}
    with closing(_words(tmp_path / "x.db")) as reader:
        reader.execute("CREATE VIRTUAL TABLE words USING fts5(text, content='')")
        reader.execute("INSERT INTO words (words, rank) VALUES ('pgsz', 64)")
        for _ in range(100):
            with closing(_words(tmp_path / "x.db")) as connection:
                levels.lower(connection)
                _change(connection, generator, kept)
            found = reader.execute("SELECT rowid FROM words WHERE words MATCH 'w7'").fetchall()
            assert {id_ for (id_,) in found} == {
                id_ for id_, text in kept.items() if "w7" in text.split()
            }
        reader.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def _words(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def _change(connection: sqlite3.Connection, generator: random.Random, kept: dict[int, str]) -> None:
    for _ in range(generator.choice([1, 5, 40])):
        id_ = generator.randrange(1 << 30)
        kept[id_] = " ".join(f"w{generator.randrange(60)}" for _ in range(12))
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (id_, kept[id_]))
    for id_ in generator.sample(sorted(kept), min(len(kept), generator.choice([1, 5, 30]))):
        connection.execute(
            "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (id_, kept.pop(id_))
        )
    merge = generator.choice([("merge", -1), ("merge", -20), ("merge", 50), ("optimize", None)])
    connection.execute("INSERT INTO words (words, rank) VALUES (?, ?)", merge)


def structure_of(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        block: bytes = connection.execute("SELECT block FROM words_data WHERE id = 10").fetchone()[
            0
        ]
    return block


def test_however_many_files_are_dropped_the_structure_stays_small(folder: Path) -> None:
    """R-104: words are erased by merges, of which each leaves two levels."""
    connections = Connections(folder)
    kept = ["the file that stays", *(f"chunk number {at}" for at in range(1_500))]
    largest = 0
    for number in range(1_200):
        with connections.writing(STORE, make=True) as connection:
            assert connection is not None
            connection.execute("PRAGMA synchronous = OFF")
            if not number:
                index_file.put(connection, 9_999, "keep", kept, None)
            index_file.put(connection, number, "t", [f"version{number}"], None)
            assert index_file.drop(connection, [number])
        largest = max(largest, len(structure_of(folder / "vs_1.db")))
    assert largest < 400
    with connections.reading(STORE) as connection:
        assert connection is not None
        for word, count in (("chunk", 1_500), ("stays", 1), ("version1199", 0)):
            found = "SELECT count(*) FROM words WHERE words MATCH ?"
            assert connection.execute(found, (word,)).fetchone() == (count,)
    with connections.writing(STORE, make=False) as connection:
        assert connection is not None
        connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    connections.close()


def break_(path: Path) -> None:
    """As too many drops did."""
    with closing(sqlite3.connect(path)) as connection, connection:
        block = structure_of(path)
        deep = block[:4] + varint(block[4] + MOST_LEVELS) + block[5:7] + b"\0\0" * MOST_LEVELS
        connection.execute("UPDATE words_data SET block = ? WHERE id = 10", (deep + block[7:],))


@pytest.mark.parametrize("by", ["put", "drop", "look"])
async def test_an_index_that_was_too_deep_can_be_used_again(folder: Path, by: str) -> None:
    """By whoever writes next; at the latest by `engine.orphans`, which looks at each."""
    index = Indexes(folder)
    await index.put(STORE, 1, "t", ["word"], None)
    await index.put(STORE, 2, "t", ["other"], None)
    await index.aclose()
    break_(folder / "vs_1.db")
    index = Indexes(folder)
    with pytest.raises(Overloaded):
        await search(index, [1], "word")
    if by == "put":
        await index.put(STORE, 3, "t", ["third"], None)
    elif by == "drop":
        await index.drop(STORE, [2])
    assert 1 in await index.numbers(STORE)
    assert await search(index, [1], "word")
    await index.aclose()
