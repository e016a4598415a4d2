"""Generated images: call and result in one item."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import StringConstraints

from antiphon.protocol import effects
from antiphon.protocol.fields import MAX_FILE_DATA, Name, Text
from antiphon.protocol.items.base import Call, Item, ItemShape, ItemType, Result, encode, pair_id


class ImageGenerationCall(ItemShape):
    """An image, base64 in `result`. To edit it in a later turn its id alone is enough (§3.4)."""

    type: Literal["image_generation_call"]
    result: NotRequired[Annotated[str, StringConstraints(max_length=MAX_FILE_DATA)] | None]
    status: NotRequired[Literal["in_progress", "completed", "generating", "failed"] | None]
    action: NotRequired[Literal["generate", "edit", "auto"] | None]
    background: NotRequired[Literal["transparent", "opaque", "auto"] | None]
    error: NotRequired[dict[str, Any] | None]
    output_format: NotRequired[Literal["png", "webp", "jpeg", "gif", "svg"] | None]
    quality: NotRequired[Literal["low", "medium", "high", "xhigh", "max", "auto"] | None]
    revised_prompt: NotRequired[Text | None]
    size: NotRequired[Name | None]


def _as_call(item: Item) -> Call:
    arguments = {"prompt": item.get("revised_prompt", "")}
    return Call(pair_id(item), "image_generation", encode(arguments))


def _as_result(item: Item) -> Result:
    image = item.get("result")
    if not image:
        return Result(pair_id(item), item.get("status", "completed"))
    url = f"data:image/{item.get('output_format', 'png')};base64,{image}"
    return Result(pair_id(item), [{"type": "input_image", "image_url": url, "detail": "auto"}])


ITEM_TYPES = (
    ItemType(
        "image_generation_call",
        "ig",
        ImageGenerationCall,
        effects={
            "response.image_generation_call.in_progress": effects.set_status("in_progress"),
            "response.image_generation_call.generating": effects.set_status("generating"),
            "response.image_generation_call.completed": effects.set_status("completed"),
            "response.image_generation_call.partial_image": effects.nothing,
        },
        as_call=_as_call,
        as_result=_as_result,
        broken_off="failed",
    ),
)
