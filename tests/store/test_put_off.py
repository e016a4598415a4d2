"""Files of vector stores that were put off: in nobody's way until they are due (R-101, R-118)."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from antiphon.store import sql_ingestions
from antiphon.store import vector_store_statements as statements
from antiphon.store.base import Ingestion, Store
from antiphon.store.memory import MemoryStore
from antiphon.store.sql import SqliteStore
from tests.store.rows import NOW
from tests.store.test_contract_vector_stores import claim, file, vector_store


async def put_off(
    store: Store, count: int, due_at: Callable[[int], int] = lambda _: NOW + 300
) -> list[Ingestion]:
    """New files, each put off until `due_at` of its place among them."""
    await vector_store(store, [await file(store) for _ in range(count)])
    claimed = await claim(store, most=count)
    for place, one in enumerate(claimed):
        assert await store.ingestions.put_off(one, due_at(place))
    return claimed


async def steps_of(store: MemoryStore, work: Callable[[], Awaitable[object]]) -> int:
    """How many steps SQLite needs for it."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection = store._sql._connection()
    connection.set_progress_handler(count, 1)
    await work()
    connection.set_progress_handler(None, 1)
    return steps


async def costs(waiting: int) -> list[int]:
    """Of claims and of an end, behind so many files that were put off."""
    store = MemoryStore()
    await put_off(store, waiting)
    nothing = await steps_of(store, lambda: claim(store))
    await vector_store(store, [await file(store) for _ in range(2)])
    two = await steps_of(store, lambda: claim(store, most=2))
    back = await steps_of(store, lambda: store.ingestions.hand_back("one"))
    assert len(await claim(store)) == 2
    await store.close()
    return [nothing, two, back]


async def test_a_claim_costs_the_same_however_many_were_put_off() -> None:
    assert await costs(300) == await costs(3)


async def test_to_wake_is_paid_once() -> None:
    """Not by each claim after it."""

    async def second(waiting: int) -> int:
        store = MemoryStore()
        await put_off(store, waiting, lambda _: NOW)
        assert len(await claim(store, most=1)) == 1
        return await steps_of(store, lambda: claim(store, most=1))

    assert await second(300) == await second(3)


async def test_what_is_due_is_claimed_in_the_old_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number, whenever it is due; projects take turns; and in however many steps it is woken."""
    monkeypatch.setattr(sql_ingestions, "_WOKEN", 2)
    late = await put_off(store, 6, lambda place: NOW + 6 - place)
    new = [await file(store, project=project) for project in ("alpha", "beta", "beta")]
    await vector_store(store, new[:1])
    await vector_store(store, new[1:], project="beta")
    claimed = await store.ingestions.claim("one", 10, NOW + 5)
    assert [one.file_id for one in claimed] == [
        *(new[1], late[1].file_id, new[2]),
        *(one.file_id for one in late[2:]),
        new[0],
    ]
    assert [one.file_id for one in await store.ingestions.claim("one", 10, NOW + 6)] == [
        late[0].file_id
    ]


async def test_it_is_no_news_that_a_file_was_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each would have the rest looked through again."""
    store = MemoryStore()
    await vector_store(store, [await file(store) for _ in range(2)])
    one, two = await claim(store)
    news: list[None] = []
    monkeypatch.setattr(store._sql, "_on_news", lambda: news.append(None))
    assert await store.ingestions.put_off(one, NOW + 1)
    assert news == []
    assert await store.ingestions.fail(two, "invalid_file", "Broken.")
    assert len(news) == 1
    await store.close()


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (statements.NEXT_PROJECT, "ready (project>?)"),
        (statements.CLAIMABLE, "ready (project=? AND number>?)"),
        (statements.HAND_BACK, "ready"),
        (statements.ANY_DUE, "put_off (due_at>? AND due_at<?)"),
        (statements.WAKE, "put_off (due_at>? AND due_at<?)"),
    ],
    ids=["project", "file", "hand back", "due", "wake"],
)
async def test_each_question_has_its_index(tmp_path: Path, sql: str, index: str) -> None:
    """In the database that the migrations make."""
    store = SqliteStore(f"sqlite+aiosqlite:///{tmp_path / 'antiphon.db'}")
    await store.open()
    values = dict.fromkeys(re.findall(r":([a-z_]+)", sql), 1)
    plan = await store._readers.ask(
        lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    )
    await store.close()
    assert re.search(rf"INDEX vector_store_files_{re.escape(index)}", str(plan)), plan
