"""What every store does with runs (store/base/runs.py): one suite, run on each."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from antiphon.store.base import (
    Batch,
    Lease,
    QueueFull,
    ResponseRow,
    Snapshot,
    Store,
    Twin,
)
from tests.store.rows import (
    DAY,
    NOW,
    Clock,
    admit,
    batch,
    ending,
    enqueue,
    key,
    log_of,
    response,
    start,
)

# -- admission


async def test_an_admitted_run_is_there_with_its_events_and_its_job(store: Store) -> None:
    row = await enqueue(store)
    assert await store.get("alpha", row.id) == row
    assert await store.runs.status(row.id) == "queued"
    assert await store.runs.find(row.id) == row
    assert await log_of(store, row.id) == [0, 1]
    assert await store.runs.queued() == 1
    (job,) = await store.runs.claim("one", 5)
    assert job.row == replace(row, owner="one", attempt=1)
    assert (job.request, job.progress, job.deaths) == (b"{}", b"", 0)
    assert job.lease == Lease(row.id, "one", 1)
    assert await store.runs.queued() == 0


async def test_frames_come_back_byte_for_byte(store: Store) -> None:
    job, lease = await start(store)
    events = batch(2, 4, 'new\nline "quoted" \\ \u2028 é')
    assert await store.runs.append(lease, events)
    assert await store.runs.read(job.row.id, 1, 10**9) == events.frames


async def test_a_full_queue_admits_nothing(store: Store) -> None:
    """R-116: nothing of it is left behind, and its key is free."""
    await enqueue(store, most=2)
    await enqueue(store, most=2)
    row = response(status="queued")
    with pytest.raises(QueueFull):
        await admit(store, row, most=2, key=key())
    assert await store.runs.find(row.id) is None
    assert await log_of(store, row.id) == []
    assert await store.runs.queued() == 2
    await store.runs.claim("one", 1)
    assert await admit(store, row, most=2, key=key()) is None


async def test_a_foreground_run_needs_no_room_in_the_queue(store: Store) -> None:
    await enqueue(store, most=1)
    row = response(status="in_progress")
    row.owner = "one"
    assert await store.runs.admit(row, batch(0, 2), job=None, key=key(), most_queued=1) is None
    assert await store.runs.append(Lease(row.id, "one", 0), batch(2, 3))
    assert await log_of(store, row.id) == [0, 1, 2]
    assert await store.runs.take("alpha", row.id, "two") is None, "it is no job"
    assert await store.runs.queued() == 1


async def test_a_twin_gets_what_the_first_one_made(store: Store) -> None:
    """R-79: and leaves nothing behind, whatever its body is."""
    first = await enqueue(store, key=key())
    second = response(status="queued")
    assert await admit(store, second, key=key(fingerprint="f2")) == Twin(first.id, "f1")
    assert await store.runs.find(second.id) is None
    assert await log_of(store, second.id) == []
    assert await store.runs.queued() == 1


async def test_keys_of_projects_are_apart(store: Store) -> None:
    """R-29."""
    await enqueue(store, key=key())
    assert await admit(store, response(status="queued", project="beta"), key=key()) is None


async def test_of_ten_twins_at_once_one_runs(store: Store) -> None:
    """R-79."""
    rows = [response(status="queued") for _ in range(10)]
    answers = await asyncio.gather(*(admit(store, row, key=key()) for row in rows))
    assert answers.count(None) == 1
    winner = rows[answers.index(None)].id
    assert [answer for answer in answers if answer] == [Twin(winner, "f1")] * 9
    assert await store.runs.queued() == 1


async def forget(store: Store, row: ResponseRow, clock: Clock) -> None:
    await store.runs.forget_key(row.id)


async def delete(store: Store, row: ResponseRow, clock: Clock) -> None:
    await store.delete("alpha", row.id)


async def outlive_the_key(store: Store, row: ResponseRow, clock: Clock) -> None:
    clock.now = NOW + DAY


async def outlive_the_response(store: Store, row: ResponseRow, clock: Clock) -> None:
    (job,) = await store.runs.claim("one", 1)
    await store.runs.finish(job.lease, batch(2, 3), replace(ending(), expires_at=NOW + 60))
    clock.now = NOW + 60


@pytest.mark.parametrize("end", [forget, delete, outlive_the_key, outlive_the_response])
async def test_a_key_may_be_used_again(
    store: Store, clock: Clock, end: Callable[[Store, ResponseRow, Clock], Awaitable[None]]
) -> None:
    row = await enqueue(store, key=key())
    await end(store, row, clock)
    again = response(status="queued", expires_at=None)
    later = key(fingerprint="f2", expires_at=NOW + 3 * DAY)
    assert await admit(store, again, key=later) is None
    assert await admit(store, response(status="queued"), key=later) == Twin(again.id, "f2")


# -- the queue


async def test_the_oldest_is_claimed_first(store: Store) -> None:
    rows = [await enqueue(store) for _ in range(5)]
    claimed = [await store.runs.claim("one", 2) for _ in range(4)]
    assert [[job.row.id for job in jobs] for jobs in claimed] == [
        [rows[0].id, rows[1].id],
        [rows[2].id, rows[3].id],
        [rows[4].id],
        [],
    ]


async def test_claims_at_once_share_no_job(store: Store) -> None:
    for _ in range(20):
        await enqueue(store)
    claims = await asyncio.gather(*(store.runs.claim(f"o{n}", 3) for n in range(10)))
    ids = [job.row.id for jobs in claims for job in jobs]
    assert len(ids) == len(set(ids)) == 20


async def test_what_is_handed_back_keeps_its_place(store: Store) -> None:
    """R-73: and does not count as a death."""
    job, lease = await start(store)
    await enqueue(store)
    assert await store.runs.append(lease, batch(2, 3), Snapshot("in_progress", b"{}", b"half"))
    assert await store.runs.hand_back(lease)
    assert not await store.runs.hand_back(lease)
    assert not await store.runs.append(lease, batch(3, 4))
    assert await store.runs.queued() == 2
    (again,) = await store.runs.claim("two", 1)
    assert again.row.id == job.row.id
    assert again.lease == Lease(job.row.id, "two", 2)
    assert (again.progress, again.deaths) == (b"half", 0)


async def test_a_foreground_run_cannot_be_handed_back(store: Store) -> None:
    row = response(status="in_progress")
    row.owner = "one"
    await store.save(row)
    assert not await store.runs.hand_back(Lease(row.id, "one", 0))
    assert await store.runs.owned("one") == {row.id}


@pytest.mark.parametrize("gone", ["delete", "expire"])
async def test_what_is_gone_is_not_claimed(store: Store, clock: Clock, gone: str) -> None:
    row = response(status="queued", expires_at=NOW + 60)
    await admit(store, row)
    if gone == "delete":
        await store.delete("alpha", row.id)
    else:
        clock.now = NOW + 60
    assert await store.runs.claim("one", 5) == []
    if gone == "expire":
        await store.expire(NOW + 60, 10)
    assert await store.runs.queued() == 0


# -- the lease


async def test_who_takes_a_job_fences_off_who_had_it(store: Store) -> None:
    """R-57: cancel from another process."""
    job, old = await start(store)
    taken = await store.runs.take("alpha", job.row.id, "two")
    assert taken is not None
    assert taken.lease == Lease(job.row.id, "two", 2)
    assert not await store.runs.append(old, batch(2, 3))
    assert not await store.runs.append(old, Batch(2, []))
    assert not await store.runs.append(old, batch(2, 3), Snapshot("in_progress", b"x", b"x"))
    assert not await store.runs.finish(old, batch(2, 3), ending())
    assert await log_of(store, job.row.id) == [0, 1]
    assert await store.runs.append(taken.lease, batch(2, 3))
    assert await store.runs.finish(taken.lease, batch(3, 4), ending("cancelled"))
    assert await log_of(store, job.row.id) == [0, 1, 2, 3]


async def test_a_job_that_waits_can_be_taken(store: Store) -> None:
    row = await enqueue(store)
    job = await store.runs.take("alpha", row.id, "two")
    assert job is not None
    assert job.lease == Lease(row.id, "two", 1)
    assert await store.runs.claim("one", 1) == []


@pytest.mark.parametrize("kept", ["stored", "polled"])
async def test_what_has_ended_is_not_taken(store: Store, kept: str) -> None:
    row = response(status="queued", expires_at=None)
    row.kept = "polled" if kept == "polled" else "stored"
    await admit(store, row)
    assert await store.runs.take("beta", row.id, "two") is None, "R-29"
    (job,) = await store.runs.claim("one", 1)
    await store.runs.finish(job.lease, batch(2, 3), ending())
    assert await store.runs.take("alpha", row.id, "two") is None
    assert await store.runs.take("alpha", "resp_none", "two") is None
    assert not await store.runs.append(job.lease, batch(3, 4))
    assert not await store.runs.finish(job.lease, batch(3, 4), ending("failed"))
    assert await store.runs.status(row.id) == "completed"


async def test_a_deleted_run_takes_nothing_more(store: Store) -> None:
    """R-59: its events, job and key are gone with it."""
    job, lease = await start(store)
    assert await store.runs.owned("one") == {job.row.id}
    await store.delete("alpha", job.row.id)
    assert await store.runs.owned("one") == set()
    assert not await store.runs.append(lease, batch(2, 3))
    assert not await store.runs.append(lease, Batch(2, []))
    assert not await store.runs.finish(lease, batch(2, 3), ending())
    assert await store.runs.take("alpha", job.row.id, "two") is None
    assert await store.runs.status(job.row.id) is None
    assert await store.runs.find(job.row.id) is None
    assert await log_of(store, job.row.id) == []
    assert await store.runs.release("one", died=True) == []
    assert await store.runs.queued() == 0


async def test_a_save_names_its_owner(store: Store) -> None:
    """R-57: a foreground run that was ended by somebody else hears of it."""
    row = response(status="in_progress", expires_at=None)
    row.owner = "one"
    assert await store.save(row)
    assert not await store.save(replace(row, owner="two", status="failed"))
    assert not await store.save(replace(row, attempt=1, status="failed"))
    assert await store.save(replace(row, owner=None, status="failed")), "this is not asked"
    assert await store.get("alpha", row.id) == row
    assert await store.save(replace(row, status="completed"))
    assert not await store.save(replace(row, status="failed"))
    assert await store.runs.status(row.id) == "completed"
    assert await store.runs.owned("one") == set()


# -- owners


async def test_owners_beat(store: Store) -> None:
    assert await store.runs.owners() == {}
    for _ in range(3):
        await store.runs.beat("one")
    await store.runs.beat("two")
    assert await store.runs.owners() == {"one": 3, "two": 1}
    assert not await store.runs.is_dead("one")
    assert not await store.runs.is_dead("never seen")
    await store.runs.release("one", died=False)
    assert await store.runs.owners() == {"two": 1}


async def test_who_owns_something_is_known(store: Store) -> None:
    """Else nobody would notice when a process dies before its first beat."""
    await start(store, "silent")
    assert await store.runs.owners() == {"silent": 0}
    await store.runs.release("silent", died=True)
    assert await store.runs.owners() == {}
    assert await store.runs.queued() == 1


@pytest.mark.parametrize("died", [True, False])
async def test_the_jobs_of_a_dead_owner_go_back(store: Store, died: bool) -> None:
    """R-65, R-66: deaths are counted, and the dead can write nothing."""
    job, lease = await start(store)
    other, others = await start(store, "two")
    for owner in ("one", "two"):
        await store.runs.beat(owner)
    assert await store.runs.release("one", died=died) == []
    assert not await store.runs.append(lease, batch(2, 3))
    assert not await store.runs.finish(lease, batch(2, 3), ending())
    assert await store.runs.append(others, batch(2, 3)), "the other goes on"
    (again,) = await store.runs.claim("three", 5)
    assert again.row.id == job.row.id
    assert again.deaths == int(died)
    assert again.lease == Lease(job.row.id, "three", 2)
    assert await store.runs.owned("two") == {other.row.id}


async def test_deaths_add_up(store: Store) -> None:
    """R-66."""
    await enqueue(store)
    for n in range(3):
        await store.runs.beat(f"o{n}")
        (job,) = await store.runs.claim(f"o{n}", 1)
        assert job.deaths == n
        assert job.row.attempt == n + 1
        await store.runs.release(f"o{n}", died=True)


async def test_the_foreground_rows_of_a_dead_owner_are_returned(store: Store) -> None:
    """R-69: also those of nobody, which an older version made; then the caller ends them."""
    await store.runs.beat("one")
    await store.runs.beat("two")
    row = response(status="in_progress", expires_at=None)
    dead, alive = replace(row, owner="one"), replace(response(status="in_progress"), owner="two")
    nobodys, waiting = response(status="in_progress"), response(status="queued")
    done, gone = response(), replace(response(status="in_progress"), owner="one")
    for saved in (dead, alive, nobodys, done, gone):
        await store.save(saved)
    await store.delete("alpha", gone.id)
    await admit(store, waiting)
    left = await store.runs.release("one", died=True)
    assert sorted(found.id for found in left) == sorted([dead.id, nobodys.id])
    assert dead in left
    for found in left:
        assert await store.save(replace(found, status="failed"))
        assert await store.runs.status(found.id) == "failed"
    assert await store.runs.release("one", died=True) == []
    assert await store.runs.owned("two") == {alive.id}
    assert await store.runs.queued() == 1


async def test_what_was_left_can_be_ended_with_a_lease(store: Store) -> None:
    """A keyed foreground run has a log: its end belongs into it."""
    rows = [replace(response(status="in_progress"), owner=owner) for owner in ("one", None)]
    for row in rows:
        await store.runs.admit(row, batch(0, 2), job=None, key=None, most_queued=1)
    for row in await store.runs.release("one", died=True):
        lease = Lease(row.id, row.owner or "", row.attempt)
        assert await store.runs.finish(lease, batch(2, 3), ending("failed"))
        assert await log_of(store, row.id) == [0, 1, 2]
    assert [await store.runs.status(row.id) for row in rows] == ["failed", "failed"]
