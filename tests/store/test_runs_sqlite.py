"""Runs in a real file: several stores and processes, kills, what is flushed (reliability E, F)."""

import asyncio
import random
import re
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from antiphon.store import owner_locks, run_statements, sql_removal, watch
from antiphon.store.base import Batch, Lease, Snapshot
from antiphon.store.bell import RECENT
from antiphon.store.owner_locks import OwnerLocks
from antiphon.store.sql import SqliteStore
from tests.store.children import Child, line, started, tell
from tests.store.rows import (
    NOW,
    batch,
    ending,
    enqueue,
    frame,
    key,
    log_of,
    numbers,
    response,
    start,
)


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


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def move(source: Path, target: Path) -> None:
    source.rename(target)


def content_of(path: Path) -> bytes:
    assert not path.with_name(path.name + "-wal").exists()
    return path.read_bytes()


# -- several processes


async def test_two_stores_never_claim_the_same_job(stores: list[SqliteStore]) -> None:
    rows = [await enqueue(stores[n % 2]) for n in range(60)]

    async def claim(number: int) -> list[str]:
        ids: list[str] = []
        while jobs := await stores[number % 2].runs.claim(f"o{number}", 2):
            ids += [job.row.id for job in jobs]
        return ids

    claimed = [id_ for ids in await asyncio.gather(*map(claim, range(6))) for id_ in ids]
    assert len(claimed) == 60
    assert set(claimed) == {row.id for row in rows}


async def test_ten_twins_in_two_stores_make_one(stores: list[SqliteStore]) -> None:
    """R-79."""
    rows = [response(status="queued", expires_at=None) for _ in range(10)]
    later = key(expires_at=2**31)
    answers = await asyncio.gather(
        *(
            stores[n % 2].runs.admit(row, batch(0, 2), job=b"{}", key=later, most_queued=99)
            for n, row in enumerate(rows)
        )
    )
    assert answers.count(None) == 1
    assert {answer.response_id for answer in answers if answer} == {rows[answers.index(None)].id}


async def test_the_other_store_fences_off(stores: list[SqliteStore]) -> None:
    job, lease = await start(stores[0])
    taken = await stores[1].runs.take("alpha", job.row.id, "two")
    assert taken is not None
    ends = [
        stores[0].runs.finish(lease, batch(2, 3), ending("completed")),
        stores[1].runs.finish(taken.lease, batch(2, 3), ending("cancelled")),
    ]
    assert await asyncio.gather(*ends) == [False, True]
    assert await stores[0].runs.status(job.row.id) == "cancelled"


async def test_racing_cancels_and_ends_leave_one_winner(stores: list[SqliteStore]) -> None:
    """R-57: whatever the order, one end, and the log has one last event."""
    for _ in range(30):
        job, lease = await start(stores[0])

        async def cancel(id_: str = job.row.id) -> bool:
            await asyncio.sleep(random.random() / 100)
            taken = await stores[1].runs.take("alpha", id_, "two")
            return taken is not None and await stores[1].runs.finish(
                taken.lease, Batch(0, []), ending("cancelled")
            )

        async def end(lease: Lease = lease) -> bool:
            await asyncio.sleep(random.random() / 100)
            return await stores[0].runs.finish(lease, batch(2, 3), ending("completed"))

        cancelled, completed = await asyncio.gather(cancel(), end())
        assert cancelled != completed
        status = await stores[0].runs.status(job.row.id)
        assert status == ("completed" if completed else "cancelled")
        assert await log_of(stores[0], job.row.id) == ([0, 1, 2] if completed else [0, 1])


# -- waiting


async def quiet(stores: list[SqliteStore]) -> None:
    for store in stores:
        await store.runs.wait(0.01)
    await asyncio.sleep(RECENT + 0.1)


async def test_commits_of_other_stores_wake_soon(stores: list[SqliteStore]) -> None:
    await quiet(stores)
    delays = []
    for _ in range(5):
        waiting = asyncio.create_task(stores[0].runs.wait(5))
        await asyncio.sleep(0.02)
        await stores[1].save(response())
        committed = time.monotonic()
        await waiting
        delays.append(time.monotonic() - committed)
    assert min(delays) < 0.1
    assert max(delays) < 1


