"""A log that broke off anywhere goes on as a valid one (design §1, §5; decision 0005; R-65, R-66).

Rules
1. `play` does what a run does: turns of a model, hosted calls after them, a checkpoint after each
   step; between any two events it can die, several times. All hosted calls of a turn are announced
   before the first is run; then each is run to its end.
2. Who goes on knows the events and the last checkpoint before the cut, nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from antiphon.errors import UpstreamError
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    FinishReason,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.effects import Fold
from antiphon.protocol.emitter import Frame
from antiphon.protocol.held_calls import HeldCall
from antiphon.protocol.machine import ResponseMachine, fold_log
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import Usage, new_response
from antiphon.protocol.streamed_calls import Streamed
from antiphon.protocol.writers import HostedWriter
from antiphon.testing import FixedMint, assert_valid_beginning, assert_valid_log, decode

OFFICIAL: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)
#: Name of the function → its items, their fields at first, the steps of their progress, the fields
#: at the end.
TOOLS: Final[dict[str, tuple[str, dict[str, Any], list[str], dict[str, Any]]]] = {
    "search": (
        "web_search_call",
        {"action": {"type": "search", "query": ""}},
        ["searching"],
        {"action": {"type": "search", "query": "q", "sources": []}},
    ),
    "files": (
        "file_search_call",
        {"queries": []},
        ["searching"],
        {"queries": ["q"], "results": None},
    ),
    "python": (
        "code_interpreter_call",
        {"code": "", "container_id": "cntr_1", "outputs": []},
        ["interpreting"],
        {"outputs": None},
    ),
    "draw": (
        "image_generation_call",
        {"result": None},
        ["generating"],
        {"result": "aGk="},
    ),
    "remote": (
        "mcp_call",
        {"server_label": "s", "name": "n", "arguments": "{}", "output": None, "error": None},
        [],
        {"output": "sun"},
    ),
}


@dataclass(frozen=True)
class Turn:
    """What the model says at once, and how the turn ends."""

    deltas: Sequence[Delta]
    end: FinishReason = "stop"


@dataclass
class Checkpoint:
    """What the next owner is told (`engine.progress`). `pending`: calls, and the places of their
    items once they are announced."""

    settled: int = 0
    usage: Usage = field(default_factory=Usage)
    turns: int = 0
    pending: list[tuple[HeldCall, int | None]] = field(default_factory=list)


class Died(Exception):
    """The process is gone."""


class Life:
    """One process that makes the response, until its log has `until` events."""

    def __init__(self, machine: ResponseMachine, log: list[Frame], until: int | None) -> None:
        self.machine = machine
        self.log = log
        self._until = until
        self.usage_at_end = Usage()

    def commit(self) -> None:
        """Append what was said; die if that is more than this life lasts."""
        for frame in self.machine.take():
            self.log.append(frame)
            if self._until is not None and len(self.log) >= self._until:
                raise Died


def play(
    turns: Sequence[Turn], options: MachineOptions, cuts: Sequence[int], *, fail: bool = False
) -> tuple[list[Frame], int]:
    """The whole log of a response whose makers die at `cuts`, and how often one did."""
    mint = FixedMint()
    request = CreateResponse(model="m", input="hi", background=True)
    response = new_response(
        request, id=mint.item_id("resp"), created_at=mint.now(), status="queued"
    )
    machine = ResponseMachine(response, mint, options)
    machine.enqueue()
    log = machine.take()
    checkpoint = Checkpoint()
    deaths = 0
    for until in [*sorted(cuts), None]:
        if until is not None and until <= len(log):
            continue
        machine = ResponseMachine(fold_log(log), mint, options, first=len(log))
        machine.usage = checkpoint.usage
        life = Life(machine, log, until)
        try:
            going_on = [index for _, index in checkpoint.pending if index is not None]
            unfinished = machine.unfinished
            checkpoint.pending = [
                (call, index)
                for call, index in checkpoint.pending
                if index is None or index in unfinished
            ]
            machine.resume(checkpoint.settled, going_on)
            life.commit()
            for made in steps(life, turns, checkpoint):
                checkpoint = made
            if fail:
                machine.fail(UpstreamError())
            else:
                machine.finish()
            log += machine.take()
            return log, deaths
        except Died:
            deaths += 1
    raise AssertionError("it never came to its end")


def steps(life: Life, turns: Sequence[Turn], at: Checkpoint) -> Iterator[Checkpoint]:
    """Go on from a checkpoint; yields the next ones."""
    machine = life.machine
    at = Checkpoint(at.settled, at.usage, at.turns, list(at.pending))
    writers: list[HostedWriter] = []

    def reached(turns_done: int, pending: Sequence[tuple[HeldCall, int | None]]) -> Checkpoint:
        return Checkpoint(len(machine.response["output"]), machine.usage, turns_done, list(pending))

    while True:
        if at.pending:
            writers = [announced(life, call, index) for call, index in at.pending]
            at.pending = [
                (call, writer.output_index)
                for (call, _), writer in zip(at.pending, writers, strict=True)
            ]
            yield reached(at.turns, at.pending)
        for call, writer in zip([call for call, _ in at.pending], writers, strict=True):
            item_type, _, progress, last = TOOLS[call.name]
            for step in progress:
                writer.emit(f"{item_type}.{step}")
                life.commit()
            writer.close("completed", dict(last))
            life.commit()
            del at.pending[0]
            yield reached(at.turns, at.pending)
        writers = []
        if at.turns == len(turns):
            return
        turn = turns[at.turns]
        machine.finish_reason = None
        for delta in turn.deltas:
            machine.feed([delta])
            life.commit()
        machine.feed([Finish(turn.end)])
        machine.end_turn()
        at.turns += 1
        at.pending = [(call, call.index) for call in machine.take_held()]
        life.commit()
        if at.turns < len(turns) or at.pending:
            yield reached(at.turns, at.pending)


def announced(life: Life, call: HeldCall, index: int | None) -> HostedWriter:
    """The item of a call: a new one, or the one that was there."""
    if index is not None:
        return life.machine.reopen_call(index)
    item_type, fields, *_ = TOOLS[call.name]
    writer = life.machine.begin_call(item_type, dict(fields))
    life.commit()
    return writer


#: Shown while the model makes the call.
STREAMED: Final = {"python": Streamed(TOOLS["python"][0], TOOLS["python"][1], "code")}
TEXT = st.text(max_size=6)
_CALL = st.builds(
    ToolCallDelta,
    index=st.integers(0, 3),
    arguments=st.one_of(TEXT, st.sampled_from(['{"code": "', "a\\n", '"}'])),
    name=st.sampled_from(["tool", *TOOLS]),
    call_id=st.sampled_from([None, "call_1", "call_2"]),
    kind=st.sampled_from(["function", "custom"]),
)
_DELTAS = st.lists(
    st.one_of(
        TEXT.map(TextDelta),
        TEXT.map(RefusalDelta),
        TEXT.map(ReasoningDelta),
        st.builds(SummaryDelta, TEXT, st.integers(0, 1)),
        TEXT.map(ReasoningState),
        _CALL,
        st.just(UsageReport(Usage(1, 0, 1, 0))),
    ),
    max_size=8,
)
TURNS = st.lists(
    st.builds(Turn, _DELTAS, st.sampled_from(["stop", "stop", "length", "content_filter"])),
    min_size=1,
    max_size=3,
)
OPTIONS = st.builds(
    MachineOptions,
    obfuscation=st.booleans(),
    parallel_tool_calls=st.booleans(),
    held=st.just(frozenset(TOOLS)),
    streamed=st.sampled_from([{}, STREAMED]),
    summarise=st.booleans(),
    seal=st.sampled_from([None, repr]),
    sealed=st.booleans(),
)
HOSTED: Final = MachineOptions(held=frozenset(TOOLS))


def shape(output: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items without their ids."""
    return [{k: v for k, v in item.items() if k not in ("id", "call_id")} for item in output]


