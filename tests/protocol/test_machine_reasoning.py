"""Reasoning and compaction items: summaries, seals, and what a client may send back (spec §3.3,
§4.1, §9)."""

from typing import Any, Final

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
    SummaryDelta,
    TextDelta,
    ToolCallDelta,
)
from antiphon.protocol.events import fold
from antiphon.protocol.items.reasoning import restored, state_of
from antiphon.protocol.machine import ResponseMachine, fold_log
from antiphon.protocol.machine_options import MachineOptions
from antiphon.testing import FixedMint, assert_valid_log, decode
from tests.protocol.test_machine import make, play, types

OFFICIAL: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)
SUMMARISE: Final = MachineOptions(summarise=True)


def seal(payload: Any) -> str:
    return "sealed:" + orjson.dumps(payload).decode()


def opened(item: dict[str, Any]) -> Any:
    return orjson.loads(item["encrypted_content"].removeprefix("sealed:"))


SEALED: Final = MachineOptions(seal=seal, sealed=True)
UNASKED: Final = MachineOptions(seal=seal)


def items(*deltas: Delta, options: MachineOptions | None = None) -> list[dict[str, Any]]:
    events = play(*deltas, Finish(), options=options)
    for event in events:
        OFFICIAL.validate_python(event)
    final = assert_valid_log(events)
    assert fold(events) == final
    Response.model_validate(final)
    output: list[dict[str, Any]] = final["output"]
    return output


def summaries(item: dict[str, Any]) -> list[str]:
    return [part["text"] for part in item["summary"] if part["type"] == "summary_text"]


# -- summaries -----------------------------------------------------------------------------------


def test_raw_reasoning_is_a_summary_for_who_asked_for_one() -> None:
    events = play(ReasoningDelta("I "), ReasoningDelta("see."), Finish(), options=SUMMARISE)
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "completed",
    ]
    (item,) = assert_valid_log(events)["output"]
    assert item == {
        "id": item["id"],
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "I see."}],
    }
    part = events[3]
    assert part["part"] == {"type": "summary_text", "text": ""}
    assert (part["item_id"], part["output_index"], part["summary_index"]) == (item["id"], 0, 0)


@pytest.mark.parametrize("options", [MachineOptions(), SUMMARISE])
def test_summaries_of_the_backend_are_always_shown_part_by_part(options: MachineOptions) -> None:
    (item,) = items(
        SummaryDelta("first "),
        SummaryDelta("one"),
        SummaryDelta(""),
        SummaryDelta("second", 1),
        options=options,
    )
    assert summaries(item) == ["first one", "second"]
    assert "content" not in item


def test_who_did_not_ask_gets_both_as_they_are() -> None:
    (item,) = items(
        ReasoningDelta("raw "), SummaryDelta("short"), ReasoningDelta("text"), SummaryDelta("er")
    )
    assert summaries(item) == ["shorter"]
    assert item["content"] == [{"type": "reasoning_text", "text": "raw text"}]


def test_who_asked_for_a_summary_gets_the_backends_own_and_the_raw_text_in_the_seal() -> None:
    options = MachineOptions(summarise=True, seal=seal)
    (item,) = items(SummaryDelta("short"), ReasoningDelta("raw text"), options=options)
    assert summaries(item) == ["short"]
    assert "content" not in item
    assert opened(item) == {"content": "raw text"}


def test_raw_text_that_was_shown_before_the_summary_came_stays() -> None:
    options = MachineOptions(summarise=True, seal=seal)
    (item,) = items(
        ReasoningDelta("raw "), SummaryDelta("short"), ReasoningDelta("text"), options=options
    )
    assert summaries(item) == ["raw ", "short"]
    assert opened(item) == {"content": "raw text"}


def test_summaries_are_padded_like_all_deltas() -> None:
    options = MachineOptions(summarise=True, obfuscation=True)
    events = play(ReasoningDelta("Hello"), Finish(), options=options)
    assert [event["type"] for event in events if "obfuscation" in event] == [
        "response.reasoning_summary_text.delta"
    ]


# -- seals ---------------------------------------------------------------------------------------