async def test_commits_of_other_processes_wake(stores: list[SqliteStore], path: Path) -> None:
    with started("say", path) as other:
        assert line(other) == "ready"
        await quiet(stores)
        for _ in range(3):
            waiting = asyncio.create_task(stores[0].runs.wait(5))
            await asyncio.sleep(0.02)
            assert not waiting.done()
            tell(other, "now")
            await waiting
            assert time.monotonic() - float(line(other)) < 0.5
            await asyncio.sleep(RECENT + 0.1)


async def test_own_commits_wake_at_once(
    stores: list[SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL", 5)
    store = stores[0]
    _, lease = await start(store)
    await quiet(stores)
    waiting = asyncio.create_task(store.runs.wait(4))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await store.runs.append(lease, batch(2, 3))
    await waiting
    assert time.monotonic() - began < 0.5


async def test_plain_saves_and_vain_claims_wake_nobody_at_once(
    stores: list[SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a runner that claims whenever it is woken would wake itself for ever."""
    monkeypatch.setattr(watch, "POLL", 5)
    await quiet(stores)
    waiting = asyncio.create_task(stores[0].runs.wait(4))
    await asyncio.sleep(0.05)
    await stores[0].runs.claim("one", 5)
    await stores[0].save(response())
    await stores[0].runs.beat("one")
    await asyncio.sleep(0.1)
    assert not waiting.done()
    waiting.cancel()


async def test_nobody_polls_when_nobody_waits(
    stores: list[SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One poll for all; none when they have gone."""
    monkeypatch.setattr(watch, "POLL", 0.02)
    watched, looks = stores[0]._watch, 0
    look = watched._look

    def counted() -> object:
        nonlocal looks
        looks += 1
        return look()

    monkeypatch.setattr(watched, "_look", counted)
    await quiet(stores)
    before = looks
    await asyncio.gather(*(stores[0].runs.wait(0.3) for _ in range(50)))
    assert 3 < looks - before < 25
    await asyncio.sleep(0.1)
    before = looks
    await asyncio.sleep(0.2)
    assert looks == before


async def test_a_wait_counts_what_came_since_the_last_poll(stores: list[SqliteStore]) -> None:
    await quiet(stores)
    await stores[1].save(response())
    await asyncio.sleep(RECENT + 0.1)
    began = time.monotonic()
    await stores[0].runs.wait(5)
    assert time.monotonic() - began < 0.5


async def test_a_wait_is_cut_short_by_no_trouble(store: SqliteStore, path: Path) -> None:
    await quiet([store])
    away = path.with_name("away.db")
    move(path, away)
    began = time.monotonic()
    await store.runs.wait(0.3)
    assert time.monotonic() - began >= 0.3
    move(away, path)
    await enqueue(store)


# -- who is alive


async def test_a_killed_process_is_known_to_be_dead(store: SqliteStore, path: Path) -> None:
    """R-65: at once, and not before."""
    with started("log", path) as child:
        owner, id_ = line(child), line(child)
        line(child)
        assert not await store.runs.is_dead(owner)
        assert (await store.runs.owners())[owner] == 1
        child.kill()
        child.wait()
        assert await store.runs.is_dead(owner)
    assert await store.runs.release(owner, died=True) == []
    assert not await store.runs.is_dead(owner), "it is forgotten"
    assert list(path.parent.glob("*owner*")) == []
    (job,) = await store.runs.claim("one", 1)
    assert (job.row.id, job.deaths, job.row.attempt) == (id_, 1, 2)


async def test_children_do_not_keep_the_dead_alive(store: SqliteStore, path: Path) -> None:
    with started("family", path) as child:
        owner = line(child)
        assert not await store.runs.is_dead(owner)
        child.kill()
        child.wait()
        assert await store.runs.is_dead(owner)


async def test_an_owner_here_is_not_dead(stores: list[SqliteStore], path: Path) -> None:
    name = "host/1 ../ä"
    await stores[0].runs.beat(name)
    for store in stores:
        assert not await store.runs.is_dead(name)
    (file,) = path.parent.glob("*owner*")
    assert file.stat().st_mode & 0o077 == 0
    await stores[0].runs.beat(name)
    await stores[0].runs.release(name, died=False)
    assert list(path.parent.glob("*owner*")) == []


async def test_a_store_that_closed_without_a_word_is_dead(path: Path, store: SqliteStore) -> None:
    other = SqliteStore(f"sqlite:///{path}")
    await other.open()
    await other.runs.beat("other")
    assert not await store.runs.is_dead("other")
    await other.close()
    assert await store.runs.is_dead("other")


def test_without_locks_nobody_is_known_to_be_dead(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no file can be made, or renamed."""
    nowhere = OwnerLocks(path.parent / "none" / "antiphon.db")
    nowhere.hold("one")
    assert nowhere.state("one") == "unknown"
    monkeypatch.setattr(owner_locks, "_lock", lambda _: False)
    locks = OwnerLocks(path)
    locks.hold("one")
    assert locks.state("one") == "unknown"
    assert list(path.parent.iterdir()) == []


# -- kills


def acknowledged(child: Child) -> int:
    """The last number that was printed whole."""
    assert child.stdout is not None
    texts = [text for text in child.stdout if text[-1] == "\n"]
    return int(texts[-1]) if texts else 1


async def test_a_kill_while_a_log_is_written_leaves_no_gap(store: SqliteStore, path: Path) -> None:
    """R-65, R-67: nothing that was acknowledged is missing; the next one goes on behind it."""
    id_ = None
    last = 0
    for seconds in (0.05, 0.2, 0.1):
        with started("log", path) as child:
            owner, made = line(child), line(child)
            assert made == (id_ or made)
            id_ = made
            line(child)
            await asyncio.sleep(seconds)
            child.kill()
            last = max(last, acknowledged(child))
        log = await log_of(store, id_)
        assert log == list(range(len(log)))
        assert len(log) > last
        assert await store.runs.is_dead(owner)
        await store.runs.release(owner, died=True)
        assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert id_ is not None
    (job,) = await store.runs.claim("one", 1)
    assert (job.row.id, job.deaths, job.row.attempt) == (id_, 3, 4)


async def test_what_a_client_is_told_of_is_flushed(store: SqliteStore) -> None:
    """R-67: 2 is FULL (fsync at commit), 1 is NORMAL."""
    connection = store._writer._connection
    assert connection is not None
    seen = {}

    def note(write: str) -> None:
        seen[write] = connection.execute("PRAGMA synchronous").fetchone()[0]

    await enqueue(store)
    note("admit")
    (job,) = await store.runs.claim("one", 1)
    note("claim")
    await store.runs.append(job.lease, batch(2, 3))
    note("append")
    await store.runs.finish(job.lease, batch(3, 4), ending())
    note("finish")
    await store.runs.beat("one")
    note("beat")
    await store.delete("alpha", job.row.id)
    note("delete")
    assert seen == {"admit": 2, "claim": 1, "append": 1, "finish": 2, "beat": 1, "delete": 2}


# -- the file


async def test_a_number_never_gets_other_content(store: SqliteStore) -> None:
    """Rule 4 of runs: even if the one who holds the lease is mistaken."""
    job, lease = await start(store)
    assert await store.runs.append(lease, batch(2, 4, "true"))
    assert not await store.runs.append(lease, batch(2, 4, "false"))
    assert not await store.runs.append(lease, batch(2, 3, "true"))
    shown = Snapshot("in_progress", b"no", b"no")
    assert not await store.runs.append(lease, batch(2, 4, "false"), shown)
    assert not await store.runs.finish(lease, batch(2, 4, "false"), ending())
    assert await store.runs.read(job.row.id, 1, 10**9) == batch(2, 4, "true").frames
    assert await store.runs.status(job.row.id) == "queued"


async def test_a_mistaken_admission_is_undone_alone(store: SqliteStore) -> None:
    """In one group with others: nothing of it is left."""
    taken = await enqueue(store)
    good = [response(status="queued", expires_at=None) for _ in range(4)]
    rows = [*good[:2], replace(taken, project="beta"), *good[2:]]
    results = await asyncio.gather(
        *(
            store.runs.admit(row, batch(0, 2), job=b"{}", key=key(row.id), most_queued=99)
            for row in rows
        ),
        *(store.save(response()) for _ in range(5)),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results[:5]] == [
        *["NoneType"] * 2,
        "IntegrityError",
        *["NoneType"] * 2,
    ]
    assert results[5:] == [True] * 5
    assert await store.runs.queued() == 5
    assert await store.runs.find(taken.id) == taken


async def test_a_long_log_is_swept_in_parts(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-137: the response goes with the last part."""
    monkeypatch.setattr(sql_removal, "MOST_BATCHES", 20)
    _, lease = await start(store)
    await asyncio.gather(*(store.runs.append(lease, batch(n, n + 1)) for n in range(2, 50)))
    await store.runs.finish(lease, Batch(50, []), replace(ending(), expires_at=NOW))
    assert await store.expire(NOW - 1, 5) == 0
    assert [await store.expire(NOW, 5) for _ in range(4)] == [5, 5, 1, 0]
    assert ask(path, "SELECT count(*) FROM events") == [(0,)]
    assert ask(path, "SELECT id FROM responses") == []


@pytest.mark.parametrize("end", ["delete", "expire", "log"])
async def test_nothing_is_left_of_what_is_gone(
    stores: list[SqliteStore], path: Path, end: str
) -> None:
    """R-59: not in any table, and not in the file."""
    store = stores[0]
    row = await enqueue(store, key=key(expires_at=2**31))
    (job,) = await store.runs.claim("one", 1)
    for n in range(2, 40):
        await store.runs.append(job.lease, Batch(n, [frame(n, "unmistakable " * 50)]))
    if end == "delete":
        await store.delete("alpha", row.id)
    else:
        due = ending(log_until=NOW) if end == "log" else replace(ending(), expires_at=NOW)
        await store.runs.finish(job.lease, Batch(40, []), due)
        while await store.expire(NOW, 5):
            pass
    assert ask(path, "SELECT count(*) FROM events") == [(0,)]
    assert ask(path, "SELECT count(*) FROM jobs") == [(0,)]
    assert ask(path, "SELECT count(*) FROM idempotency_keys") == [(1 if end == "log" else 0,)]
    for opened in stores:
        await opened.close()
    assert b"unmistakable" not in content_of(path)


async def test_a_window_is_cut_in_the_readers_thread(store: SqliteStore) -> None:
    """R-61: 10 MB of log in windows, and the loop stays free."""
    job, lease = await start(store)
    for first in range(2, 2002, 100):
        await store.runs.append(lease, batch(first, first + 100, "x" * 5_000))
    after, seen, longest = -1, 0, 0.0
    while True:
        reading = asyncio.create_task(store.runs.read(job.row.id, after, 128 * 1024))
        while not reading.done():
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)
        window = await reading
        if not window:
            break
        assert sum(len(body) for _, body in window) < 128 * 1024 + 6_000
        after, seen = numbers(window)[-1], seen + len(window)
    assert seen == 2002
    assert longest < 0.1


#: These may read a whole index, since it holds what runs or waits and nothing else.
SMALL = {"jobs", "owners", "earlier"}


def test_no_question_reads_a_whole_table(path: Path, store: SqliteStore) -> None:
    statements = {
        name: text for name, text in vars(run_statements).items() if isinstance(text, str)
    }
    scans = []
    with closing(sqlite3.connect(path)) as connection:
        for name, text in statements.items():
            if not name.isupper():
                continue
            values = dict.fromkeys(re.findall(r":(\w+)", text), 1)
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {text}", values):
                words = step.split()
                if words[0] == "SCAN" and words[1] not in SMALL:
                    scans.append((name, step))
    assert scans == [("LEFT", "SCAN responses USING INDEX responses_running")]
