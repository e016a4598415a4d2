"""Web searches: call and result in one item."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.fields import LENIENT, Many, Name, Text, by_type
from antiphon.protocol.items.base import Call, Item, ItemShape, ItemType, Result, encode, pair_id


@with_config(LENIENT)
class Source(TypedDict):
    """A page that was found."""

    type: NotRequired[Name | None]
    url: NotRequired[Text | None]


@with_config(LENIENT)
class Search(TypedDict):
    """A search."""

    type: Literal["search"]
    query: NotRequired[Text | None]
    queries: NotRequired[Many[Text] | None]
    sources: NotRequired[Many[Source] | None]


@with_config(LENIENT)
class OpenPage(TypedDict):
    """A page was read."""

    type: Literal["open_page"]
    url: NotRequired[Text | None]


@with_config(LENIENT)
class FindInPage(TypedDict):
    """A page was searched."""

    type: Literal["find_in_page"]
    pattern: Text
    url: NotRequired[Text | None]


class WebSearchCall(ItemShape):
    """A search that the server ran."""

    type: Literal["web_search_call"]
    action: NotRequired[
        Annotated[
            dict[str, Any],
            by_type({"search": Search, "open_page": OpenPage, "find_in_page": FindInPage}),
        ]
        | None
    ]
    status: NotRequired[
        Literal["in_progress", "searching", "completed", "failed", "incomplete"] | None
    ]


def _as_call(item: Item) -> Call:
    action = {key: value for key, value in item.get("action", {}).items() if key != "sources"}
    return Call(pair_id(item), "web_search", encode(action))


def _as_result(item: Item) -> Result:
    """The sources; what they said is in the message that follows."""
    sources = item.get("action", {}).get("sources")
    return Result(pair_id(item), encode(sources) if sources else item.get("status", "completed"))


ITEM_TYPES = (
    ItemType(
        "web_search_call",
        "ws",
        WebSearchCall,
        effects={
            "response.web_search_call.in_progress": effects.set_status("in_progress"),
            "response.web_search_call.searching": effects.set_status("searching"),
            "response.web_search_call.completed": effects.set_status("completed"),
        },
        as_call=_as_call,
        as_result=_as_result,
    ),
)
