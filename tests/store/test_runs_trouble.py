"""Trouble of the database while runs are written: 503, nothing half done, healed (R-70, R-71)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from antiphon.errors import Overloaded
from antiphon.store import sqlite
from antiphon.store.base import Lease
from antiphon.store.sql import SqliteStore
from tests.store.children import line, started, tell
from tests.store.rows import batch, ending, enqueue, log_of, start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "db").mkdir()
    return tmp_path / "db" / "antiphon.db"


@pytest.fixture
async def store(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.2)
    made = SqliteStore(f"sqlite+aiosqlite:///{path}")
    await made.open()
    yield made
    await made.close()


def writes(store: SqliteStore, lease: Lease) -> dict[str, Callable[[], Awaitable[object]]]:
    runs = store.runs
    return {
        "admit": lambda: enqueue(store),
        "claim": lambda: runs.claim("two", 1),
        "take": lambda: runs.take("alpha", lease.response_id, "two"),
        "hand_back": lambda: runs.hand_back(lease),
        "append": lambda: runs.append(lease, batch(2, 3)),
        "finish": lambda: runs.finish(lease, batch(2, 3), ending()),
        "forget_key": lambda: runs.forget_key(lease.response_id),
        "beat": lambda: runs.beat("one"),
        "release": lambda: runs.release("one", died=True),
        "delete": lambda: store.delete("alpha", lease.response_id),
    }


def questions(store: SqliteStore, lease: Lease) -> dict[str, Callable[[], Awaitable[object]]]:
    runs = store.runs
    return {
        "read": lambda: runs.read(lease.response_id, -1, 10),
        "status": lambda: runs.status(lease.response_id),
        "find": lambda: runs.find(lease.response_id),
        "owned": lambda: runs.owned("one"),
        "owners": runs.owners,
        "queued": runs.queued,
    }


async def refused(asked: dict[str, Callable[[], Awaitable[object]]]) -> set[str]:
    """Which of them answer 503."""

    async def ask(name: str) -> str:
        try:
            await asked[name]()
        except Overloaded:
            return name
        return ""

    return set(await asyncio.gather(*map(ask, asked))) - {""}


async def is_well(store: SqliteStore, lease: Lease) -> bool:
    """Nothing of what was refused is there, and the run goes on where it was."""
    assert await log_of(store, lease.response_id) == [0, 1]
    assert await store.runs.owned("one") == {lease.response_id}
    assert await store.runs.queued() == 0
    assert await store.runs.finish(lease, batch(2, 3), ending())
    return await log_of(store, lease.response_id) == [0, 1, 2]


async def test_a_lock_that_stays_is_503(store: SqliteStore, path: Path) -> None:
    """R-70: reads go on."""
    _, lease = await start(store)
    asked = writes(store, lease)
    with started("lock", path) as other:
        assert line(other) == "locked"
        assert await refused(asked) == set(asked)
        assert await refused(questions(store, lease)) == set()
        tell(other, "go")
        assert line(other) == "free"
    assert await is_well(store, lease)


def move(source: Path, target: Path) -> None:
    source.rename(target)


async def test_a_file_that_is_gone_is_503_until_it_is_back(store: SqliteStore, path: Path) -> None:
    """R-71: and nobody is said to be dead, nor woken."""
    _, lease = await start(store)
    await store.runs.beat("one")
    asked = writes(store, lease) | questions(store, lease)
    away = path.parent.with_name("away")
    move(path.parent, away)
    assert await refused(asked) == set(asked)
    assert not await store.runs.is_dead("one")
    move(away, path.parent)
    assert await is_well(store, lease)


def test_a_full_disk_is_503_and_heals(path: Path) -> None:
    """R-71: what was acknowledged is there without a gap, what was refused can be asked again."""
    with started("fill-log", path) as process:
        assert line(process) == "refused True 2 said True contiguous True"
        assert line(process) == "queued 1 contiguous True"
