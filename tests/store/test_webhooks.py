"""Webhook endpoints and their outbox: one suite, run on every store (R-29, R-93)."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from antiphon.store.base import Change, Delivery, Endpoint, Notice, Webhooks
from antiphon.store.memory_webhooks import MemoryWebhooks
from antiphon.store.migrate import migrate
from antiphon.store.readers import Readers
from antiphon.store.sql_webhooks import SqliteWebhooks, enqueue
from antiphon.store.writer import Writer
from tests.store.rows import NOW

COMPLETED = "response.completed"


@dataclass
class Outbox:
    """A store of webhooks, and how the end of a response gets into it."""

    webhooks: Webhooks
    enqueue: Callable[[str, Notice], None]


@pytest.fixture(params=["memory", "sqlite"])
async def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outbox]:
    if request.param == "memory":
        memory = MemoryWebhooks()
        yield Outbox(memory, memory.enqueue)
        return
    path = tmp_path / "antiphon.db"
    await asyncio.to_thread(migrate, f"sqlite:///{path}")
    writer, readers = Writer(path), Readers(path)
    await writer.start()

    def commit(project: str, notice: Notice) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            enqueue(connection, project, notice)

    yield Outbox(SqliteWebhooks(writer, readers), commit)
    await readers.close()
    await writer.close()


def endpoint(number: int = 1, **changes: object) -> Endpoint:
    made = Endpoint(
        id=f"whe_{number}",
        project="alpha",
        name=f"hook {number}",
        url="https://example.com/",
        event_types=[COMPLETED, "response.failed"],
        secret=f"whsec_{number}",
        created_at=NOW,
        updated_at=NOW,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def notice(number: int = 1, type_: str = COMPLETED, created_at: int = NOW) -> Notice:
    return Notice(f"evt_{number}", type_, created_at, b'{"n": %d}' % number)


async def claim(outbox: Outbox, now: int = NOW, limit: int = 100) -> list[Delivery]:
    """All that is due, claimed for a minute."""
    found: list[Delivery] = []
    for _ in range(100):
        claimed = await outbox.webhooks.due(now, now + 60, limit)
        if not claimed:
            return found
        found += claimed
    raise AssertionError("what is claimed is still there")


async def test_an_endpoint_comes_back_as_it_was_stored(outbox: Outbox) -> None:
    made = endpoint(old_secret="whsec_0", old_secret_until=NOW + 5)
    assert await outbox.webhooks.add(made, 100)
    assert await outbox.webhooks.endpoint("alpha", made.id) == made
    assert await outbox.webhooks.endpoints("alpha") == [made]


async def test_a_project_has_its_own_endpoints(outbox: Outbox) -> None:
    """R-29: another project's id answers like an unknown one."""
    made = endpoint()
    await outbox.webhooks.add(made, 100)
    webhooks = outbox.webhooks
    assert await webhooks.endpoint("beta", made.id) is None
    assert await webhooks.endpoints("beta") == []
    assert not await webhooks.change("beta", made.id, Change(name="x"), NOW)
    assert not await webhooks.rotate("beta", made.id, "whsec_2", NOW, None)
    assert not await webhooks.delete("beta", made.id)
    assert await webhooks.endpoint("alpha", made.id) == made


async def test_the_newest_endpoint_is_the_first(outbox: Outbox) -> None:
    for number, created_at in enumerate((NOW, NOW + 1, NOW, NOW + 1)):
        await outbox.webhooks.add(endpoint(number, created_at=created_at), 100)
    found = [one.id for one in await outbox.webhooks.endpoints("alpha")]
    assert found == ["whe_3", "whe_1", "whe_2", "whe_0"]


async def test_a_project_has_no_more_endpoints_than_it_may(outbox: Outbox) -> None:
    await outbox.webhooks.add(endpoint(0, project="beta"), 2)
    added = await asyncio.gather(*(outbox.webhooks.add(endpoint(n), 2) for n in range(1, 6)))
    assert sorted(added) == [False, False, False, True, True]


async def test_a_change_is_partial_and_dated_only_if_there_is_one(outbox: Outbox) -> None:
    made = endpoint()
    webhooks = outbox.webhooks
    await webhooks.add(made, 100)
    same = Change(name=made.name, event_types=made.event_types)
    for nothing in (Change(), same):
        assert await webhooks.change("alpha", made.id, nothing, NOW + 1)
        assert await webhooks.endpoint("alpha", made.id) == made
    assert await webhooks.change("alpha", made.id, Change(url="https://x.example/"), NOW + 2)
    assert await webhooks.change("alpha", made.id, Change(name="n"), NOW + 3)
    assert await webhooks.change("alpha", made.id, Change(event_types=[]), NOW + 4)
    changed = replace(made, url="https://x.example/", name="n", event_types=[], updated_at=NOW + 4)
    assert await webhooks.endpoint("alpha", made.id) == changed
    assert not await webhooks.change("alpha", "whe_none", Change(), NOW)


