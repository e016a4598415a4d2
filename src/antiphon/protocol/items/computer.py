"""Computer use: what the model wants to do, and the screenshot that answers."""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol.fields import (
    LENIENT,
    CallId,
    ForeignId,
    ImageUrl,
    Int,
    Many,
    Name,
    Text,
    by_type,
)
from antiphon.protocol.items.base import (
    Call,
    Item,
    ItemShape,
    ItemType,
    Progress,
    Result,
    encode,
)
from antiphon.protocol.items.content import exactly_one

Json = dict[str, Any]


@with_config(LENIENT)
class Point(TypedDict):
    """A place on the screen, in pixels."""

    x: Int
    y: Int


class _Pointed(Point):
    keys: NotRequired[Many[Text] | None]


class Click(_Pointed):
    """Press and let go."""

    type: Literal["click"]
    button: Literal["left", "right", "wheel", "back", "forward"]


class DoubleClick(_Pointed):
    """Twice."""

    type: Literal["double_click"]


class Move(_Pointed):
    """Go there."""

    type: Literal["move"]


class Scroll(_Pointed):
    """Turn the wheel there."""

    type: Literal["scroll"]
    scroll_x: Int
    scroll_y: Int


@with_config(LENIENT)
class Drag(TypedDict):
    """Pull something along a path."""

    type: Literal["drag"]
    path: Many[Point]
    keys: NotRequired[Many[Text] | None]


@with_config(LENIENT)
class Keypress(TypedDict):
    """Press keys together."""

    type: Literal["keypress"]
    keys: Many[Text]


@with_config(LENIENT)
class TypeText(TypedDict):
    """Write."""

    type: Literal["type"]
    text: Text


@with_config(LENIENT)
class Idle(TypedDict):
    """Look, or wait."""

    type: Literal["screenshot", "wait"]


Action: TypeAlias = Annotated[
    Json,
    by_type(
        {
            "click": Click,
            "double_click": DoubleClick,
            "drag": Drag,
            "keypress": Keypress,
            "move": Move,
            "screenshot": Idle,
            "scroll": Scroll,
            "type": TypeText,
            "wait": Idle,
        }
    ),
]


@with_config(LENIENT)
class SafetyCheck(TypedDict):
    """Something that a human should look at."""

    id: Name
    code: NotRequired[Text | None]
    message: NotRequired[Text | None]


class ComputerCall(ItemShape):
    """What the model wants to do."""

    type: Literal["computer_call"]
    call_id: CallId
    action: NotRequired[Action | None]
    actions: NotRequired[Many[Action] | None]
    pending_safety_checks: NotRequired[Many[SafetyCheck] | None]
    status: NotRequired[Progress | None]


@with_config(LENIENT)
class Screenshot(TypedDict):
    """The screen afterwards."""

    type: Literal["computer_screenshot"]
    image_url: NotRequired[ImageUrl | None]
    file_id: NotRequired[ForeignId | None]


class ComputerCallOutput(ItemShape):
    """The answer to a call."""

    type: Literal["computer_call_output"]
    call_id: CallId
    output: Annotated[Screenshot, exactly_one("file_id", "image_url")]
    acknowledged_safety_checks: NotRequired[Many[SafetyCheck] | None]
    status: NotRequired[Literal["in_progress", "completed", "incomplete", "failed"] | None]


def _as_call(item: Item) -> Call:
    actions = item.get("actions") or [item.get("action", {})]
    return Call(item["call_id"], "computer", encode({"actions": actions}))


def _as_result(item: Item) -> Result:
    shot = {key: item["output"].get(key) for key in ("image_url", "file_id")}
    source = {key: value for key, value in shot.items() if value is not None}
    return Result(item["call_id"], [{"type": "input_image", "detail": "auto", **source}])


ITEM_TYPES = (
    ItemType("computer_call", "cu", ComputerCall, as_call=_as_call),
    ItemType("computer_call_output", "cuo", ComputerCallOutput, as_result=_as_result),
)
