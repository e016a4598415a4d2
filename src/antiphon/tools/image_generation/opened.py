"""``image_generation`` in one run: one function, and what became of each call.

Rules
1. Keys of the item and its events, and their order, are those of the recording. What is announced
   has no keys of its own; `result` of one that failed is null, and `error` says why.
2. An item that another process has announced says none of its events again: the image counts.
3. The bytes of an image are kept before its item ends, if the response is stored: the item has a
   reference then, else base64 (decision 0010). One that cannot be kept, or that is too much for
   one response, has failed, and its tokens count; after such a one no more are drawn.
4. The model is told that the image is there; the image itself stands in the item, and is shown to
   models that see (`protocol/items/image_generation.py`).
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import Final

import structlog

from antiphon.errors import APIError, ToolFailed
from antiphon.images.base import (
    MEDIA_TYPES,
    FinalImage,
    Format,
    ImageBackend,
    ImageWish,
    PartialImage,
    Picture,
)
from antiphon.protocol.image_usage import UNKNOWN, ImageUsage
from antiphon.protocol.inline import inlined
from antiphon.protocol.items.base import Item
from antiphon.tools.base import Call, CallItem, HostedFunction, Json, Outcome, Scope, Stage
from antiphon.tools.image_generation.asking import (
    chosen_action,
    chosen_count,
    chosen_look,
    function_of,
    prompt_of,
)
from antiphon.tools.image_generation.context import images_in, newest_last
from antiphon.tools.image_generation.pictures import MOST_BYTES, Pictures
from antiphon.tools.image_generation.rules import PACKED, ImageRules, mask_of, value_of

#: Bytes of all images that one response makes: with `store: false`, and in a WebSocket, the last
#: event has all of them (R-118).
MOST_MADE: Final = 64 * 1024 * 1024

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Studio:
    """What all runs share. `timeout`: seconds of one call."""

    backend: ImageBackend
    pictures: Pictures
    rules: ImageRules
    timeout: float


class OpenImageGeneration:
    """See `OpenTool`."""

    item_type = "image_generation_call"

    def __init__(self, studio: Studio, tool: Json, scope: Scope) -> None:
        self._studio = studio
        self._tool = tool
        self._scope = scope
        self._function = function_of(tool, studio.rules, studio.timeout)
        #: The run; and how much of its output was there before.
        self._stage: Stage | None = None
        self._before = 0
        #: Bytes of images that this response may still have.
        self._left = MOST_MADE

    async def prepare(self, stage: Stage) -> None:
        """See `OpenTool`."""
        self._stage, self._before = stage, len(stage.output)

    @property
    def functions(self) -> Sequence[HostedFunction]:
        """``image_generation``."""
        return (self._function,)

    def begin(self, call: Call) -> Json:  # noqa: ARG002
        """Everything comes at the end (see the recording)."""
        return {}

    def failed(self, call: Call, reason: str) -> Outcome:  # noqa: ARG002
        """No image."""
        return _failed(reason, None)

    async def run(self, call: Call, item: CallItem) -> Outcome:
        """See `OpenTool`. Raises `APIError`."""
        began = time.monotonic()
        try:
            self._check_room()
            wish = await self._wish(call.read())
            if item.fresh:
                item.emit("image_generation_call.generating")
            final = await self._drawn(wish, item)
        except ToolFailed as error:
            return _failed(error.message, error.code)
        self._left -= len(final.body)
        try:
            self._check_room()
            result = await self._kept(final)
        except APIError as error:
            return _failed(error.message, None, final.usage)
        seconds = round(time.monotonic() - began, 1)
        tokens = final.usage.total()
        _log.info("image_made", size=final.look.size, seconds=seconds, tokens=tokens)
        fields = {
            "action": wish.action,
            **_look(final, wish, final.format),
            "result": result,
            "revised_prompt": final.revised_prompt or wish.prompt,
            "size": final.look.size or wish.size or "auto",
        }
        return Outcome(fields, told=_told(final), image_usage=final.usage)

    def close(self) -> None:
        """See `OpenTool`."""
        self._stage = None

    def _check_room(self) -> None:
        """Raises `ToolFailed`."""
        if self._left < 0:
            raise ToolFailed(
                f"The images of a response are too large: the limit is {MOST_MADE} bytes in all."
            )

    async def _wish(self, arguments: Json) -> ImageWish:
        """Raises `APIError`."""
        tool, rules = self._tool, self._studio.rules
        prompt = prompt_of(arguments)
        action = chosen_action(arguments, tool, rules)
        look = chosen_look(arguments, tool, rules)
        images: tuple[Picture, ...] = ()
        mask = None
        if action == "edit":
            images = await self._newest(chosen_count(arguments))
            source = mask_of(tool)
            mask = None if source is None else await self._load(source)
        format_: Format = tool.get("output_format") or "png"
        return ImageWish(
            project=self._scope.project,
            prompt=prompt,
            action=action,
            images=images,
            mask=mask,
            model=tool.get("model") or rules.model,
            size=look["size"],
            quality=value_of(tool, "quality"),
            background=look["background"],
            output_format=format_,
            output_compression=tool.get("output_compression") if format_ in PACKED else None,
            moderation=value_of(tool, "moderation"),
            input_fidelity=tool.get("input_fidelity") if action == "edit" else None,
            partial_images=tool.get("partial_images") or 0,
            more={key: tool[key] for key in _MORE if tool.get(key) is not None},
        )

    async def _newest(self, count: int) -> tuple[Picture, ...]:
        """The newest images of the conversation, oldest first: what this run has made, the last in
        its output as the newest, before what the request has or names. Raises `APIError`."""
        items: list[Item] = []
        if (stage := self._stage) is not None:
            context = stage.items[: len(stage.items) - self._before]
            items = [*newest_last(context, self._scope.named), *stage.output]
        sent = list(islice(images_in(items), count))
        pictures = [await self._load(source) for source in reversed(sent)]
        if not pictures:
            raise ToolFailed("There is no image in this conversation that could be changed.")
        if len(pictures) < count:
            raise ToolFailed(f"There are only {len(pictures)} images in this conversation.")
        if sum(len(picture.body) for picture in pictures) > MOST_BYTES:
            raise ToolFailed(f"The images are too large: the limit is {MOST_BYTES} bytes.")
        return tuple(pictures)

    async def _load(self, source: Json) -> Picture:
        return await self._studio.pictures.load(self._scope.project, source)

    async def _kept(self, final: FinalImage) -> str:
        """The `result` of the item. Raises `APIError`."""
        if self._scope.response_id is None:
            return await asyncio.to_thread(_base64, final.body)
        media_type = MEDIA_TYPES[final.format]
        return await self._studio.pictures.keep(self._scope, final.body, media_type)

    async def _drawn(self, wish: ImageWish, item: CallItem) -> FinalImage:
        """The image; what comes before is shown. Raises `ToolFailed`."""
        last = -1
        async with aclosing(self._studio.backend.paint(wish)) as drawing:
            async for image in drawing:
                if isinstance(image, FinalImage):
                    return image
                if item.fresh and last < image.index < wish.partial_images:
                    last = image.index
                    await _show(image, wish, item)
        raise ToolFailed("The image server made no image.")


#: Options that go to the server as they are.
_MORE = ("complexity", "frame_count", "frame_duration_ms", "svg")


async def _show(image: PartialImage, wish: ImageWish, item: CallItem) -> None:
    fields = {
        "partial_image_index": image.index,
        "partial_image_b64": await asyncio.to_thread(_base64, image.body),
        "size": image.look.size or wish.size or "auto",
    }
    look = _look(image, wish, image.format)
    fields |= {key: look[key] for key in ("quality", "background", "output_format")}
    item.emit("image_generation_call.partial_image", fields)


def _look(image: PartialImage | FinalImage, wish: ImageWish, format_: Format) -> Json:
    """What the server says of it, else what was asked for."""
    return {
        "background": image.look.background or wish.background or "auto",
        "output_format": format_,
        "quality": image.look.quality or wish.quality or "auto",
    }


def _told(final: FinalImage) -> str:
    size = f"{final.look.size}, " if final.look.size else ""
    return (
        f"The image was made ({size}{final.format}), and the user sees it. Do not write a link to "
        "it, and do not make it again unless the user wants another one."
    )


def _failed(reason: str, code: str | None, usage: ImageUsage = UNKNOWN) -> Outcome:
    """`usage`: an image was made all the same."""
    kind = "image_generation_error" if code else "server_error"
    error = {"type": kind, "code": code, "message": reason}
    told = f"No image was made: {reason}"
    return Outcome({"result": None, "error": error}, "failed", told, usage)


def _base64(body: bytes) -> str:
    return inlined("", body).partition(",")[2]
