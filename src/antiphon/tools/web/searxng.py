"""SearXNG: the operator's own metasearch (https://docs.searxng.org/dev/search_api.html).

The instance must offer JSON (``search.formats`` in its settings.yml); it answers 403 if not.
"""

from typing import Final

from antiphon.tools.web.places import COUNTRIES
from antiphon.tools.web.provider import Api, Found, Query, best, found, rows, with_sites

#: Status → what the operator may do.
_HINTS: Final = {403: "is 'json' among the search.formats of its settings.yml?"}


class SearXNG:
    """An instance."""

    def __init__(self, url: str) -> None:
        """`url`: without ``/search``. Raises ValueError."""
        self._api = Api("searxng", url, hints=_HINTS)

    async def search(self, query: Query, count: int) -> list[Found]:
        """See `SearchProvider`."""
        asked: dict[str, str | int] = {"q": with_sites(query, 1_000), "format": "json"}
        if country := COUNTRIES.get(query.country or ""):
            asked["language"] = f"{country.language}-{query.country}"
        answer = await self._api.get("/search", asked)
        return best((found(row, "content") for row in rows(answer, "results")), count)

    async def aclose(self) -> None:
        """See `SearchProvider`."""
        await self._api.aclose()
