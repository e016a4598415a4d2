"""Tavily (https://docs.tavily.com/documentation/api-reference/endpoint/search)."""

from typing import Any, Final

from antiphon.tools.web.places import COUNTRIES
from antiphon.tools.web.provider import Api, Found, Query, best, clipped, found, rows

URL: Final = "https://api.tavily.com"
#: Characters of a query, and results, that it takes.
_MOST_QUERY: Final = 400
_MOST_COUNT: Final = 20


class Tavily:
    """Its search."""

    def __init__(self, api_key: str, url: str = URL) -> None:
        """Raises ValueError when nothing can be sent to `url`."""
        self._api = Api("tavily", url, {"authorization": f"Bearer {api_key}"})

    async def search(self, query: Query, count: int) -> list[Found]:
        """See `SearchProvider`."""
        asked: dict[str, Any] = {
            "query": clipped(query.text, _MOST_QUERY),
            "max_results": min(count, _MOST_COUNT),
        }
        if query.domains.allowed:
            asked["include_domains"] = list(query.domains.allowed)
        if query.domains.blocked:
            asked["exclude_domains"] = list(query.domains.blocked)
        if country := COUNTRIES.get(query.country or ""):
            asked["country"] = country.name
        answer = await self._api.post("/search", asked)
        return best((found(row, "content") for row in rows(answer, "results")), count)

    async def aclose(self) -> None:
        """See `SearchProvider`."""
        await self._api.aclose()
