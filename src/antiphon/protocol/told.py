"""What a model was told of hosted calls, kept for later responses (decision 0007).

Rules
1. It is kept beside a response, by the ids of the items, and is never on the wire.
2. It is text. Of an image, a sound or a file it says that there was one: what the item itself has
   is shown with it, by those items that have something to show.
3. It is bounded, the newest come first. Where nothing is kept the model sees what the item says.
4. A mark is that of a source of its own response: nothing in here can be cited in another one.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import orjson

from antiphon.protocol.items.base import Item, Seen, told_of
from antiphon.protocol.sources import HOW_TO_CITE, unmarked

#: Text or ``input_*`` parts.
Told: TypeAlias = str | list[Any]

#: Bytes of JSON that are kept of one response.
MOST: Final = 1024 * 1024
_SHOWN: Final = {
    "input_image": "[An image was shown.]",
    "input_audio": "[A sound was played.]",
    "input_file": "[A file was shown.]",
}


def kept(told: Mapping[str, Told]) -> bytes | None:
    """What is stored of it: a JSON object, id → text. None: nothing."""
    if not told:
        return None
    room = MOST - len("{}")
    texts: dict[str, orjson.Fragment] = {}
    for item_id, of in reversed(list(told.items())):
        try:
            encoded = orjson.dumps(_text(of))
        except orjson.JSONEncodeError:  # half a surrogate pair: nothing could be sent with it
            continue
        size = len(encoded) + len(item_id) + len('"":,')
        if size <= room:
            room -= size
            texts[item_id] = orjson.Fragment(encoded)
    return orjson.dumps(texts) if texts else None


def kept_of(
    output: Iterable[Item], told: Mapping[str, Told], before: Mapping[str, Told] | None = None
) -> bytes | None:
    """The same, of what was told of the items that a response has; `before`: of those of others
    that it keeps."""
    there = {item["id"] for item in output}
    return kept({**(before or {}), **{id_: of for id_, of in told.items() if id_ in there}})


def recalled(items: list[Item], told: bytes | None) -> list[Item]:
    """The items of an earlier response, each with what was `kept` of it."""
    if not told:
        return items
    texts: dict[str, str] = orjson.loads(told)
    return [Seen(item, None, texts[id_]) if (id_ := _id(item)) in texts else item for item in items]


def told_before(items: Iterable[Item]) -> dict[str, Told]:
    """Id → what was told of it, of those items that have both."""
    return {_id(item): told for item in items if (told := told_of(item)) is not None}


def earlier(item: Item) -> Item:
    """An item of another run: nothing that is told beside it is a source, and its turn is none."""
    told = told_of(item)
    if isinstance(told, str):
        told = _uncited(told)
    elif told is not None:
        told = [{**p, "text": _uncited(p["text"])} if "text" in p else p for p in told]
    return Seen(item, None, told)


def _id(item: Item) -> str:
    id_: str = item.get("id") or ""
    return id_


def _text(told: Told) -> str:
    if isinstance(told, str):
        return _uncited(told)
    texts = (part["text"] if "text" in part else _SHOWN.get(part["type"], "") for part in told)
    return _uncited("\n".join(filter(None, texts)))


def _uncited(text: str) -> str:
    return unmarked(text.removesuffix(HOW_TO_CITE).rstrip())
