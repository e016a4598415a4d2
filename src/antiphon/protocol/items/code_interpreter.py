"""Code that ran in a container: call and result in one item."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.code_interpreter import cut, images_of, logs_of
from antiphon.protocol.fields import LENIENT, ForeignId, Text, by_type
from antiphon.protocol.items.base import (
    Call,
    Item,
    ItemShape,
    ItemType,
    Result,
    encode,
    pair_id,
    told_of,
    turn_of,
)
from antiphon.protocol.sources import unmarked
from antiphon.protocol.untrusted import quoted_output


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


def _unquoted(item: Item) -> str | list[Any]:
    """What the model was told in this run. In a later one that is text, and images are those of the
    outputs; of what a client sends there are the outputs only, as far as a model would be told."""
    told = told_of(item)
    if told is not None and turn_of(item) is not None:
        return told
    outputs = item.get("outputs") or ()
    if told is None:
        told = unmarked(cut(logs_of(outputs)))
    images = images_of(outputs)
    if not images or isinstance(told, list):
        return told
    return [*([{"type": "input_text", "text": told}] if told else []), *images]


def _as_result(item: Item) -> Result:
    output = _unquoted(item)
    if not output:
        return Result(pair_id(item), item.get("status") or "completed")
    return Result(pair_id(item), quoted_output("code_interpreter", output))


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
        unquoted=_unquoted,
    ),
)
