"""Reasoning: a summary, the raw chain of thought, and the client's copy in `encrypted_content`.

Rules
1. The machine seals ``{"content": the raw text, "state": what the backend wants back}``, without
   `state` when there is none; `restored` gives both back to the item.
2. A state is no key of the item: no JSON can make one, and none shows it. Wherever a restored item
   is stored, in a compaction too, it is what the client may see, with its seal: opened again, that
   gives back the same.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import StringConstraints, with_config
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.fields import LENIENT, MAX_FILE_DATA, Many, Text
from antiphon.protocol.items.base import Item, ItemShape, ItemType, Progress


@with_config(LENIENT)
class SummaryText(TypedDict):
    """A summary of the reasoning."""

    type: Literal["summary_text"]
    text: Text


@with_config(LENIENT)
class ReasoningText(TypedDict):
    """Raw chain of thought."""

    type: Literal["reasoning_text"]
    text: Text


class Reasoning(ItemShape):
    """A reasoning item; a foreign `encrypted_content` is accepted."""

    type: Literal["reasoning"]
    summary: NotRequired[Many[SummaryText] | None]
    content: NotRequired[Many[ReasoningText] | None]
    encrypted_content: NotRequired[
        Annotated[str, StringConstraints(max_length=MAX_FILE_DATA)] | None
    ]
    status: NotRequired[Progress | None]


class _Restored(dict[str, Any]):
    """An item whose seal was opened."""

    __slots__ = ("state",)

    def __init__(self, item: Item, state: Any) -> None:
        super().__init__(item)
        self.state = state


def restored(item: Item, payload: Any) -> Item:
    """The item as a backend reads it, from what its seal held. The client's own text stays."""
    back = _Restored(item, payload.get("state"))
    if payload["content"] and not item.get("content"):
        back["content"] = [{"type": "reasoning_text", "text": payload["content"]}]
    return back


def is_restored(item: Item) -> bool:
    """Whether its seal was opened: what was in it is there."""
    return isinstance(item, _Restored)


def state_of(item: Item) -> Any:
    """What the backend wants back with this item; None: nothing."""
    return item.state if isinstance(item, _Restored) else None


_CONTENT = ("content", "content_index")
_SUMMARY = ("summary", "summary_index")

ITEM_TYPES = (
    ItemType(
        "reasoning",
        "rs",
        Reasoning,
        effects={
            "response.reasoning_text.delta": effects.append_to_part(*_CONTENT, "text"),
            "response.reasoning_text.done": effects.assign_in_part(*_CONTENT, "text"),
            "response.reasoning_summary_part.added": effects.add_part(*_SUMMARY),
            "response.reasoning_summary_part.done": effects.set_part(*_SUMMARY),
            "response.reasoning_summary_text.delta": effects.append_to_part(*_SUMMARY, "text"),
            "response.reasoning_summary_text.done": effects.assign_in_part(*_SUMMARY, "text"),
        },
    ),
)