def test_a_seal_holds_the_raw_text_and_is_there_when_the_item_is_done() -> None:
    events = play(ReasoningDelta("I see."), TextDelta("Hi"), Finish(), options=SEALED)
    thought, message = assert_valid_log(events)["output"]
    assert opened(thought) == {"content": "I see."}
    assert "encrypted_content" not in message
    assert "encrypted_content" not in events[2]["item"]
    (done,) = [e for e in events if e["type"] == "response.output_item.done"][:1]
    assert done["item"] == thought


@pytest.mark.parametrize("options", [UNASKED, MachineOptions(sealed=True)])
def test_without_need_or_without_a_sealer_there_is_none_and_no_null(
    options: MachineOptions,
) -> None:
    (item,) = items(ReasoningDelta("I see."), options=options)
    assert "encrypted_content" not in item


@pytest.mark.parametrize("options", [UNASKED, SEALED])
def test_a_state_goes_into_the_seal_and_nowhere_else(options: MachineOptions) -> None:
    state = {"signature": "c2ln"}
    events = play(
        ReasoningDelta("hm"),
        ReasoningState("an earlier one"),
        ReasoningState(state),
        TextDelta("Hi"),
        Finish(),
        options=options,
    )
    thought = assert_valid_log(events)["output"][0]
    assert opened(thought) == {"content": "hm", "state": state}
    told = [e for e in events if "c2ln" in orjson.dumps(e).decode().replace("sealed:", "")]
    assert {e["type"] for e in told} == {"response.output_item.done", "response.completed"}


def test_a_state_alone_makes_an_item() -> None:
    thought, call = items(ReasoningState(None), ToolCallDelta(0, "{}", "f"), options=UNASKED)
    assert (thought["type"], thought["summary"], call["type"]) == (
        "reasoning",
        [],
        "function_call",
    )
    assert opened(thought) == {"content": "", "state": None}


def test_a_state_that_comes_late_makes_an_item_of_its_own() -> None:
    first, message, second = items(
        ReasoningDelta("hm"), TextDelta("Hi"), ReasoningState([1]), options=UNASKED
    )
    assert "encrypted_content" not in first
    assert message["type"] == "message"
    assert opened(second) == {"content": "", "state": [1]}


def test_reasoning_that_was_cut_off_is_sealed_as_far_as_it_came() -> None:
    events = play(ReasoningDelta("I s"), Finish("length"), options=SEALED)
    (item,) = assert_valid_log(events)["output"]
    assert (item["status"], opened(item)) == ("incomplete", {"content": "I s"})


def test_reasoning_that_broke_off_has_no_seal() -> None:
    events = play(ReasoningDelta("I s"), ReasoningState([1]), options=SEALED, fail=True)
    (item,) = assert_valid_log(events)["output"]
    assert item["content"][0]["text"] == "I s"
    assert "encrypted_content" not in item


def test_a_log_of_an_older_version_replays_and_goes_on() -> None:
    """0.1 wrote reasoning as raw text only, without a seal."""
    older = make()
    older.enqueue()
    older.resume(0)
    older.feed([ReasoningDelta("hm"), TextDelta("a")])
    log = older.take()
    machine = ResponseMachine(fold_log(log), FixedMint("1" * 16), SEALED, first=len(log))
    machine.resume(0)
    machine.feed([ReasoningDelta("hm"), TextDelta("a"), Finish()])
    machine.end_turn()
    machine.finish()
    thought, message = assert_valid_log(decode(log + machine.take()))["output"]
    assert (opened(thought), message["type"]) == ({"content": "hm"}, "message")


# -- compaction ----------------------------------------------------------------------------------


