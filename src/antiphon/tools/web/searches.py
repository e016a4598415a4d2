"""Searches of a provider, remembered, and limited to the domains that a request allows."""

import asyncio
import sys
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Final

from antiphon.errors import ToolFailed
from antiphon.tools.web.cache import Cache
from antiphon.tools.web.domains import Domains, host_of
from antiphon.tools.web.pages import Reader
from antiphon.tools.web.provider import Found, Query, SearchProvider, best

#: Results that are asked for: more than are shown, for some are outside of the domains.
COUNT: Final = 20


class Searches:
    """Of one provider; None: there is none, and everybody is offline."""

    def __init__(self, provider: SearchProvider | None) -> None:
        self._provider = provider
        self._found: Cache[tuple[Found, ...]] = Cache(_size)

    async def find(
        self, reader: Reader, queries: Sequence[str], country: str | None
    ) -> list[Found] | None:
        """The results of all queries, the best of each first; None: the reader is offline, and
        nothing of it is remembered. Raises `ToolFailed` when every search failed."""
        asked = [Query(text, reader.domains, country) for text in queries]
        outcomes = await asyncio.gather(*(self._one(reader, query) for query in asked))
        lists = [found for found in outcomes if isinstance(found, tuple)]
        failures = [failure for failure in outcomes if isinstance(failure, ToolFailed)]
        if not lists and failures:
            raise failures[0]
        if not lists:
            return None
        turns = chain.from_iterable(zip_longest(*lists))
        return best(turns, COUNT * len(lists))

    async def aclose(self) -> None:
        """The server ends."""
        if self._provider is not None:
            await self._provider.aclose()

    async def _one(self, reader: Reader, query: Query) -> tuple[Found, ...] | ToolFailed | None:
        found = self._found.get(reader.project, query)
        if found is not None or reader.offline or self._provider is None:
            return found
        try:
            results = await self._provider.search(query, COUNT)
        except ToolFailed as failure:
            return failure
        found = tuple(result for result in results if _admitted(query.domains, result))
        self._found.put(reader.project, query, found)
        return found


def _admitted(domains: Domains, found: Found) -> bool:
    host = host_of(found.url)
    return host is not None and domains.admits(host)


def _size(results: tuple[Found, ...]) -> int:
    return 100 + sum(sys.getsizeof(text) for found in results for text in found)