def holds(log: Sequence[Frame]) -> dict[str, Any]:
    """The final Response of a log that is what every client expects."""
    events = decode(log)
    final = assert_valid_log(events)
    fold = fold_log(log)
    assert fold.response == final, "the Response is the fold of its events"
    announced = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    assert announced == list(range(len(announced))), "no index twice, none left out (spec §4.3)"
    ids = [e["item"]["id"] for e in events if e["type"] == "response.output_item.added"]
    assert len(set(ids)) == len(ids)
    for event in events:
        OFFICIAL.validate_python(event)
    Response.model_validate(final)
    return final


@given(
    turns=TURNS,
    options=OPTIONS,
    cuts=st.lists(st.integers(2, 80), max_size=4),
    fail=st.booleans(),
)
@example(
    turns=[Turn([TextDelta("ab"), TextDelta("cd")])],
    options=HOSTED,
    cuts=[5, 6, 7, 8],
    fail=False,
)
def test_a_log_that_broke_off_anywhere_goes_on(
    turns: list[Turn], options: MachineOptions, cuts: list[int], *, fail: bool
) -> None:
    whole, _ = play(turns, options, [], fail=fail)
    log, deaths = play(turns, options, cuts, fail=fail)
    final, wanted = holds(log), holds(whole)
    assert shape(final["output"]) == shape(wanted["output"]), "as if nobody had died"
    for key in ("status", "output_text", "incomplete_details", "error", "usage"):
        assert final[key] == wanted[key]
    repeated = [e for e in decode(log) if e["type"] == "response.in_progress"]
    assert 1 <= len(repeated) <= deaths + 1, "one for each who went on and said it"


