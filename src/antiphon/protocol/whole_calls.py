"""Calls of the client's tools that are shown when they are whole (spec §4.1).

The model writes the arguments of a function; what the client gets is an item of another shape, so
that nothing can be said before all is known. The events are those that OpenAI sends while its model
writes: the item announced empty, the strings in it growing, each with its ``.done``, the item.

Rules
1. Keys and their order are those of the recordings; what is announced empty there is empty here.
2. A string has one delta, or none when it is empty.
3. A call that is shown is ``completed``: what is not right is told to the model, and to nobody
   else.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from antiphon.protocol.deltas import ToolCallDelta
from antiphon.protocol.effects import Json, clone
from antiphon.protocol.emitter import Emitter
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.writers import CallWriter


def say_call(emitter: Emitter, item_type: str, call_id: str, fields: Json) -> None:
    """The whole life of a call: ``output_item.added`` to ``output_item.done``.

    `fields` are the item's own: `action` of a ``local_shell_call`` or ``shell_call`` (and its
    `environment`, if it has one), `operation` of an ``apply_patch_call``, `arguments` and
    `execution` of a ``tool_search_call``; `name`, `namespace` (may be missing) and `arguments` or
    `input` of a ``function_call`` or ``custom_tool_call``.
    """
    if item_type in _KINDS:
        kind, key = _KINDS[item_type]
        writer = CallWriter(emitter, kind, (fields["name"], fields.get("namespace")), call_id)
        writer.write(ToolCallDelta(0, fields[key]))
        writer.close("completed")
        return
    life = _LIVES[item_type]
    known: Json = {"call_id": call_id, **clone(fields)}
    whole = {key: known[key] for key in life.keys if key in known}
    head = {"id": emitter.mint.item_id(ITEM_TYPES[item_type].prefix), "type": item_type}
    announced = {**head, "status": "in_progress", **whole, **life.empty(whole)}
    index = emitter.add_item(announced)
    life.grow(emitter, {"item_id": head["id"], "output_index": index}, whole)
    item = {**head, "status": "completed", **whole}
    emitter.emit("response.output_item.done", {"output_index": index, "item": item})


class _Life(NamedTuple):
    #: Of the item, after `status`, in the order of the wire.
    keys: tuple[str, ...]
    #: What the item is announced with: the fields that are not known yet.
    empty: Callable[[Json], Json]
    #: The events in between; the second argument is `item_id` and `output_index`.
    grow: Callable[[Emitter, Json, Json], None]


# -- local_shell_call, tool_search_call ----------------------------------------------------------


def _grow_nothing(_emitter: Emitter, _place: Json, _whole: Json) -> None:
    """These items are announced and done."""


def _empty_exec(_whole: Json) -> Json:
    return {"action": {"type": "exec", "command": [], "env": {}}}


def _empty_search(_whole: Json) -> Json:
    return {"arguments": {}}


# -- shell_call ----------------------------------------------------------------------------------


def _empty_commands(_whole: Json) -> Json:
    return {"action": {"commands": [], "max_output_length": None, "timeout_ms": None}}


def _grow_commands(emitter: Emitter, place: Json, whole: Json) -> None:
    """These events alone have no `item_id`."""
    event = "response.shell_call_command"
    for index, command in enumerate(whole["action"]["commands"]):
        here: Json = {"output_index": place["output_index"], "command_index": index}
        emitter.emit(f"{event}.added", {**here, "command": ""})
        if command:
            emitter.emit_delta(f"{event}.delta", {**here, "delta": command})
        emitter.emit(f"{event}.done", {**here, "command": command})


# -- apply_patch_call ----------------------------------------------------------------------------


def _empty_diff(whole: Json) -> Json:
    operation: Json = whole["operation"]
    return {"operation": {**operation, "diff": ""} if "diff" in operation else {**operation}}


def _grow_diff(emitter: Emitter, place: Json, whole: Json) -> None:
    event, diff = "response.apply_patch_call_operation_diff", whole["operation"].get("diff")
    if diff:
        emitter.emit_delta(f"{event}.delta", {**place, "delta": diff})
    if diff is not None:
        emitter.emit(f"{event}.done", {**place, "diff": diff})


_LIVES: Final[Mapping[str, _Life]] = {
    "local_shell_call": _Life(("action", "call_id"), _empty_exec, _grow_nothing),
    "tool_search_call": _Life(("arguments", "call_id", "execution"), _empty_search, _grow_nothing),
    "shell_call": _Life(("action", "call_id", "environment"), _empty_commands, _grow_commands),
    "apply_patch_call": _Life(("call_id", "operation"), _empty_diff, _grow_diff),
}

#: Type of the item → the kind of call, and the field that grows.
_KINDS: Final[Mapping[str, tuple[Literal["function", "custom"], str]]] = {
    "function_call": ("function", "arguments"),
    "custom_tool_call": ("custom", "input"),
}
