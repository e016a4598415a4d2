"""Shell commands: `shell_call` and the older `local_shell_call`, each with its output."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol.effects import Event, Fold
from antiphon.protocol.fields import LENIENT, CallId, ForeignId, Int, Many, Strings, Text, by_type
from antiphon.protocol.items.base import (
    Call,
    Item,
    ItemShape,
    ItemType,
    Progress,
    Result,
    encode,
)
from antiphon.protocol.items.function_call import Caller, as_output

Json = dict[str, Any]


@with_config(LENIENT)
class Commands(TypedDict):
    """Commands to run one after the other."""

    commands: Many[Text]
    max_output_length: NotRequired[Int | None]
    timeout_ms: NotRequired[Int | None]


@with_config(LENIENT)
class Local(TypedDict):
    """Runs at the client."""

    type: Literal["local"]


@with_config(LENIENT)
class Container(TypedDict):
    """Runs in a container of the server."""

    type: Literal["container_reference"]
    container_id: ForeignId


class ShellCall(ItemShape):
    """The model wants commands to be run."""

    type: Literal["shell_call"]
    call_id: CallId
    action: Commands
    environment: NotRequired[
        Annotated[Json, by_type({"local": Local, "container_reference": Container})] | None
    ]
    caller: NotRequired[Caller | None]
    status: NotRequired[Progress | None]


@with_config(LENIENT)
class Exited(TypedDict):
    """The command ended."""

    type: Literal["exit"]
    exit_code: Int


@with_config(LENIENT)
class TimedOut(TypedDict):
    """The command was stopped."""

    type: Literal["timeout"]


@with_config(LENIENT)
class CommandOutput(TypedDict):
    """What one command printed."""

    stdout: Text
    stderr: Text
    outcome: Annotated[Json, by_type({"exit": Exited, "timeout": TimedOut})]


class ShellCallOutput(ItemShape):
    """What the commands printed."""

    type: Literal["shell_call_output"]
    call_id: CallId
    output: Many[CommandOutput]
    max_output_length: NotRequired[Int | None]
    caller: NotRequired[Caller | None]
    status: NotRequired[Progress | None]


@with_config(LENIENT)
class Exec(TypedDict):
    """One command as its words."""

    type: Literal["exec"]
    command: Many[Text]
    env: NotRequired[Strings | None]
    timeout_ms: NotRequired[Int | None]
    user: NotRequired[Text | None]
    working_directory: NotRequired[Text | None]


class LocalShellCall(ItemShape):
    """The model wants a command to be run at the client."""

    type: Literal["local_shell_call"]
    call_id: CallId
    action: Exec
    status: NotRequired[Progress | None]


class LocalShellCallOutput(ItemShape):
    """What it printed. Its `id` is the call's: old clients send nothing else (App. C)."""

    type: Literal["local_shell_call_output"]
    call_id: NotRequired[CallId | None]
    output: Text
    status: NotRequired[Progress | None]


def _without_nulls(action: Json) -> str:
    return encode({key: value for key, value in action.items() if value is not None})


def _shell_call(item: Item) -> Call:
    return Call(item["call_id"], "shell", _without_nulls(item["action"]))


def _shell_result(item: Item) -> Result:
    return Result(item["call_id"], encode(item["output"]))


def _local_shell_call(item: Item) -> Call:
    return Call(item["call_id"], "local_shell", _without_nulls(item["action"]))


def _local_shell_result(item: Item) -> Result:
    return as_output({"call_id": item.get("id"), **item})


# -- events --------------------------------------------------------------------------------------


def _add_command(fold: Fold, event: Event) -> None:
    commands = fold.response["output"][event["output_index"]]["action"]["commands"]
    if event["command_index"] != len(commands):
        raise IndexError(f"command_index {event['command_index']} after {len(commands)} commands")
    commands.append(event["command"])


def _append_command(fold: Fold, event: Event) -> None:
    path = (event["output_index"], "action", "commands", event["command_index"])
    fold.append(path, event["delta"])


def _set_command(fold: Fold, event: Event) -> None:
    path = (event["output_index"], "action", "commands", event["command_index"])
    fold.assign(path, event["command"])


def _append_output(fold: Fold, event: Event) -> None:
    """Output has no `added` event: the first fragment makes room for it."""
    output_index, index = event["output_index"], event["command_index"]
    output = fold.response["output"][output_index]["output"]
    while len(output) <= index:
        output.append({"stdout": "", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}})
    for stream in ("stdout", "stderr"):
        if fragment := event["delta"].get(stream):
            fold.append((output_index, "output", index, stream), fragment)


def _set_output(fold: Fold, event: Event) -> None:
    output_index, index = event["output_index"], event["command_index"]
    fold.settle((output_index, "output", index))
    fold.response["output"][output_index]["output"][index : index + 1] = event["output"]


ITEM_TYPES = (
    ItemType(
        "shell_call",
        "sh",
        ShellCall,
        effects={
            "response.shell_call_command.added": _add_command,
            "response.shell_call_command.delta": _append_command,
            "response.shell_call_command.done": _set_command,
        },
        as_call=_shell_call,
    ),
    ItemType(
        "shell_call_output",
        "sho",
        ShellCallOutput,
        effects={
            "response.shell_call_output_content.delta": _append_output,
            "response.shell_call_output_content.done": _set_output,
        },
        as_result=_shell_result,
    ),
    ItemType("local_shell_call", "lsh", LocalShellCall, as_call=_local_shell_call),
    ItemType(
        "local_shell_call_output", "lsho", LocalShellCallOutput, as_result=_local_shell_result
    ),
)
