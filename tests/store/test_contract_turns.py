"""What every store does with the runs of a conversation (spec §9, R-64): one suite, each store."""

import asyncio
from dataclasses import replace

import pytest

from antiphon.store.base import (
    ConversationBusy,
    ConversationMoved,
    QueueFull,
    ResponseRow,
    Store,
    Twin,
)
from tests.store.conversing import (
    admit,
    begin,
    finish,
    held,
    run,
    said,
    turn,
    version_of,
)
from tests.store.rows import batch, key, log_of

# -- who may run


async def nothing_of(store: Store, row: ResponseRow) -> bool:
    return (
        await store.runs.find(row.id) is None
        and await log_of(store, row.id) == []
        and await store.runs.queued() == 0
        and await store.runs.twin(row.project, "k1") is None
    )


async def test_a_run_is_admitted_for_what_the_caller_saw(store: Store) -> None:
    made = await begin(store, "a")
    row = turn(made)
    assert await admit(store, row, await version_of(store, made)) is None
    assert await store.runs.find(row.id) == row
    assert await held(store, made) == ["a"]


async def test_what_was_not_seen_admits_nothing(store: Store) -> None:
    """Unknown, another project's (R-30), changed: and nothing is stored."""
    made = await begin(store, "a")
    seen = await version_of(store, made)
    foreign = replace(turn(made), project="beta")
    unknown = replace(turn(made), conversation="conv_0")
    changed = turn(made)
    await store.conversations.append("alpha", made.id, said("b"), seen)
    for row, version in [
        (foreign, await version_of(store, made)),
        (foreign, None),
        (unknown, seen),
        (unknown, None),
        (changed, seen),
        (changed, seen + 100),
    ]:
        with pytest.raises(ConversationMoved):
            await store.runs.admit(
                row, batch(0, 2), job=b"{}", key=key(), most_queued=9, version=version
            )
        assert await nothing_of(store, row)
    assert await admit(store, changed, None) is None, "who names no version takes any"


async def test_a_busy_one_admits_nothing(store: Store) -> None:
    """R-64."""
    made, other = await begin(store, "a"), await begin(store, "b")
    await run(store, made)
    row = turn(made)
    for version in (await version_of(store, made), None):
        with pytest.raises(ConversationBusy):
            await store.runs.admit(
                row, batch(0, 2), job=b"{}", key=key(), most_queued=9, version=version
            )
    assert await nothing_of(store, row)
    with pytest.raises(ConversationMoved):
        await admit(store, row, await version_of(store, made) + 1)
    await run(store, other)


async def test_a_queued_one_is_busy_as_well(store: Store) -> None:
    made = await begin(store, "a")
    row = replace(turn(made, status="queued"), owner=None)
    await store.runs.admit(row, batch(0, 2), job=b"{}", key=None, most_queued=9)
    with pytest.raises(ConversationBusy):
        await admit(store, turn(made))
    (job,) = await store.runs.claim("one", 9)
    assert job.row.conversation == made.id
    assert await store.runs.hand_back(job.lease)
    with pytest.raises(ConversationBusy):
        await admit(store, turn(made))


async def test_of_two_runs_at_once_one_is_admitted(store: Store) -> None:
    """R-64."""
    made = await begin(store, "a")
    seen = await version_of(store, made)
    answers = await asyncio.gather(
        *(admit(store, turn(made), seen) for _ in range(8)), return_exceptions=True
    )
    assert answers.count(None) == 1
    assert sum(isinstance(answer, ConversationBusy) for answer in answers) == 7


async def test_the_same_request_again_is_a_twin_first(store: Store) -> None:
    """Whoever repeats a request meets its own run, not a lock; and a full queue comes next."""
    made = await begin(store, "a")
    seen, row = await version_of(store, made), turn(made)

    async def ask(most: int, name: str) -> Twin | None:
        again = replace(turn(made), owner=None)
        return await store.runs.admit(
            again, batch(0, 2), job=b"{}", key=key(name), most_queued=most, version=seen
        )

    await store.runs.admit(row, batch(0, 2), job=None, key=key(), most_queued=0, version=seen)
    assert await ask(0, "k1") == Twin(row.id, "f1")
    with pytest.raises(QueueFull):
        await ask(0, "k2")
    with pytest.raises(ConversationBusy):
        await ask(1, "k2")


async def test_a_busy_one_keeps_its_items(store: Store) -> None:
    made = await begin(store, "a")
    row = await run(store, made)
    seen = await version_of(store, made)
    with pytest.raises(ConversationBusy):
        await store.conversations.append("alpha", made.id, said("b"), seen)
    with pytest.raises(ConversationBusy):
        await store.conversations.remove("alpha", made.id, "msg_a")
    assert await store.conversations.change("alpha", made.id, {}), "its metadata is no item"
    assert await held(store, made) == ["a"]
    assert await finish(store, row)
    assert await store.conversations.append("alpha", made.id, said("b"), seen)
    assert await store.conversations.remove("alpha", made.id, "msg_a")


# -- how a run ends


async def test_the_end_of_a_run_brings_its_items(store: Store) -> None:
    made = await begin(store, "a")
    row, seen = await run(store, made), await version_of(store, made)
    assert await finish(store, row, "question", "answer")
    assert await held(store, made) == ["a", "question", "answer"]
    assert await version_of(store, made) > seen
    assert await store.runs.status(row.id) == "completed"
    again = await run(store, made)
    assert await finish(store, again, "more", status="incomplete")
    assert await held(store, made) == ["a", "question", "answer", "more"]


async def test_an_end_without_items_changes_nothing(store: Store) -> None:
    made = await begin(store, "a")
    row, seen = await run(store, made), await version_of(store, made)
    assert await finish(store, row, status="failed")
    assert await version_of(store, made) == seen
    await run(store, made)


async def test_a_run_ends_without_its_conversation(store: Store) -> None:
    made = await begin(store, "a")
    row = await run(store, made)
    assert await store.conversations.delete("alpha", made.id)
    assert await finish(store, row, "b")
    assert await store.runs.status(row.id) == "completed"
    assert await held(store, made) is None
    assert await store.items("alpha", ["msg_b"]) == {}
    await store.conversations.add(made, [])
    assert await held(store, made) == [], "nothing was kept for it"


async def test_who_has_lost_the_lease_brings_nothing(store: Store) -> None:
    """R-57, R-59."""
    made = await begin(store, "a")
    row = await run(store, made)
    assert not await finish(store, replace(row, attempt=7), "late")
    assert not await finish(store, replace(row, owner="two"), "late")
    assert await finish(store, row, "b")
    assert not await finish(store, row, "late")
    assert await held(store, made) == ["a", "b"]


async def test_a_deleted_response_frees_its_conversation(store: Store) -> None:
    """R-59: and what it says later is not heard."""
    made = await begin(store, "a")
    row = await run(store, made)
    assert await store.delete("alpha", row.id)
    assert not await finish(store, row, "late")
    assert await held(store, made) == ["a"]
    await run(store, made)


async def test_a_response_that_is_saved_as_ended_frees_its_conversation(store: Store) -> None:
    made = await begin(store, "a")
    row = await run(store, made)
    assert await store.save(replace(row, status="failed"))
    await run(store, made)


async def test_what_a_dead_process_left_is_ended_and_frees_it(store: Store) -> None:
    """R-69: no lock is left behind."""
    made = await begin(store, "a")
    row = await run(store, made)
    assert await store.runs.release("one", died=True) == [row]
    with pytest.raises(ConversationBusy):
        await admit(store, turn(made))
    assert await finish(store, row, status="failed")
    await run(store, made)
