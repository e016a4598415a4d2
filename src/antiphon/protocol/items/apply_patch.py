"""Patches of files, and whether they could be applied."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import StringConstraints, with_config
from typing_extensions import TypedDict

from antiphon.protocol.effects import Event, Fold
from antiphon.protocol.fields import LENIENT, CallId, Text, by_type
from antiphon.protocol.items.base import Call, Item, ItemShape, ItemType, Result, encode
from antiphon.protocol.items.function_call import Caller

FilePath = Annotated[str, StringConstraints(min_length=1, max_length=4_096)]


@with_config(LENIENT)
class CreateFile(TypedDict):
    """A new file."""

    type: Literal["create_file"]
    path: FilePath
    diff: Text


@with_config(LENIENT)
class UpdateFile(TypedDict):
    """A change."""

    type: Literal["update_file"]
    path: FilePath
    diff: Text


@with_config(LENIENT)
class DeleteFile(TypedDict):
    """A file less."""

    type: Literal["delete_file"]
    path: FilePath


class ApplyPatchCall(ItemShape):
    """The model wants a file to be changed."""

    type: Literal["apply_patch_call"]
    call_id: CallId
    operation: Annotated[
        dict[str, Any],
        by_type({"create_file": CreateFile, "update_file": UpdateFile, "delete_file": DeleteFile}),
    ]
    caller: NotRequired[Caller | None]
    status: NotRequired[Literal["in_progress", "completed"] | None]


class ApplyPatchCallOutput(ItemShape):
    """Whether it worked; `output` is a text for the model."""

    type: Literal["apply_patch_call_output"]
    call_id: CallId
    status: Literal["completed", "failed"]
    output: NotRequired[Text | None]
    caller: NotRequired[Caller | None]


def _as_call(item: Item) -> Call:
    return Call(item["call_id"], "apply_patch", encode(item["operation"]))


def _as_result(item: Item) -> Result:
    return Result(item["call_id"], item.get("output") or item["status"])


def _append_diff(fold: Fold, event: Event) -> None:
    fold.append((event["output_index"], "operation", "diff"), event["delta"])


def _set_diff(fold: Fold, event: Event) -> None:
    fold.assign((event["output_index"], "operation", "diff"), event["diff"])


ITEM_TYPES = (
    ItemType(
        "apply_patch_call",
        "apc",
        ApplyPatchCall,
        # On OpenAI's wire but not in its SDKs, whose helpers stop at them (spec §4.3).
        effects={
            "response.apply_patch_call_operation_diff.delta": _append_diff,
            "response.apply_patch_call_operation_diff.done": _set_diff,
        },
        as_call=_as_call,
    ),
    ItemType("apply_patch_call_output", "apco", ApplyPatchCallOutput, as_result=_as_result),
)
