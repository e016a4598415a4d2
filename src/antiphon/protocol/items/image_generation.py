"""Generated images: call and result in one item.

Rules
1. In items of this server `result` is a reference to the image (`protocol/image_references.py`);
   what a client sends is base64, or a data URL, of which the base64 is kept.
2. A reference that is not `Loaded` is not shown to the model: it is told that there is an image.
"""

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import AfterValidator, StringConstraints, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.fields import LENIENT, MAX_FILE_DATA, Name, Text
from antiphon.protocol.image_references import PREFIX, STOOD_FOR, Loaded, blob_of
from antiphon.protocol.items.base import (
    Call,
    Item,
    ItemShape,
    ItemType,
    Result,
    encode,
    pair_id,
    told_of,
)

#: The formats that models are shown.
_SHOWN: Final = ("png", "webp", "jpeg", "gif")
#: Characters of a data URL in which its base64 begins.
_MOST_HEAD: Final = 256


def _bare(result: str) -> str:
    """The base64 alone: some clients keep images as data URLs."""
    head, _, body = result[:_MOST_HEAD].partition(",")
    if body and head[:5].lower() == "data:" and head.endswith(";base64"):
        result = result[len(head) + 1 :]
    if result.startswith(PREFIX):
        raise PydanticCustomError("expected", "a reference", {"expected": "an image as base64"})
    return result


@with_config(LENIENT)
class ImageError(TypedDict, total=False):
    """Why there is no image."""

    type: Text | None
    code: Text | None
    message: Text | None


class ImageGenerationCall(ItemShape):
    """An image, base64 in `result`. To edit it in a later turn its id alone is enough (§3.4)."""

    type: Literal["image_generation_call"]
    result: NotRequired[
        Annotated[str, StringConstraints(max_length=MAX_FILE_DATA), AfterValidator(_bare)] | None
    ]
    status: NotRequired[Literal["in_progress", "completed", "generating", "failed"] | None]
    action: NotRequired[Literal["generate", "edit", "auto"] | None]
    background: NotRequired[Literal["transparent", "opaque", "auto"] | None]
    error: NotRequired[ImageError | None]
    output_format: NotRequired[Literal["png", "webp", "jpeg", "gif", "svg"] | None]
    quality: NotRequired[Literal["low", "medium", "high", "xhigh", "max", "auto"] | None]
    revised_prompt: NotRequired[Text | None]
    size: NotRequired[Name | None]


def _as_call(item: Item) -> Call:
    arguments = {"prompt": item.get("revised_prompt") or ""}
    return Call(pair_id(item), "image_generation", encode(arguments))


def _as_result(item: Item) -> Result:
    """In words, and the image for models that see (`backends/profiles.py`, `vision`)."""
    image, told = item.get("result"), told_of(item)
    if not image:
        why = (item.get("error") or {}).get("message")
        return Result(pair_id(item), told or why or item.get("status") or "completed")
    format_ = item.get("output_format") or "png"
    size = f"{item['size']}, " if item.get("size") else ""
    text = told if isinstance(told, str) else f"The image was made ({size}{format_})."
    parts: list[dict[str, Any]] = [{"type": "input_text", "text": text}]
    if isinstance(image, Loaded):
        parts.append(image.seen)
    elif format_ in _SHOWN and blob_of(image) is None:
        parts.append(image_part(f"data:image/{format_};base64,{image}"))
    return Result(pair_id(item), parts)


def image_part(url: str) -> dict[str, Any]:
    """What a model that sees is shown of an image."""
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def made_in(item: Item) -> list[str]:
    """The references to images that were made here, and that an item has or stands for."""
    found: Any = None
    if item["type"] == "image_generation_call":
        found = [item.get("result")]
    elif item["type"] == "message":
        found = item.get(STOOD_FOR)
    return [one for one in found if blob_of(one) is not None] if isinstance(found, list) else []


def unloaded(item: Item) -> str | None:
    """The reference to an image that models could be shown, and that is not `Loaded` yet."""
    if item["type"] != "image_generation_call" or item.get("output_format") not in _SHOWN:
        return None
    result: str | None = item.get("result")
    return None if isinstance(result, Loaded) or blob_of(result) is None else result


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
