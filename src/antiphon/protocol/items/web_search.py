"""Web searches, and pages that were read: call and result in one item."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from antiphon.protocol import effects
from antiphon.protocol.fields import LENIENT, Many, Name, Text, by_type
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
    """As a call of the functions that the tool has (`antiphon.tools.web.functions`)."""
    action = item.get("action") or {}
    if action.get("type") in ("open_page", "find_in_page"):
        keys = ("url", "pattern")
        arguments = {key: action[key] for key in keys if action.get(key) is not None}
        return Call(pair_id(item), action["type"], encode(arguments))
    query = action.get("query") or next(iter(action.get("queries") or ()), None)
    return Call(pair_id(item), "web_search", encode({"query": query} if query else {}))


def _unquoted(item: Item) -> str | list[Any]:
    """What the model was told. Of what a client sends there are the results or sources, if it had
    asked for them. Nothing in those is a source that it could cite now."""
    told = told_of(item)
    if told is not None:
        return told
    kept = item.get("results") or (item.get("action") or {}).get("sources")
    return unmarked(encode(kept)) if kept else ""


def _as_result(item: Item) -> Result:
    output = _unquoted(item)
    if not output:
        return Result(pair_id(item), item.get("status") or "completed")
    return Result(pair_id(item), quoted_output("web_search", output))


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
        unquoted=_unquoted,
        in_the_end={"action": {"type": "search", "query": ""}},
    ),
)
