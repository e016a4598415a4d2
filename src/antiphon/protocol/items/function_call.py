"""Function calls and their outputs."""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.fields import LENIENT, CalledName, CallId, Text, by_type
from antiphon.protocol.items.base import Call, Item, ItemShape, ItemType, Progress, Result
from antiphon.protocol.items.content import Output


@with_config(LENIENT)
class DirectCaller(TypedDict):
    """The model itself called."""

    type: Literal["direct"]


@with_config(LENIENT)
class ProgramCaller(TypedDict):
    """A program of the model called (programmatic tool calling)."""

    type: Literal["program"]
    caller_id: CallId


Caller: TypeAlias = Annotated[
    dict[str, Any], by_type({"direct": DirectCaller, "program": ProgramCaller})
]


class FunctionCall(ItemShape):
    """A call of a client-side function; `arguments` is a JSON string."""

    type: Literal["function_call"]
    call_id: CallId
    name: CalledName
    arguments: Text
    namespace: NotRequired[CalledName | None]
    caller: NotRequired[Caller | None]
    status: NotRequired[Progress | None]


class FunctionCallOutput(ItemShape):
    """What the function answered. The newest clients may leave `call_id` out (spec §3.4)."""

    type: Literal["function_call_output"]
    call_id: NotRequired[CallId | None]
    output: Output
    name: NotRequired[CalledName | None]
    namespace: NotRequired[CalledName | None]
    caller: NotRequired[Caller | None]
    status: NotRequired[Progress | None]


def _as_call(item: Item) -> Call:
    return Call(item["call_id"], item["name"], item["arguments"])


def as_output(item: Item) -> Result:
    """The result of any item with `call_id` and a plain `output`."""
    return Result(item.get("call_id") or "", item["output"])


ITEM_TYPES = (
    ItemType(
        "function_call",
        "fc",
        FunctionCall,
        effects={
            "response.function_call_arguments.delta": effects.append_to_item("arguments"),
            "response.function_call_arguments.done": effects.assign_in_item("arguments"),
        },
        as_call=_as_call,
    ),
    ItemType("function_call_output", "fc", FunctionCallOutput, as_result=as_output),
)
