"""What a request may ask of `image_generation` on this server (spec §1.2).

Rules
1. An option works, or it is a 400 that names it: what the image server does not know, the operator
   has said (`unsupported`); what hardly one knows has to be allowed (`extra`).
2. The default of an option is the same as its absence.
3. `output_format` and `output_compression` always work: Pillow does what the server cannot.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from antiphon.errors import InvalidRequestError, UnsupportedParameter
from antiphon.protocol.images import Size
from antiphon.protocol.validation import echo
from antiphon.tools.base import Json

#: What an image server may lack. ``edit``: it can change no image.
Option: TypeAlias = Literal[
    "background",
    "edit",
    "input_fidelity",
    "input_image_mask",
    "moderation",
    "output_compression",
    "output_format",
    "partial_images",
    "quality",
    "size",
]
#: What an image server has to be known for; ``gif`` and ``svg`` with all that belongs to them.
Extra: TypeAlias = Literal["complexity", "gif", "svg"]

#: Option → the value that says nothing.
_DEFAULTS: Final[dict[str, Any]] = {
    "background": "auto",
    "moderation": "auto",
    "quality": "auto",
    "size": "auto",
    "partial_images": 0,
}
#: What is done here where the server cannot.
_OURS: Final = ("output_compression", "output_format")
#: Option → the format that it is for.
_OF_FORMAT: Final = {"frame_count": "gif", "frame_duration_ms": "gif", "svg": "svg"}
_SIZE: Final = re.compile(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})")
#: Formats that `output_compression` is for.
PACKED: Final = ("jpeg", "webp")
_EDIT_ONLY: Final = ("input_fidelity", "input_image_mask")


def value_of(tool: Json, option: str) -> Any:
    """What a request says; None where that is nothing."""
    value = tool.get(option)
    return None if value == _DEFAULTS.get(option) else value


def mask_of(tool: Json) -> Json | None:
    """Where the mask is: a ``file_id`` or an ``image_url``."""
    mask = {key: value for key, value in (tool.get("input_image_mask") or {}).items() if value}
    return mask or None


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What the operator says of the image server. `model`: that of requests without one; `models`:
    those that requests may name, ``*`` for all."""

    model: str | None = None
    models: frozenset[str] = frozenset()
    unsupported: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()

    def can(self, option: Option) -> bool:
        """Whether the image server knows it."""
        return option not in self.unsupported

    def check(self, tool: Json, path: str) -> None:
        """Raises `InvalidRequestError`."""
        self._check_model(tool, path)
        self._check_known(tool, path)
        for option, problem in _problems(tool):
            raise InvalidRequestError(
                f"Invalid '{path}.{option}': {problem}.",
                param=f"{path}.{option}",
                code="invalid_value",
            )

    def _check_model(self, tool: Json, path: str) -> None:
        model = value_of(tool, "model")
        if model in (None, self.model) or "*" in self.models or model in self.models:
            return
        there_are = ", ".join(sorted(self.models | {self.model or ""} - {""}))
        hint = f" There are: {there_are}." if there_are else ""
        raise InvalidRequestError(
            f"The image model '{echo(model)}' does not exist, or requests may not name it.{hint}",
            param=f"{path}.model",
            code="model_not_found",
        )

    def _check_known(self, tool: Json, path: str) -> None:
        lacks = set(self.unsupported) - set(_OURS)
        if "edit" in lacks:
            lacks |= set(_EDIT_ONLY)
        unknown = [option for option in get_args(Option) if option in lacks and _says(tool, option)]
        unknown += ["action"] if "edit" in lacks and tool.get("action") == "edit" else []
        format_ = value_of(tool, "output_format")
        unknown += ["output_format"] if format_ in ("gif", "svg") and self._lacks(format_) else []
        for option, extra in {"complexity": "complexity", **_OF_FORMAT}.items():
            if _says(tool, option) and self._lacks(extra):
                unknown.append(option)
        for option in unknown:
            raise UnsupportedParameter(
                f"Unsupported parameter: '{path}.{option}' is not supported by the image server of "
                "this server.",
                param=f"{path}.{option}",
            )

    def _lacks(self, extra: str) -> bool:
        return extra not in self.extra


def _says(tool: Json, option: str) -> bool:
    if option == "input_image_mask":
        return mask_of(tool) is not None
    return value_of(tool, option) is not None


def _problems(tool: Json) -> Iterator[tuple[str, str]]:
    """Options that contradict each other, or say what nobody can do."""
    size = value_of(tool, "size")
    if size is not None and not _is_size(size):
        yield "size", "expected 'auto' or 'WIDTHxHEIGHT', 8000 pixels a side and 50 million in all"
    if len(mask_of(tool) or "1") != 1:
        yield "input_image_mask", "expected either a file_id or an image_url"
    if tool.get("action") == "generate":
        for option in _EDIT_ONLY:
            if _says(tool, option):
                yield option, "it is for edits, and the action is 'generate'"
    yield from _problems_of_format(tool, tool.get("output_format") or "png")


def _problems_of_format(tool: Json, format_: str) -> Iterator[tuple[str, str]]:
    if tool.get("background") == "transparent" and format_ == "jpeg":
        yield "background", "JPEG has no transparent background; 'png' and 'webp' have one"
    if value_of(tool, "output_compression") not in (None, 100) and format_ not in PACKED:
        yield "output_compression", "only 'jpeg' and 'webp' are compressed so"
    for option, needed in _OF_FORMAT.items():
        if _says(tool, option) and format_ != needed:
            yield option, f"it needs the output_format '{needed}'"
    if format_ in ("gif", "svg"):
        for option in ("partial_images", "input_image_mask"):
            if _says(tool, option):
                yield option, f"it does not go with the output_format '{format_}'"


def _is_size(size: str) -> bool:
    match = _SIZE.fullmatch(size)
    return match is not None and not Size(int(match[1]), int(match[2])).is_too_large