def test_a_compaction_is_announced_made_and_done() -> None:
    machine = make()
    machine.start()
    machine.begin_compaction().close("antiphon.1.x")
    machine.feed([TextDelta("Hi"), Finish()])
    machine.end_turn()
    machine.finish()
    assert machine.answer() == "Hi"
    events = decode(machine.take())
    assert types(events)[2:5] == [
        "output_item.added",
        "compaction.compacting",
        "output_item.done",
    ]
    item = assert_valid_log(events)["output"][0]
    assert item == {"id": item["id"], "type": "compaction", "encrypted_content": "antiphon.1.x"}
    assert item["id"].startswith("cmp_")
    assert events[2]["item"] == {**item, "encrypted_content": ""}
    assert events[3] == {
        "type": "response.compaction.compacting",
        "sequence_number": 3,
        "item_id": item["id"],
        "output_index": 0,
    }
    for event in events:
        OFFICIAL.validate_python(event)
    Response.model_validate(machine.response)


@pytest.mark.parametrize("done", [False, True])
def test_a_compaction_that_was_half_done_is_taken_back(*, done: bool) -> None:
    first = make()
    first.enqueue()
    first.resume(0)
    writer = first.begin_compaction()
    if done:
        writer.close("lost")
    log = first.take()
    machine = ResponseMachine(fold_log(log), FixedMint("1" * 16), MachineOptions(), first=len(log))
    machine.resume(0)
    machine.begin_compaction().close("kept")
    machine.feed([TextDelta("Hi"), Finish()])
    machine.end_turn()
    machine.finish()
    events = decode(log + machine.take())
    compaction, message = assert_valid_log(events)["output"]
    assert (compaction["encrypted_content"], message["type"]) == ("kept", "message")
    (resumed,) = [event for event in events if "withdrawn" in event]
    assert resumed["withdrawn"] == [0]
    for event in events:
        OFFICIAL.validate_python(event)


def test_a_compaction_that_fails_leaves_an_empty_one() -> None:
    machine = make()
    machine.start()
    machine.begin_compaction()
    machine.fail(UpstreamError())
    (item,) = assert_valid_log(decode(machine.take()))["output"]
    assert (item["type"], item["encrypted_content"]) == ("compaction", "")


# -- what comes back -----------------------------------------------------------------------------

JSON: Final = st.none() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.text())


@given(
    said=st.lists(
        st.one_of(
            st.text(max_size=4).map(ReasoningDelta),
            st.builds(SummaryDelta, st.text(max_size=4), st.integers(0, 1)),
            JSON.map(ReasoningState),
        ),
        max_size=8,
    ),
    summarise=st.booleans(),
)
def test_what_a_seal_restores_is_what_the_backend_said(said: list[Any], summarise: bool) -> None:
    """Issue: the round trip restores the backend's reasoning, also when the client shows none."""
    options = MachineOptions(summarise=summarise, seal=seal, sealed=True)
    for item in items(*said, options=options):
        sent = {"type": "reasoning", "summary": [], "encrypted_content": item["encrypted_content"]}
        back = restored(sent, opened(item))
        raw = "".join(delta.text for delta in said if isinstance(delta, ReasoningDelta))
        assert "".join(part["text"] for part in back.get("content") or ()) == raw
        states = [delta.state for delta in said if isinstance(delta, ReasoningState)]
        assert state_of(back) == (states[-1] if states else None)
        assert "content" not in sent


def test_the_clients_own_copy_of_the_text_wins() -> None:
    content = [{"type": "reasoning_text", "text": "mine"}]
    sent = {"type": "reasoning", "summary": [], "content": content}
    assert restored(sent, {"content": "ours"})["content"] == content
    absences: list[dict[str, Any]] = [{"content": []}, {"content": None}]
    for absent in absences:
        back = restored({**sent, **absent}, {"content": "ours"})
        assert back["content"] == [{"type": "reasoning_text", "text": "ours"}]
    assert restored(sent | {"content": None}, {"content": ""})["content"] is None


def test_nobody_forges_a_state() -> None:
    """A client may send any key; only an opened seal makes a state, and no JSON shows it."""
    ours = restored({"type": "reasoning"}, {"content": "", "state": "secret"})
    assert orjson.loads(orjson.dumps(ours)) == {"type": "reasoning"}
    forged = {"type": "reasoning", "summary": [], "restored_state": "forged", "state": "forged"}
    assert state_of(forged) is None
    assert state_of(restored(forged, {"content": "x"})) is None
    assert state_of(restored(forged, {"content": "x", "state": "ours"})) == "ours"
