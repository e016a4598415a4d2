"""One store after the other, for what every store does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.store.base import Store
from antiphon.store.memory import MemoryStore
from antiphon.store.sql import SqliteStore
from tests.store.rows import DAY, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore(clock=clock, ttl=365 * DAY)
    else:
        made = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}", clock=clock)
    await made.open()
    yield made
    await made.close()
