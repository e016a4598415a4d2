"""What every store does with responses and keys: one suite, run on each."""

import asyncio
import time
from dataclasses import replace
from itertools import pairwise

import orjson
import pytest

from antiphon.store.base import Store
from tests.store.rows import NOW, Clock, api_key, item_id, message, new_partition, response


async def save_chain(store: Store, texts: str, previous: str | None = None) -> str:
    """One turn per letter; the id of the last."""
    for text in texts:
        row = response(text, previous=previous)
        await store.save(row)
        previous = row.id
    assert previous is not None
    return previous


async def texts_of(store: Store, id: str) -> str | None:  # noqa: A002
    """Input and output of every turn, in order."""
    turns = await store.chain("alpha", id)
    if turns is None:
        return None
    return "".join(
        item["content"][0]["text"] for turn in turns for item in (*turn.input, *turn.output)
    )


async def test_a_saved_response_comes_back_byte_for_byte(store: Store) -> None:
    row = response(expires_at=None, previous="resp_before")
    row.body = b'{"output": [],  "odd" :1.50, "\\u00e9": "\xc3\xa9"}'
    await store.save(row)
    assert await store.get("alpha", row.id) == row


async def test_an_unknown_response_is_none(store: Store) -> None:
    assert await store.get("alpha", "resp_none") is None
    assert await store.chain("alpha", "resp_none") is None
    assert await store.items("alpha", ["msg_none", item_id(new_partition())]) == {}
    assert await store.items("alpha", []) == {}
    assert not await store.delete("alpha", "resp_none")


async def test_another_projects_id_is_like_an_unknown_one(store: Store) -> None:
    """R-29, R-30."""
    row = response(project="beta")
    await store.save(row)
    msg = orjson.loads(row.input)[0]["id"]
    assert await store.get("alpha", row.id) is None
    assert await store.chain("alpha", row.id) is None
    assert await store.items("alpha", [msg]) == {}
    assert not await store.delete("alpha", row.id)
    assert await store.get("beta", row.id) == row


async def test_a_chain_does_not_cross_projects(store: Store) -> None:
    """R-30."""
    parent = response(project="beta")
    child = response(project="alpha", previous=parent.id)
    await store.save(parent)
    await store.save(child)
    assert await store.chain("alpha", child.id) is None


async def test_a_save_into_another_projects_row_changes_nothing(store: Store) -> None:
    """R-29."""
    row = response(project="beta", status="in_progress")
    await store.save(row)
    await store.save(replace(row, project="alpha", status="completed", body=b"{}"))
    assert await store.get("beta", row.id) == row
    assert await store.get("alpha", row.id) is None


@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_a_running_response_is_replaced(store: Store, status: str) -> None:
    running = response(status=status)
    await store.save(running)
    done = replace(running, status="completed", body=b'{"output":[]}', input=b"[]")
    await store.save(done)
    assert await store.get("alpha", running.id) == done


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
async def test_the_first_terminal_status_stays(store: Store, status: str) -> None:
    """R-57: a late completion never overwrites it."""
    first = response(status=status)
    await store.save(first)
    for later in ("completed", "cancelled", "in_progress"):
        await store.save(replace(first, status=later, body=b'{"output":[]}'))
    assert await store.get("alpha", first.id) == first


async def test_racing_ends_leave_one_winner(store: Store) -> None:
    """R-57: writes of one response are applied in the order in which they were asked for."""
    row = response(status="in_progress")
    await store.save(row)
    ends = [replace(row, status="cancelled"), replace(row, status="completed")]
    await asyncio.gather(*(store.save(end) for end in ends))
    assert await store.get("alpha", row.id) == ends[0]


async def test_the_store_keeps_its_own_copy(store: Store) -> None:
    row = response()
    await store.save(row)
    row.body = b"changed"
    found = await store.get("alpha", row.id)
    assert found is not None
    assert found.body != b"changed"