async def test_a_secret_is_rotated(outbox: Outbox) -> None:
    made = endpoint()
    webhooks = outbox.webhooks
    await webhooks.add(made, 100)
    assert await webhooks.rotate("alpha", made.id, "whsec_b", NOW + 1, NOW + 9)
    kept = replace(
        made, secret="whsec_b", old_secret="whsec_1", old_secret_until=NOW + 9, updated_at=NOW + 1
    )
    assert await webhooks.endpoint("alpha", made.id) == kept
    assert await webhooks.rotate("alpha", made.id, "whsec_c", NOW + 2, None)
    assert await webhooks.endpoint("alpha", made.id) == replace(
        made, secret="whsec_c", updated_at=NOW + 2
    )
    assert not await webhooks.rotate("alpha", "whe_none", "whsec_d", NOW, None)


async def test_a_notice_is_for_those_who_want_it(outbox: Outbox) -> None:
    webhooks = outbox.webhooks
    for made in (
        endpoint(1),
        endpoint(2),
        endpoint(3, event_types=["response.failed"]),
        endpoint(4, project="beta"),
        endpoint(5, event_types=["response.completed.not"]),
    ):
        await webhooks.add(made, 100)
    outbox.enqueue("alpha", notice())
    outbox.enqueue("gamma", notice(2))
    outbox.enqueue("alpha", notice(3, "response.cancelled"))
    found = await claim(outbox)
    assert sorted(one.endpoint.id for one in found) == ["whe_1", "whe_2"]
    assert {one.notice for one in found} == {notice()}
    assert [one.attempts for one in found] == [0, 0]
    assert len({one.id for one in found}) == 2
    assert all(one.id.startswith("wh_") for one in found)


async def test_what_is_claimed_is_nobody_elses_until_the_claim_ends(outbox: Outbox) -> None:
    """R-93: of several processes one tries."""
    webhooks = outbox.webhooks
    await webhooks.add(endpoint(), 100)
    assert await webhooks.next_due() is None
    for number in range(5):
        outbox.enqueue("alpha", notice(number, created_at=NOW + number))
    assert await webhooks.next_due() == NOW
    assert await webhooks.due(NOW - 1, NOW + 60, 100) == []
    both = await asyncio.gather(*(claim(outbox, NOW + 2) for _ in range(4)))
    found = [one.notice.id for some in both for one in some]
    assert sorted(found) == ["evt_0", "evt_1", "evt_2"]
    assert await webhooks.next_due() == NOW + 3
    assert len(await claim(outbox, NOW + 10)) == 2
    assert await webhooks.next_due() == NOW + 62
    again = await claim(outbox, NOW + 62)
    assert {one.id for one in again} == {one.id for some in both for one in some}


async def test_one_of_each_endpoint_that_is_not_busy(outbox: Outbox) -> None:
    """R-93: a thousand notices for one endpoint hold up no other."""
    webhooks = outbox.webhooks
    for number in (1, 2, 3):
        await webhooks.add(endpoint(number, event_types=[f"response.{number}", COMPLETED]), 100)
    for number in range(20):
        outbox.enqueue("alpha", notice(number, "response.1", NOW - 30))
    outbox.enqueue("alpha", notice(20))
    first = await webhooks.due(NOW, NOW + 60, 2)
    assert first[0].endpoint.id == "whe_1"
    assert len(first) == 2
    rest = await webhooks.due(NOW, NOW + 60, 9, ["whe_1"])
    assert sorted(one.endpoint.id for one in [*first[1:], *rest]) == ["whe_2", "whe_3"]
    assert await webhooks.due(NOW, NOW + 60, 9, {"whe_1"}) == []


async def test_what_has_arrived_is_forgotten(outbox: Outbox) -> None:
    webhooks = outbox.webhooks
    await webhooks.add(endpoint(), 100)
    outbox.enqueue("alpha", notice())
    (delivery,) = await claim(outbox)
    await webhooks.failed(delivery, NOW + 1, NOW + 5)
    await webhooks.delivered(delivery)
    assert await webhooks.next_due() is None
    known = await webhooks.endpoint("alpha", "whe_1")
    assert known is not None
    assert known.failing_since is None


async def test_what_failed_is_due_again_or_never(outbox: Outbox) -> None:
    webhooks = outbox.webhooks
    await webhooks.add(endpoint(), 100)
    outbox.enqueue("alpha", notice())
    (delivery,) = await claim(outbox)
    await webhooks.failed(delivery, NOW + 1, NOW + 5)
    assert await claim(outbox, NOW + 4) == []
    (again,) = await claim(outbox, NOW + 5)
    assert (again.id, again.notice, again.attempts) == (delivery.id, delivery.notice, 1)
    assert again.endpoint.failing_since == NOW + 1
    await webhooks.failed(again, NOW + 7, None)
    assert await webhooks.next_due() is None
    known = await webhooks.endpoint("alpha", "whe_1")
    assert known is not None
    assert known.failing_since == NOW + 1


