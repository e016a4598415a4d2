"""Tokens of image servers, as `tool_usage.image_gen` counts them (spec §7). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

#: More than any image takes; what says so is no count.
_MOST: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """Tokens of text and of images, read and made; false where there are none."""

    input_text: int = 0
    input_image: int = 0
    output_text: int = 0
    output_image: int = 0

    def __add__(self, other: "ImageUsage") -> "ImageUsage":
        return ImageUsage(
            self.input_text + other.input_text,
            self.input_image + other.input_image,
            self.output_text + other.output_text,
            self.output_image + other.output_image,
        )

    def __bool__(self) -> bool:
        return self.total() > 0

    def total(self) -> int:
        """All of them."""
        return self.input_text + self.input_image + self.output_text + self.output_image

    def body(self) -> dict[str, Any]:
        """The `image_gen` object."""
        return {
            "input_tokens": self.input_text + self.input_image,
            "input_tokens_details": _details(self.input_text, self.input_image),
            "output_tokens": self.output_text + self.output_image,
            "output_tokens_details": _details(self.output_text, self.output_image),
            "total_tokens": self.total(),
        }


#: Of what nobody counts.
UNKNOWN: Final = ImageUsage()


def read_usage(said: Mapping[str, Any]) -> ImageUsage:
    """The `usage` of an image server's answer. What it does not break down is text of a prompt, and
    an image that was made; what is no count is nothing."""
    return ImageUsage(*_pair(said, "input", "text"), *_pair(said, "output", "image"))


def _pair(said: Mapping[str, Any], way: str, kind: str) -> tuple[int, int]:
    """Tokens of text and of images; `kind` has those that are not broken down."""
    broken = said.get(f"{way}_tokens_details")
    details = broken if isinstance(broken, Mapping) else {}
    text, image = _count(details.get("text_tokens")), _count(details.get("image_tokens"))
    rest = max(0, _count(said.get(f"{way}_tokens")) - text - image)
    return (text + rest, image) if kind == "text" else (text, image + rest)


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= _MOST else 0


def _details(text: int, image: int) -> dict[str, int]:
    return {"image_tokens": image, "text_tokens": text}
