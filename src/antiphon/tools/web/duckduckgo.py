"""DuckDuckGo, which has no API: the package ``ddgs`` reads its result pages.

Rules
1. `ddgs` blocks, and has HTTP of its own: it runs on threads of ours that nobody waits for at the
   end. A search that is given up keeps its thread until `ddgs` gives up, too.
2. It says the same when nothing was found and when DuckDuckGo sent us away: an empty list.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import structlog

from antiphon.errors import ToolFailed
from antiphon.tools.web.places import COUNTRIES
from antiphon.tools.web.provider import Found, Query, best, found, with_sites

_log = structlog.get_logger(__name__)

#: Seconds for one request of `ddgs`, and for a search.
_TIMEOUT: Final = 10
_PATIENCE: Final = 20.0
#: Searches at once.
_MOST: Final = 8
_MOST_QUERY: Final = 500
#: No country.
_WORLD: Final = "wt-wt"

Rows: TypeAlias = Sequence[Mapping[str, Any]]
#: Query, region, count → results with ``title``, ``href``, ``body``. Blocks; raises `ToolFailed`.
Asking: TypeAlias = Callable[[str, str, int], Rows]


class DuckDuckGo:
    """Its web search."""

    def __init__(self, ask: Asking | None = None) -> None:
        """`ask` is for tests."""
        self._ask = ask or _ask
        self._running = 0

    async def search(self, query: Query, count: int) -> list[Found]:
        """See `SearchProvider`."""
        country = COUNTRIES.get(query.country or "")
        region = (country and country.region) or _WORLD
        if self._running >= _MOST:
            raise ToolFailed("The search provider is asked too often at the moment.")
        try:
            async with asyncio.timeout(_PATIENCE):
                rows = await self._start(with_sites(query, _MOST_QUERY), region, count)
        except TimeoutError:
            raise ToolFailed("The search provider cannot be reached.") from None
        return best((found(row, "body", "href") for row in rows), count)

    async def aclose(self) -> None:
        """See `SearchProvider`: threads end when they have their answer."""

    def _start(self, query: str, region: str, count: int) -> asyncio.Future[Rows]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rows] = loop.create_future()

        def end(found: Rows | ToolFailed) -> None:
            self._running -= 1
            if answer.cancelled():
                return
            if isinstance(found, ToolFailed):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def work() -> None:
            found: Rows | ToolFailed = ToolFailed("The search provider failed.")
            try:
                found = self._ask(query, region, count)
            except ToolFailed as error:
                found = error
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(end, found)

        self._running += 1
        threading.Thread(target=work, name="duckduckgo", daemon=True).start()
        return answer


def _ask(query: str, region: str, count: int) -> Rows:
    """The one place that needs the package."""
    try:
        import ddgs  # noqa: PLC0415
        import ddgs.exceptions  # noqa: PLC0415
    except ImportError:
        raise ToolFailed(
            "Searching with DuckDuckGo needs the package 'ddgs', which this server does not have."
        ) from None
    try:
        with ddgs.DDGS(timeout=_TIMEOUT) as client:
            return client.text(query, region=region, max_results=count, backend="duckduckgo")
    except ddgs.exceptions.DDGSException as error:
        if str(error) == "No results found.":
            return []
        _log.warning("web_search_failed", provider="duckduckgo", reason=type(error).__name__)
        raise ToolFailed("The search provider failed.") from None
