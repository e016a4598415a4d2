"""A process of a version before works on the same file (R-74). Its statements, word for word: of
schema 0002, which knew no leases, and of 0004, which knew no conversations."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path
from typing import Final

import pytest

from antiphon.store.base import Listing, ResponseRow
from antiphon.store.sql import SqliteStore
from tests.store.conversing import begin, held, run
from tests.store.rows import DAY, NOW, Clock, batch, ending, enqueue, log_of, response

_LIVE = (
    "responses.deleted = 0 AND responses.project = :project"
    " AND (responses.expires_at IS NULL OR responses.expires_at > :now)"
)
_COLUMNS = (
    "responses.id, responses.project, responses.status, responses.created_at, responses.expires_at,"
    " responses.previous_response_id, responses.body, responses.input"
)
SAVE: Final = (
    "INSERT INTO responses (id, project, status, created_at, expires_at, previous_response_id,"
    " body, input) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
    " status = excluded.status, expires_at = excluded.expires_at, body = excluded.body,"
    " input = excluded.input WHERE responses.status IN ('queued', 'in_progress')"
    " AND responses.deleted = 0 AND responses.project = excluded.project"
)
GET: Final = f"SELECT {_COLUMNS} FROM responses WHERE responses.id = :id AND {_LIVE}"  # noqa: S608
DELETE: Final = (
    "UPDATE responses SET expires_at=:forget_at, deleted=1, body=x'', input=x''"  # noqa: S608
    f" WHERE responses.id = :id AND {_LIVE}"
)
UNFINISHED: Final = (
    f"SELECT {_COLUMNS} FROM responses"  # noqa: S608
    " WHERE responses.status IN ('queued', 'in_progress')"
    " AND responses.deleted = 0 LIMIT :limit OFFSET 0"
)
EXPIRE: Final = (
    "DELETE FROM responses WHERE responses.id IN (SELECT responses.id FROM responses"
    " WHERE responses.expires_at <= :now ORDER BY responses.expires_at LIMIT :limit OFFSET 0)"
)
#: The fields of a row that it knows.
KNOWN: Final = 8

_COLUMNS_0004 = f"{_COLUMNS}, responses.kept, responses.owner, responses.attempt"
SAVE_0004: Final = (
    "INSERT INTO responses (id, project, status, created_at, expires_at, previous_response_id,"
    " body, input, kept, owner, attempt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET status = excluded.status, expires_at = excluded.expires_at,"
    " body = excluded.body, input = excluded.input"
    " WHERE responses.status IN ('queued', 'in_progress') AND responses.deleted = 0"
    " AND responses.project = excluded.project AND responses.owner IS excluded.owner"
    " AND responses.attempt = excluded.attempt"
)
GET_0004: Final = (
    f"SELECT {_COLUMNS_0004} FROM responses"  # noqa: S608
    f" WHERE responses.id = :id AND {_LIVE} AND responses.kept != 'replayed'"
)
FINISH_0004: Final = (
    "UPDATE responses SET status=:new_status, expires_at=:expires_at, body=:body,"
    " log_until=:log_until WHERE responses.id = :id"
    " AND coalesce(responses.owner, '') = :owner AND responses.attempt = :attempt"
    " AND responses.status IN ('queued', 'in_progress') AND responses.deleted = 0"
)
DELETE_0004: Final = f"{DELETE} AND responses.kept != 'replayed'"
#: Each row that is due, by its id.
DROP_0004: Final = "DELETE FROM responses WHERE responses.id = :id"
KNOWN_0004: Final = 11


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "antiphon.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(f"sqlite:///{path}", clock=clock)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def older(path: Path, store: SqliteStore) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def old(row: ResponseRow, known: int = KNOWN) -> tuple[object, ...]:
    return astuple(row)[:known]


async def chain_of(store: SqliteStore, length: int, expires_at: int = NOW + DAY) -> list[str]:
    """The ids of responses that follow each other."""
    ids: list[str] = []
    for _ in range(length):
        row = response(previous=ids[-1] if ids else None, expires_at=expires_at)
        await store.save(row)
        ids.append(row.id)
    return ids


async def test_each_reads_the_rows_of_the_other(
    store: SqliteStore, older: sqlite3.Connection
) -> None:
    theirs, ours = response(), response()
    older.execute(SAVE, old(theirs))
    await store.save(ours)
    assert await store.get("alpha", theirs.id) == theirs
    values = {"id": ours.id, "project": "alpha", "now": NOW}
    assert older.execute(GET, values).fetchall() == [old(ours)]
    assert len(await store.chain("alpha", theirs.id) or ()) == 1


async def test_it_finishes_its_own_rows(store: SqliteStore, older: sqlite3.Connection) -> None:
    row = response(status="in_progress")
    older.execute(SAVE, old(row))
    done = replace(row, status="completed")
    assert older.execute(SAVE, old(done)).rowcount == 1
    assert await store.get("alpha", row.id) == done
    assert await store.runs.release("one", died=False) == []


async def test_it_finds_what_is_unfinished_without_reading_all(
    store: SqliteStore, older: sqlite3.Connection
) -> None:
    row = replace(response(status="in_progress"), owner="one")
    await store.save(row)
    await store.save(response())
    assert older.execute(UNFINISHED, {"limit": 10}).fetchall() == [old(row)]
    plan = older.execute(f"EXPLAIN QUERY PLAN {UNFINISHED}", {"limit": 10}).fetchall()
    assert [step[3] for step in plan] == ["SCAN responses USING INDEX responses_running"]


async def test_what_it_ends_is_fenced_off(store: SqliteStore, older: sqlite3.Connection) -> None:
    """It ends what runs when it starts: no later write of ours changes that, and the job goes."""
    row = await enqueue(store)
    (job,) = await store.runs.claim("one", 1)
    older.execute(SAVE, old(replace(row, status="failed")))
    assert not await store.runs.append(job.lease, batch(2, 3))
    assert not await store.runs.finish(job.lease, batch(2, 3), ending())
    assert await store.runs.take("alpha", row.id, "two") is None
    await store.runs.release("one", died=True)
    assert await store.runs.claim("two", 1) == []
    assert await store.expire(NOW, 10) == 1
    assert await store.runs.queued() == 0
    assert await log_of(store, row.id) == [0, 1]


async def test_what_it_deletes_is_fenced_off(store: SqliteStore, older: sqlite3.Connection) -> None:
    row = await enqueue(store)
    (job,) = await store.runs.claim("one", 1)
    values = {"id": row.id, "project": "alpha", "now": NOW, "forget_at": NOW + 60}
    assert older.execute(DELETE, values).rowcount == 1
    assert not await store.runs.append(job.lease, batch(2, 3))
    assert await log_of(store, row.id) == []
    assert await store.expire(NOW + 60, 10) == 1
    assert older.execute("SELECT count(*) FROM events").fetchone() == (0,)
    assert older.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


async def test_what_it_sweeps_leaves_no_job(store: SqliteStore, older: sqlite3.Connection) -> None:
    await enqueue(store)
    older.execute("UPDATE responses SET expires_at = ?", (NOW - 1,))
    assert older.execute(EXPIRE, {"now": NOW, "limit": 10}).rowcount == 1
    assert await store.runs.claim("one", 1) == []
    assert await store.expire(NOW, 10) == 1
    assert await store.runs.queued() == 0


async def test_each_reads_the_rows_of_the_other_beside_conversations(
    store: SqliteStore, older: sqlite3.Connection
) -> None:
    made = await begin(store)
    theirs = replace(response(status="in_progress"), owner="old")
    older.execute(SAVE_0004, old(theirs, KNOWN_0004))
    assert await store.get("alpha", theirs.id) == theirs
    done = replace(theirs, status="completed")
    assert older.execute(SAVE_0004, old(done, KNOWN_0004)).rowcount == 1
    assert await store.get("alpha", theirs.id) == done
    ours = replace(response(), conversation=made.id, metadata='{"k":"v"}')
    await store.save(ours)
    values = {"id": ours.id, "project": "alpha", "now": NOW}
    assert older.execute(GET_0004, values).fetchall() == [old(ours, KNOWN_0004)]


async def test_what_it_ends_frees_the_conversation(
    store: SqliteStore, older: sqlite3.Connection
) -> None:
    """It took over a job of ours: it appends nothing, since it knows nothing of conversations."""
    made = await begin(store, "a")
    row = await run(store, made)
    lease = {"id": row.id, "owner": row.owner, "attempt": row.attempt}
    end = {"new_status": "failed", "expires_at": None, "body": row.body, "log_until": None}
    assert older.execute(FINISH_0004, lease | end).rowcount == 1
    assert await held(store, made) == ["a"]
    await run(store, made)


@pytest.mark.parametrize("statement", [DELETE, DELETE_0004], ids=["0002", "0004"])
@pytest.mark.parametrize("which", [0, 1, 2])
async def test_what_it_deletes_is_gone_from_every_chain(
    store: SqliteStore, older: sqlite3.Connection, statement: str, which: int
) -> None:
    """R-59: also from those that a process remembers. A retry of the delete removes nothing."""
    ids = await chain_of(store, 3)
    for id_ in ids:
        assert await store.chain("alpha", id_) is not None
    values = {"id": ids[which], "project": "alpha", "now": NOW, "forget_at": NOW + 60}
    assert [older.execute(statement, values).rowcount for _ in range(2)] == [1, 0]
    there = [await store.chain("alpha", id_) is not None for id_ in ids]
    assert there == [number < which for number in range(3)]


async def test_what_it_sweeps_is_gone_from_every_chain(
    store: SqliteStore, older: sqlite3.Connection, clock: Clock
) -> None:
    """R-137: chains know when their turns expire, so nobody has to tell them of a sweep."""
    ids = await chain_of(store, 3, expires_at=NOW + 10)
    assert await store.chain("alpha", ids[2]) is not None
    clock.now = NOW + 10
    assert older.execute(EXPIRE, {"now": NOW + 10, "limit": 10}).rowcount == 3
    assert await store.chain("alpha", ids[2]) is None


def told(older: sqlite3.Connection, id_: str) -> list[str]:
    """Where the file still has the metadata of a response."""
    places = {
        "response_metadata": "SELECT 1 FROM response_metadata WHERE response_id = ?",
        "responses": "SELECT 1 FROM responses WHERE id = ? AND metadata IS NOT NULL",
    }
    return [place for place, query in places.items() if older.execute(query, [id_]).fetchone()]


@pytest.mark.parametrize("statement", [DELETE, DELETE_0004], ids=["0002", "0004"])
async def test_what_it_deletes_leaves_no_metadata(
    store: SqliteStore, older: sqlite3.Connection, statement: str
) -> None:
    """R-59: which it knows nothing of; that of others stays."""
    gone, stays = (replace(response(), metadata='{"user":"ada","k":"v"}') for _ in range(2))
    for row in (gone, stays):
        await store.save(row)
        assert told(older, row.id) == ["response_metadata", "responses"]
    values = {"id": gone.id, "project": "alpha", "now": NOW, "forget_at": NOW + 60}
    assert older.execute(statement, values).rowcount == 1
    assert told(older, gone.id) == []
    assert told(older, stays.id) == ["response_metadata", "responses"]
    page = await store.listed("alpha", Listing({"user": "ada"}))
    assert page is not None
    assert page.bodies == [stays.body]


async def test_what_it_sweeps_leaves_no_metadata(
    store: SqliteStore, older: sqlite3.Connection
) -> None:
    """R-137: in any version, many at once or one by one."""
    rows = [replace(response(), metadata='{"user":"ada","k":"v"}') for _ in range(4)]
    for number, row in enumerate(rows):
        await store.save(replace(row, expires_at=NOW + number))
    assert older.execute(EXPIRE, {"now": NOW + 1, "limit": 10}).rowcount == 2
    assert older.execute(DROP_0004, {"id": rows[2].id}).rowcount == 1
    assert [len(told(older, row.id)) for row in rows] == [0, 0, 0, 2]
