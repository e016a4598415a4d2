"""What one run shows its model, turn by turn: compaction, truncation, and what is told (0006)."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from antiphon.backends.base import Prompt
from antiphon.engine.run import Run
from antiphon.engine.sealing import Sealer
from antiphon.engine.view import threshold
from antiphon.errors import ContextLengthExceeded, UpstreamError
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta, UsageReport
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Usage
from antiphon.testing import Step, assert_valid_log, decode
from antiphon.tools.base import Call, CallItem
from tests.engine.bench import HELLO, Bench, bury, jobs, pair, said, until
from tests.engine.test_jobs import PYTHON, Python

Json = dict[str, Any]
LONG = "lorem ipsum dolor " * 250
SUMMARY: Sequence[Step] = [
    [],
    [TextDelta("They talked."), UsageReport(Usage(70, 0, 5, 0))],
    [Finish()],
]
ANSWER: Sequence[Step] = [[], [TextDelta("Hello"), UsageReport(Usage(20, 0, 3, 0))], [Finish()]]
LOOKS: Sequence[Step] = [
    [
        ToolCallDelta(0, '{"code":"1"}', "code_interpreter", "call_1"),
        UsageReport(Usage(10, 0, 5, 0)),
        Finish(),
    ]
]
TOO_LONG: Sequence[Step] = [ContextLengthExceeded()]
COMPACTING: Json = {"context_management": [{"type": "compaction", "compact_threshold": 1_000}]}
TRIGGER: Json = {"type": "compaction_trigger"}


def message(text: str, role: str = "user") -> Json:
    return {"type": "message", "role": role, "content": text}


def talk(*words: str) -> list[Json]:
    """A turn for each of these words: a question and a long answer."""
    pairs = [(message(word), message(f"{word}a {LONG}", "assistant")) for word in words]
    return [item for pair in pairs for item in pair]


def texts(prompt: Prompt) -> list[str]:
    """The first word of each message; the type of what is none."""
    return [
        str(item["content"][0]["text"]).split()[0] if item["type"] == "message" else item["type"]
        for item in prompt.items
    ]


def seen(bench: Bench) -> list[list[str]]:
    """What the model saw in each turn."""
    return [texts(prompt) for prompt in bench.backend.prompts]


def short(prompt: Prompt) -> int:
    """A tokenizer: a hundred for each item."""
    return 100 * len(prompt.items)


async def opened(*turns: Sequence[Step], size: int | None = None, **more: Any) -> Bench:
    """An engine that has its keys, before a model with this window."""
    bench = Bench(*turns, **more)
    bench.backend.context_window = size
    bench.backend.tokens = None if size is None else short
    await bench.engine.open()
    return bench


def ids(run: Run) -> dict[str, str]:
    """The first word of each message of the context → the item's id."""
    start = run.view.start
    return {word: item["id"] for word, item in zip(texts(start), start.items, strict=True)}


# -- truncation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"background": True}, {"stream": True}])
async def test_disabled_is_refused_before_anything_is_stored_or_sent(how: Json) -> None:
    bench = await opened(HELLO, size=400)
    with pytest.raises(ContextLengthExceeded):
        await bench.engine.start(CreateResponse(model="m", input=talk("1", "2"), **how), "p")
    assert bench.backend.prompts == []
    assert await bench.store.runs.queued() == 0
    await bench.engine.close()


async def test_auto_says_what_was_dropped() -> None:
    bench = await opened(ANSWER, size=600)
    words = [message("s", "system"), *talk("1", "2", "3")]
    run, events = await bench.events(input=words, truncation="auto")
    assert seen(bench) == [["s", "2", "2a", "3", "3a"]]
    final = assert_valid_log(events)
    told = {"items": 2, "first_kept_id": ids(run)["2"]}
    assert final["truncated"] == events[0]["response"]["truncated"] == told
    assert run.view.truncated is not None
    assert run.view.truncated.header() == f"items=2; first-kept={ids(run)['2']}"
    await bench.engine.close()


