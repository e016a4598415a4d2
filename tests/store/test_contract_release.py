"""What every store does when somebody is taken for dead (R-69, R-70, R-77): one suite."""

import pytest

from antiphon.store.base import Batch, ResponseRow, Store
from tests.store.rows import batch, ending, key, log_of, response, start


async def foreground(store: Store, owner: str) -> ResponseRow:
    """A response of `owner` that is no job, and has a key."""
    row = response(status="in_progress", expires_at=None)
    row.owner = owner
    assert await store.runs.admit(row, Batch(0, []), job=None, key=key(), most_queued=1) is None
    return row


async def test_who_has_spoken_since_is_not_released(store: Store) -> None:
    """R-70: between the look at a heartbeat and the burial it may beat again."""
    await store.runs.beat("one")
    seen = (await store.runs.owners())["one"]
    job, lease = await start(store)
    row = await foreground(store, "one")
    await store.runs.beat("one")
    assert await store.runs.release("one", died=True, beat=seen) == []
    assert await store.runs.owners() == {"one": seen + 1}
    assert await store.runs.owned("one") == {job.row.id, row.id}
    assert await store.runs.queued() == 0
    assert await store.runs.append(lease, batch(2, 3))
    assert await store.runs.finish(lease, Batch(3, []), ending())


async def test_who_is_still_silent_is_released(store: Store) -> None:
    """And its job has met one death."""
    await store.runs.beat("one")
    seen = (await store.runs.owners())["one"]
    job, lease = await start(store)
    row = await foreground(store, "one")
    assert await store.runs.release("one", died=True, beat=seen) == [row]
    assert await store.runs.owners() == {"one": 0}, "unknown, but it still owns something"
    assert not await store.runs.append(lease, batch(2, 3))
    (again,) = await store.runs.claim("two", 5)
    assert (again.row.id, again.row.attempt, again.deaths) == (job.row.id, 2, 1)
    assert await log_of(store, job.row.id) == [0, 1]


async def test_who_was_never_known_is_released(store: Store) -> None:
    """Its heartbeat is 0, as `owners` says."""
    job, _ = await start(store, "ghost")
    assert await store.runs.owners() == {"ghost": 0}
    assert await store.runs.release("ghost", died=True, beat=0) == []
    assert (await store.runs.claim("two", 5))[0].row.id == job.row.id


@pytest.mark.parametrize("died", [True, False])
async def test_without_a_heartbeat_it_is_released_whatever_it_says(
    store: Store, died: bool
) -> None:
    """Who leaves, and who is known to be dead."""
    await store.runs.beat("one")
    await start(store)
    await store.runs.beat("one")
    await store.runs.release("one", died=died)
    (again,) = await store.runs.claim("two", 5)
    assert again.deaths == died


async def test_one_that_beats_again_after_its_release_is_known_again(store: Store) -> None:
    """It was frozen: what it had is gone, what it takes now is its own."""
    await store.runs.beat("one")
    job, lease = await start(store)
    await store.runs.release("one", died=True, beat=1)
    await store.runs.beat("one")
    (again,) = await store.runs.claim("one", 5)
    assert again.row.id == job.row.id
    assert not await store.runs.append(lease, batch(2, 3))
    assert await store.runs.append(again.lease, batch(2, 3))
