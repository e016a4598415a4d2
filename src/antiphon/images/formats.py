"""What an image is, and the same image in another format.

Rules
1. What an image is, its bytes say. What has the wished format stays as it is, whatever is in it.
2. The head is read before anything is decoded: an image beyond the limits is refused (R-99), and
   what has to be decoded has a smaller one. Only the formats of the head are decoded, and only the
   first frame.
3. What decodes may take its time: it is for threads (R-118).
4. ``gif`` and ``svg`` are made by nobody here: they have to come as such.
"""

import io
import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from antiphon.images.base import Format
from antiphon.images.pillow import pillow
from antiphon.protocol.images import HEAD, Size, image_of

if TYPE_CHECKING:
    from PIL.Image import Image

#: Media type → the format as requests name it; what has None can only be read.
_FORMATS: Final[Mapping[str, Format | None]] = {
    "image/png": "png",
    "image/webp": "webp",
    "image/jpeg": "jpeg",
    "image/gif": "gif",
    "image/bmp": None,
}
#: What Pillow may be asked to read.
_READ: Final = ("PNG", "WEBP", "JPEG", "GIF", "BMP")
#: What Pillow's readers raise for bytes that are not what they seem.
_UNREADABLE: Final = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError),
    *(struct.error, MemoryError),
)
#: Where an SVG begins, behind declarations and comments; nothing of these is tried in two ways.
_SVG: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?>(?:<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*)<svg[\s>]",
    re.DOTALL,
)
_SVG_HEAD: Final = 4 * 1024
#: Quality of ``jpeg`` and ``webp`` where nothing was asked for: 100 would be several times as
#: large, and look the same.
_QUALITY: Final = 90
#: Pixels of an image that is decoded: each takes some twelve bytes, however few the file has.
_MOST_PIXELS: Final = 20_000_000


class BadImage(Exception):
    """Bytes that are no image, or one that is too large; the message is for the log."""


class Found(NamedTuple):
    """What some bytes are: `format` is None where it is none of those that requests name; `size`
    as ``WIDTHxHEIGHT``, None of what has none."""

    format: Format | None
    size: str | None


def found_in(body: bytes) -> Found:
    """What an image is. Raises `BadImage`."""
    if _SVG.match(body[:_SVG_HEAD]):
        return Found("svg", None)
    found = image_of(body[:HEAD])
    if found is None:
        raise BadImage("no image that is known")
    if found.size is None:
        raise BadImage(f"{found.media_type} without a size")
    if found.size.is_too_large:
        raise BadImage(f"{found.size.width} × {found.size.height} pixels")
    return Found(_FORMATS[found.media_type], f"{found.size.width}x{found.size.height}")


def converted(body: bytes, wished: Format, compression: int | None) -> bytes:
    """An image of a size that was checked, in another format or packed anew. Raises `BadImage`, and
    `ToolFailed` without Pillow."""
    if wished in ("gif", "svg") or found_in(body).format == "svg":
        raise BadImage(f"it is not {wished}")
    return encoded(_opened(body), wished, compression)


def encoded(image: "Image", wished: Format, compression: int | None) -> bytes:
    """A drawn image as bytes; `compression`: 0 to 100, the quality of ``jpeg`` and ``webp``."""
    is_clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if wished == "jpeg":
        image = _on_white(image) if is_clear else image.convert("RGB")
    elif image.mode not in ("RGB", "RGBA", "L", "LA"):
        image = image.convert("RGBA" if is_clear else "RGB")
    written = io.BytesIO()
    if wished == "png":
        image.save(written, "PNG")
    else:
        quality = _QUALITY if compression is None else compression
        image.save(written, wished.upper(), quality=quality)
    return written.getvalue()


def _on_white(image: "Image") -> "Image":
    clear = image if image.mode == "RGBA" else image.convert("RGBA")
    ground: Image = pillow().images.new("RGB", clear.size, "white")
    ground.paste(clear, mask=clear)
    return ground


def _opened(body: bytes) -> "Image":
    """The first frame, decoded."""
    images = pillow().images
    try:
        image: Image = images.open(io.BytesIO(body), formats=_READ)
        size = Size(*image.size)  # its head may have said otherwise
        if size.is_too_large or size.width * size.height > _MOST_PIXELS:
            raise BadImage(f"{image.width} × {image.height} pixels")
        image.load()
    except (*_UNREADABLE, images.DecompressionBombError) as error:
        raise BadImage(f"it cannot be decoded: {type(error).__name__}") from None
    return image