async def test_what_fits_says_nothing_of_it() -> None:
    bench = await opened(ANSWER, size=900)
    _, events = await bench.events(input=talk("1", "2", "3"), truncation="auto")
    assert "truncated" not in assert_valid_log(events)
    await bench.engine.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_what_the_backend_finds_too_long_is_halved(stream: bool) -> None:
    """Nobody knows the window."""
    bench = await opened(TOO_LONG, TOO_LONG, ANSWER)
    run, task, log = await bench.start(
        stream=stream, input=talk("1", "2", "3", "4"), truncation="auto"
    )
    await task
    assert [words[0] for words in seen(bench)] == ["1", "3", "4"]
    final = orjson.loads(run.body)
    assert final["status"] == "completed"
    assert final["truncated"] == {"items": 6, "first_kept_id": ids(run)["4"]}
    assert final["usage"]["total_tokens"] == 23
    if stream:
        frames = [frame async for batch in log.read() for frame in batch]
        assert assert_valid_log(decode(frames)) == final
    await bench.engine.close()


async def test_it_is_halved_until_one_turn_is_left() -> None:
    bench = await opened(*[TOO_LONG] * 20)
    run, task, _ = await bench.start(input=talk(*map(str, range(300))), truncation="auto")
    await task
    assert isinstance(run.error, ContextLengthExceeded)
    assert not run.spoken
    assert [len(prompt.items) // 2 for prompt in bench.backend.prompts] == [
        *(300, 150, 75, 38, 19, 10, 5, 3, 2, 1)
    ]
    await bench.engine.close()


async def test_disabled_and_a_single_turn_are_refused_at_once() -> None:
    for fields in ({"input": talk("1", "2")}, {"input": talk("1"), "truncation": "auto"}):
        bench = await opened(TOO_LONG, ANSWER)
        run, task, _ = await bench.start(**fields)
        await task
        assert isinstance(run.error, ContextLengthExceeded)
        assert len(bench.backend.prompts) == 1
        await bench.engine.close()


async def test_a_model_that_has_begun_to_answer_is_not_asked_again() -> None:
    """llama.cpp finds out in the middle: half an answer must not be followed by a whole one."""
    bench = await opened([[TextDelta("half")], ContextLengthExceeded()], ANSWER)
    _run, events = await bench.events(input=talk("1", "2"), truncation="auto")
    final = assert_valid_log(events)
    assert (final["status"], final["output_text"]) == ("failed", "half")
    assert final["error"]["code"] == "context_length_exceeded"
    assert len(bench.backend.prompts) == 1
    await bench.engine.close()


async def test_a_hosted_call_that_was_begun_is_something_said() -> None:
    """No event tells of it, but it must not be made twice."""
    half: Sequence[Step] = [
        [ToolCallDelta(0, '{"code":', "code_interpreter", "c")],
        ContextLengthExceeded(),
    ]
    bench = await opened(half, LOOKS, ANSWER, tools={"code_interpreter": (tool := Python())})
    run, task, _ = await bench.start(input=talk("1", "2"), truncation="auto", tools=[PYTHON])
    await task
    assert isinstance(run.error, ContextLengthExceeded)
    assert tool.ran == []
    await bench.engine.close()


async def test_an_accepted_prompt_of_which_nothing_was_said_is_shortened() -> None:
    bench = await opened([[], ContextLengthExceeded()], ANSWER)
    _run, events = await bench.events(input=talk("1", "2"), truncation="auto")
    assert assert_valid_log(events)["output_text"] == "Hello"
    assert seen(bench)[1] == ["2", "2a"]
    await bench.engine.close()


async def test_the_second_turn_of_a_tool_loop_is_shortened_too() -> None:
    """The same rules for what a hosted tool returned; tokens of all turns are summed."""
    for size, turns in ((None, [LOOKS, TOO_LONG, ANSWER]), (560, [LOOKS, ANSWER])):
        bench = await opened(*turns, size=size, tools={"code_interpreter": Python()})
        run, events = await bench.events(
            input=talk("1", "2"), truncation="auto", tools=[PYTHON], max_output_tokens=100
        )
        final = assert_valid_log(events)
        assert final["status"] == "completed"
        assert [item["type"] for item in final["output"]] == ["code_interpreter_call", "message"]
        assert seen(bench)[0] == ["1", "1a", "2", "2a"]
        assert seen(bench)[-1] == ["2", "2a", "code_interpreter_call"]
        assert final["truncated"] == {"items": 2, "first_kept_id": ids(run)["2"]}
        assert final["usage"]["total_tokens"] == 15 + 23
        await bench.engine.close()


