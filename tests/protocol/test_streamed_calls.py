"""The item of a hosted call while the model writes it (spec §4.1, "code")."""

import json
import time
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.protocol.deltas import Delta, Finish, TextDelta, ToolCallDelta
from antiphon.protocol.machine_options import MachineOptions
from antiphon.protocol.streamed_calls import Streamed, StringReader
from antiphon.testing import assert_valid_log, decode
from tests.pace import pace
from tests.protocol.test_machine import make, types

FIELDS: Final = {"code": "", "container_id": "cntr_1", "outputs": []}
OPTIONS: Final = MachineOptions(
    held=frozenset({"python", "search"}),
    streamed={"python": Streamed("code_interpreter_call", FIELDS, "code")},
)
CODE: Final = "code_interpreter_call"


def call(text: str, index: int = 0, name: str | None = "python") -> ToolCallDelta:
    return ToolCallDelta(index, text, name, f"call_{index}")


def played(*deltas: Delta) -> tuple[list[dict[str, Any]], list[Any]]:
    """The events up to the end of the turn, and the calls that are to be run."""
    machine = make(OPTIONS)
    machine.start()
    machine.feed(list(deltas))
    machine.end_turn()
    held = machine.take_held()
    return decode(machine.take()), held


# -- a string that comes in pieces ---------------------------------------------------------------


def read(text: str, *cuts: int, name: str = "code") -> str:
    reader = StringReader(name)
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    parts = [reader.feed(text[a:b]) for a, b in pairwise(places)]
    return "".join(parts) + reader.close()


@given(
    code=st.text(),
    cuts=st.lists(st.integers(0, 1_000), max_size=8),
    ascii_=st.booleans(),
    indent=st.sampled_from([None, 2]),
)
def test_a_string_is_read_wherever_it_is_cut(
    code: str, cuts: list[int], *, ascii_: bool, indent: int | None
) -> None:
    written = json.dumps({"code": code}, ensure_ascii=ascii_, indent=indent)
    assert read(written, *cuts) == code
    assert read(written, *range(len(written))) == code, "character by character"


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ('{"code": "a', "a"),  # cut off
        ('{"code": "a\\', "a"),
        ('{"code": "a\\u00', "a"),
        ('{"code": "\\ud83d\\ude00!"}', "\U0001f600!"),
        ('{"code": "\\ud83d!"}', "!"),  # half a character
        ('{"code": "\\u-001\\u+041\\u 041"}', ""),
        ('{"a": "' + "x" * 300 + '", "code": "a"}', "a"),
        ('{"code": "\\uzzzz!"}', "!"),
        ('{"code": "a\nb"}', "a\nb"),  # what JSON forbids and models write
        ('{"language": "python", "code": "a"}', "a"),  # at the end
        ('{"code": 3}', ""),
        ('{"codes": "a"}', ""),
        ("[]", ""),
        ("print(1)", ""),
        ("", ""),
        ('{"code": "a"} and more "text"', "a"),
        ('{"code": "a", "b": "c"}', "a"),
    ],
)
def test_what_models_write(written: str, code: str) -> None:
    assert read(written) == code
    assert read(written, *range(len(written))) == code


@pytest.mark.parametrize(
    ("escape", "shown"), [("\\n", 1_000_000), ("\\u00e9", 1_000_000), ("\\q", 1_000)]
)
def test_escapes_without_end_do_not_hold_the_event_loop(escape: str, shown: int) -> None:
    """R-118: a MiB of them in one piece took a second."""
    reader, limit = StringReader("code"), 0.1 * pace()
    started = time.process_time()
    said = reader.feed('{"code": "' + escape * 1_000_000)
    assert time.process_time() - started < limit
    assert len(said) == shown
    assert reader.feed('\\n"}') == ("\n" if shown == 1_000_000 else "")


# -- items ---------------------------------------------------------------------------------------