async def test_an_endpoint_that_fails_for_long_is_disabled_until_it_is_changed(
    outbox: Outbox,
) -> None:
    """R-93."""
    webhooks = outbox.webhooks
    await webhooks.add(endpoint(), 100)
    assert not await webhooks.disable("whe_1", NOW, NOW)
    for number in range(3):
        outbox.enqueue("alpha", notice(number))
    (delivery,) = await webhooks.due(NOW, NOW + 60, 1)
    await webhooks.failed(delivery, NOW + 1, NOW + 5)
    assert not await webhooks.disable("whe_1", NOW + 9, NOW)
    assert await webhooks.disable("whe_1", NOW + 9, NOW + 1)
    assert await webhooks.next_due() is None
    outbox.enqueue("alpha", notice(4))
    assert await webhooks.next_due() is None
    known = await webhooks.endpoint("alpha", "whe_1")
    assert known == replace(endpoint(), failing_since=NOW + 1, disabled_at=NOW + 9)
    assert await webhooks.change("alpha", "whe_1", Change(), NOW + 20)
    assert await webhooks.endpoint("alpha", "whe_1") == endpoint()
    outbox.enqueue("alpha", notice(5))
    assert len(await claim(outbox)) == 1


async def test_a_deleted_endpoint_takes_with_it_what_waits(outbox: Outbox) -> None:
    webhooks = outbox.webhooks
    for number in (1, 2):
        await webhooks.add(endpoint(number), 100)
    outbox.enqueue("alpha", notice())
    first, _ = sorted(await claim(outbox), key=lambda one: one.endpoint.id)
    outbox.enqueue("alpha", notice(2))
    assert await webhooks.delete("alpha", "whe_1")
    assert not await webhooks.delete("alpha", "whe_1")
    await webhooks.failed(first, NOW, NOW + 1)  # it was being tried meanwhile
    await webhooks.delivered(first)
    assert [one.id for one in await webhooks.endpoints("alpha")] == ["whe_2"]
    others = await claim(outbox, NOW + 100)
    assert [one.endpoint.id for one in others] == ["whe_2", "whe_2"]
    for other in others:
        await webhooks.delivered(other)
    assert await webhooks.next_due() is None


async def test_the_endpoints_of_the_configuration(outbox: Outbox) -> None:
    webhooks = outbox.webhooks
    await webhooks.add(endpoint(9), 100)
    fixed = [endpoint(number, fixed=True) for number in (1, 2)]
    await webhooks.set_fixed(fixed)
    outbox.enqueue("alpha", notice())
    moved = endpoint(2, fixed=True, url="https://new.example/", created_at=NOW + 50)
    failing = next(one for one in await claim(outbox) if one.endpoint.id == "whe_2")
    await webhooks.failed(failing, NOW, NOW + 5)
    assert await webhooks.disable("whe_1", NOW, NOW) is False

    await webhooks.set_fixed([moved, endpoint(3, fixed=True)])
    ids = {one.id for one in await webhooks.endpoints("alpha")}
    assert ids == {"whe_2", "whe_3", "whe_9"}
    assert await webhooks.endpoint("alpha", "whe_2") == replace(moved, created_at=NOW)
    waiting = {one.endpoint.id: one for one in await claim(outbox, NOW + 100)}
    assert set(waiting) == {"whe_2", "whe_9"}
    assert waiting["whe_2"].endpoint.url == "https://new.example/"

    assert not await webhooks.change("alpha", "whe_2", Change(name="x"), NOW)
    assert not await webhooks.rotate("alpha", "whe_2", "whsec_x", NOW, None)
    assert not await webhooks.delete("alpha", "whe_2")
    for one in waiting.values():
        await webhooks.delivered(one)
    outbox.enqueue("alpha", notice(2))
    await webhooks.set_fixed([])
    (left,) = await claim(outbox)
    await webhooks.delivered(left)
    assert await webhooks.next_due() is None
    assert [one.id for one in await webhooks.endpoints("alpha")] == ["whe_9"]


async def test_nobody_gets_at_what_is_stored_by_what_he_holds(outbox: Outbox) -> None:
    made = endpoint()
    await outbox.webhooks.add(made, 100)
    made.event_types.clear()
    held = await outbox.webhooks.endpoint("alpha", made.id)
    assert held is not None
    held.event_types.append("x")
    outbox.enqueue("alpha", notice())
    assert len(await claim(outbox)) == 1


async def test_the_end_and_its_notice_are_one_transaction(tmp_path: Path) -> None:
    """R-93: what is rolled back is not announced."""
    path = tmp_path / "antiphon.db"
    await asyncio.to_thread(migrate, f"sqlite:///{path}")
    writer, readers = Writer(path), Readers(path)
    await writer.start()
    webhooks = SqliteWebhooks(writer, readers)
    await webhooks.add(endpoint(), 100)

    def ends(connection: sqlite3.Connection, mistake: str) -> None:
        enqueue(connection, "alpha", notice())
        connection.execute(mistake)

    with pytest.raises(sqlite3.IntegrityError):
        await writer.run(
            lambda connection: ends(connection, "INSERT INTO api_keys DEFAULT VALUES"), durable=True
        )
    assert await webhooks.next_due() is None
    await writer.run(lambda connection: ends(connection, "SELECT 1"), durable=True)
    assert await webhooks.next_due() == NOW
    await readers.close()
    await writer.close()
