"""Approvals that were used: one suite, run on each store (reliability R-124)."""

import asyncio
from pathlib import Path

from antiphon.store.base import Store
from antiphon.store.sql import SqliteStore
from tests.store.rows import NOW


async def test_an_approval_is_used_by_the_first_response_that_wants_it(store: Store) -> None:
    approvals = store.approvals
    assert await approvals.user("a", "mcpr_1") is None
    assert await approvals.use("a", "mcpr_1", "resp_1", NOW + 10) == "resp_1"
    assert await approvals.use("a", "mcpr_1", "resp_2", NOW + 10) == "resp_1"
    assert await approvals.use("a", "mcpr_1", "resp_1", NOW + 10) == "resp_1"
    assert await approvals.user("a", "mcpr_1") == "resp_1"


async def test_another_project_knows_nothing_of_it(store: Store) -> None:
    """R-30."""
    await store.approvals.use("a", "mcpr_1", "resp_1", NOW + 10)
    assert await store.approvals.user("b", "mcpr_1") is None
    assert await store.approvals.use("b", "mcpr_1", "resp_2", NOW + 10) == "resp_2"


async def test_of_many_at_once_exactly_one_has_it(store: Store) -> None:
    users = await asyncio.gather(
        *(store.approvals.use("a", "mcpr_1", f"resp_{n}", NOW + 10) for n in range(20))
    )
    assert len(set(users)) == 1


async def test_it_is_forgotten_when_its_time_is_over(store: Store) -> None:
    """R-121: no row stays for ever."""
    for number in range(5):
        await store.approvals.use("a", f"mcpr_{number}", "resp_1", NOW + number)
    assert await store.expire(NOW + 2, 2) == 2
    assert await store.expire(NOW + 2, 2) == 1
    assert await store.approvals.user("a", "mcpr_2") is None
    assert await store.approvals.user("a", "mcpr_3") == "resp_1"


async def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}"
    for response in ("resp_1", "resp_2"):
        store = SqliteStore(url)
        await store.open()
        assert await store.approvals.use("a", "mcpr_1", response, NOW + 10**9) == "resp_1"
        await store.close()