async def test_what_was_found_too_long_is_not_tried_again_in_the_next_turn() -> None:
    """Each turn of a tool loop would be refused as often as the first."""
    turns = [TOO_LONG, TOO_LONG, LOOKS, LOOKS, TOO_LONG, ANSWER]
    bench = await opened(*turns, tools={"code_interpreter": Python()})
    run, events = await bench.events(
        input=talk(*"1234567"), truncation="auto", tools=[PYTHON], parallel_tool_calls=False
    )
    assert [words[0] for words in seen(bench)] == ["1", "4", "6", "6", "6", "7"]
    assert assert_valid_log(events)["truncated"] == {
        "items": 12,
        "first_kept_id": ids(run)["7"],
    }
    await bench.engine.close()


async def test_what_is_far_from_the_threshold_is_not_counted() -> None:
    def never(_: Prompt) -> int:
        raise AssertionError

    bench = await opened(ANSWER)
    bench.backend.tokens = never
    run, _ = await bench.events(input="lorem ipsum " * 120, **COMPACTING)
    assert run.error is None
    await bench.engine.close()


async def test_sealed_thoughts_that_are_shown_are_not_counted_as_dropped() -> None:
    bench = await opened(LOOKS, TOO_LONG, ANSWER, tools={"code_interpreter": Python()})
    thought = {"type": "reasoning", "summary": [], "encrypted_content": await sealed(bench)}
    words = [*talk("1"), message("2"), thought]
    run, task, _ = await bench.start(input=words, truncation="auto", tools=[PYTHON])
    await task
    assert seen(bench)[-1] == ["2", "reasoning", "code_interpreter_call"]
    assert orjson.loads(run.body)["truncated"]["items"] == 2
    await bench.engine.close()


async def sealed(bench: Bench) -> str:
    """Reasoning that this engine's store can open."""
    sealer = Sealer(bench.store)
    await sealer.open()
    return sealer.seal("reasoning", "p", {"content": "raw", "state": {"signature": "s"}})


# -- compaction in a run -------------------------------------------------------------------------


async def test_a_long_context_is_compacted_before_the_model_answers() -> None:
    bench = await opened(SUMMARY, ANSWER)
    _run, events = await bench.events(input=[*talk("1", "2"), message("3")], **COMPACTING)
    final = assert_valid_log(events)
    assert [item["type"] for item in final["output"]] == ["compaction", "message"]
    assert seen(bench) == [["1", "1a", "2", "2a", "Your"], ["1", "2", "Summary", "3"]]
    assert final["usage"]["total_tokens"] == 75 + 23
    assert "truncated" not in final
    await bench.engine.close()


async def test_a_chain_goes_on_from_it_on_any_node() -> None:
    bench = await opened(SUMMARY, ANSWER)
    run, _ = await bench.events(input=[*talk("1", "2"), message("3")], **COMPACTING)
    other = pair(bench, ANSWER)
    await other.engine.open()
    await other.events(input="4", previous_response_id=run.id)
    assert seen(other) == [["1", "2", "Summary", "3", "Hello", "4"]]
    await other.engine.close()
    await bench.engine.close()


async def test_the_last_of_two_compactions_stands_for_the_first() -> None:
    bench = await opened(SUMMARY, ANSWER, SUMMARY, ANSWER, ANSWER)
    first, _ = await bench.events(input=[*talk("1", "2"), message("3")], **COMPACTING)
    again = [message("3a " + LONG * 2, "assistant"), message("4")]
    second, _ = await bench.events(input=again, previous_response_id=first.id, **COMPACTING)
    assert seen(bench)[2] == ["1", "2", "Summary", "3", "Hello", "3a", "Your"]
    assert seen(bench)[3] == ["1", "2", "3", "Summary", "4"]
    await bench.events(input="5", previous_response_id=second.id)
    assert seen(bench)[4] == ["1", "2", "3", "Summary", "4", "Hello", "5"]
    await bench.engine.close()


async def test_a_tool_loop_is_compacted_where_it_has_become_too_long() -> None:
    """Once: what that left is no reason for another one."""

    class Chatty(Python):
        async def _work(self, call: Call, item: CallItem) -> str:
            await super()._work(call, item)
            return LONG[:4_000] * len(self.ran)

    turns = [LOOKS, LOOKS, SUMMARY, ANSWER]
    bench = await opened(*turns, tools={"code_interpreter": (tool := Chatty())})
    _, events = await bench.events(input="Look.", tools=[PYTHON], **COMPACTING)
    final = assert_valid_log(events)
    assert [item["type"] for item in final["output"]] == [
        *("code_interpreter_call", "code_interpreter_call", "compaction", "message")
    ]
    assert len(tool.ran) == 2
    call = "code_interpreter_call"
    assert seen(bench)[2:] == [["Look.", call, call, "Your"], ["Summary", "Look."]]
    assert final["usage"]["total_tokens"] == 2 * 15 + 75 + 23
    await bench.engine.close()


