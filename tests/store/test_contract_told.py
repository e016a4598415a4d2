"""What every store does with what a model was told: one suite, run on each."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from antiphon.protocol.items.base import Item, Seen, told_of, turn_of
from antiphon.store.base import Batch, Ending, ResponseRow, Store
from antiphon.store.memory import MemoryStore
from antiphon.store.sql import SqliteStore
from tests.store.conversing import admit, begin, lease_of, turn
from tests.store.rows import Clock, batch, enqueue, item_id, new_partition, response
from tests.store.test_older import DELETE_0004

TOLD = b'{"ci_1":"It was 42."}'


def code(item_id: str = "ci_1") -> Item:
    return {"type": "code_interpreter_call", "id": item_id, "code": "6 * 7", "outputs": None}


def body(status: str = "completed", *output: Item) -> bytes:
    return orjson.dumps({"status": status, "output": output or (code(),)})


def called(*, told: bytes | None = TOLD) -> ResponseRow:
    """A response with a call."""
    return replace(response(), body=body(), told=told)


async def told(store: Store, id_: str) -> list[object]:
    """Of each item of a chain."""
    turns = await store.chain("alpha", id_)
    assert turns is not None
    items = [item for turn in turns for item in (*turn.input, *turn.output)]
    assert all(turn_of(item) is None for item in items)
    return [told_of(item) for item in items]


async def test_a_chain_knows_what_was_told(store: Store) -> None:
    row = called()
    await store.save(row)
    assert await store.get("alpha", row.id) == row
    assert await told(store, row.id) == [None, "It was 42."]
    child = replace(response(previous=row.id), told=None)
    await store.save(child)
    for _ in range(2):  # it may be remembered
        assert await told(store, child.id) == [None, "It was 42.", None, None]


async def test_an_item_of_the_input_may_have_it(store: Store) -> None:
    row = replace(called(), input=orjson.dumps([code("ci_0")]), told=b'{"ci_0":"a","ci_9":"b"}')
    await store.save(row)
    assert await told(store, row.id) == ["a", None]


async def test_it_comes_with_the_end_of_a_row(store: Store) -> None:
    row = replace(called(told=None), status="in_progress")
    await store.save(row)
    await store.save(replace(row, status="completed", told=TOLD))
    await store.save(replace(row, status="completed", told=b'{"ci_1":"no"}'))
    assert await told(store, row.id) == [None, "It was 42."]


async def test_it_comes_with_the_end_of_a_run(store: Store) -> None:
    row = await enqueue(store)
    (job,) = await store.runs.claim("one", 1)
    ending = Ending("completed", body(), None, None, None, told=TOLD)
    assert await store.runs.finish(job.lease, batch(2, 3), ending)
    assert await told(store, row.id) == [None, "It was 42."]


async def test_items_that_are_referred_to_know_it(store: Store) -> None:
    partition = new_partition()
    named = item_id(partition, "ci")
    row = called()
    row.id, row.body = item_id(partition, "resp"), body("completed", code(named))
    row.told = orjson.dumps({named: "secret"})
    await store.save(row)
    assert await told(store, row.id) == [None, "secret"]
    found = await store.items("alpha", [named])
    assert [told_of(item) for item in found.values()] == ["secret"]
    assert b"secret" not in orjson.dumps(found)


async def test_what_is_deleted_is_gone(store: Store) -> None:
    """R-59: nothing of it stays with the tombstone."""
    row = called()
    await store.save(row)
    assert await store.delete("alpha", row.id)
    assert await store.chain("alpha", row.id) is None
    if isinstance(store, SqliteStore):
        assert left(store.path, row.id) is None


async def test_what_the_version_before_deletes_is_gone(tmp_path: Path, clock: Clock) -> None:
    """R-74: it knows nothing of it."""
    store = SqliteStore(f"sqlite:///{tmp_path / 'antiphon.db'}", clock=clock)
    await store.open()
    row = called()
    await store.save(row)
    assert left(store.path, row.id) == TOLD
    values = {"id": row.id, "project": "alpha", "now": clock(), "forget_at": clock() + 60}
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute(DELETE_0004, values)
    assert left(store.path, row.id) is None
    await store.close()


def left(path: Path, id_: str) -> bytes | None:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT told FROM responses WHERE id = ?"
        found: bytes | None = connection.execute(query, [id_]).fetchone()[0]
        return found


async def test_its_bytes_count_in_memory(clock: Clock) -> None:
    """Lessons §1 rule 17."""
    store = MemoryStore(clock=clock, most_bytes=100_000)
    for _ in range(3):
        await store.save(called(told=orjson.dumps({"ci_1": "x" * 40_000})))
    assert store.evicted == 1
    made = await begin(store)
    for n in range(3):
        row = turn(made)
        await admit(store, row)
        item = Seen(code(f"ci_{n}"), None, "x" * 40_000)
        end = Ending("completed", b"{}", None, None, None, appended=[item])
        await store.runs.finish(lease_of(row), Batch(2, []), end)
    assert await store.conversations.get("alpha", made.id) is None


# -- conversations -------------------------------------------------------------------------------


async def test_the_history_of_a_conversation_knows_it(store: Store) -> None:
    made = await begin(store, "a")
    row = turn(made)
    await admit(store, row)
    items = [code("ci_0"), Seen(code(), None, "It was 42."), code("ci_2")]
    end = Ending("completed", b"{}", None, None, None, appended=items)
    assert await store.runs.finish(lease_of(row), Batch(2, []), end)
    for _ in range(2):
        history = await store.conversations.history("alpha", made.id)
        assert history is not None
        assert [told_of(item) for item in history.items] == [None, None, "It was 42.", None]
    shown = [await store.conversations.item("alpha", made.id, "ci_1")]
    shown += (
        await store.conversations.page("alpha", made.id, after=None, limit=9, order="asc") or []
    )
    assert all(item is not None and told_of(item) is None for item in shown)
    found = await store.items("alpha", ["ci_1"])
    assert [told_of(item) for item in found.values()] == ["It was 42."]


async def test_an_item_that_goes_takes_it_along(store: Store) -> None:
    made = await begin(store)
    row = turn(made)
    await admit(store, row)
    end = Ending("completed", b"{}", None, None, None, appended=[Seen(code(), None, "a")])
    assert await store.runs.finish(lease_of(row), Batch(2, []), end)
    assert await store.conversations.remove("alpha", made.id, "ci_1")
    assert await store.conversations.append("alpha", made.id, [code()], 2)
    history = await store.conversations.history("alpha", made.id)
    assert history is not None
    assert [told_of(item) for item in history.items] == [None]


@pytest.mark.parametrize("times", [1, 3])
async def test_bytes_of_a_conversation_are_given_back(clock: Clock, times: int) -> None:
    store = MemoryStore(clock=clock, most_bytes=100_000)
    made = await begin(store)
    for n in range(times):
        item = Seen(code(f"ci_{n}"), None, "x" * 60_000)
        version = 2 * n
        assert await store.conversations.append("alpha", made.id, [item], version)
        assert await store.conversations.remove("alpha", made.id, f"ci_{n}")
    assert await store.conversations.get("alpha", made.id) is not None
