"""The one place where Pillow is loaded (R-133): the extra ``images``."""

from typing import TYPE_CHECKING, Final, NamedTuple

from antiphon.errors import ToolFailed

if TYPE_CHECKING:
    from types import ModuleType


class Pillow(NamedTuple):
    """What of it is used."""

    images: "ModuleType"
    drawing: "ModuleType"
    fonts: "ModuleType"


MISSING: Final = (
    "The package 'pillow' is missing on this server, without which images can be neither drawn nor "
    "brought into another format."
)


def pillow() -> Pillow:
    """Raises `ToolFailed` where it is not installed."""
    try:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415
    except ImportError:
        raise ToolFailed(MISSING) from None
    return Pillow(Image, ImageDraw, ImageFont)
