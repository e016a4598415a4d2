"""Chains in SQLite: what is remembered of them, and what must not be (must show 4, R-29, R-59)."""

import asyncio
import gc
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import orjson
import pytest

from antiphon.store.base import Turn
from antiphon.store.chains import Chains
from antiphon.store.kept import MOST_BYTES
from antiphon.store.readers import Readers
from antiphon.store.sql import SqliteStore
from tests.store.rows import NOW, Clock, item_id, message, new_partition, response

T = TypeVar("T")


class Counting(Readers):
    """Counts the questions, and keeps the next answers until the test lets them go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.questions = 0
        self.holding: list[asyncio.Event] = []
        #: The last of them waits.
        self.held = asyncio.Event()

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        self.questions += 1
        answer = await super().ask(question)
        if self.holding:
            going_on = self.holding.pop(0)
            if not self.holding:
                self.held.set()
            await going_on.wait()
        return answer


class Place:
    """A file with one store that writes, another that reads, and chains of a size of our own."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock = path, clock
        url = f"sqlite+aiosqlite:///{path}"
        self.store = SqliteStore(url, clock=clock)
        self.other = SqliteStore(url, clock=clock)
        self.readers = Counting(path)

    async def grow(
        self, length: int, previous: str | None = None, expires_at: int | None = None
    ) -> list[str]:
        """A chain of responses that say 1, 2 …; their ids."""
        ids: list[str] = []
        for number in range(1, length + 1):
            row = response(str(number), previous=previous, expires_at=expires_at)
            await self.store.save(row)
            previous = row.id
            ids.append(row.id)
        return ids

    def chains(self, most_bytes: int = MOST_BYTES) -> Chains:
        return Chains(self.readers, most_bytes)

    async def said(self, chains: Chains, child: str) -> list[str] | None:
        """What the inputs of a chain say."""
        return texts(await chains.read("alpha", child, int(self.clock())))


def texts(turns: list[Turn] | None) -> list[str] | None:
    return None if turns is None else [turn.input[0]["content"][0]["text"] for turn in turns]


@pytest.fixture
async def place(tmp_path: Path, clock: Clock) -> AsyncIterator[Place]:
    made = Place(tmp_path / "antiphon.db", clock)
    await made.store.open()
    await made.other.open()
    yield made
    await made.readers.close()
    await made.other.close()
    await made.store.close()


# -- what is not there any more ------------------------------------------------------------------


@pytest.mark.parametrize("who", ["same", "other"])
@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_deleted_ancestor_is_gone_at_once(place: Place, who: str, which: int) -> None:
    """R-59, whoever deletes it: no answer is made from what somebody wanted forgotten."""
    ids = await place.grow(3)
    deleter = place.store if who == "same" else place.other
    for _ in range(2):
        assert texts(await place.store.chain("alpha", ids[2])) == ["1", "2", "3"]
    assert await deleter.delete("alpha", ids[which])
    for store in (place.store, place.other):
        assert await store.chain("alpha", ids[2]) is None
        before = await store.chain("alpha", ids[0])
        assert (before is None) is (which == 0)


async def test_what_expires_is_gone_at_its_second(place: Place) -> None:
    """R-137, also before anybody has swept."""
    (root,) = await place.grow(1, expires_at=NOW + 10)
    child = (await place.grow(2, previous=root))[1]
    assert texts(await place.store.chain("alpha", child)) == ["1", "1", "2"]
    place.clock.now = NOW + 9
    assert await place.store.chain("alpha", child) is not None
    place.clock.now = NOW + 10
    assert await place.store.chain("alpha", child) is None
    assert await place.store.expire(NOW + 10, 10) == 1
    assert await place.store.chain("alpha", child) is None


async def test_nothing_is_remembered_that_was_removed_while_it_was_read(place: Place) -> None:
    """A read that is under way when a delete commits may answer; it must not be the next answer."""
    root, child = await place.grow(2)
    chains, late = place.chains(), asyncio.Event()
    first = asyncio.Event()
    first.set()
    place.readers.holding = [first, late]
    reading = asyncio.create_task(place.said(chains, child))
    await place.readers.held.wait()
    assert await place.store.delete("alpha", root)
    assert await place.said(chains, child) is None
    late.set()
    assert await reading == ["1", "2"]
    assert await place.said(chains, child) is None


# -- whose it is ---------------------------------------------------------------------------------


async def test_another_projects_chain_is_unknown(place: Place) -> None:
    """R-29: as a child, and as an ancestor."""
    mine = (await place.grow(2))[1]
    foreign = response("x", project="beta", previous=mine)
    await place.store.save(foreign)
    for _ in range(2):
        assert await place.store.chain("alpha", mine) is not None
        assert await place.store.chain("beta", mine) is None
        assert await place.store.chain("beta", foreign.id) is None
        assert await place.store.chain("alpha", foreign.id) is None


async def test_only_what_is_stored_is_chained(place: Place) -> None:
    """Spec §9: `store: false` is not, though its row is there."""
    root = (await place.grow(1))[0]
    row = response("2", previous=root)
    row.kept = "polled"
    await place.store.save(row)
    assert await place.store.chain("alpha", row.id) is None


# -- shapes --------------------------------------------------------------------------------------


