"""What every store keeps of a run (store/base/runs.py): one suite, run on each."""

import asyncio
import time
from dataclasses import replace

import orjson

from antiphon.store.base import (
    Batch,
    Endpoint,
    Lease,
    Notice,
    Snapshot,
    Store,
    Twin,
)
from antiphon.store.bell import RECENT
from tests.store.rows import (
    NOW,
    Clock,
    admit,
    batch,
    ending,
    enqueue,
    key,
    log_of,
    numbers,
    response,
    start,
)

# -- the log


async def test_a_snapshot_comes_with_its_events(store: Store) -> None:
    job, lease = await start(store)
    assert await store.runs.append(lease, batch(2, 5), Snapshot("in_progress", b'{"a":1}', b"p1"))
    assert await store.runs.append(lease, Batch(5, []), Snapshot("in_progress", b'{"a":2}', b"p2"))
    found = await store.get("alpha", job.row.id)
    assert found is not None
    assert (found.status, found.body) == ("in_progress", b'{"a":2}')
    assert await log_of(store, job.row.id) == [0, 1, 2, 3, 4]
    taken = await store.runs.take("alpha", job.row.id, "two")
    assert taken is not None
    assert (taken.progress, taken.row.body) == (b"p2", b'{"a":2}')


async def test_a_lease_alone_can_be_asked_for(store: Store) -> None:
    job, lease = await start(store)
    assert await store.runs.append(lease, Batch(2, []))
    assert not await store.runs.append(replace(lease, attempt=7), Batch(2, []))
    assert not await store.runs.append(replace(lease, response_id="resp_none"), Batch(2, []))
    assert await log_of(store, job.row.id) == [0, 1]


async def test_a_batch_may_be_asked_for_again_with_more(store: Store) -> None:
    """Who was cancelled while he waited for an answer does not know that it is there."""
    job, lease = await start(store)
    assert await store.runs.append(lease, batch(2, 4))
    assert await store.runs.append(lease, batch(2, 6))
    assert await store.runs.finish(lease, batch(6, 7), ending())
    assert await log_of(store, job.row.id) == list(range(7))


async def test_a_reader_may_begin_anywhere(store: Store) -> None:
    """R-61, R-63: whatever the batches were."""
    job, lease = await start(store)
    first = 2
    for length in (1, 7, 2, 30, 1, 57):
        assert await store.runs.append(lease, batch(first, first + length))
        first += length
    for after in range(-1, first + 3):
        assert await log_of(store, job.row.id, after) == list(range(after + 1, first))


async def test_a_reader_takes_a_window_at_a_time(store: Store) -> None:
    """A few bytes more than asked for, never nothing while there is something."""
    job, lease = await start(store)
    assert await store.runs.append(lease, batch(2, 50, "x" * 100))
    size = len(batch(10, 11, "x" * 100).frames[0][1])
    assert numbers(await store.runs.read(job.row.id, 9, 1)) == [10]
    assert numbers(await store.runs.read(job.row.id, 9, 3 * size)) == [10, 11, 12]
    assert numbers(await store.runs.read(job.row.id, 9, 3 * size + 1)) == [10, 11, 12, 13]
    after, seen = -1, []
    while window := await store.runs.read(job.row.id, after, 500):
        seen += numbers(window)
        after = seen[-1]
    assert seen == list(range(50))


async def test_the_log_of_an_unknown_response_is_empty(store: Store) -> None:
    assert await log_of(store, "resp_none") == []
    assert await store.runs.status("resp_none") is None


async def test_a_log_goes_before_its_response(store: Store, clock: Clock) -> None:
    """R-137: from the second on that was said, swept or not."""
    job, lease = await start(store)
    await store.runs.finish(lease, batch(2, 5), ending(log_until=NOW + 60))
    clock.now = NOW + 59
    assert await log_of(store, job.row.id) == [0, 1, 2, 3, 4]
    assert await store.expire(NOW + 59, 10) == 0
    clock.now = NOW + 60
    assert await log_of(store, job.row.id) == []
    assert await store.expire(NOW + 60, 10) == 1
    assert await store.expire(NOW + 60, 10) == 0
    assert await store.get("alpha", job.row.id) is not None
    assert await log_of(store, job.row.id) == []


async def test_a_log_without_an_end_stays_as_long_as_its_response(
    store: Store, clock: Clock
) -> None:
    job, lease = await start(store)
    await store.runs.finish(lease, batch(2, 5), replace(ending(), expires_at=NOW + 60))
    clock.now = NOW + 59
    await store.expire(NOW + 59, 10)
    assert len(await log_of(store, job.row.id)) == 5
    clock.now = NOW + 60
    assert await log_of(store, job.row.id) == []
    assert await store.expire(NOW + 60, 10) == 1


# -- the end


