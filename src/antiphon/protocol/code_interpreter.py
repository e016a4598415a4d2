"""What came of code that ran in a container (spec §3.3, ``code_interpreter_call``), and how much of
that a model is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

#: Characters of output that a model is told, of which half are from the end; images it is shown.
MOST_TOLD: Final = 32 * 1024
MOST_IMAGES: Final = 5


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file that code made or changed: its id in the container, and where it is there."""

    file_id: str
    path: str


@dataclass(frozen=True, slots=True)
class Executed:
    """`outputs` as the item has them: ``{"type": "logs", "logs"}`` and ``{"type": "image", "url"}``
    with data URLs. `notes`: what the model has to know besides. `has_failed`: the code did not come
    to its end, which an exception is not. `links`: all files of the container that code made."""

    outputs: Sequence[Json] = ()
    files: Sequence[MadeFile] = ()
    notes: Sequence[str] = field(default_factory=list)
    has_failed: bool = False
    links: Sequence[MadeFile] = ()


def logs_of(outputs: Sequence[Json]) -> str:
    """All that was printed."""
    return "\n".join(output["logs"] for output in outputs if output["type"] == "logs")


def images_of(outputs: Sequence[Json]) -> list[Json]:
    """The first images, as parts that a model sees."""
    urls = [output["url"] for output in outputs if output["type"] == "image"]
    return [
        {"type": "input_image", "image_url": url, "detail": "auto"} for url in urls[:MOST_IMAGES]
    ]


def cut(text: str, most: int = MOST_TOLD) -> str:
    """Its beginning and its end, if it is longer than `most` characters."""
    if len(text) <= most:
        return text
    left_out = len(text) - most
    return f"{text[: most // 2]}\n[{left_out} characters are left out]\n{text[-(most // 2) :]}"
