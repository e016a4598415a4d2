"""``web_search`` in one run: three functions, and what became of each call.

Rules
1. A call fetches no more than its search, the pages that `search_context_size` adds to it, or the
   one page that it names; what is added is best effort.
2. The item has OpenAI's action; sources and results only if `include` asks for them.
3. Offline (`external_web_access` is false) only the cache answers.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from antiphon.errors import ToolFailed
from antiphon.tools.base import Call, CallItem, HostedFunction, Json, Outcome, Scope, Stage
from antiphon.tools.web import told
from antiphon.tools.web.actions import (
    REFERENCE,
    FindInPage,
    OpenPage,
    Search,
    action_of,
    shape_of,
)
from antiphon.tools.web.functions import Wish, functions_for
from antiphon.tools.web.pages import Page, Pages
from antiphon.tools.web.provider import Found
from antiphon.tools.web.searches import Searches

#: Seconds for the pages that are added to a search.
_ADDED_PATIENCE: Final = 6.0


class OpenWebSearch:
    """See `OpenTool`."""

    item_type = "web_search_call"

    def __init__(self, searches: Searches, pages: Pages, wish: Wish, scope: Scope) -> None:
        self._searches = searches
        self._pages = pages
        self._wish = wish
        self._scope = scope
        self._functions = functions_for(wish)

    async def prepare(self, stage: Stage) -> None:
        """Nothing is to be found out."""

    @property
    def functions(self) -> Sequence[HostedFunction]:
        """``web_search``, ``open_page`` and ``find_in_page``."""
        return self._functions

    def begin(self, call: Call) -> Json:  # noqa: ARG002
        """The action comes at the end (see the recording)."""
        return {}

    def failed(self, call: Call, reason: str) -> Outcome:
        """The action as far as it can be read."""
        return Outcome({"action": shape_of(call)}, "failed", reason)

    async def run(self, call: Call, item: CallItem) -> Outcome:
        """See `OpenTool`. Raises `ToolFailed`."""
        action = action_of(call)
        if item.fresh:
            item.emit("web_search_call.searching")
        match action:
            case Search():
                return await self._search(action)
            case OpenPage():
                return await self._open(action)
            case FindInPage():
                return await self._find(action)

    def close(self) -> None:
        """Nothing is kept for a run."""

    # -- the three ---------------------------------------------------------------------------

    async def _search(self, action: Search) -> Outcome:
        wish = self._wish
        results = await self._searches.find(wish.reader, action.queries, wish.country)
        if results is None:
            return self._outcome(action.shape(), (), told.NOTHING_CACHED)
        results = results[: wish.size.results]
        texts = await self._added([result.url for result in results[: wish.size.pages]])
        sources = [
            told.Source(self._number(found.url, found.title), found, texts.get(found.url))
            for found in results
        ]
        shape = action.shape()
        if "web_search_call.action.sources" in self._scope.include:
            shape["sources"] = [{"type": "url", "url": found.url} for found in results]
        text = told.told_of_search(action.queries, sources, self._scope.most_text)
        return self._outcome(shape, map(_result, sources), text)

    async def _open(self, action: OpenPage) -> Outcome:
        action = replace(action, url=self._address(action.url))
        page = await self._pages.open(self._wish.reader, action.url)
        if page is None:
            return self._outcome(action.shape(), (), told.NOTHING_CACHED)
        most = self._scope.most_text
        text = told.told_of_page(self._source(action.url, page), page, action.start, most)
        shown = {"text": told.piece_of(page, action.start, most)}
        return self._outcome(action.shape(), [_page(page) | shown], text)

    async def _find(self, action: FindInPage) -> Outcome:
        action = replace(action, url=self._address(action.url))
        page = await self._pages.open(self._wish.reader, action.url)
        if page is None:
            return self._outcome(action.shape(), (), told.NOTHING_CACHED)
        matches = told.matches_in(page, action.pattern)
        number = self._source(action.url, page)
        text = told.told_of_matches(number, page, action.pattern, matches, self._scope.most_text)
        return self._outcome(action.shape(), [_page(page) | {"text": "\n".join(matches)}], text)

    # -- parts of them -----------------------------------------------------------------------

    async def _added(self, urls: Sequence[str]) -> dict[str, str]:
        """URL → the beginning of its page, for those that could be read in time."""

        async def read(url: str) -> tuple[str, str] | None:
            try:
                async with asyncio.timeout(_ADDED_PATIENCE):
                    page = await self._pages.open(self._wish.reader, url)
            except (ToolFailed, TimeoutError):
                return None
            return (url, page.text[: self._wish.size.text]) if page else None

        return dict(filter(None, await asyncio.gather(*map(read, urls))))

    def _address(self, url: str) -> str:
        """A model may write the mark of a source where its URL should stand."""
        match = REFERENCE.fullmatch(url)
        sources = self._scope.sources.found
        if match and 0 < int(match[1]) <= len(sources):
            return sources[int(match[1]) - 1].key
        return url

    def _source(self, url: str, page: Page) -> int:
        """The number of a page: that of the URL it was asked for by, if there is one already."""
        known = any(source.key == url for source in self._scope.sources.found)
        return self._number(url if known else page.url, page.title)

    def _number(self, url: str, title: str) -> int:
        return self._scope.sources.page(url, title)

    def _outcome(self, action: Json, results: Iterable[Json], text: str) -> Outcome:
        fields: Json = {"action": action}
        if "web_search_call.results" in self._scope.include:
            fields["results"] = _within(results, self._scope.most_text)
        return Outcome(fields, told=text)


def _result(source: told.Source) -> Json:
    found: Found = source.found
    result = {"type": "text_result", "url": found.url, "title": found.title}
    result["snippet"] = found.snippet
    return {**result, "text": source.text} if source.text else result


def _within(results: Iterable[Json], most: int) -> list[Json]:
    """The first results, in about so many characters."""
    kept: list[Json] = []
    for result in results:
        most -= sum(map(len, result.values()))
        if most < 0:
            break
        kept.append(result)
    return kept


def _page(page: Page) -> Json:
    return {"type": "text_result", "url": page.url, "title": page.title}
