"""File searches: call and result in one item."""

from typing import Any, Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.fields import LENIENT, ForeignId, Many, Name, Number, Text
from antiphon.protocol.items.base import (
    Call,
    Item,
    ItemShape,
    ItemType,
    Result,
    encode,
    pair_id,
    told_of,
)
from antiphon.protocol.sources import unmarked
from antiphon.protocol.untrusted import quoted_output


@with_config(LENIENT)
class FoundChunk(TypedDict, total=False):
    """One passage that was found."""

    attributes: dict[str, Any] | None
    file_id: ForeignId | None
    filename: Name | None
    score: Number | None
    text: Text | None


class FileSearchCall(ItemShape):
    """A search that the server ran; `results` only where `include` asks for them."""

    type: Literal["file_search_call"]
    queries: NotRequired[Many[Text] | None]
    results: NotRequired[Many[FoundChunk] | None]
    status: NotRequired[
        Literal["in_progress", "searching", "completed", "incomplete", "failed"] | None
    ]


def _as_call(item: Item) -> Call:
    return Call(pair_id(item), "file_search", encode({"queries": item.get("queries") or []}))


def _unquoted(item: Item) -> str | list[Any]:
    """What the model was told; of what a client sends the results, if it has kept them. Nothing in
    those is a source that it could cite now."""
    told = told_of(item)
    if told is not None:
        return told
    results = item.get("results")
    return unmarked(encode(results)) if results else ""


def _as_result(item: Item) -> Result:
    output = _unquoted(item)
    if not output:
        return Result(pair_id(item), item.get("status") or "completed")
    return Result(pair_id(item), quoted_output("file_search", output))


ITEM_TYPES = (
    ItemType(
        "file_search_call",
        "fs",
        FileSearchCall,
        effects={
            "response.file_search_call.in_progress": effects.set_status("in_progress"),
            "response.file_search_call.searching": effects.set_status("searching"),
            "response.file_search_call.completed": effects.set_status("completed"),
        },
        as_call=_as_call,
        as_result=_as_result,
        unquoted=_unquoted,
    ),
)
