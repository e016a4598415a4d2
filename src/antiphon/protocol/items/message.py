"""Messages of all roles, and the events of their content parts (spec §3.3, §4.1).

``content_part.*`` serves reasoning items too: both keep their parts in `content`.
"""

from typing import Annotated, Any, Literal, NotRequired

from antiphon.protocol import effects
from antiphon.protocol.fields import Text, by_kind
from antiphon.protocol.items.base import Item, ItemShape, ItemType, Progress
from antiphon.protocol.items.content import Parts


class Message(ItemShape):
    """A message; without `type` in its easy form."""

    type: NotRequired[Literal["message"] | None]
    role: Literal["assistant", "system", "developer", "user"]
    content: Annotated[Any, by_kind(array=Parts, string=Text)]
    status: NotRequired[Progress | None]
    phase: NotRequired[Literal["commentary", "final_answer"] | None]


def normalise(item: Item) -> None:
    """Give a valid message its long form: `type`, and `content` as a list of parts."""
    item["type"] = "message"
    content = item["content"]
    if isinstance(content, str):
        if item["role"] == "assistant":
            part: Item = {"type": "output_text", "text": content, "annotations": []}
        else:
            part = {"type": "input_text", "text": content}
        item["content"] = [part]
        return
    for part in content:
        if part["type"] == "output_text" and part.get("annotations") is None:
            part["annotations"] = []
        elif part["type"] == "input_image" and part.get("detail") is None:
            part["detail"] = "auto"


_CONTENT = ("content", "content_index")

ITEM_TYPES = (
    ItemType(
        "message",
        "msg",
        Message,
        effects={
            "response.content_part.added": effects.add_part(*_CONTENT),
            "response.content_part.done": effects.set_part(*_CONTENT),
            "response.output_text.delta": effects.append_to_part(*_CONTENT, "text"),
            "response.output_text.done": effects.assign_in_part(*_CONTENT, "text"),
            "response.output_text.annotation.added": effects.annotate,
            "response.refusal.delta": effects.append_to_part(*_CONTENT, "refusal"),
            "response.refusal.done": effects.assign_in_part(*_CONTENT, "refusal"),
        },
    ),
)
