"""Compaction: what stands for everything before it, and the wish for one."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from antiphon.protocol import effects
from antiphon.protocol.fields import MAX_FILE_DATA
from antiphon.protocol.items.base import ItemShape, ItemType


class Compaction(ItemShape):
    """An opaque summary; a foreign one is accepted."""

    type: Literal["compaction"]
    encrypted_content: Annotated[str, StringConstraints(max_length=MAX_FILE_DATA)]


class CompactionTrigger(ItemShape):
    """The client asks for a compaction."""

    type: Literal["compaction_trigger"]


ITEM_TYPES = (
    ItemType(
        "compaction",
        "cmp",
        Compaction,
        effects={"response.compaction.compacting": effects.nothing},
    ),
    ItemType("compaction_trigger", "cmpt", CompactionTrigger),
)