#: Text, a call of the client's, hosted calls of each kind, and an answer.
STORY: Final = [
    Turn(
        [
            ReasoningDelta("Let me see."),
            TextDelta("I "),
            TextDelta("look."),
            *(ToolCallDelta(n, "{}", name, f"call_{n}") for n, name in enumerate(TOOLS)),
            UsageReport(Usage(3, 0, 4, 0)),
        ]
    ),
    Turn([ToolCallDelta(0, "{}", "search", "call_9"), UsageReport(Usage(5, 0, 6, 0))]),
    Turn(
        [
            RefusalDelta("No"),
            RefusalDelta("."),
            ToolCallDelta(0, '{"a"', "tool", "call_x"),
            ToolCallDelta(0, ":1}"),
            UsageReport(Usage(7, 0, 8, 0)),
        ]
    ),
]
LENGTH: Final = len(play(STORY, HOSTED, [])[0])


@pytest.mark.parametrize("cut", range(2, LENGTH))
def test_the_same_story_cut_at_every_event(cut: int) -> None:
    """R-66: hosted calls that had finished are in the output once, usage is not counted twice."""
    log, deaths = play(STORY, HOSTED, [cut, cut + 1, cut + 4])
    assert deaths >= 1
    final = holds(log)
    kinds = [item["type"] for item in final["output"]]
    assert kinds == [
        "reasoning",
        "message",
        *(item_type for item_type, *_ in TOOLS.values()),
        "web_search_call",
        "message",
        "function_call",
    ]
    assert {item.get("status", "completed") for item in final["output"]} == {"completed"}
    assert final["usage"]["total_tokens"] == 33


def test_what_is_taken_back_keeps_its_place_until_the_end() -> None:
    """openai-node 6 throws when a `response.in_progress` has fewer items than were announced."""
    turns = [Turn([ReasoningDelta("hm"), TextDelta("a"), TextDelta("b")])]
    cut = 12
    log, deaths = play(turns, HOSTED, [cut])
    events = decode(log)
    assert deaths == 1
    assert events[cut - 1]["type"] == "response.output_text.delta"
    done, resumed = events[cut : cut + 2]
    assert (done["output_index"], done["item"]["status"]) == (1, "incomplete")
    assert resumed["type"] == "response.in_progress"
    assert resumed["withdrawn"] == [0, 1]
    assert [item["type"] for item in resumed["response"]["output"]] == ["reasoning", "message"]
    assert resumed["response"]["output_text"] == ""
    machine = ResponseMachine(
        fold_log(log[: cut + 2]), FixedMint("1" * 16), MachineOptions(), first=cut + 2
    )
    assert orjson.loads(machine.body())["output"] == machine.output == []
    machine.feed([TextDelta("c")])
    machine.beat()
    beat = decode(machine.take())[-1]
    assert "withdrawn" not in beat
    assert [item["type"] for item in beat["response"]["output"]][1:] == ["message", "message"]
    assert beat["response"]["output_text"] == orjson.loads(machine.body())["output_text"] == "c"
    assert "withdrawn" not in events[2]
    assert [item["type"] for item in holds(log)["output"]] == ["reasoning", "message"]


@pytest.mark.parametrize("cut", range(2, LENGTH))
def test_whatever_is_there_can_be_cancelled_or_failed(cut: int) -> None:
    """Spec §5: what was said is kept; R-58, R-69."""
    log = play(STORY, HOSTED, [])[0][:cut]
    for end in ("cancelled", "failed"):
        machine = ResponseMachine(fold_log(log), FixedMint(), MachineOptions(), first=cut)
        if end == "cancelled":
            machine.cancel()
        else:
            machine.fail(UpstreamError())
        body = orjson.loads(machine.body())
        assert body["status"] == end
        before = orjson.loads(orjson.dumps(fold_log(log).snapshot()))
        assert [item["id"] for item in body["output"]] == [item["id"] for item in before["output"]]
        statuses = {item.get("status", "completed") for item in body["output"]}
        assert statuses <= {"completed", "incomplete", "failed"}
        frames = log + machine.take()
        if end == "cancelled":
            assert_valid_beginning(decode(frames))
        else:
            assert assert_valid_log(decode(frames)) == body
        Response.model_validate(body)


@given(turns=TURNS, options=OPTIONS, cuts=st.lists(st.integers(2, 80), max_size=2), data=st.data())
def test_a_fold_can_be_made_in_pieces(
    turns: list[Turn], options: MachineOptions, cuts: list[int], data: st.DataObject
) -> None:
    """Readers of a long log fold one window after the other."""
    log, _ = play(turns, options, cuts)
    at = data.draw(st.integers(0, len(log)))
    fold = Fold()
    fold_log(log[:at], fold)
    assert fold_log(log[at:], fold).response == fold_log(log).response
    assert fold.next_index == fold_log(log).next_index
    assert fold.open == set()