def test_the_code_comes_as_it_is_written() -> None:
    """The order of OpenAI's recording."""
    events, held = played(call('{"code": "1 +'), call(" 1"), call('"}'), Finish())
    assert types(events)[2:] == [
        "output_item.added",
        f"{CODE}.in_progress",
        f"{CODE}_code.delta",
        f"{CODE}_code.delta",
        f"{CODE}_code.done",
    ]
    assert events[2]["item"] == {
        "id": events[2]["item"]["id"],
        "type": CODE,
        "status": "in_progress",
        **FIELDS,
    }
    assert [event["delta"] for event in events[4:6]] == ["1 +", " 1"]
    assert events[6]["code"] == "1 + 1"
    (made,) = held
    assert (made.name, made.arguments, made.index) == ("python", '{"code": "1 + 1"}', 0)


def test_who_runs_it_goes_on_with_the_item() -> None:
    machine = make(OPTIONS)
    machine.start()
    machine.feed([call('{"code": "1"}'), Finish()])
    machine.end_turn()
    (held,) = machine.take_held()
    assert held.index is not None
    writer = machine.reopen_call(held.index)
    assert writer.fresh, "this process has announced it"
    writer.emit(f"{CODE}.interpreting")
    writer.close("completed", {"outputs": None})
    machine.feed([TextDelta("It is 1."), Finish()])
    machine.end_turn()
    machine.finish()
    final = assert_valid_log(decode(machine.take()))
    code, _ = final["output"]
    assert (code["code"], code["status"], code["outputs"]) == ("1", "completed", None)


def test_several_calls_have_an_item_each() -> None:
    """Those that are not streamed are silent, as ever; what belongs elsewhere waits for a whole
    call."""
    events, held = played(
        call('{"code": "a', 0),
        call('{"code": "b"}', 1),
        call('{"q": "x"}', 2, "search"),
        call('"}', 0, None),
        Finish(),
    )
    assert types(events)[2:] == [
        *("output_item.added", f"{CODE}.in_progress", f"{CODE}_code.delta", f"{CODE}_code.done"),
        *("output_item.added", f"{CODE}.in_progress", f"{CODE}_code.delta", f"{CODE}_code.done"),
    ]
    assert [(made.name, made.index) for made in held] == [
        ("python", 0),
        ("python", 1),
        ("search", None),
    ]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_call_that_was_cut_off_is_incomplete(reason: Any) -> None:
    """Also one that was whole: nobody runs it."""
    machine = make(OPTIONS)
    machine.start()
    machine.feed([call('{"code": "a"}', 0), call('{"code": "b', 1), Finish(reason)])
    machine.end_turn()
    assert machine.take_held() == []
    machine.finish()
    final = assert_valid_log(decode(machine.take()))
    assert [(item["code"], item["status"]) for item in final["output"]] == [
        ("a", "incomplete"),
        ("b", "incomplete"),
    ]


def test_arguments_that_are_none_show_what_can_be_read() -> None:
    events, (held,) = played(call("print(1)"), Finish())
    assert types(events)[-1] == f"{CODE}_code.done"
    assert (events[-1]["code"], held.arguments) == ("", "print(1)")
    events, _ = played(call('{"x": 1, "code": "a"}'), Finish())
    assert [event.get("delta") for event in events[4:]] == ["a", None]


def test_what_is_shown_is_what_runs() -> None:
    """Of two strings of one name JSON takes the last."""
    _, (held,) = played(call('{"code": "a", "code": "print(\'other\')"}'), Finish())
    assert json.loads(held.arguments) == {"code": "a"}
    _, (held,) = played(call('{"code": "a", "more": 1}'), Finish())
    assert json.loads(held.arguments) == {"code": "a", "more": 1}


def test_a_call_that_is_not_allowed_says_nothing() -> None:
    machine = make(
        MachineOptions(held=OPTIONS.held, streamed=OPTIONS.streamed, allowed_tools=frozenset())
    )
    machine.feed([call('{"code": "1"}'), Finish()])
    machine.end_turn()
    assert (machine.take_held(), machine.take()) == ([], [])
