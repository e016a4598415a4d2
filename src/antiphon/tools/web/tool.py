"""The hosted tool ``web_search``, ``web_search_preview`` under its old name (spec §1.2).

Rules
1. What a request asks for is honoured or refused; what has no effect is named: pictures are never
   found, and there is no token budget of a search.
2. Two requests of one project share a cache, two projects never (R-33).
"""

from dataclasses import dataclass
from typing import Final

from antiphon.egress import Egress
from antiphon.errors import InvalidRequestError
from antiphon.tools.base import Json, OpenTool, Scope
from antiphon.tools.web.domains import Domains, domains_of
from antiphon.tools.web.extractor import Extractor
from antiphon.tools.web.functions import SIZES, Wish
from antiphon.tools.web.opened import OpenWebSearch
from antiphon.tools.web.pages import PageRules, Pages, Reader
from antiphon.tools.web.provider import SearchProvider
from antiphon.tools.web.searches import Searches
from antiphon.tools.web.text import line

#: The types of a request's tool that mean this one.
TYPES: Final = (
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
)
#: Characters of each part of a place.
_MOST_PLACE: Final = 100


@dataclass(frozen=True, slots=True)
class WebSearchOptions:
    """The operator's. `allowed_domains`: the pages that may be read; None: all (R-126)."""

    respect_robots: bool = True
    allowed_domains: tuple[str, ...] | None = None


class WebSearch:
    """See `Tool`."""

    def __init__(
        self,
        provider: SearchProvider | None,
        egress: Egress,
        options: WebSearchOptions | None = None,
    ) -> None:
        """`egress` is the way to pages; it and `provider` are closed with the tool. Raises
        ValueError for domains that are none."""
        options = options or WebSearchOptions()
        rules = PageRules(options.respect_robots, Domains(domains_of(options.allowed_domains)))
        self._has_provider = provider is not None
        self._searches = Searches(provider)
        self._pages = Pages(egress, Extractor(), rules)

    async def check(self, tool: Json, path: str, project: str) -> list[str]:  # noqa: ARG002
        """See `Tool`."""
        if not self._has_provider and tool.get("external_web_access") is not False:
            raise InvalidRequestError(
                f"Hosted tool '{tool['type']}' is not supported by this server: no search provider "
                "is configured.",
                param="tools",
            )
        for key, entries in (tool.get("filters") or {}).items():
            for place, entry in enumerate(entries or ()):
                _check_domain(entry, f"{path}.filters.{key}[{place}]")
        ignored = []
        if "image" in (tool.get("search_content_types") or ()):
            ignored.append("search_content_types")
        if tool.get("image_settings"):
            ignored.append("image_settings")
        if tool.get("return_token_budget") == "unlimited":
            ignored.append("return_token_budget")
        return ignored

    def open(self, tool: Json, scope: Scope) -> OpenTool:
        """See `Tool`."""
        filters = tool.get("filters") or {}
        domains = Domains(
            domains_of(filters.get("allowed_domains")), domains_of(filters.get("blocked_domains"))
        )
        offline = tool.get("external_web_access") is False
        country, place = _place(tool.get("user_location") or {})
        wish = Wish(
            SIZES[tool.get("search_context_size") or "medium"],
            Reader(scope.project, domains, offline),
            country,
            place,
        )
        return OpenWebSearch(self._searches, self._pages, wish, scope)

    async def aclose(self) -> None:
        """See `Tool`."""
        await self._searches.aclose()
        await self._pages.aclose()


def _check_domain(entry: str, path: str) -> None:
    try:
        domains_of([entry])
    except ValueError:
        raise InvalidRequestError(
            f"Invalid '{path}': expected a domain, like 'example.com'.", param=path
        ) from None


def _place(location: Json) -> tuple[str | None, str | None]:
    """The country's code, and the whole in words."""
    parts = [line(location.get(key), _MOST_PLACE) for key in ("city", "region", "country")]
    place = ", ".join(filter(None, parts))
    if timezone := line(location.get("timezone"), _MOST_PLACE):
        place = f"{place} (time zone {timezone})" if place else f"time zone {timezone}"
    return parts[2].upper() or None, place or None
