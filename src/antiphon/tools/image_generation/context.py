"""The images of a conversation, for whoever wants to change one. Pure.

Rules
1. There are those that somebody sent, in messages and outputs of tools, and those that were made
   here: ``image_generation_call`` items with a result, which the engine has put in the place of
   their ids. A compaction names the newest of these (`engine/compaction.py`).
2. What is said of an image is where it is: a URL, a data URL, or the reference of an item.
3. What the request names by its id is as new as the request, wherever it was said before: the user
   has pointed at it.
"""

from collections.abc import Iterator, Sequence

from antiphon.images.base import MEDIA_TYPES, Format
from antiphon.protocol.image_references import blob_of
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.content import PARTS_IN, seen_of
from antiphon.protocol.items.image_generation import made_in
from antiphon.tools.base import Json


def newest_last(items: Sequence[Item], named: Sequence[Item]) -> list[Item]:
    """A context with what the request has `named` at its end (rule 3); an id may be that of several
    items."""
    groups: dict[str, list[Item]] = {item["id"]: [] for item in named}
    old: list[Item] = []
    for item in items:
        groups.get(item.get("id", ""), old).append(item)
    last = {item["id"]: item for item in reversed(named)}  # its last place counts
    return old + [item for id_ in reversed(last) for item in groups[id_] or [last[id_]]]


def images_in(items: Sequence[Item]) -> Iterator[Json]:
    """The images as `Pictures.load` takes them, newest first."""
    for item in reversed(items):
        for reference in reversed(made_in(item)):
            yield {"result": reference}
        if item["type"] == "image_generation_call":
            if (result := item.get("result")) and blob_of(result) is None:
                format_: Format = item.get("output_format") or "png"
                yield {"image_url": f"data:{MEDIA_TYPES[format_]};base64,{result}"}
            continue
        found = item.get(PARTS_IN.get(item["type"], ""))
        parts: list[Json] = found if isinstance(found, list) else []
        for part in reversed(parts):
            seen = seen_of(part)
            if seen["type"] == "input_image" and seen.get("image_url"):
                yield {"image_url": seen["image_url"]}
