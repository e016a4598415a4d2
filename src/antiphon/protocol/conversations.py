"""Conversations on the wire: request bodies, and how items are shown (spec §2.2, App. G).

Rules
1. Items are those of a request's `input`, with the same limits, texts and paths; at most 20 of them
   come at a time.
2. What only has a meaning within one request cannot be kept: a `compaction_trigger`.
3. Items are shown with a status where their type has one (spec App. C).
"""

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, Field

from antiphon.protocol import parameters
from antiphon.protocol.fields import CLOSED, WITH_ITEMS, by_kind, one_of
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item
from antiphon.protocol.request import item_tag, long_form

MAX_ITEMS: Final = 20

_KEPT: Final = {
    name: item_type.shape for name, item_type in ITEM_TYPES.items() if name != "compaction_trigger"
}
_Items: TypeAlias = Annotated[
    list[Item],
    by_kind(
        array=Annotated[
            list[Annotated[Item, one_of(item_tag, _KEPT)]],
            Field(max_length=MAX_ITEMS, fail_fast=True),
            AfterValidator(long_form),
        ]
    ),
]


class NewConversation(BaseModel):
    """The body of ``POST /v1/conversations``; null is the same as absent."""

    model_config = WITH_ITEMS

    metadata: parameters.Metadata | None = None
    items: _Items | None = None


class ChangedConversation(BaseModel):
    """The body of ``POST /v1/conversations/{id}``; null takes all metadata away."""

    model_config = CLOSED

    metadata: parameters.Metadata | None


class NewItems(BaseModel):
    """The body of ``POST /v1/conversations/{id}/items``."""

    model_config = WITH_ITEMS

    items: _Items


#: Types whose items have a status that a client may leave out; for reasoning that means nothing.
_WITH_STATUS: Final = frozenset(
    name for name, shape in _KEPT.items() if "status" in shape.__optional_keys__
) - {"reasoning"}


def shown(item: Item) -> Item:
    """An item as lists show it; what has no status of its own is complete."""
    return {"status": "completed", **item} if item["type"] in _WITH_STATUS else item