async def test_deleted_stays_deleted(store: Store) -> None:
    """R-59: a second DELETE finds nothing; what the run still writes is dropped."""
    row = response(status="in_progress")
    await store.save(row)
    assert await store.delete("alpha", row.id)
    assert not await store.delete("alpha", row.id)
    await store.save(replace(row, status="completed"))
    assert await store.get("alpha", row.id) is None
    assert await store.chain("alpha", row.id) is None
    assert await store.items("alpha", [orjson.loads(row.input)[0]["id"]]) == {}


async def test_a_delete_waits_for_the_save_before_it(store: Store) -> None:
    row = response()
    saved = asyncio.ensure_future(store.save(row))
    await asyncio.sleep(0)
    assert await store.delete("alpha", row.id)
    await saved
    assert await store.get("alpha", row.id) is None


async def test_children_of_a_deleted_response_stay_readable(store: Store) -> None:
    """R-60: but nothing new can be chained to them, their history is gone."""
    parent = response()
    child = response(previous=parent.id)
    await store.save(parent)
    await store.save(child)
    await store.delete("alpha", parent.id)
    assert await store.get("alpha", child.id) == child
    assert await store.chain("alpha", child.id) is None


async def test_a_chain_is_oldest_first_input_before_output(store: Store) -> None:
    """Spec §9."""
    last = await save_chain(store, "abc")
    assert await texts_of(store, last) == "aAbBcC"


async def test_branches_do_not_see_each_other(store: Store) -> None:
    """Spec §9: many children of one parent."""
    trunk = await save_chain(store, "ab")
    left = await save_chain(store, "c", trunk)
    right = await save_chain(store, "de", trunk)
    assert await texts_of(store, left) == "aAbBcC"
    assert await texts_of(store, right) == "aAbBdDeE"
    assert await texts_of(store, trunk) == "aAbB"


async def test_a_chain_with_a_missing_ancestor_is_none(store: Store) -> None:
    last = await save_chain(store, "ab", previous="resp_never_stored")
    assert await store.chain("alpha", last) is None


async def test_a_chain_that_bites_its_tail_ends(store: Store) -> None:
    first = response("a")
    second = response("b", previous=first.id)
    first.previous_response_id = second.id
    await store.save(first)
    await store.save(second)
    assert await store.chain("alpha", second.id) is None


async def test_a_chain_of_a_thousand_turns(store: Store) -> None:
    rows = [response(str(n % 10)) for n in range(1000)]
    for before, row in pairwise(rows):
        row.previous_response_id = before.id
    await asyncio.gather(*(store.save(row) for row in rows))
    turns = await store.chain("alpha", rows[-1].id)
    assert turns is not None
    assert [turn.id for turn in turns] == [row.id for row in rows]


async def test_an_item_is_found_in_input_and_output(store: Store) -> None:
    partition = new_partition()
    row = response(partition=partition)
    await store.save(row)
    said = orjson.loads(row.input)[0]
    heard = orjson.loads(row.body)["output"][0]
    for item in (said, heard):
        assert await store.items("alpha", [item["id"]]) == {item["id"]: item}
    assert await store.items("alpha", [item_id(partition)]) == {}


async def test_items_of_many_responses_are_found_at_once(store: Store) -> None:
    """Spec §9: across the responses of the project; what is unknown is left out."""
    rows = [response(text) for text in "abc"]
    foreign = response(project="beta")
    for row in (*rows, foreign):
        await store.save(row)
    wanted = [
        *(orjson.loads(row.input)[0] for row in rows),
        orjson.loads(rows[1].body)["output"][0],
    ]
    ids = [item["id"] for item in wanted]
    unknown = ["run:1", item_id(new_partition()), orjson.loads(foreign.input)[0]["id"]]
    assert await store.items("alpha", unknown + ids + ids) == dict(zip(ids, wanted, strict=True))


