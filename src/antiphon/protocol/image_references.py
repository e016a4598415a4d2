"""What stands for an image in its item, inside the server: ``antiphon-image:<32 hex>``, where the
API has base64 (decision 0010). Pure.

Rules
1. Only items that this server has made have references: a `result` of a client that looks like one
   is refused (`items/image_generation.py`).
2. In encoded JSON a reference is known by what stands around it in such an item. No text can look
   like that, for its quotes are escaped. Other JSON of a client could: nothing comes of it but an
   image of its own project, or null.
"""

import re
from typing import Any, Final

PREFIX: Final = "antiphon-image:"
#: What is in every encoded body that has references, and in hardly any other.
MARK: Final = b'"antiphon-image:'
#: The key of a message that stands for items with images: the references to these, oldest first.
STOOD_FOR: Final = "images_before"
_BLOB: Final = "iblob_"
#: Rule 2: the keys of a finished item, in their order. A pattern that begins as text does is quick.
_FOUND: Final = re.compile(rb'"result":("antiphon-image:([0-9a-f]{32})"),"revised_prompt":')
_WHOLE: Final = re.compile(PREFIX + r"([0-9a-f]{32})\Z")


class Loaded(str):
    """A reference, with the part that the model sees: the image, or a note. No JSON makes one, and
    none shows what it has more. `held`: what has to live as long."""

    __slots__ = ("held", "seen")
    seen: dict[str, Any]
    held: object

    def __new__(cls, reference: str, seen: dict[str, Any], held: object = None) -> "Loaded":
        """Made once, never changed."""
        made = super().__new__(cls, reference)
        made.seen = seen
        made.held = held
        return made


def blob_named(name: str) -> str:
    """The id of the blob of an image; `name`: 32 hex digits."""
    return _BLOB + name


def reference_to(blob: str) -> str:
    """What stands for the image with this blob."""
    return PREFIX + blob.removeprefix(_BLOB)


def blob_of(result: object) -> str | None:
    """The id of the blob that a `result` refers to; None: it is no reference."""
    found = _WHOLE.match(result) if isinstance(result, str) else None
    return blob_named(found[1]) if found else None


def parted(body: bytes) -> tuple[list[bytes], list[str]]:
    """What stands before, between and behind the references of encoded JSON, and the ids of the
    blobs between them. Null and a JSON string are what may stand there."""
    texts: list[bytes] = []
    blobs: list[str] = []
    start = 0
    for found in _FOUND.finditer(body):
        texts.append(body[start : found.start(1)])
        blobs.append(blob_named(found[2].decode()))
        start = found.end(1)
    return [*texts, body[start:]], blobs
