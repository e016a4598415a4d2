"""What a model was told of hosted calls is known to those that continue its response (decision
0007), and to no client."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from antiphon.engine.made import Foreground
from antiphon.engine.progress import told_in
from antiphon.engine.recent import Recent, Remembered, measure
from antiphon.errors import InvalidRequestError
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta, UsageReport
from antiphon.protocol.items.base import told_of, turn_of
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Usage
from antiphon.store.base import Conversation
from antiphon.testing import ScriptedTool, Step, assert_valid_log
from antiphon.tools.base import Call, CallItem, Outcome
from tests.engine.bench import HANGS, Bench, bury, pair, said, until
from tests.engine.tooling import ANSWER, FUNCTION, PYTHON, calls, kinds, play

Json = dict[str, Any]
WEATHER = ToolCallDelta(9, "{}", "weather", "call_1")
SUNNY = [{"type": "function_call_output", "call_id": "call_1", "output": "sunny"}]
CALL = "code_interpreter_call"


class Telling(ScriptedTool):
    """Tells the model what its item does not say."""

    async def run(self, call: Call, item: CallItem) -> Outcome:
        return Outcome({"outputs": None}, told=f"told 【1】 {call.read()['code']}")


def bench_of(*turns: Sequence[Step], **more: Any) -> Bench:
    return Bench(*turns, tools={"code_interpreter": Telling()}, **more)


def told(bench: Bench, turn: int = -1) -> list[Any]:
    """What the model was told of each call of Python that it saw, by its turn in the run."""
    items = bench.backend.prompts[turn].items
    return [(turn_of(i), told_of(i)) for i in items if i["type"] == CALL]


async def kept(bench: Bench, response_id: str) -> Json | None:
    row = await bench.store.get("p", response_id)
    assert row is not None
    assert b"told" not in row.body
    return None if row.told is None else dict(orjson.loads(row.told))


async def test_a_chain_goes_on_from_it() -> None:
    bench = bench_of(calls("1", "2"), ANSWER, calls("3"), ANSWER, ANSWER)
    first, events = await play(bench)
    assert "told" not in str(events)
    assert told(bench) == [(1, "told 【1】 1"), (1, "told 【1】 2")]
    earlier = [(None, "told [1】 1"), (None, "told [1】 2")]
    second, _ = await play(bench, previous_response_id=first["id"])
    assert told(bench, 2) == earlier
    assert told(bench, 3) == [*earlier, (1, "told 【1】 3")]
    await play(bench, previous_response_id=second["id"])
    assert told(bench) == [*earlier, (None, "told [1】 3")]
    assert list((await kept(bench, second["id"]) or {}).values()) == ["told [1】 3"]


async def test_the_client_answers_and_the_model_has_both() -> None:
    """The response ends before the model sees what came of its own call."""
    bench = bench_of(calls("1", more=[WEATHER]), ANSWER)
    first, _ = await play(bench, tools=[PYTHON, FUNCTION])
    assert kinds(first) == ["function_call", CALL]
    await play(bench, tools=[PYTHON, FUNCTION], input=SUNNY, previous_response_id=first["id"])
    assert told(bench) == [(None, "told [1】 1")]


async def test_a_response_without_tools_keeps_nothing() -> None:
    bench = bench_of(ANSWER)
    made, _ = await play(bench)
    row = await bench.store.get("p", made["id"])
    assert row is not None
    assert row.told is None


@pytest.mark.parametrize("whole", [True, False])
async def test_who_sends_the_item_back_has_it(*, whole: bool) -> None:
    """Whole, or a reference to it; and so do those behind it, in a chain or a conversation."""
    bench = bench_of(calls("1", more=[WEATHER]), *[ANSWER] * 4)
    first, _ = await play(bench, tools=[PYTHON, FUNCTION])
    weather, call = orjson.loads(orjson.dumps(first["output"]))
    call = call if whole else {"type": "item_reference", "id": call["id"]}
    again = [{"role": "user", "content": "hi"}, weather, call, *SUNNY]
    second, _ = await play(bench, input=again)
    assert told(bench) == [(None, "told [1】 1")]
    await play(bench, previous_response_id=second["id"])
    assert told(bench) == [(None, "told [1】 1")]
    await bench.store.conversations.add(Conversation("conv_1", "p", 0, {}), [])
    await play(bench, conversation="conv_1", input=again)
    await play(bench, conversation="conv_1")
    assert told(bench) == [(None, "told [1】 1")]


async def test_what_is_not_stored_was_told_to_nobody() -> None:
    bench = bench_of(calls("1"), ANSWER, ANSWER, ANSWER)
    first, _ = await play(bench, store=False)
    again = [{"role": "user", "content": "hi"}, *first["output"]]
    await play(bench, input=orjson.loads(orjson.dumps(again)))
    assert told(bench) == [(None, None)]
    says = [item | {"outputs": []} for item in first["output"] if item["type"] == CALL]
    await play(bench, input=[{"role": "user", "content": "hi"}, *says])
    assert told(bench) == [(None, None)]


@pytest.mark.parametrize("store", [True, False])
async def test_a_conversation_goes_on_from_it(*, store: bool) -> None:
    bench = bench_of(calls("1"), ANSWER, ANSWER)
    await bench.store.conversations.add(Conversation("conv_1", "p", 0, {}), [])
    await play(bench, conversation="conv_1", store=store)
    await play(bench, conversation="conv_1", store=store)
    assert told(bench) == [(None, "told [1】 1")]
    page = await bench.store.conversations.page("p", "conv_1", after=None, limit=9, order="asc")
    assert "told" not in orjson.dumps(page).decode()


# -- durable -------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [True, False])
async def test_a_background_response_has_it(*, store: bool) -> None:
    """With `store: false` nobody can continue it, and nothing is kept."""
    bench = bench_of(calls("1"), ANSWER, ANSWER)
    async with bench.working():
        made = await bench.admit(tools=[PYTHON], store=store)
        assert_valid_log(await bench.follow(made.id))
        if not store:
            assert await kept(bench, made.id) is None
            return
        await bench.start(previous_response_id=made.id)
        await until(lambda: len(bench.backend.prompts) == 3)
    assert told(bench) == [(None, "told [1】 1")]


async def test_who_takes_it_over_has_it() -> None:
    """R-65, R-66: what the dead one was told was written down with the call."""
    victim = bench_of(calls("1"), HANGS)
    heir = pair(victim, ANSWER, tools={"code_interpreter": Telling()})
    async with victim.working():
        made = await victim.admit(tools=[PYTHON])
        await said(victim, made.id, "response.output_text.delta")
        victim.engine.jobs.stopping = True  # the dead take nothing back
        async with heir.working():
            await bury(victim)
            assert (await heir.ended(made.id))["status"] == "completed"
    assert told(heir) == [(1, "told 【1】 1")]
    assert list((await kept(heir, made.id) or {}).values()) == ["told [1】 1"]


async def test_a_response_that_is_cancelled_has_it() -> None:
    """R-58: whoever ends it knows what was written down."""
    bench = bench_of(calls("1"), HANGS)
    async with bench.working():
        made = await bench.admit(tools=[PYTHON])
        await said(bench, made.id, "response.output_text.delta")
        row = await bench.engine.cancel("p", made.id)
    assert row is not None
    assert row.status == "cancelled"
    assert list((await kept(bench, made.id) or {}).values()) == ["told [1】 1"]


async def test_a_run_that_fails_has_it() -> None:
    bench = bench_of(calls("1"), [InvalidRequestError("no")])
    failed, _ = await play(bench)
    assert failed["status"] == "failed"
    assert list((await kept(bench, failed["id"]) or {}).values()) == ["told [1】 1"]


async def test_a_run_that_its_client_leaves_has_it() -> None:
    """R-53."""
    bench = bench_of(calls("1"), HANGS)
    run, task, log = await bench.start(stream=True, tools=[PYTHON])
    async with asyncio.timeout(5):
        async for frames in log.read():
            if any(name == "response.output_text.delta" for name, _ in frames):
                break
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert list((await kept(bench, run.id) or {}).values()) == ["told [1】 1"]


@pytest.mark.parametrize("progress", [b"", b"no JSON", b"[]", b'{"pending": 5}'])
def test_progress_that_cannot_be_read_says_nothing(progress: bytes) -> None:
    assert told_in(progress) == {}


# -- connections ---------------------------------------------------------------------------------


async def foreground(bench: Bench, recent: Recent, **fields: Any) -> Foreground:
    """A request of a connection, which remembers what is not stored."""
    request = CreateResponse(model="m", **{"input": "hi", "tools": [PYTHON], **fields})
    made = await bench.engine.start(request, "p", recent=recent)
    assert isinstance(made, Foreground)
    await made.task
    if request.store is False:
        items = made.items()
        recent.put("", Remembered(made.run.id, items, await measure(items)))
    return made


async def test_a_connection_remembers_it() -> None:
    """Also for a stored response that continues one that is not, and for those behind it."""
    bench = bench_of(calls("1"), ANSWER, calls("2"), ANSWER, calls("3"), ANSWER, ANSWER)
    recent = Recent()
    first = await foreground(bench, recent, store=False)
    size = await measure(first.items())
    assert size - sum(len(orjson.dumps(item)) for item in first.items()) == len('"told [1】 1"') + 2
    second = await foreground(bench, recent, store=False, previous_response_id=first.run.id)
    third = await foreground(bench, recent, previous_response_id=second.run.id)
    assert told(bench, 4) == [(None, "told [1】 1"), (None, "told [1】 2")]
    await foreground(bench, Recent(), previous_response_id=third.run.id)
    assert told(bench) == [(None, f"told [1】 {n}") for n in (1, 2, 3)]


# -- compaction ----------------------------------------------------------------------------------


async def test_a_compaction_keeps_it() -> None:
    """What it keeps of this run is cited in this run; in a later one it is no source."""
    says: Sequence[Step] = [[TextDelta("A summary."), UsageReport(Usage(5, 0, 2, 0)), Finish()]]
    bench = bench_of(calls("1"), says, ANSWER, ANSWER)
    bench.backend.tokens = lambda prompt: 3000 if prompt.items[-1]["type"] == CALL else 100
    asked = [
        {"role": "user", "content": "before"},
        {"role": "assistant", "content": "word " * 2000},
        {"role": "user", "content": "now"},
    ]
    first, _ = await play(
        bench,
        input=asked,
        context_management=[{"type": "compaction", "compact_threshold": 2000}],
    )
    assert kinds(first) == [CALL, "compaction", "message"]
    assert told(bench) == [(1, "told 【1】 1")]
    await play(bench, previous_response_id=first["id"])
    assert told(bench) == [(None, "told [1】 1")]