async def test_the_end_is_one_with_its_notices(store: Store) -> None:
    """R-93: one for the end that counts, none for a refused one."""
    url, types = "https://example.com/hook", ["response.completed", "response.cancelled"]
    assert await store.webhooks.add(
        Endpoint("we_1", "alpha", "hook", url, types, "whsec_c2VjcmV0", NOW), 10
    )
    job, lease = await start(store)
    ends = [
        replace(ending(status), notice=Notice(f"evt_{n}", f"response.{status}", NOW, b"{}"))
        for n, status in enumerate(["completed", "cancelled"])
    ]
    results = await asyncio.gather(*(store.runs.finish(lease, batch(2, 3), end) for end in ends))
    assert results == [True, False]
    due = await store.webhooks.due(NOW, NOW + 60, 10)
    assert [delivery.notice.id for delivery in due] == ["evt_0"]
    row = await store.get("alpha", job.row.id)
    assert row is not None
    assert (row.status, orjson.loads(row.body)) == (
        "completed",
        {"status": "completed", "output": []},
    )
    assert await store.runs.owned("one") == set()
    assert await store.runs.claim("two", 5) == []


async def test_an_end_may_come_without_events(store: Store) -> None:
    job, lease = await start(store)
    assert await store.runs.finish(lease, Batch(2, []), ending("cancelled"))
    assert await store.runs.status(job.row.id) == "cancelled"
    assert await log_of(store, job.row.id) == [0, 1]


# -- what it is kept for


async def test_what_is_kept_for_twins_is_for_nobody_else(store: Store) -> None:
    row = response(status="in_progress", expires_at=None)
    row.kept, row.owner = "replayed", "one"
    await store.runs.admit(row, batch(0, 2), job=None, key=key(), most_queued=1)
    child = response(previous=row.id)
    await store.save(child)
    item = orjson.loads(row.input)[0]["id"]
    for _ in range(2):
        assert await store.get("alpha", row.id) is None
        assert not await store.delete("alpha", row.id)
        assert await store.chain("alpha", row.id) is None
        assert await store.chain("alpha", child.id) is None
        assert await store.items("alpha", [item]) == {}
        found = await store.runs.find(row.id)
        assert found is not None
        await store.runs.finish(Lease(row.id, "one", 0), batch(2, 3), ending())
    assert await store.runs.status(row.id) == "completed"
    assert await admit(store, response(status="queued"), key=key()) == Twin(row.id, "f1")


async def test_what_is_kept_for_polling_is_no_history(store: Store) -> None:
    row = response(expires_at=None)
    row.kept = "polled"
    child = response(previous=row.id)
    await store.save(row)
    await store.save(child)
    assert await store.get("alpha", row.id) == row
    assert await store.chain("alpha", row.id) is None
    assert await store.chain("alpha", child.id) is None
    assert await store.items("alpha", [orjson.loads(row.input)[0]["id"]]) == {}
    assert await store.delete("alpha", row.id)


async def test_keys_are_swept(store: Store, clock: Clock) -> None:
    """R-137."""
    await enqueue(store, key=key(expires_at=NOW + 60))
    await enqueue(store, key=key("k2", expires_at=NOW + 90))
    assert await store.expire(NOW + 60, 10) == 1
    assert await store.expire(NOW + 60, 10) == 0
    assert await admit(store, response(status="queued"), key=key()) is None
    assert await admit(store, response(status="queued"), key=key("k2")) is not None


# -- waiting


async def waited(store: Store, seconds: float) -> float:
    began = time.monotonic()
    await store.runs.wait(seconds)
    return time.monotonic() - began


async def silence(store: Store) -> None:
    """Until nothing is news any more."""
    await store.runs.wait(0.01)  # the first look at the database is news
    await asyncio.sleep(RECENT + 0.1)


async def test_a_wait_is_over_in_time(store: Store) -> None:
    await silence(store)
    assert 0.15 <= await waited(store, 0.15) < 1


async def test_a_commit_wakes_all_who_wait(store: Store) -> None:
    job, lease = await start(store)
    await silence(store)
    for write in (
        lambda: store.runs.append(lease, batch(2, 3)),
        lambda: store.runs.take("alpha", job.row.id, "two"),
        lambda: store.delete("alpha", job.row.id),
        lambda: enqueue(store),
    ):
        waits = [asyncio.create_task(waited(store, 5)) for _ in range(10)]
        await asyncio.sleep(0.01)
        await write()
        assert max(await asyncio.gather(*waits)) < 1


async def test_a_wait_right_after_a_commit_misses_nothing(store: Store) -> None:
    """Between the look and the wait of this one, that one committed, and another heard of it."""
    other = asyncio.create_task(waited(store, 5))
    await asyncio.sleep(0.1)
    await enqueue(store)
    await other
    assert await waited(store, 5) < 0.5
