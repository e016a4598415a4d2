"""Conversations in a real file: several stores, one transaction, the indexes."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import Overloaded
from antiphon.protocol.items.base import Item
from antiphon.store import conversation_statements as sql
from antiphon.store import sql_conversations
from antiphon.store.base import ConversationBusy, ConversationMoved
from antiphon.store.sql import SqliteStore
from antiphon.store.writer import MOST_QUEUED
from tests.store.conversing import (
    admit,
    begin,
    ended,
    finish,
    held,
    lease_of,
    run,
    said,
    turn,
    version_of,
)
from tests.store.rows import batch, log_of

ROUNDS = 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "antiphon.db"


@pytest.fixture
async def stores(path: Path) -> AsyncIterator[list[SqliteStore]]:
    """Two on one file, as in two processes."""
    made = [SqliteStore(f"sqlite+aiosqlite:///{path}") for _ in range(2)]
    for store in made:
        await store.open()
    yield made
    for store in made:
        await store.close()


@pytest.fixture
def store(stores: list[SqliteStore]) -> SqliteStore:
    return stores[0]


async def test_of_runs_in_two_processes_one_is_admitted(stores: list[SqliteStore]) -> None:
    """R-64: nothing of two turns is ever mixed, and none is lost."""
    made = await begin(stores[0])
    for number in range(ROUNDS):
        seen = await version_of(stores[1], made)
        rows = [turn(made) for _ in range(4)]
        answers = await asyncio.gather(
            *(admit(stores[n % 2], row, seen) for n, row in enumerate(rows)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, ConversationBusy) for answer in answers) == 3
        winner = answers.index(None)
        other = stores[(winner + 1) % 2]
        assert await finish(other, rows[winner], f"{number}q", f"{number}a")
    assert await held(stores[1], made) == [f"{n}{who}" for n in range(ROUNDS) for who in "qa"]


async def test_who_adds_in_another_process_is_seen(stores: list[SqliteStore]) -> None:
    made = await begin(stores[0], "a")
    seen = await version_of(stores[0], made)
    assert await stores[1].conversations.append("alpha", made.id, said("b"), seen)
    with pytest.raises(ConversationMoved):
        await admit(stores[0], turn(made), seen)
    with pytest.raises(ConversationMoved):
        await stores[0].conversations.append("alpha", made.id, said("c"), seen)


async def test_a_run_and_its_items_end_together_or_not_at_all(
    store: SqliteStore, path: Path
) -> None:
    made = await begin(store, "a")
    row, seen = await run(store, made), await version_of(store, made)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON conversation_items"
            " WHEN NEW.item_id = 'msg_c' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(sqlite3.IntegrityError):
        await finish(store, row, "b", "c")
    assert await store.runs.status(row.id) == "in_progress"
    assert await log_of(store, row.id) == [0, 1]
    assert await held(store, made) == ["a"]
    assert await version_of(store, made) == seen
    assert await finish(store, row, "b")
    assert await held(store, made) == ["a", "b"]


class Watched(dict[str, Any]):
    """An item that knows in which threads somebody looked into it."""

    def __init__(self, item: Item) -> None:
        super().__init__(item)
        self.threads: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.threads.add(threading.current_thread().name)
        return super().__getitem__(key)


async def test_what_a_run_appends_is_encoded_beside_the_loop(store: SqliteStore) -> None:
    """R-118: a turn may have tens of megabytes."""
    made = await begin(store, "a")
    row = await run(store, made)
    item = Watched(said("b")[0])
    assert await store.runs.finish(lease_of(row), batch(2, 3), replace(ended(), appended=[item]))
    assert item.threads == {"store-writer"}
    assert await held(store, made) == ["a", "b"]


async def test_what_a_run_appends_counts_as_what_waits(store: SqliteStore) -> None:
    """R-116: twice the body: in the row, and in the conversation."""
    made = await begin(store, "a")
    row = await run(store, made)
    body = b'{"status":"completed","output":[]}' + b" " * (MOST_QUEUED // 2)
    ending = replace(ended("b"), body=body)
    finishing = asyncio.create_task(store.runs.finish(lease_of(row), batch(2, 3), ending))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await store.save(turn(made))
    assert await finishing


async def test_an_id_that_is_taken_stores_no_half_conversation(
    store: SqliteStore, path: Path
) -> None:
    made = await begin(store, "a")
    with pytest.raises(sqlite3.IntegrityError):
        await store.conversations.add(replace(made, project="beta"), said("b"))
    assert await held(store, made) == ["a"]


async def test_nothing_of_a_deleted_one_is_in_the_file(store: SqliteStore, path: Path) -> None:
    made = await begin(store, "a")
    await store.conversations.delete("alpha", made.id)
    with closing(sqlite3.connect(path)) as connection:
        for table in ("conversations", "conversation_items"):
            found = connection.execute(f"SELECT count(*) FROM {table}")  # noqa: S608
            assert found.fetchone() == (0,)


async def test_what_others_have_costs_nothing(store: SqliteStore, path: Path) -> None:
    """R-29: nor does an id tell by the time that it takes that others have items with it."""
    for _ in range(100):
        await begin(store, "theirs", project="beta")
    await begin(store, "mine")
    with closing(sqlite3.connect(path)) as connection:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        def cost(id_: str) -> int:
            before = steps
            assert sql_conversations.find(connection, "alpha", [id_]) == {}
            return steps - before

        connection.execute("SELECT * FROM conversation_items").fetchone()  # reads the schema
        connection.set_progress_handler(count, 1)
        assert cost("msg_theirs") == cost("msg_nobodys")


CONVERSATION = "SEARCH conversations USING INDEX sqlite_autoindex_conversations_1 (id=?)"
ITEMS = "SEARCH conversation_items USING INDEX"
BY_ID = f"{ITEMS} conversation_items_by_item (project=? AND item_id=?"
BY_NUMBER = f"{ITEMS} sqlite_autoindex_conversation_items_1 (conversation_id=?"


@pytest.mark.parametrize(
    ("statement", "steps"),
    [
        (sql.BUSY, ["SEARCH responses USING INDEX responses_by_conversation (conversation=?)"]),
        (sql.REMOVE, [f"{BY_ID} AND conversation_id=?)"]),
        (sql.ITEM, [f"{BY_ID} AND conversation_id=?)"]),
        (sql.FIND, [f"{BY_ID})"]),
        (sql.HISTORY, [CONVERSATION, f"{BY_NUMBER} AND number>?) LEFT-JOIN"]),
        (sql.PAGES["asc"], [f"{BY_NUMBER} AND number>?)"]),
        (sql.PAGES["desc"], [f"{BY_NUMBER} AND number<?)"]),
    ],
)
async def test_no_question_reads_more_than_its_answer(
    store: SqliteStore, path: Path, statement: str, steps: list[str]
) -> None:
    """Nor does one sort: the order is that of the index."""
    names = {"id": 1, "project": 1, "item_id": 1, "after": 1, "limit": 1}
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", names).fetchall()
    assert [step[3] for step in plan] == steps
