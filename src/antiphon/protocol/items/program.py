"""Programs that call tools, and their results (programmatic tool calling)."""

from typing import Literal, NotRequired

from antiphon.protocol.fields import CallId, Text
from antiphon.protocol.items.base import Call, Item, ItemShape, ItemType, Progress, Result, encode


class Program(ItemShape):
    """A program that the model wrote."""

    type: Literal["program"]
    call_id: CallId
    code: Text
    fingerprint: NotRequired[Text | None]


class ProgramOutput(ItemShape):
    """What it said."""

    type: Literal["program_output"]
    call_id: CallId
    result: Text
    status: NotRequired[Progress | None]


def _as_call(item: Item) -> Call:
    return Call(item["call_id"], "programmatic_tool_calling", encode({"code": item["code"]}))


def _as_result(item: Item) -> Result:
    return Result(item["call_id"], item["result"])


ITEM_TYPES = (
    ItemType("program", "cm", Program, as_call=_as_call),
    ItemType("program_output", "cmo", ProgramOutput, as_result=_as_result),
)