async def test_ten_thousand_items_of_one_row_are_one_decoding(store: Store) -> None:
    """R-09: one by one, each with the whole row, these took minutes."""
    partition = new_partition()
    row = response(partition=partition)
    wanted = [message(item_id(partition), str(n)) for n in range(10_000)]
    row.input = orjson.dumps(wanted)
    await store.save(row)
    start = time.process_time()
    found = await store.items("alpha", [str(item["id"]) for item in wanted])
    assert time.process_time() - start < 5  # a full garbage collection may fall into it
    assert list(found.values()) == wanted


async def test_neighbouring_partitions_are_kept_apart(store: Store) -> None:
    low, high = "0123456789abcdef", "0123456789abcdf0"
    for partition in (low, high):
        row = response(partition=partition)
        row.input = orjson.dumps([message(f"msg_{partition}{'0' * 32}", partition)])
        await store.save(row)
    said, never = f"msg_{low}{'0' * 32}", f"msg_{low}{'1' * 32}"
    assert await store.items("alpha", [said, never]) == {said: message(said, low)}


async def test_an_expired_response_is_unknown_before_the_sweep(store: Store, clock: Clock) -> None:
    row = response(expires_at=NOW + 10)
    child = response(previous=row.id)
    await store.save(row)
    await store.save(child)
    clock.now = NOW + 9
    assert await store.get("alpha", row.id) == row
    clock.now = NOW + 10
    assert await store.get("alpha", row.id) is None
    assert await store.chain("alpha", child.id) is None
    assert await store.items("alpha", [orjson.loads(row.input)[0]["id"]]) == {}
    assert not await store.delete("alpha", row.id)


async def test_a_clock_that_jumps_loses_and_reorders_nothing(store: Store, clock: Clock) -> None:
    """R-77: an hour ahead, then back."""
    first = response("a")
    await store.save(first)
    clock.now = NOW + 3600
    second = response("b", previous=first.id)
    await store.save(second)
    clock.now = NOW - 3600
    last = await save_chain(store, "c", second.id)
    assert await texts_of(store, last) == "aAbBcC"


async def test_the_sweep_is_bounded(store: Store) -> None:
    """R-137."""
    due = [response(expires_at=NOW + n) for n in range(5)]
    kept = [response(expires_at=NOW + 100), response(expires_at=None)]
    for row in (*due, *kept):
        await store.save(row)
    assert [await store.expire(NOW + 50, 2) for _ in range(4)] == [2, 2, 1, 0]
    for row in kept:
        assert await store.get("alpha", row.id) == row


async def test_keys(store: Store) -> None:
    old, new = api_key("old", created_at=NOW), api_key("new", created_at=NOW + 1)
    other = api_key("other", project="beta", created_at=NOW + 2)
    for key in (old, new, other):
        await store.add_key(key)
    assert await store.key(old.hash) == old
    assert await store.key("0" * 64) is None
    assert await store.keys() == [other, new, old]
    assert await store.keys("alpha") == [new, old]
    assert await store.keys("gamma") == []


async def test_a_key_is_revoked_once(store: Store) -> None:
    key = api_key()
    await store.add_key(key)
    assert await store.revoke_key(key.id, NOW + 5)
    assert not await store.revoke_key(key.id, NOW + 6)
    assert not await store.revoke_key("key_none", NOW)
    assert await store.key(key.hash) == replace(key, revoked_at=NOW + 5)


async def test_a_key_cannot_be_stored_twice(store: Store) -> None:
    key = api_key()
    await store.add_key(key)
    for twin in (replace(api_key(), id=key.id), replace(api_key(), hash=key.hash)):
        with pytest.raises(ValueError, match="exists"):
            await store.add_key(twin)
    assert await store.keys() == [key]


async def test_hostile_text_is_only_text(store: Store) -> None:
    """R-28: parameters are never part of a statement."""
    hostile = "x'; DROP TABLE responses; --\x00%_"
    row = response(project=hostile)
    row.id = hostile
    await store.save(row)
    assert await store.get(hostile, hostile) == row
    assert await store.get("%", "%") is None


async def test_a_store_that_is_open_is_ready(store: Store) -> None:
    assert await store.ready()
