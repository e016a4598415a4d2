"""What a model wants of the web: its calls, read leniently, and OpenAI's actions (spec §3.3).

Rules
1. A model may call one function with the arguments of another, or with those of the history's
   items: what is meant is clear from what is there.
2. An action always has the keys of its type; one that could not be read has empty ones.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from antiphon.errors import ToolFailed
from antiphon.tools.base import Call, Json
from antiphon.tools.citing import queries_of

#: Searches that one call may ask for.
MOST_QUERIES: Final = 4
_MOST_PATTERN: Final = 500
#: The mark of a source, as a model may write it where a URL should stand.
REFERENCE: Final = re.compile(r"[【\[]?([0-9]{1,4})[】\]]?")
#: Function → the type of its action.
_TYPES: Final[Mapping[str, str]] = {
    "web_search": "search",
    "open_page": "open_page",
    "find_in_page": "find_in_page",
}


@dataclass(frozen=True, slots=True)
class Search:
    """Search for each of these."""

    queries: tuple[str, ...]

    def shape(self) -> Json:
        """The action of the item."""
        return {"type": "search", "query": self.queries[0], "queries": list(self.queries)}


@dataclass(frozen=True, slots=True)
class OpenPage:
    """Read a page from a character of its text on."""

    url: str
    start: int = 0

    def shape(self) -> Json:
        """The action of the item."""
        return {"type": "open_page", "url": self.url}


@dataclass(frozen=True, slots=True)
class FindInPage:
    """Find text in a page."""

    url: str
    pattern: str

    def shape(self) -> Json:
        """The action of the item."""
        return {"type": "find_in_page", "url": self.url, "pattern": self.pattern}


Action: TypeAlias = Search | OpenPage | FindInPage


def action_of(call: Call) -> Action:
    """What a call wants. Raises `ToolFailed` when that is not to be seen."""
    given = _given(call)
    type_, queries = given["type"], queries_of(given, MOST_QUERIES)
    url, pattern = _address(_text(given, "url")), _text(given, "pattern")
    if type_ == "find_in_page" and not pattern and queries:
        pattern = queries[0]
    if queries and (type_ == "search" or not url):
        return Search(queries)
    if url and pattern and type_ != "open_page":
        return FindInPage(url, pattern[:_MOST_PATTERN])
    if url:
        return OpenPage(url, _start(given))
    raise ToolFailed("A 'query' is missing." if type_ == "search" else "A 'url' is missing.")


def shape_of(call: Call) -> Json:
    """The action of a call that failed, as far as it can be read."""
    try:
        return action_of(call).shape()
    except ToolFailed:
        pass
    try:
        given = _given(call)
    except ToolFailed:
        given = {"type": _TYPES.get(call.function, "search")}
    match given["type"]:
        case "open_page":
            return OpenPage(_text(given, "url")).shape()
        case "find_in_page":
            return FindInPage(_text(given, "url"), _text(given, "pattern")).shape()
    return {"type": "search", "query": ""}


def _given(call: Call) -> Json:
    """The arguments; `type` is always one of an action."""
    given = call.read()
    if isinstance(given.get("action"), dict):
        given = {**given, **given["action"]}
    named = given.get("type") or given.get("action")
    known = isinstance(named, str) and named in _TYPES.values()
    return {**given, "type": named if known else _TYPES.get(call.function, "search")}


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    return value.strip() if isinstance(value, str) else ""


def _address(text: str) -> str:
    """A URL as people write it: perhaps in brackets, perhaps without ``https://``."""
    text = text.strip("<>\"'` ")
    bare = bool(text) and "://" not in text and not REFERENCE.fullmatch(text)
    return f"https://{text}" if bare else text


def _start(given: Mapping[str, Any]) -> int:
    try:
        return max(0, int(given.get("start") or 0))
    except (TypeError, ValueError):
        return 0
