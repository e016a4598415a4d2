"""How long a write waits for a lock that stays (R-70): as long as was said, once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from antiphon.errors import Overloaded
from antiphon.store import sqlite, writer
from antiphon.store.sql import SqliteStore
from tests.store.children import line, started, tell
from tests.store.rows import response

#: Seconds, for ten and one.
PATIENCE = 1.0
SHORT = 0.1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "antiphon.db"


@pytest.fixture
async def stores(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[SqliteStore]]:
    """Two processes, as far as locks can tell."""
    assert writer._SHORT_PATIENCE == 1
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", PATIENCE)
    monkeypatch.setattr(writer, "_SHORT_PATIENCE", SHORT)
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            store = SqliteStore(f"sqlite+aiosqlite:///{path}")
            await store.open()
            stack.push_async_callback(store.close)
            assert await saved(store)
            made.append(store)
        yield made


async def saved(store: SqliteStore) -> bool:
    """Whether a save works; otherwise it is a 503."""
    try:
        return await store.save(response())
    except Overloaded:
        return False


@pytest.mark.parametrize("second", [0, 1], ids=["the same process", "another process"])
async def test_who_waits_behind_others_waits_no_longer(
    stores: list[SqliteStore], path: Path, second: int
) -> None:
    """R-70: not once for the turn, or for the write before, and then once more for itself."""
    with started("lock", path) as other:
        assert line(other) == "locked"
        first = asyncio.create_task(saved(stores[0]))
        await asyncio.sleep(PATIENCE * 0.4)
        began = time.monotonic()
        assert not await saved(stores[second])
        assert time.monotonic() - began < PATIENCE + 3 * SHORT
        assert not await first
        # Afterwards nobody is kept waiting, but a short lock is still waited for.
        began = time.monotonic()
        assert not await saved(stores[0])
        assert SHORT / 2 < time.monotonic() - began < 4 * SHORT
        tell(other, "go")
        assert line(other) == "free"


async def test_the_usual_patience_comes_back(stores: list[SqliteStore], path: Path) -> None:
    """R-70: when the lock is gone, and for each who met trouble."""
    with started("lock", path) as other:
        assert line(other) == "locked"
        assert await asyncio.gather(*map(saved, stores)) == [False, False]
        tell(other, "go")
        assert line(other) == "free"
    for store in stores:
        assert await saved(store)
    with started("lock", path) as other:
        assert line(other) == "locked"
        saving = asyncio.gather(*map(saved, stores))
        await asyncio.sleep(PATIENCE * 0.6)
        assert not saving.done()
        tell(other, "go")
        assert await saving == [True, True]
