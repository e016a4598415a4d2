"""Brave Search (https://api-dashboard.search.brave.com/app/documentation/web-search/query)."""

from typing import Final

from antiphon.tools.web.places import BRAVE_COUNTRIES
from antiphon.tools.web.provider import Api, Found, Query, best, found, rows, with_sites

URL: Final = "https://api.search.brave.com"
#: Characters of a query, and results, that it takes.
_MOST_QUERY: Final = 400
_MOST_COUNT: Final = 20


class Brave:
    """Its web search."""

    def __init__(self, api_key: str, url: str = URL) -> None:
        """Raises ValueError when nothing can be sent to `url`."""
        self._api = Api("brave", url, {"x-subscription-token": api_key})

    async def search(self, query: Query, count: int) -> list[Found]:
        """See `SearchProvider`."""
        asked: dict[str, str | int] = {
            "q": with_sites(query, _MOST_QUERY),
            "count": min(count, _MOST_COUNT),
            "result_filter": "web",
            "text_decorations": "false",
        }
        if query.country in BRAVE_COUNTRIES:
            asked["country"] = query.country
        answer = await self._api.get("/res/v1/web/search", asked)
        return best((found(row, "description") for row in rows(answer, "web", "results")), count)

    async def aclose(self) -> None:
        """See `SearchProvider`."""
        await self._api.aclose()
