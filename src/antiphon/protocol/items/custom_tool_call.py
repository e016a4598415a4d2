"""Calls of custom tools (free text instead of JSON arguments) and their outputs."""

from typing import Literal, NotRequired

from antiphon.protocol import effects
from antiphon.protocol.fields import CalledName, CallId, Text
from antiphon.protocol.items.base import Call, Item, ItemShape, ItemType, Progress, encode
from antiphon.protocol.items.content import Output
from antiphon.protocol.items.function_call import Caller, as_output


class CustomToolCall(ItemShape):
    """A call with free text as its `input`."""

    type: Literal["custom_tool_call"]
    call_id: CallId
    name: CalledName
    input: Text
    namespace: NotRequired[CalledName | None]
    caller: NotRequired[Caller | None]
    status: NotRequired[Progress | None]


class CustomToolCallOutput(ItemShape):
    """What the tool answered."""

    type: Literal["custom_tool_call_output"]
    call_id: CallId
    output: Output
    name: NotRequired[CalledName | None]
    caller: NotRequired[Caller | None]
    status: NotRequired[Progress | None]


def _as_call(item: Item) -> Call:
    """A chat model sees a custom tool as a function with one string parameter, ``input``."""
    return Call(item["call_id"], item["name"], encode({"input": item["input"]}))


ITEM_TYPES = (
    ItemType(
        "custom_tool_call",
        "ctc",
        CustomToolCall,
        effects={
            "response.custom_tool_call_input.delta": effects.append_to_item("input"),
            "response.custom_tool_call_input.done": effects.assign_in_item("input"),
        },
        as_call=_as_call,
    ),
    ItemType("custom_tool_call_output", "ctc", CustomToolCallOutput, as_result=as_output),
)
