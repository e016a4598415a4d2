"""What frees a conversation, and what is left in it then (R-53, R-59, R-64, R-71)."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from antiphon.errors import (
    APIError,
    ConversationNotFound,
    Overloaded,
)
from antiphon.protocol.deltas import Finish, TextDelta
from tests.engine.bench import HANGS, HELLO, jobs, pair, said, until
from tests.engine.talking import Talks, message


@pytest.fixture
async def opened() -> AsyncIterator[Talks]:
    talks = Talks()
    yield talks
    await talks.close()


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("store", [False, True])
async def test_who_leaves_frees_it(opened: Talks, step: int, store: bool) -> None:
    """R-53, at whatever step of the run: its task may not even have begun."""
    talk = await opened(HANGS, HELLO)
    run, task, _ = await talk.bench.start(conversation=talk.id, stream=True, store=store)
    for _ in range(step):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await talk.freed()
    assert await talk.texts() == []
    row = await talk.store.get("p", run.id)
    assert (row is not None) is store
    assert row is None or row.status in ("cancelled", "failed")


async def test_an_admission_that_nobody_was_told_of_frees_it(opened: Talks) -> None:
    """The answer of the store got lost: what is ours and not made here ends (`Jobs._find_lost`)."""
    talk = await opened(HELLO)
    talk.store.runs.unanswered = 1
    with pytest.raises(Overloaded):
        await talk.run()
    assert not await talk.is_free()
    await talk.freed()
    assert await talk.texts() == []


@pytest.mark.parametrize("lost", [1, 2, 4])
@pytest.mark.parametrize("way", ["end", "leave"])
async def test_an_end_that_could_not_be_stored_frees_it_later(
    opened: Talks, lost: int, way: str
) -> None:
    """R-71: the client was told an error, so nothing of it is there."""
    talk = await opened(HELLO if way == "end" else HANGS)
    talk.store.runs.lost_ends = lost
    run, task, _ = await talk.bench.start(conversation=talk.id)
    if way == "leave":
        await until(lambda: run.spoken)
        task.cancel()
    await asyncio.wait([task])
    assert not await talk.is_free()
    if way == "end":
        assert isinstance(run.error, Overloaded)
        assert orjson.loads(run.body)["status"] == "failed"
    await talk.freed()
    assert await talk.texts() == []
    shown = await talk.bench.shown(run.id)
    assert shown["status"] == "failed"


async def test_a_deleted_response_frees_it(opened: Talks) -> None:
    """R-59: and its run appends nothing."""
    talk = await opened(HANGS, HELLO)
    run, task, _ = await talk.bench.start(conversation=talk.id)
    await until(lambda: run.spoken)
    assert await talk.bench.engine.delete("p", run.id)
    assert await talk.is_free()
    await asyncio.wait([task])
    assert run.error is not None
    await talk.run(input="next")
    assert await talk.texts() == ["next", "Hello"]


async def test_a_response_that_was_deleted_elsewhere_says_no_more(opened: Talks) -> None:
    """Its conversation may have got others since."""
    talk = await opened([[TextDelta("a")], 0.6, [TextDelta("b"), Finish()]])
    other = pair(talk.bench, HELLO)
    run, task, _ = await talk.bench.start(conversation=talk.id)
    await until(lambda: run.spoken)
    assert await other.engine.delete("p", run.id)
    _, others_task, _ = await other.start(conversation=talk.id, input="theirs")
    await asyncio.wait([task, others_task])
    assert isinstance(run.error, APIError)
    assert await talk.texts() == ["theirs", "Hello"]
    await other.engine.close()


@pytest.mark.parametrize("mode", ["foreground", "background", "keyed"])
async def test_a_run_ends_well_without_its_conversation(opened: Talks, mode: str) -> None:
    talk = await opened([[TextDelta("a")], 0.1, [TextDelta("b"), Finish()]])
    bench = talk.bench
    if mode == "foreground":
        run, task, _ = await bench.start(conversation=talk.id)
        await until(lambda: run.spoken)
        await talk.service.delete("p", talk.id)
        await task
        shown = orjson.loads(run.body)
    else:
        key, background = ("k", False) if mode == "keyed" else (None, True)
        made = await bench.admit(key, background=background, conversation=talk.id)
        await said(bench, made.id, "response.output_text.delta")
        await talk.service.delete("p", talk.id)
        shown = await bench.ended(made.id)
    assert (shown["status"], shown["output_text"]) == ("completed", "ab")
    with pytest.raises(ConversationNotFound):
        await talk.items()


async def test_a_job_whose_conversation_went_while_it_waited_fails(opened: Talks) -> None:
    """There is nothing left to answer."""
    talk = await opened(options=jobs(most=0))
    made = await talk.bench.admit(conversation=talk.id)
    await talk.service.delete("p", talk.id)
    worker = pair(talk.bench, HELLO)
    async with worker.working():
        shown = await talk.bench.ended(made.id)
    assert shown["status"] == "failed"
    assert shown["error"]["message"] == f"Conversation with id '{talk.id}' not found."
    assert worker.backend.prompts == []


async def test_a_cancelled_job_frees_it(opened: Talks) -> None:
    talk = await opened(HANGS, HELLO)
    made = await talk.bench.admit(conversation=talk.id)
    await said(talk.bench, made.id, "response.output_text.delta")
    assert await talk.bench.engine.cancel("p", made.id) is not None
    assert await talk.is_free()
    assert await talk.texts() == []


async def test_a_wish_for_a_compaction_is_no_item_of_the_conversation(opened: Talks) -> None:
    talk = await opened(HELLO, HELLO, items=[message("zero")])
    await talk.run(input=[message("one"), {"type": "compaction_trigger"}])
    assert [item["type"] for item in await talk.items()] == ["message", "message", "compaction"]


async def test_the_row_of_what_is_not_stored_holds_no_input(opened: Talks) -> None:
    """`store: false`: the row keeps the conversation busy, and knows no words."""
    talk = await opened(HANGS, HELLO)
    run, task, _ = await talk.bench.start(conversation=talk.id, input="my secret", store=False)
    row = await talk.store.runs.find(run.id)
    assert row is not None
    assert row.input == b""
    await until(lambda: bool(talk.bench.backend.prompts))
    task.cancel()
    await asyncio.wait([task])
    await talk.freed()
    await talk.run(input="my secret", store=False)
    assert await talk.texts() == ["my secret", "Hello"]