async def test_branches_share_what_is_before_them(place: Place) -> None:
    trunk = await place.grow(2)
    left = await place.grow(2, previous=trunk[1])
    right = await place.grow(1, previous=trunk[0])
    chains = place.chains()
    for _ in range(2):
        assert await place.said(chains, left[1]) == ["1", "2", "1", "2"]
        assert await place.said(chains, right[0]) == ["1", "1"]
        assert await place.said(chains, trunk[1]) == ["1", "2"]


async def test_a_cycle_is_no_chain(place: Place) -> None:
    """R-78: a damaged file must not hold the server for ever."""
    one, two = response("1"), response("2")
    one.previous_response_id, two.previous_response_id = two.id, one.id
    alone = response("3")
    alone.previous_response_id = alone.id
    for row in (one, two, alone):
        await place.store.save(row)
    async with asyncio.timeout(5):
        for row in (one, two, alone) * 2:
            assert await place.store.chain("alpha", row.id) is None


async def test_an_unknown_id_is_no_chain(place: Place) -> None:
    child = response("2", previous=item_id(new_partition(), "resp"))
    await place.store.save(child)
    for id_ in (child.id, item_id(new_partition(), "resp")):
        assert await place.store.chain("alpha", id_) is None


async def test_a_parent_that_still_runs_is_read_anew(place: Place) -> None:
    """Its output grows: nobody may remember half of it."""
    root = (await place.grow(1))[0]
    row = response("2", status="in_progress", previous=root)
    row.body = orjson.dumps({"status": "in_progress", "output": []})
    await place.store.save(row)
    for _ in range(2):
        turns = await place.store.chain("alpha", row.id)
        assert turns is not None
        assert (turns[-1].status, turns[-1].output) == ("in_progress", [])
    output = [message(item_id(new_partition()), "done")]
    row.status, row.body = "completed", orjson.dumps({"status": "completed", "output": output})
    await place.store.save(row)
    turns = await place.store.chain("alpha", row.id)
    assert turns is not None
    assert (turns[-1].status, turns[-1].output) == ("completed", output)


# -- what is remembered --------------------------------------------------------------------------


async def test_a_chain_is_read_once_then_turn_by_turn(place: Place) -> None:
    """The question that is always asked: was something removed, and what is the newest turn."""
    ids = await place.grow(5)
    chains = place.chains()
    assert await place.said(chains, ids[4]) == ["1", "2", "3", "4", "5"]
    assert place.readers.questions == 2
    assert await place.said(chains, ids[4]) == ["1", "2", "3", "4", "5"]
    assert place.readers.questions == 3
    more = await place.grow(1, previous=ids[4])
    assert await place.said(chains, more[0]) == ["1", "2", "3", "4", "5", "1"]
    assert place.readers.questions == 4


def size_of(turns: int) -> int:
    row = response("1")
    return turns * (len(row.input) + len(row.body))


async def test_no_more_is_remembered_than_there_is_room_for(place: Place) -> None:
    """The one that was not needed for longest goes."""
    chains = place.chains(size_of(7))
    one, two, three = [(await place.grow(3))[-1] for _ in range(3)]
    for child in (one, two, one, three):
        assert await place.said(chains, child) == ["1", "2", "3"]
    place.readers.questions = 0
    await place.said(chains, one)
    await place.said(chains, three)
    assert place.readers.questions == 2
    await place.said(chains, two)
    assert place.readers.questions == 4


async def test_a_chain_that_is_too_long_is_read_and_drives_out_nobody(place: Place) -> None:
    chains = place.chains(size_of(4))
    small, long = (await place.grow(3))[-1], (await place.grow(5))[-1]
    await place.said(chains, small)
    for _ in range(2):
        assert await place.said(chains, long) == ["1", "2", "3", "4", "5"]
    place.readers.questions = 0
    await place.said(chains, small)
    assert place.readers.questions == 1


async def test_a_chain_grows_beyond_what_is_remembered(place: Place) -> None:
    chains = place.chains(size_of(5))
    child: str | None = None
    for length in range(1, 12):
        (child,) = await place.grow(1, previous=child)
        assert await place.said(chains, child) == ["1"] * length


# -- must show 4 ---------------------------------------------------------------------------------


async def test_a_thousand_turns(place: Place) -> None:
    """What turn 1,000 costs to read is a small multiple of turn 10, and no turn is stored twice."""
    spent: list[float] = []
    sizes: list[int] = []
    previous: str | None = None
    for number in range(1, 1_001):
        if previous is not None:
            gc.disable()
            began = time.process_time()
            turns = await place.store.chain("alpha", previous)
            spent.append(time.process_time() - began)
            gc.enable()
            assert turns is not None
            assert len(turns) == number - 1
        (previous,) = await place.grow(1, previous=previous)
        if number % 250 == 0:
            sizes.append(sum(file.stat().st_size for file in place.path.parent.iterdir()))
    early, late = sorted(spent[5:25])[10], sorted(spent[-25:])[12]
    assert late < 5 * early + 0.001
    written = [orjson.loads(row) for row in inputs(place.path)]
    assert [len(items) for items in written] == [1] * 1_000
    assert sizes[3] - sizes[1] < 3 * max(sizes[1] - sizes[0], 256 * 1024)


def inputs(path: Path) -> list[bytes]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT input FROM responses").fetchall()
    connection.close()
    return [row[0] for row in rows]
