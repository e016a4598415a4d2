"""The port to servers that make images.

Rules
1. An `ImageBackend` draws one image for a wish, and may show it while it is not finished. The last
   thing that it yields is the `FinalImage`; without one it raises.
2. What goes wrong is a `ToolFailed` in our own words: what the server said goes to the log, and
   nowhere else (R-42).
3. Closing the generator, or cancelling the task that runs it, stops the work (R-58).
4. Bytes are what they are said to be: an image of that format, not too large to be decoded (R-99).
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

from antiphon.protocol.image_usage import UNKNOWN, ImageUsage

#: As requests name them (spec §1.2).
Format: TypeAlias = Literal["png", "webp", "jpeg", "gif", "svg"]
Action: TypeAlias = Literal["generate", "edit"]

MEDIA_TYPES: Final[Mapping[Format, str]] = {
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that somebody has. `held`: what has to live as long as its bytes."""

    body: bytes = field(repr=False)
    media_type: str
    held: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ImageWish:
    """What is to be drawn, and for which project. None: as the server likes it."""

    project: str
    prompt: str
    action: Action = "generate"
    #: Images to edit, oldest first; only they make an edit.
    images: Sequence[Picture] = ()
    #: Where the first of them may change: where the mask is transparent.
    mask: Picture | None = None
    model: str | None = None
    #: ``WIDTHxHEIGHT``, in pixels.
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: Format = "png"
    #: 0 to 100, of ``webp`` and ``jpeg``.
    output_compression: int | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    #: How many unfinished images are to be shown, at most.
    partial_images: int = 0
    #: What only some servers know: ``complexity``, ``frame_count``, ``frame_duration_ms``, ``svg``.
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """What an image is like: `size` in pixels as it is; the others as far as somebody says."""

    size: str | None = None
    quality: str | None = None
    background: str | None = None


@dataclass(frozen=True, slots=True)
class PartialImage:
    """An image that is not finished; `index` counts from 0."""

    index: int
    body: bytes = field(repr=False)
    format: Format
    look: Look = Look()


@dataclass(frozen=True, slots=True)
class FinalImage:
    """The image. `revised_prompt`: what the server has made of the prompt, if it says so; `usage`:
    its tokens, likewise."""

    body: bytes = field(repr=False)
    format: Format
    look: Look = Look()
    revised_prompt: str | None = None
    usage: ImageUsage = UNKNOWN


Drawing: TypeAlias = AsyncGenerator[PartialImage | FinalImage, None]


class ImageBackend(Protocol):
    """One place where images are made."""

    def paint(self, wish: ImageWish) -> Drawing:
        """See the rules. Raises `ToolFailed`."""
        ...

    async def aclose(self) -> None:
        """The server ends."""
        ...