async def test_an_answer_to_a_call_may_follow_a_compaction() -> None:
    """The call and its output stay in one piece: the next request is not refused."""
    bench = await opened(SUMMARY, ANSWER, ANSWER)
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "x"}
    late = [*talk("1", "2"), call, message("3"), output]
    run, _ = await bench.events(input=late, **COMPACTING)
    assert seen(bench)[1] == ["1", "2", "Summary", "3"]
    await bench.events(input="4", previous_response_id=run.id)
    assert seen(bench)[2] == ["1", "2", "Summary", "3", "Hello", "4"]
    await bench.engine.close()


@pytest.mark.parametrize(
    ("turn", "status"),
    [([UpstreamError()], 502), (TOO_LONG, 400)],
    ids=["upstream", "too-long"],
)
async def test_without_a_summary_the_response_fails(turn: Sequence[Step], status: int) -> None:
    """Nothing was said yet: it is an HTTP error. Its row can be continued."""
    bench = await opened(*[turn] * 5)
    run, events = await bench.events(input=[*talk("1", "2"), message("3")], **COMPACTING)
    assert len(bench.backend.prompts) == (3 if status == 400 else 1)
    final = assert_valid_log(events)
    assert final["status"] == "failed"
    assert run.error is not None
    assert (run.error.status, run.spoken) == (status, False)
    follower = pair(bench, ANSWER)
    await follower.engine.open()
    await follower.events(input="4", previous_response_id=run.id)
    assert seen(follower) == [["1", "1a", "2", "2a", "3", "4"]]
    await follower.engine.close()
    await bench.engine.close()


async def test_a_model_that_makes_no_summary_answers_without_one() -> None:
    """What was not asked for by name fails nothing; a trigger asks by name."""
    empty: Sequence[Step] = [[TextDelta(" "), Finish()]]
    words = [*talk("1", "2"), message("3")]
    bench = await opened(empty, ANSWER, empty)
    _, events = await bench.events(input=words, **COMPACTING)
    final = assert_valid_log(events)
    assert [item["type"] for item in final["output"]] == ["message"]
    assert seen(bench)[1] == ["1", "1a", "2", "2a", "3"]
    run, _ = await bench.events(input=[*words, TRIGGER])
    assert isinstance(run.error, UpstreamError)
    await bench.engine.close()


async def test_a_trigger_makes_a_compaction_and_no_answer() -> None:
    """Also of what is too long for the model: that is what it is for."""
    bench = await opened(SUMMARY, size=450)
    run, events = await bench.events(input=[*talk("1", "2"), message("3"), TRIGGER])
    final = assert_valid_log(events)
    assert final["status"] == "completed"
    assert [item["type"] for item in final["output"]] == ["compaction"]
    assert seen(bench) == [["2", "2a", "Your"]]
    assert "truncated" not in final
    assert final["usage"]["total_tokens"] == 75
    follower = pair(bench, ANSWER)
    await follower.engine.open()
    await follower.events(input="4", previous_response_id=run.id)
    assert seen(follower) == [["1", "2", "Summary", "3", "4"]]
    await follower.engine.close()
    await bench.engine.close()


@pytest.mark.parametrize(
    ("size", "ignored"), [(None, ["context_management"]), (1_000, [])], ids=["unknown", "known"]
)
async def test_without_a_threshold_the_window_decides(size: int | None, ignored: list[str]) -> None:
    bench = await opened(SUMMARY, ANSWER, size=size)
    words = [*talk(*map(str, range(4))), message("x")]
    run, events = await bench.events(
        input=words, context_management=[{"type": "compaction"}], truncation="auto"
    )
    assert run.ignored == ignored
    types = [item["type"] for item in assert_valid_log(events)["output"]]
    assert types == (["message"] if size is None else ["compaction", "message"])
    await bench.engine.close()


