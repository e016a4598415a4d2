"""What is inside a row: its items, decoded."""

from collections.abc import Iterable, Set

import orjson

from antiphon.protocol.ids import partition_of
from antiphon.protocol.items.base import Item
from antiphon.protocol.told import recalled
from antiphon.store.base import Turn


def turn(id: str, input: bytes, body: bytes, told: bytes | None) -> Turn:  # noqa: A002
    """The items of one response; decoding the whole body costs less than a second column would."""
    response = orjson.loads(body)
    own, output = recalled(orjson.loads(input), told), recalled(response["output"], told)
    return Turn(id, response["status"], own, output)


def find(ids: Set[str], rows: Iterable[tuple[bytes, bytes, bytes | None]]) -> dict[str, Item]:
    """The items with these ids in the (input, body, told) rows; output and the first row go
    first."""
    found: dict[str, Item] = {}
    for encoded_input, body, told in rows:
        items = [*orjson.loads(body)["output"], *orjson.loads(encoded_input)]
        for item in recalled([item for item in items if item.get("id") in ids], told):
            found.setdefault(item["id"], item)
    return found


def by_partition(ids: Iterable[str]) -> dict[str, set[str]]:
    """The ids that we minted, by the partition that leads to the response or the conversation that
    they were made for."""
    groups: dict[str, set[str]] = {}
    for id_ in ids:
        if (partition := partition_of(id_)) is not None:
            groups.setdefault(partition, set()).add(id_)
    return groups
