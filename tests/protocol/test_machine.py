"""The machine: scripts of deltas in, events out (spec §4.1; reliability R-48)."""

import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from antiphon.errors import UpstreamError
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.effects import Fold
from antiphon.protocol.events import EFFECTS, apply, fold
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Usage, new_response
from antiphon.testing import FixedMint, assert_valid_log, decode

OFFICIAL: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LOGPROB = {"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}


def make(options: MachineOptions | None = None) -> ResponseMachine:
    mint = FixedMint()
    request = CreateResponse(model="m", input="hi")
    response = new_response(
        request, id=mint.item_id("resp"), created_at=mint.now(), status="in_progress"
    )
    return ResponseMachine(response, mint, options or MachineOptions())


def play(
    *deltas: Delta, options: MachineOptions | None = None, fail: bool = False
) -> list[dict[str, Any]]:
    machine = make(options)
    machine.start()
    machine.feed(list(deltas))
    if fail:
        machine.fail(UpstreamError())
    else:
        machine.end_turn()
        machine.finish()
    return decode(machine.take())


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_a_message_has_the_events_of_the_grammar_in_order() -> None:
    events = play(TextDelta("Hel"), TextDelta("lo"), Finish())
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    final = assert_valid_log(events)
    assert final["output_text"] == "Hello"
    assert final["output"][0]["content"] == [
        {"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}
    ]
    assert events[2]["item"] == {
        "id": events[2]["item"]["id"],
        "type": "message",
        "status": "in_progress",
        "content": [],
        "role": "assistant",
    }


def test_reasoning_ends_when_text_begins_and_begins_anew_after_it() -> None:
    events = play(
        ReasoningDelta("hm"), TextDelta("a"), ReasoningDelta("hm2"), TextDelta("b"), Finish()
    )
    final = assert_valid_log(events)
    assert [item["type"] for item in final["output"]] == [
        "reasoning",
        "message",
        "reasoning",
        "message",
    ]
    assert final["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert "status" not in final["output"][0]


def test_interleaved_parallel_calls_stay_apart() -> None:
    events = play(
        TextDelta("Let me see."),
        ToolCallDelta(0, "", "weather", "call_a"),
        ToolCallDelta(1, '{"x"', "news", "call_b"),
        ToolCallDelta(0, '{"city":'),
        ToolCallDelta(1, ":1}"),
        ToolCallDelta(0, '"Paris"}'),
        Finish(),
    )
    final = assert_valid_log(events)
    assert [(item["type"], item.get("arguments")) for item in final["output"]] == [
        ("message", None),
        ("function_call", '{"city":"Paris"}'),
        ("function_call", '{"x":1}'),
    ]
    assert [item.get("call_id") for item in final["output"]] == [None, "call_a", "call_b"]


def test_one_item_is_open_at_a_time() -> None:
    """LangChain takes every change of `output_index` for a new block."""
    events = play(
        ToolCallDelta(0, '{"a":', "f"),
        ToolCallDelta(1, '{"b"', "g"),
        TextDelta("By the way"),
        ToolCallDelta(0, "1}"),
        ToolCallDelta(1, ":2}"),
        ToolCallDelta(2, "{}", "h"),
        Finish(),
    )
    final = assert_valid_log(events)
    assert [item.get("arguments") for item in final["output"]] == ['{"a":1}', '{"b":2}', None, "{}"]
    indexes = [event["output_index"] for event in events if "output_index" in event]
    assert indexes == sorted(indexes)


def test_a_call_that_is_whole_ends_when_the_next_begins() -> None:
    machine = make()
    machine.start()
    machine.feed([ToolCallDelta(0, '{"a":1}', "f"), ToolCallDelta(1, "", "g")])
    kinds = [kind for kind, _ in machine.take()]
    assert kinds[-2:] == ["response.output_item.done", "response.output_item.added"]
    machine.feed([ToolCallDelta(0, " "), ToolCallDelta(1, "{}"), Finish()])
    machine.end_turn()
    machine.finish()
    assert [item["arguments"] for item in machine.response["output"]] == ['{"a":1}', "{}"]


def test_whose_call_it_is_says_its_first_delta() -> None:
    """A server that names a call twice, while the call before it is not whole."""
    machine = make(MachineOptions(held=frozenset({"search"})))
    machine.start()
    again = ToolCallDelta(1, "{}", "search")
    machine.feed([ToolCallDelta(0, '{"a', "f"), ToolCallDelta(1, "", "g"), again, Finish("stop")])
    machine.end_turn()
    assert machine.take_held() == []
    machine.finish()
    assert [item["name"] for item in machine.response["output"]] == ["f", "g"]


def test_a_body_keeps_no_more_than_it_is() -> None:
    """R-117: a stored stream holds one; what orjson returns keeps up to twelve times as much."""
    machine = make()
    machine.start()
    machine.body()
    tracemalloc.start()
    try:
        body = machine.body()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(body) <= kept < 2 * len(body)


def test_what_nobody_reads_comes_to_the_same_response() -> None:
    """Only events that carry the whole Response are left out; the numbers go on."""
    said: list[Delta] = [TextDelta("Hello"), ToolCallDelta(0, "{}", "f"), Finish("stop")]
    bodies, numbers = set(), set()
    for options in (MachineOptions(), MachineOptions(unread=True)):
        machine = make(options)
        machine.start()
        machine.feed(said)
        machine.end_turn()
        machine.finish()
        shown = types(decode(machine.take()))
        assert ("completed" in shown) is not options.unread
        assert "output_text.delta" in shown
        bodies.add(machine.body())
        numbers.add(machine.next_number)
    assert len(bodies) == len(numbers) == 1


def test_a_failure_tells_what_was_held_back() -> None:
    events = play(ToolCallDelta(0, '{"a', "f"), TextDelta("text"), fail=True)
    final = assert_valid_log(events)
    assert [(i["type"], i["status"]) for i in final["output"]] == [
        ("function_call", "incomplete"),
        ("message", "incomplete"),
    ]


def test_a_custom_call_has_its_own_events() -> None:
    events = play(ToolCallDelta(0, "SELECT 1", "sql", kind="custom"), Finish())
    assert "custom_tool_call_input.done" in types(events)
    item = assert_valid_log(events)["output"][0]
    assert (item["type"], item["input"], item["status"]) == (
        "custom_tool_call",
        "SELECT 1",
        "completed",
    )


@pytest.mark.parametrize("sent", [None, "", "x" * 65, "with space", "call_twice"])
def test_a_call_id_that_cannot_serve_is_replaced(sent: str | None) -> None:
    events = play(
        ToolCallDelta(0, "{}", "f", "call_twice"), ToolCallDelta(1, "{}", "g", sent), Finish()
    )
    ids = [item["call_id"] for item in assert_valid_log(events)["output"]]
    assert ids[0] == "call_twice"
    assert ids[1] != sent
    assert ids[1].startswith("call_")


def test_length_makes_the_last_item_and_the_response_incomplete() -> None:
    events = play(TextDelta("Once upon"), ToolCallDelta(0, '{"a', "f"), Finish("length"))
    final = assert_valid_log(events)
    assert final["status"] == "incomplete"
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in final["output"]] == ["completed", "incomplete"]
    assert final["completed_at"] is None


def test_content_filter_is_told() -> None:
    final = assert_valid_log(play(TextDelta("x"), Finish("content_filter")))
    assert final["incomplete_details"] == {"reason": "content_filter"}


def test_a_failure_is_an_error_event_and_then_the_failed_response_with_what_was_said() -> None:
    events = play(TextDelta("half a"), fail=True)
    assert types(events)[-2:] == ["error", "failed"]
    assert events[-2]["error"]["code"] == "server_error"
    final = assert_valid_log(events)
    assert final["error"]["code"] == "server_error"
    assert final["output"][0]["status"] == "incomplete"
    assert final["output"][0]["content"][0]["text"] == "half a"


def test_a_refusal_is_a_part_of_its_own() -> None:
    final = assert_valid_log(play(TextDelta("Well. "), RefusalDelta("No."), Finish()))
    assert [part["type"] for part in final["output"][0]["content"]] == ["output_text", "refusal"]
    assert final["output_text"] == "Well. "


def test_usage_is_summed() -> None:
    usage = Usage(10, 4, 5, 2)
    final = assert_valid_log(play(TextDelta("x"), UsageReport(usage), UsageReport(usage), Finish()))
    assert final["usage"] == {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 30,
    }


def test_logprobs_only_when_asked_for() -> None:
    delta = TextDelta("a", [LOGPROB])
    without = assert_valid_log(play(delta, Finish()))
    assert without["output"][0]["content"][0]["logprobs"] == []
    events = play(delta, delta, Finish(), options=MachineOptions(logprobs=True))
    final = assert_valid_log(events)
    assert final["output"][0]["content"][0]["logprobs"] == [LOGPROB, LOGPROB]
    assert events[4]["logprobs"] == [LOGPROB]


def test_calls_that_the_request_forbids_are_suppressed() -> None:
    deltas: list[Delta] = [ToolCallDelta(0, "{}", "no"), ToolCallDelta(1, "{}", "yes"), Finish()]
    options = MachineOptions(allowed_tools=frozenset({"yes"}))
    assert [i["name"] for i in assert_valid_log(play(*deltas, options=options))["output"]] == [
        "yes"
    ]
    options = MachineOptions(parallel_tool_calls=False)
    assert [i["name"] for i in assert_valid_log(play(*deltas, options=options))["output"]] == ["no"]


def test_obfuscation_pads_deltas_to_a_multiple_of_sixteen() -> None:
    events = play(TextDelta("Hello"), Finish(), options=MachineOptions(obfuscation=True))
    padded = [event for event in events if "obfuscation" in event]
    assert [event["type"] for event in padded] == ["response.output_text.delta"]
    assert (len(padded[0]["delta"]) + len(padded[0]["obfuscation"])) % 16 == 0
    assert all("obfuscation" not in event for event in play(TextDelta("Hello"), Finish()))


def test_empty_deltas_open_nothing() -> None:
    final = assert_valid_log(play(TextDelta(""), ReasoningDelta(""), RefusalDelta(""), Finish()))
    assert final["output"] == []
    assert final["status"] == "completed"


def test_a_beat_shows_the_response_so_far_and_text_goes_on_after_it() -> None:
    machine = make()
    machine.start()
    machine.feed([TextDelta("one ")])
    machine.beat()
    machine.feed([TextDelta("two"), Finish()])
    machine.end_turn()
    machine.finish()
    events = decode(machine.take())
    assert events[5]["response"]["output"][0]["content"][0]["text"] == "one "
    assert assert_valid_log(events)["output_text"] == "one two"


def test_a_retracted_end_can_become_a_failure() -> None:
    machine = make()
    machine.start()
    machine.feed([TextDelta("x"), Finish()])
    machine.end_turn()
    machine.finish()
    frames = machine.take()
    machine.retract()
    machine.fail(UpstreamError())
    events = decode([*frames[:-1], *machine.take()])
    final = assert_valid_log(events)
    assert (final["status"], final["completed_at"]) == ("failed", None)


def test_cancel_leaves_a_cancelled_response_and_no_event() -> None:
    machine = make()
    machine.start()
    machine.feed([TextDelta("half")])
    before = len(machine.take())
    machine.cancel()
    assert before
    assert machine.take() == []
    body = orjson.loads(machine.body())
    assert (body["status"], body["output_text"]) == ("cancelled", "half")
    assert body["output"][0]["status"] == "incomplete"


def test_an_unknown_event_type_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        apply(Fold(), {"type": "response.invented", "sequence_number": 0})


def test_every_event_of_the_official_union_has_an_effect() -> None:
    union = OFFICIAL.json_schema()["$defs"]
    names = {
        schema["properties"]["type"]["const"]
        for name, schema in union.items()
        if name.startswith("Response") and name.endswith("Event")
    }
    assert len(names) > 50
    assert names - set(EFFECTS) == set()


TEXT = st.text(max_size=8)
CALL = st.builds(
    ToolCallDelta,
    index=st.integers(0, 2),
    arguments=TEXT,
    name=st.just("tool"),
    call_id=st.sampled_from([None, "call_1", "call_2"]),
    kind=st.just("function"),
)
DELTAS = st.lists(
    st.one_of(
        TEXT.map(TextDelta),
        TEXT.map(RefusalDelta),
        TEXT.map(ReasoningDelta),
        st.builds(SummaryDelta, TEXT, st.integers(0, 2)),
        TEXT.map(ReasoningState),
        CALL,
        st.just(UsageReport(Usage(1, 0, 1, 0))),
        st.just(TextDelta("a", [LOGPROB])),
    ),
    max_size=30,
)
OPTIONS = st.builds(
    MachineOptions,
    obfuscation=st.booleans(),
    logprobs=st.booleans(),
    parallel_tool_calls=st.booleans(),
    summarise=st.booleans(),
    seal=st.sampled_from([None, repr]),
    sealed=st.booleans(),
)


@given(
    deltas=DELTAS,
    options=OPTIONS,
    end=st.sampled_from(["stop", "length", "content_filter", "fail"]),
)
def test_the_response_is_the_fold_of_its_events(
    deltas: list[Delta], options: MachineOptions, end: Any
) -> None:
    if end != "fail":
        deltas = [*deltas, Finish(end)]
    events = play(*deltas, options=options, fail=end == "fail")
    copies = orjson.loads(orjson.dumps(events))
    final = assert_valid_log(events)
    assert fold(events) == final
    assert events == copies, "replay changed the log"
    if end != "fail":
        before = fold(events[:-1])
        assert before["output"] == final["output"]
    ids = [item["id"] for item in final["output"]]
    assert len(set(ids)) == len(ids)
    indexes = [event["output_index"] for event in events if "output_index" in event]
    assert indexes == sorted(indexes)
    said = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    assert final["output_text"] == said
    for event in events:
        OFFICIAL.validate_python(event)
    Response.model_validate(final)
    thought = [item for item in final["output"] if item["type"] == "reasoning"]
    assert all(item.get("encrypted_content", "sealed") for item in thought)
    if options.seal is None:
        assert not any("encrypted_content" in item for item in thought)
    elif options.sealed and end != "fail":
        assert all("encrypted_content" in item for item in thought)
