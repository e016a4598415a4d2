"""Reasoning: summaries, raw chain of thought, and the client's copy in `encrypted_content`."""

from typing import Annotated, Literal, NotRequired

from pydantic import StringConstraints, with_config
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.fields import LENIENT, MAX_FILE_DATA, Many, Text
from antiphon.protocol.items.base import ItemShape, ItemType, Progress


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
