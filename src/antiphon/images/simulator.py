"""Draws test images, so that everything works without an image server.

Rules
1. An image says that it is a simulator's, what was asked for, and what it was given: the same wish
   makes the same image.
2. Images that are given are not decoded: their kind and size stand in their heads (R-99).
3. A partial image is the same picture, in larger blocks.
"""

import asyncio
import hashlib
import textwrap
from typing import TYPE_CHECKING, Final

from antiphon.errors import ToolFailed
from antiphon.images.base import Drawing, FinalImage, ImageWish, Look, PartialImage, Picture
from antiphon.images.formats import BadImage, encoded, found_in
from antiphon.images.pillow import pillow

if TYPE_CHECKING:
    from PIL.Image import Image

_SIZE: Final = (1024, 1024)
#: Pixels of a side.
_MOST_SIDE: Final = 4_096
#: Lines of the prompt that are shown, and characters of a line.
_LINES: Final = 14
_CHARACTERS: Final = 38
#: Blocks of a side of the first partial image; each further one has three times as many.
_BLOCKS: Final = 24
#: Pixels of a side for one pixel of type.
_TYPE: Final = 24


class DrawingSimulator:
    """See `ImageBackend`."""

    async def paint(self, wish: ImageWish) -> Drawing:
        """See `ImageBackend.paint`."""
        size = _size_of(wish)
        image = await asyncio.to_thread(_drawn, wish, size)
        background = "transparent" if wish.background == "transparent" else "opaque"
        look = Look(f"{size[0]}x{size[1]}", wish.quality or "low", background)
        for index in range(wish.partial_images):
            coarse = await asyncio.to_thread(_coarse, image, index, wish)
            yield PartialImage(index, coarse, wish.output_format, look)
        body = await asyncio.to_thread(encoded, image, wish.output_format, wish.output_compression)
        yield FinalImage(body, wish.output_format, look, revised_prompt=wish.prompt)

    async def aclose(self) -> None:
        """Nothing is open."""


def _size_of(wish: ImageWish) -> tuple[int, int]:
    if wish.size is None:
        return _SIZE
    width, _, height = wish.size.partition("x")
    size = int(width), int(height)
    if max(size) > _MOST_SIDE:
        raise ToolFailed(f"The simulator draws at most {_MOST_SIDE} × {_MOST_SIDE} pixels.")
    return size


def _drawn(wish: ImageWish, size: tuple[int, int]) -> "Image":
    images, drawing, fonts = pillow()
    red, green, blue = hashlib.sha256(wish.prompt.encode(errors="replace")).digest()[:3]
    clear = wish.background == "transparent"
    ground = (0, 0, 0, 0) if clear else (red // 2 + 128, green // 2 + 128, blue // 2 + 128, 255)
    image: Image = images.new("RGBA", size, ground)
    pen = drawing.Draw(image)
    edge, unit = min(size), max(8, min(size) // _TYPE)
    dark = (red // 3, green // 3, blue // 3, 255)
    corner = size[0] - unit, size[1] - unit
    pen.ellipse(
        [corner[0] - edge // 3, corner[1] - edge // 3, *corner], fill=(red, green, blue, 255)
    )
    pen.rectangle([0, 0, size[0] - 1, size[1] - 1], outline=dark, width=max(2, edge // 100))
    font = fonts.load_default(unit)
    for number, line in enumerate(_label(wish, size)):
        pen.text((unit, unit + number * unit * 1.3), line, fill=dark, font=font)
    return image if clear else image.convert("RGB")


def _label(wish: ImageWish, size: tuple[int, int]) -> list[str]:
    prompt = wish.prompt.encode("latin-1", "replace").decode("latin-1")
    lines = textwrap.wrap(prompt, _CHARACTERS)[:_LINES]
    facts = [f"Antiphon simulator: {wish.action}", *lines, ""]
    facts.append(f"{size[0]} x {size[1]}, {wish.output_format}, {wish.quality or 'auto'}")
    facts += [f"from {_said(image)}" for image in wish.images[:4]]
    if wish.mask is not None:
        facts.append(f"mask {_said(wish.mask)}")
    return facts


def _said(picture: Picture) -> str:
    try:
        return f"{picture.media_type} {found_in(picture.body).size}"
    except BadImage:
        return picture.media_type


def _coarse(image: "Image", index: int, wish: ImageWish) -> bytes:
    blocks = _BLOCKS * 3**index
    small = image.resize((min(blocks, image.width), min(blocks, image.height)))
    images = pillow().images
    return encoded(
        small.resize(image.size, images.Resampling.NEAREST),
        wish.output_format,
        wish.output_compression,
    )
