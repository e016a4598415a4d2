"""A stored item by its id. The engine puts the item in its place."""

from typing import Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol.fields import LENIENT, ItemId
from antiphon.protocol.items.base import ItemType


@with_config(LENIENT)
class ItemReference(TypedDict):
    """Its `type` may be null or absent (spec §3.4)."""

    id: ItemId
    type: NotRequired[Literal["item_reference"] | None]


ITEM_TYPES = (ItemType("item_reference", "ref", ItemReference),)