def test_thresholds() -> None:
    def asked(entries: Any, size: int | None) -> int | None:
        return threshold(CreateResponse(model="m", context_management=entries), size)

    assert asked(None, 1_000) is None
    assert asked([], 1_000) is None
    assert asked([{"type": "compaction", "compact_threshold": 5_000}], 1_000) == 5_000
    assert asked([{"type": "compaction"}], 1_000) == 800
    assert asked([{"type": "compaction"}], None) is None


async def test_the_standalone_compaction_is_what_a_request_goes_on_from() -> None:
    bench = await opened(SUMMARY, ANSWER)
    request = CreateResponse(model="m", input=[*talk("1", "2"), message("3")])
    made, ignored = await bench.engine.compact(request, "p")
    assert ignored == []
    assert [item["type"] for item in made["output"]] == ["message"] * 3 + ["compaction"]
    assert [item["status"] for item in made["output"][:3]] == ["completed"] * 3
    assert made["usage"]["total_tokens"] == 75
    await bench.events(input=[*made["output"], message("4")], store=False)
    assert seen(bench)[1] == ["1", "2", "Summary", "3", "4"]
    await bench.engine.close()


# -- in the background ---------------------------------------------------------------------------


async def test_a_job_truncates_and_compacts() -> None:
    bench = Bench(TOO_LONG, ANSWER, SUMMARY, ANSWER)
    async with bench.working():
        made = await bench.admit(input=talk("1", "2"), truncation="auto")
        final = assert_valid_log(await bench.follow(made.id))
        assert (final["status"], final["truncated"]["items"]) == ("completed", 2)
        made = await bench.admit(input=[*talk("1", "2"), message("3")], **COMPACTING)
        final = assert_valid_log(await bench.follow(made.id))
        assert [item["type"] for item in final["output"]] == ["compaction", "message"]
        assert final["usage"]["total_tokens"] == 75 + 23


async def test_a_job_is_accepted_with_what_was_dropped() -> None:
    bench = Bench(ANSWER)
    bench.backend.context_window, bench.backend.tokens = 350, short
    async with bench.working():
        made = await bench.admit(input=talk("1", "2"), truncation="auto")
        assert made.truncated is not None
        assert orjson.loads(made.body)["truncated"] == made.truncated.body()
        final = assert_valid_log(await bench.follow(made.id))
        assert final["truncated"] == made.truncated.body()
    assert seen(bench) == [["2", "2a"]]


@pytest.mark.parametrize("asked", [COMPACTING, None], ids=["threshold", "trigger"])
async def test_a_compaction_that_a_crash_cut_off_is_made_anew(asked: Json | None) -> None:
    """It is announced when it is there, so nothing has to be taken back (R-65)."""
    words = [*talk("1", "2"), message("3")]
    fields: Json = {"input": words, **asked} if asked else {"input": [*words, TRIGGER]}
    dead = Bench([[TextDelta("They")], 60.0], options=jobs(most=1))
    turns = [SUMMARY, ANSWER] if asked else [SUMMARY]
    async with dead.working():
        made = await dead.admit(**fields)
        await until(lambda: bool(dead.backend.prompts))
        heir = pair(dead, *turns)
        await bury(dead)
        async with heir.working():
            events = await heir.follow(made.id)
    final = assert_valid_log(events)
    types = [item["type"] for item in final["output"]]
    assert types == (["compaction", "message"] if asked else ["compaction"])
    assert not any(event.get("withdrawn") for event in events)
    assert final["output"][0]["encrypted_content"].startswith("antiphon.1.")
    assert seen(heir)[0] == ["1", "1a", "2", "2a", "Your"]
    assert final["usage"]["total_tokens"] == 75 + (23 if asked else 0)


async def test_a_compaction_that_was_made_before_a_crash_is_not_made_again() -> None:
    words = [*talk("1", "2"), message("3")]
    dead = Bench(SUMMARY, [[TextDelta("Hel")], 60.0])
    async with dead.working():
        made = await dead.admit(input=words, **COMPACTING)
        await said(dead, made.id, "response.output_text.delta")
        heir = pair(dead, ANSWER)
        await bury(dead)
        async with heir.working():
            events = await heir.follow(made.id)
    final = assert_valid_log(events)
    assert [item["type"] for item in final["output"]] == ["compaction", "message"]
    assert seen(heir) == [["1", "2", "Summary", "3"]]
    assert final["usage"]["total_tokens"] == 75 + 23, "the summary's tokens are remembered"
