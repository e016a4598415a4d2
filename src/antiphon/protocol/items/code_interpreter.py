"""Code that ran in a container: call and result in one item."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.fields import LENIENT, ForeignId, Text, by_type
from antiphon.protocol.items.base import Call, Item, ItemShape, ItemType, Result, encode, pair_id


@with_config(LENIENT)
class Logs(TypedDict):
    """What the code printed."""

    type: Literal["logs"]
    logs: Text


@with_config(LENIENT)
class Picture(TypedDict):
    """An image that the code made."""

    type: Literal["image"]
    url: Text


class CodeInterpreterCall(ItemShape):
    """Code and what came out; `outputs` only where `include` asks for them."""

    type: Literal["code_interpreter_call"]
    code: NotRequired[Text | None]
    container_id: NotRequired[ForeignId | None]
    outputs: NotRequired[
        Annotated[
            list[Annotated[dict[str, Any], by_type({"logs": Logs, "image": Picture})]],
            Field(fail_fast=True),
        ]
        | None
    ]
    status: NotRequired[
        Literal["in_progress", "interpreting", "completed", "incomplete", "failed"] | None
    ]


def _as_call(item: Item) -> Call:
    return Call(pair_id(item), "code_interpreter", encode({"code": item.get("code", "")}))


def _as_result(item: Item) -> Result:
    outputs = item.get("outputs") or [{"logs": item.get("status", "completed")}]
    lines = [output.get("logs") or output.get("url") or "" for output in outputs]
    return Result(pair_id(item), "\n".join(lines))


ITEM_TYPES = (
    ItemType(
        "code_interpreter_call",
        "ci",
        CodeInterpreterCall,
        effects={
            "response.code_interpreter_call.in_progress": effects.set_status("in_progress"),
            "response.code_interpreter_call.interpreting": effects.set_status("interpreting"),
            "response.code_interpreter_call.completed": effects.set_status("completed"),
            "response.code_interpreter_call_code.delta": effects.append_to_item("code"),
            "response.code_interpreter_call_code.done": effects.assign_in_item("code"),
        },
        as_call=_as_call,
        as_result=_as_result,
    ),
)
