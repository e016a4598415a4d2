"""Calls that are shown when they are whole: OpenAI's events (spec §4.1, the recordings)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputItem, ResponseStreamEvent
from pydantic import TypeAdapter

from antiphon.protocol.effects import Fold
from antiphon.protocol.emitter import Emitter
from antiphon.protocol.events import apply
from antiphon.protocol.ids import make_id
from antiphon.protocol.whole_calls import say_call
from antiphon.testing import FixedMint, decode

Json = dict[str, Any]

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)
#: On OpenAI's wire, but not in its types.
UNTYPED = "response.apply_patch_call_operation_diff."
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def say(item_type: str, fields: Json, *, obfuscation: bool = False) -> list[Json]:
    """The events of one call, which is not the first item; what they amount to is checked."""
    fold = Fold()
    fold.replace({"output": [{"id": "msg_1", "type": "message", "content": []}]})
    emitter = Emitter(fold, FixedMint(), obfuscation=obfuscation, first=7)
    say_call(emitter, item_type, "call_1", fields)
    events = decode(emitter.take())
    replayed = Fold()
    replayed.replace({"output": [{}]})
    for event in events:
        if not event["type"].startswith(UNTYPED):
            EVENT.validate_python(event)
        apply(replayed, event)
    item = replayed.snapshot()["output"][1]
    assert not replayed.open
    assert item == events[-1]["item"] == fold.snapshot()["output"][1]
    ITEM.validate_python(item)
    assert [event["sequence_number"] for event in events] == list(range(7, 7 + len(events)))
    assert {event["output_index"] for event in events} == {1}
    return events


def id_of(prefix: str) -> str:
    return make_id(prefix, "0" * 16, f"{1:032x}")


def told(events: list[Json]) -> list[Json]:
    """Without what is the same in all of them."""
    common = ("sequence_number", "output_index", "obfuscation")
    return [{key: value for key, value in e.items() if key not in common} for e in events]


def added(item: Json) -> Json:
    return {"type": "response.output_item.added", "item": item}


def done(item: Json) -> Json:
    return {"type": "response.output_item.done", "item": item}


def keys(item: Json) -> list[str]:
    return list(item)


def test_a_local_shell_call_is_announced_and_done() -> None:
    """openai-local-shell-tool.1."""
    action = {"type": "exec", "command": ["ls", "-a", "~"], "env": {}, "timeout_ms": 5}
    events = say("local_shell_call", {"action": action})
    head = {"id": id_of("lsh"), "type": "local_shell_call"}
    empty = {"type": "exec", "command": [], "env": {}}
    assert told(events) == [
        added({**head, "status": "in_progress", "action": empty, "call_id": "call_1"}),
        done({**head, "status": "completed", "action": action, "call_id": "call_1"}),
    ]
    assert {tuple(event["item"]) for event in events} == {
        ("id", "type", "status", "action", "call_id")
    }


def test_a_tool_search_call_is_announced_and_done() -> None:
    """openai-client-tool-search.1."""
    events = say("tool_search_call", {"arguments": {"goal": "x"}, "execution": "client"})
    head = {"id": id_of("tsc"), "type": "tool_search_call"}
    rest = {"call_id": "call_1", "execution": "client"}
    assert told(events) == [
        added({**head, "status": "in_progress", "arguments": {}, **rest}),
        done({**head, "status": "completed", "arguments": {"goal": "x"}, **rest}),
    ]
    assert {tuple(event["item"]) for event in events} == {
        ("id", "type", "status", "arguments", "call_id", "execution")
    }


def test_the_commands_of_a_shell_call_come_one_after_the_other() -> None:
    """openai-shell-tool.1: these events have no `item_id`."""
    action = {"commands": ["ls -a", "", "pwd"], "max_output_length": 8912, "timeout_ms": None}
    events = say("shell_call", {"action": action})
    head = {"id": id_of("sh"), "type": "shell_call"}
    empty: Json = {"commands": [], "max_output_length": None, "timeout_ms": None}
    event = "response.shell_call_command"
    assert told(events) == [
        added({**head, "status": "in_progress", "action": empty, "call_id": "call_1"}),
        {"type": f"{event}.added", "command_index": 0, "command": ""},
        {"type": f"{event}.delta", "command_index": 0, "delta": "ls -a"},
        {"type": f"{event}.done", "command_index": 0, "command": "ls -a"},
        {"type": f"{event}.added", "command_index": 1, "command": ""},
        {"type": f"{event}.done", "command_index": 1, "command": ""},
        {"type": f"{event}.added", "command_index": 2, "command": ""},
        {"type": f"{event}.delta", "command_index": 2, "delta": "pwd"},
        {"type": f"{event}.done", "command_index": 2, "command": "pwd"},
        done({**head, "status": "completed", "action": action, "call_id": "call_1"}),
    ]
    assert {tuple(e["item"]) for e in (events[0], events[-1])} == {
        ("id", "type", "status", "action", "call_id")
    }


def test_a_shell_call_says_where_it_runs_if_it_knows() -> None:
    """openai-shell-container.1 has it in both events, after the call id."""
    action = {"commands": ["ls"], "max_output_length": None, "timeout_ms": None}
    local = {"type": "local"}
    events = say("shell_call", {"action": action, "environment": local})
    assert [e["item"]["environment"] for e in (events[0], events[-1])] == [local, local]
    assert keys(events[-1]["item"])[-2:] == ["call_id", "environment"]


@pytest.mark.parametrize("kind", ["create_file", "update_file"])
def test_the_diff_of_a_patch_grows(kind: str) -> None:
    """openai-apply-patch-tool.1."""
    operation = {"type": kind, "diff": "+a\n", "path": "a.md"}
    events = say("apply_patch_call", {"operation": operation})
    head = {"id": id_of("apc"), "type": "apply_patch_call"}
    empty = {**operation, "diff": ""}
    place = {"item_id": id_of("apc")}
    assert told(events) == [
        added({**head, "status": "in_progress", "call_id": "call_1", "operation": empty}),
        {"type": f"{UNTYPED}delta", **place, "delta": "+a\n"},
        {"type": f"{UNTYPED}done", **place, "diff": "+a\n"},
        done({**head, "status": "completed", "call_id": "call_1", "operation": operation}),
    ]
    item = events[-1]["item"]
    assert keys(item) == ["id", "type", "status", "call_id", "operation"]
    assert keys(item["operation"]) == ["type", "diff", "path"]


def test_an_empty_diff_has_no_delta() -> None:
    operation = {"type": "create_file", "diff": "", "path": "a.md"}
    events = say("apply_patch_call", {"operation": operation})
    assert [event["type"] for event in events[1:-1]] == [f"{UNTYPED}done"]


def test_a_deletion_has_no_diff() -> None:
    """openai-apply-patch-tool-delete.1."""
    operation = {"type": "delete_file", "path": "obsolete.txt"}
    first, last = say("apply_patch_call", {"operation": operation})
    assert first["item"]["operation"] == last["item"]["operation"] == operation


def test_a_custom_call_has_its_text_in_one_delta() -> None:
    """openai-custom-tool.1; the ``.done`` is that of App. E."""
    events = say("custom_tool_call", {"name": "write_sql", "input": "SELECT 1"})
    head = {"id": id_of("ctc"), "type": "custom_tool_call"}
    rest = {"call_id": "call_1", "name": "write_sql"}
    place = {"item_id": id_of("ctc")}
    assert told(events) == [
        added({**head, "status": "in_progress", "input": "", **rest}),
        {"type": "response.custom_tool_call_input.delta", **place, "delta": "SELECT 1"},
        {"type": "response.custom_tool_call_input.done", **place, "input": "SELECT 1"},
        done({**head, "status": "completed", "input": "SELECT 1", **rest}),
    ]


def test_a_function_call_may_have_a_namespace() -> None:
    """openai-tool-search.1."""
    fields = {"name": "get_weather", "namespace": "weather", "arguments": '{"a":1}'}
    events = say("function_call", fields)
    head = {"id": id_of("fc"), "type": "function_call"}
    rest = {"call_id": "call_1", "name": "get_weather", "namespace": "weather"}
    place = {"item_id": id_of("fc")}
    event = "response.function_call_arguments"
    assert told(events) == [
        added({**head, "status": "in_progress", "arguments": "", **rest}),
        {"type": f"{event}.delta", **place, "delta": '{"a":1}'},
        {"type": f"{event}.done", **place, "name": "get_weather", "arguments": '{"a":1}'},
        done({**head, "status": "completed", "arguments": '{"a":1}', **rest}),
    ]
    assert keys(events[-1]["item"])[-3:] == ["call_id", "name", "namespace"]


def test_deltas_are_padded_if_the_client_wants_it() -> None:
    action = {"commands": ["ls"], "max_output_length": None, "timeout_ms": None}
    operation = {"type": "create_file", "diff": "+a", "path": "a"}
    calls: list[tuple[str, Json]] = [
        ("shell_call", {"action": action}),
        ("apply_patch_call", {"operation": operation}),
        ("custom_tool_call", {"name": "c", "input": "x"}),
    ]
    for item_type, fields in calls:
        padded = [e for e in say(item_type, fields, obfuscation=True) if "obfuscation" in e]
        assert [event["type"].rpartition(".")[2] for event in padded] == ["delta"]
        assert not any("obfuscation" in event for event in say(item_type, fields))


def test_what_the_caller_keeps_does_not_change() -> None:
    """An effect owns what its event carries."""
    action: Json = {"commands": ["ls"], "max_output_length": None, "timeout_ms": None}
    fold = Fold()
    fold.replace({"output": []})
    say_call(Emitter(fold, FixedMint(), obfuscation=False), "shell_call", "c", {"action": action})
    action["commands"].append("rm")
    assert fold.item(0)["action"]["commands"] == ["ls"]


@given(st.lists(TEXT))
def test_any_commands_are_what_their_events_amount_to(commands: list[str]) -> None:
    action = {"commands": commands, "max_output_length": None, "timeout_ms": None}
    assert say("shell_call", {"action": action})[-1]["item"]["action"] == action


@given(TEXT)
def test_any_diff_is_what_its_events_amount_to(diff: str) -> None:
    operation = {"type": "update_file", "diff": diff, "path": "a"}
    events = say("apply_patch_call", {"operation": operation})
    assert events[-1]["item"]["operation"] == operation
