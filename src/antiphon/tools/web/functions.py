"""What the tool of a request asks for, and what the model sees of it: three functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from antiphon.protocol.sources import HOW_TO_CITE
from antiphon.tools.base import HostedFunction
from antiphon.tools.web.pages import Reader

#: Domains that the model is told of.
_MOST_DOMAINS: Final = 20


class ContextSize(NamedTuple):
    """How much a search brings: results, pages that are read, characters of each."""

    results: int
    pages: int
    text: int


SIZES: Final[Mapping[str, ContextSize]] = {
    "low": ContextSize(4, 0, 0),
    "medium": ContextSize(8, 3, 1_500),
    "high": ContextSize(12, 5, 4_000),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the tool of a request asks for."""

    size: ContextSize
    reader: Reader
    #: ISO 3166-1 alpha-2, and all that is known, in words.
    country: str | None = None
    place: str | None = None


_SEARCH: Final = (
    "Search the web: gives numbered results with title, URL and a snippet. Use it for what is "
    "recent, and for what you do not know for certain. Write the query as for a search engine. "
    "Where a result is promising but says too little, read its page with open_page."
)
_URL: Final = {"type": "string", "description": "The URL of the page."}
_OPEN_PAGE: Final = HostedFunction(
    "open_page",
    "Read the text of a web page: a search result, or a URL that the user names. Long pages come "
    f"in pieces; read on with `start`. {HOW_TO_CITE}",
    {
        "type": "object",
        "properties": {
            "url": _URL,
            "start": {
                "type": "integer",
                "description": "The character of the text to begin with; 0 if it is left out.",
            },
        },
        "required": ["url"],
        "additionalProperties": False,
    },
)
_FIND_IN_PAGE: Final = HostedFunction(
    "find_in_page",
    "Find text in a web page, which may be long: gives the places where it stands, with what is "
    f"around it. {HOW_TO_CITE}",
    {
        "type": "object",
        "properties": {
            "url": _URL,
            "pattern": {
                "type": "string",
                "description": "The text to find, word for word; capitals do not matter.",
            },
        },
        "required": ["url", "pattern"],
        "additionalProperties": False,
    },
)


def functions_for(wish: Wish) -> tuple[HostedFunction, ...]:
    """``web_search``, ``open_page`` and ``find_in_page``."""
    search = HostedFunction(
        "web_search",
        _search_description(wish),
        {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "What to search for."}},
            "required": ["query"],
            "additionalProperties": False,
        },
    )
    return (search, _OPEN_PAGE, _FIND_IN_PAGE)


def _search_description(wish: Wish) -> str:
    parts = [_SEARCH]
    if wish.place:
        parts.append(f"The user is here: {wish.place}.")
    if domains := wish.reader.domains.allowed:
        more = " and others" if len(domains) > _MOST_DOMAINS else ""
        parts.append(f"Only these domains count: {', '.join(domains[:_MOST_DOMAINS])}{more}.")
    if wish.reader.offline:
        parts.append("Access to the web is switched off: only what was cached is found.")
    return " ".join([*parts, HOW_TO_CITE])
