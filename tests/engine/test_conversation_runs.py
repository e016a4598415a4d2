"""Runs of conversations: who is admitted, and what is appended (R-64; decision record 0006)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson
import pytest

from antiphon.errors import (
    ConversationLocked,
    ConversationNotFound,
    Overloaded,
    UpstreamError,
)
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta
from antiphon.protocol.request import CreateResponse
from antiphon.testing import Step
from tests.engine.bench import HANGS, HELLO, jobs, until
from tests.engine.talking import Talk, Talks, message, text_of

#: Two dozen must suffice in any test.
MANY: Final = 24


@pytest.fixture
async def opened() -> AsyncIterator[Talks]:
    talks = Talks()
    yield talks
    await talks.close()


# -- what is appended ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("store", [False, True])
async def test_turns_are_appended_once_and_seen_by_the_next(
    opened: Talks, stream: bool, store: bool
) -> None:
    talk = await opened(HELLO, HELLO, items=[message("zero")])
    first = await talk.run(input="one", stream=stream, store=store)
    second = await talk.run(input="two", stream=stream, store=store)
    assert talk.shown(0) == ["zero", "one"]
    assert talk.shown(1) == ["zero", "one", "Hello", "two"]
    assert await talk.texts() == ["zero", "one", "Hello", "two", "Hello"]
    kept = await talk.items()
    assert [kept[2], kept[4]] == first["output"] + second["output"]
    assert len({item["id"] for item in kept}) == 5


async def test_a_run_may_bring_no_input(opened: Talks) -> None:
    """The conversation itself is what is answered."""
    talk = await opened(HELLO, items=[message("zero")])
    await talk.run(input=[])
    assert talk.shown() == ["zero"]
    assert await talk.texts() == ["zero", "Hello"]


@pytest.mark.parametrize(
    ("turn", "status", "kept"),
    [
        (HELLO, "completed", ["hi", "Hello"]),
        ([[TextDelta("Hel"), Finish("length")]], "incomplete", ["hi", "Hel"]),
        ([[TextDelta("Hel")], UpstreamError(should_retry=False)], "failed", []),
        ([UpstreamError(should_retry=False)], "failed", []),
    ],
    ids=["completed", "incomplete", "failed", "failed at once"],
)
@pytest.mark.parametrize("mode", ["foreground", "background", "keyed"])
async def test_what_an_end_leaves(
    opened: Talks, mode: str, turn: Sequence[Step], status: str, kept: list[str]
) -> None:
    """Spec §9: a failed run is not appended. Whatever the end, the next one may begin."""
    talk = await opened(turn, HELLO)
    bench = talk.bench
    if mode == "foreground":
        shown = await talk.run()
    else:
        key, background = ("k", False) if mode == "keyed" else (None, True)
        made = await bench.admit(key, background=background, conversation=talk.id)
        shown = await bench.ended(made.id)
    assert shown["status"] == status
    assert shown["conversation"] == {"id": talk.id}
    assert await talk.texts() == kept
    await talk.run(input="next")
    assert talk.shown() == [*kept, "next"]


async def test_a_cut_off_call_needs_no_output(opened: Talks) -> None:
    """It is kept, and not shown: the client cannot answer it."""
    call = ToolCallDelta(0, '{"a"', name="f", call_id="call_1")
    cut: Sequence[Step] = [[call, Finish("length")]]
    talk = await opened(cut, HELLO)
    tools = [{"type": "function", "name": "f", "parameters": {}}]
    assert (await talk.run(tools=tools))["status"] == "incomplete"
    assert await talk.texts() == ["hi", "function_call"]
    assert (await talk.run(input="two", tools=tools))["status"] == "completed"
    assert talk.shown() == ["hi", "two"]


# -- ids -----------------------------------------------------------------------------------------


async def test_what_is_already_there_is_not_repeated(opened: Talks) -> None:
    """Clients send back what they were shown, in the form in which they were shown it."""
    talk = await opened(HELLO, HELLO, HELLO, items=[message("zero"), message("chosen", id="m")])
    first = await talk.run(input="one")
    kept = await talk.items()
    shown = [{"status": "completed", **item} for item in kept]
    for sent in (kept, shown, [{"type": "item_reference", "id": item["id"]} for item in kept]):
        talk.bench.backend._turns[:] = [HELLO]
        before = await talk.texts()
        await talk.run(input=[*sent, message("more")])
        assert talk.shown() == [*before, "more"]
        assert await talk.texts() == [*before, "more", "Hello"]
    assert first["output"][0] in await talk.items()


async def test_a_taken_id_is_given_to_nobody_else(opened: Talks) -> None:
    talk = await opened(HELLO, items=[message("zero", id="m")])
    own = [message("one", id="m"), message("two", id="m"), message("three", id="n")]
    await talk.run(input=own)
    kept = await talk.items()
    assert [text_of(item) for item in kept] == ["zero", "one", "two", "three", "Hello"]
    assert len({item["id"] for item in kept}) == 5
    assert (kept[0]["id"], kept[3]["id"]) == ("m", "n")
    assert talk.shown() == ["zero", "one", "two", "three"]


async def test_a_job_keeps_the_ids_that_it_was_accepted_with(opened: Talks) -> None:
    """It is planned again by whoever makes it."""
    talk = await opened(HELLO, items=[message("zero", id="m")])
    made = await talk.bench.admit(conversation=talk.id, input=[message("one", id="m")])
    row = await talk.store.runs.find(made.id)
    assert row is not None
    await talk.bench.ended(made.id)
    kept = await talk.items()
    assert kept[1]["id"] == orjson.loads(row.input)[0]["id"]
    assert [text_of(item) for item in kept] == ["zero", "one", "Hello"]


# -- one at a time -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["foreground", "unstored", "background", "keyed"])
async def test_a_busy_conversation_takes_nobody_else(opened: Talks, mode: str) -> None:
    """R-64."""
    talk = await opened(HANGS, HELLO)
    bench = talk.bench
    if mode in ("foreground", "unstored"):
        await bench.start(conversation=talk.id, store=mode == "foreground")
    else:
        key, background = ("k", False) if mode == "keyed" else (None, True)
        await bench.admit(key, background=background, conversation=talk.id)
    await until(lambda: len(bench.backend.prompts) == 1)
    for attempt in (
        lambda: bench.start(conversation=talk.id),
        lambda: bench.admit(conversation=talk.id),
        lambda: bench.admit("other", background=False, conversation=talk.id),
        lambda: talk.add("more"),
    ):
        with pytest.raises(ConversationLocked) as caught:
            await attempt()
        assert (caught.value.code, caught.value.param) == ("conversation_locked", "conversation")
    assert await talk.texts() == []
    assert talk.store.runs.admissions == 4, "who finds it busy does not try again and again"


async def test_who_waits_in_the_queue_holds_it(opened: Talks) -> None:
    talk = await opened(HELLO, options=jobs(most=0))
    made = await talk.bench.admit(conversation=talk.id)
    assert (await talk.bench.shown(made.id))["status"] == "queued"
    with pytest.raises(ConversationLocked):
        await talk.run()
    assert await talk.bench.engine.delete("p", made.id)
    assert await talk.is_free()


async def test_items_that_came_between_plan_and_admission_are_seen(opened: Talks) -> None:
    """The run is planned anew with what the conversation holds then."""
    talk = await opened(HELLO, items=[message("zero", id="a")])
    talk.store.runs.before = [
        lambda: talk.add("added"),
        lambda: talk.service.add("p", talk.id, [message("taken", id="m")]),
        lambda: talk.service.remove("p", talk.id, "a"),
    ]
    await talk.run(input=[message("one", id="m")])
    assert talk.shown() == ["added", "taken", "one"]
    kept = await talk.items()
    assert [text_of(item) for item in kept] == ["added", "taken", "one", "Hello"]
    assert len({item["id"] for item in kept}) == 4
    assert talk.store.runs.admissions == 4
    assert len(talk.bench.backend.prompts) == 1


async def test_another_run_that_comes_between_is_seen(opened: Talks) -> None:
    """It had ended before this one was admitted."""
    talk = await opened(HELLO, HELLO)
    talk.store.runs.before = [lambda: talk.run(input="theirs")]
    await talk.run(input="ours")
    assert talk.shown() == ["theirs", "Hello", "ours"]
    assert await talk.texts() == ["theirs", "Hello", "ours", "Hello"]


async def test_who_is_always_overtaken_is_told_to_come_again(opened: Talks) -> None:
    talk = await opened(HELLO)
    talk.store.runs.before = [lambda: talk.add("theirs")] * MANY
    with pytest.raises(Overloaded) as caught:
        await talk.run()
    assert caught.value.retry_after == 1.0
    assert set(await talk.texts()) == {"theirs"}
    assert talk.bench.backend.prompts == []
    assert await talk.is_free()


async def test_a_conversation_that_goes_before_the_admission_is_unknown(opened: Talks) -> None:
    talk = await opened(HELLO)
    talk.store.runs.before = [lambda: talk.service.delete("p", talk.id)]
    with pytest.raises(ConversationNotFound) as caught:
        await talk.run()
    assert caught.value.param == "conversation"


# -- Idempotency-Key -----------------------------------------------------------------------------


async def admit(talk: Talk, key: str, **fields: Any) -> Any:
    made = await talk.bench.admit(key, background=False, conversation=talk.id, **fields)
    return orjson.loads(await talk.bench.engine.outcome(made))


async def test_a_replay_does_not_append_again(opened: Talks) -> None:
    """R-79: also while another one runs, and when the conversation is gone."""
    talk = await opened(HELLO, HANGS)
    first = await admit(talk, "k")
    assert await admit(talk, "k") == first
    _, task, _ = await talk.bench.start(conversation=talk.id)
    assert await admit(talk, "k") == first
    assert await talk.texts() == ["hi", "Hello"]
    await talk.service.delete("p", talk.id)
    assert await admit(talk, "k") == first
    task.cancel()
    await asyncio.wait([task])


async def test_twins_do_not_lock_each_other_out(opened: Talks) -> None:
    talk = await opened([[TextDelta("a")], 0.1, [Finish()]])
    bodies = await asyncio.gather(*(admit(talk, "k") for _ in range(5)))
    assert len({body["id"] for body in bodies}) == 1
    assert await talk.texts() == ["hi", "a"]


async def test_a_locked_conversation_does_not_take_the_key(opened: Talks) -> None:
    talk = await opened(HANGS, HELLO)
    run, task, _ = await talk.bench.start(conversation=talk.id)
    await until(lambda: run.spoken)
    with pytest.raises(ConversationLocked):
        await admit(talk, "k")
    task.cancel()
    await asyncio.wait([task])
    assert (await admit(talk, "k"))["output_text"] == "Hello"


async def test_an_error_frees_key_and_conversation(opened: Talks) -> None:
    talk = await opened([UpstreamError()], HELLO)
    with pytest.raises(UpstreamError):
        await admit(talk, "k")
    assert (await admit(talk, "k"))["output_text"] == "Hello"
    assert await talk.texts() == ["hi", "Hello"]


# -- what only reads -----------------------------------------------------------------------------


async def test_counting_and_compacting_need_no_lock(opened: Talks) -> None:
    talk = await opened(HANGS, [[TextDelta("Summary"), Finish()]], items=[message("zero")])
    _, task, _ = await talk.bench.start(conversation=talk.id)
    await until(lambda: len(talk.bench.backend.prompts) == 1)
    request = CreateResponse(model="m", conversation=talk.id, input="x")
    count, _ = await talk.bench.engine.count_tokens(request, "p")
    assert count.tokens > 0
    await talk.bench.engine.compact(request, "p")
    assert await talk.texts() == ["zero"]
    task.cancel()
    await asyncio.wait([task])
