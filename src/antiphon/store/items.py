"""What is inside a row: its items, decoded."""

from collections.abc import Iterable

import orjson

from antiphon.protocol.items.base import Item
from antiphon.store.base import Turn


def turn(id: str, input: bytes, body: bytes) -> Turn:  # noqa: A002
    """The items of one response; decoding the whole body costs less than a second column would."""
    response = orjson.loads(body)
    return Turn(id, response["status"], orjson.loads(input), response["output"])


def find(id: str, rows: Iterable[tuple[bytes, bytes]]) -> Item | None:  # noqa: A002
    """The item with this id in the (input, body) pairs; output goes first."""
    for encoded_input, body in rows:
        found: Item
        for found in (*orjson.loads(body)["output"], *orjson.loads(encoded_input)):
            if found.get("id") == id:
                return found
    return None
