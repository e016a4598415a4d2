"""Calls that the upstream runs itself: what is odd about them, up to the events for the client."""

import json
from typing import Any

import pytest

from antiphon.backends.faults import UpstreamFaultError
from antiphon.backends.origins import Origin
from antiphon.backends.responses.stream import ResponsesStream
from antiphon.protocol.deltas import AnnotationDelta, Delta, HostedDelta
from antiphon.protocol.machine import ResponseMachine
from antiphon.protocol.machine_options import MachineOptions
from antiphon.testing import decode
from tests.backends.responses_said import added, done, end, event, message, text
from tests.conformance.responses import sse
from tests.protocol.test_machine import make, types

Json = dict[str, Any]
TOOLS = frozenset({"web_search", "file_search", "code_interpreter"})
SEARCH: Json = {"id": "ws_1", "type": "web_search_call", "status": "in_progress"}
CODE: Json = {"id": "ci_1", "type": "code_interpreter_call", "status": "in_progress", "code": ""}
FOUND: Json = {"type": "search", "query": "q"}
CITED: Json = {
    "type": "url_citation",
    "url": "http://a",
    "title": "A",
    "start_index": 0,
    "end_index": 1,
}
PATH: Json = {"type": "file_path", "file_id": "file-1", "index": 3}


def said(*events: Json) -> list[Delta]:
    stream = ResponsesStream(Origin("here"), hosted=TOOLS)
    return stream.feed(b"".join(map(sse, events)))


def shown(*events: Json) -> tuple[ResponseMachine, list[Json]]:
    """What the client sees before the turn ends."""
    machine = make()
    machine.start()
    machine.feed(said(*events))
    return machine, decode(machine.take())


def item_of(*events: Json) -> Json:
    machine, _ = shown(*events)
    item: Json = machine.output[0]
    return item


def test_an_event_of_another_type_of_item_is_not_of_this_one() -> None:
    odd = [
        event("code_interpreter_call_code.delta", item_id="ws_1", delta="x"),
        event("code_interpreter_call_code.done", item_id="ws_1", code="x"),
    ]
    machine, told = shown(added(SEARCH), *odd, done({**SEARCH, "action": FOUND}))
    assert types(told)[2:] == [
        *("output_item.added", "web_search_call.in_progress"),
        *("web_search_call.completed", "output_item.done"),
    ]
    assert machine.output[0].keys() == {"id", "type", "status", "action"}


@pytest.mark.parametrize(
    "outputs",
    [[1], [{}], [{"type": "image"}], [{"type": "logs", "logs": 5}], [{"type": "new"}], "x", 5],
    ids=str,
)
def test_what_an_item_has_in_another_shape_is_left_out(outputs: Any) -> None:
    """Else it would be stored, and every later turn would fail on it."""
    item = item_of(added(CODE), done({**CODE, "code": "1", "outputs": outputs}))
    assert (item["code"], item["outputs"]) == ("1", None)


def test_an_action_in_another_shape_is_left_out() -> None:
    action = {"type": "search", "queries": 5}
    item = item_of(added(SEARCH), done({**SEARCH, "action": action}))
    assert item["action"] == {"type": "search", "query": ""}


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def _thought(content: Any) -> Json:
    part = {"type": "new", "x": content}
    return {"type": "reasoning", "id": "rs_1", "encrypted_content": "e", "content": [part]}


@pytest.mark.parametrize("levels", [200, 300])
@pytest.mark.parametrize(
    "make_event",
    [
        lambda deep: done({**SEARCH, "action": {**FOUND, "x": deep}}),
        lambda deep: done({**CODE, "outputs": [{"type": "logs", "logs": "", "x": deep}]}),
        lambda deep: done(_thought(deep)),
        lambda deep: text("Hi", logprobs=[{"token": "Hi", "logprob": deep}]),
    ],
    ids=["action", "outputs", "thought", "logprob"],
)
def test_what_is_nested_too_deeply_is_a_fault(make_event: Any, levels: int) -> None:
    """R-45, R-47: not a crash, and no hole in the numbers of events."""
    sent = b"data: " + json.dumps(make_event(_deep(levels))).encode() + b"\n\n"
    with pytest.raises(UpstreamFaultError):
        ResponsesStream(Origin("here"), hosted=TOOLS).feed(sent)


@pytest.mark.parametrize("value", ["high", None, {}])
def test_a_log_probability_is_a_number(value: Any) -> None:
    with pytest.raises(UpstreamFaultError):
        said(text("Hi", logprobs=[{"token": "Hi", "logprob": value}]))


def test_annotations_are_told_once_and_all() -> None:
    bad = {**CITED, "title": None}
    place = {"item_id": "msg_1", "content_index": 0}
    events = [
        event("output_text.annotation.added", **place, annotation=one) for one in (bad, PATH, CITED)
    ]
    whole = message("Hello")
    whole["content"][0]["annotations"] = [bad, PATH, CITED]
    deltas = said(text("Hello"), *events, done(whole))
    told = [delta.annotation for delta in deltas if isinstance(delta, AnnotationDelta)]
    assert told == [PATH, CITED]


def test_annotations_of_a_second_part_are_behind_the_first() -> None:
    """Parts of one message are one text to the client."""
    whole = message("AB", "C")
    for part in whole["content"]:
        part["annotations"] = [CITED]
    deltas = said(done(whole))
    told = [delta.annotation for delta in deltas if isinstance(delta, AnnotationDelta)]
    assert [(one["start_index"], one["end_index"]) for one in told] == [(0, 1), (2, 3)]


def test_results_that_were_asked_for_are_there() -> None:
    results = [{"url": "http://a", "title": "A"}]
    item = item_of(added(SEARCH), done({**SEARCH, "action": FOUND, "results": results}))
    assert item["results"] == results


def test_a_call_that_is_never_said_to_be_done_holds_nothing_back() -> None:
    completed = event("web_search_call.completed", item_id="ws_1")
    _, told = shown(added(SEARCH), completed, text("Hi", 1), done({**SEARCH, "action": FOUND}))
    assert types(told)[2:] == [
        *("output_item.added", "web_search_call.in_progress"),
        *("web_search_call.completed", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
    ]


def test_code_that_comes_whole_is_told_in_events() -> None:
    """Spec §4.1: clients collect it from them."""
    begun = event("code_interpreter_call_code.delta", item_id="ci_1", delta="1+")
    outputs = [{"type": "logs", "logs": "2"}]
    whole = done({**CODE, "code": "1+1", "outputs": outputs})
    for told_before in ([], [begun]):
        machine, told = shown(added(CODE), *told_before, whole)
        code = [one["delta"] for one in told if "delta" in one]
        assert "".join(code) == "1+1"
        assert types(told)[-4:] == [
            *("code_interpreter_call_code.done", "code_interpreter_call.interpreting"),
            *("code_interpreter_call.completed", "output_item.done"),
        ]
        assert machine.output[0]["outputs"] == outputs


def test_messages_around_a_call_that_is_not_allowed_stay_two() -> None:
    machine = make(MachineOptions(allowed_tools=frozenset()))
    machine.start()
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
    machine.feed(said(text("A"), done(call, 1), text("B", 2), end()))
    machine.end_turn()
    assert [item["content"][0]["text"] for item in machine.output] == ["A", "B"]


def test_nothing_of_it_is_told_unless_it_may_run_there() -> None:
    stream = ResponsesStream(Origin("here"))
    deltas = stream.feed(b"".join(map(sse, [added(SEARCH), done(SEARCH), end(SEARCH)])))
    assert not [delta for delta in deltas if isinstance(delta, HostedDelta)]
