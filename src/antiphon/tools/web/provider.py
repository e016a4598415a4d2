"""The port to search providers, and what those that speak JSON over HTTP have in common.

Rules
1. The operator chose the provider: its address may be private. It gets an `Egress` of its own that
   trusts this one host; redirects are not followed, for a key goes with the request.
2. What it answers is bounded, and somebody else's text: it is cleaned and cut here. What it says
   when it fails goes nowhere (R-42); the log has the status, never the query, the key or the URL.
3. Domains are asked for as far as the provider can; who calls it filters again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

import orjson
import structlog

from antiphon import __version__
from antiphon.egress import BadURL, Egress, Policy, SendError
from antiphon.egress_pages import Ask, ReadLimits, read
from antiphon.errors import ToolFailed
from antiphon.tools.web.domains import Domains, host_of
from antiphon.tools.web.text import line

_log = structlog.get_logger(__name__)

#: How this server names itself to providers and pages.
USER_AGENT: Final = f"Antiphon/{__version__}"
#: A search that takes longer is given up.
LIMITS: Final = ReadLimits(total=15.0, sent=2 * 1024 * 1024, unpacked=8 * 1024 * 1024, redirects=0)
#: Characters of what is kept of a result.
_MOST_URL: Final = 2_048
_MOST_TITLE: Final = 300
_MOST_SNIPPET: Final = 1_000
#: Domains that a query says itself: engines look at a few.
_MOST_SITES: Final = 10
#: Status → what the model is told.
_REFUSALS: Final[Mapping[int, str]] = {
    401: "The search provider does not accept this server.",
    403: "The search provider does not accept this server.",
    429: "The search provider is asked too often at the moment.",
}


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for. `country`: ISO 3166-1 alpha-2, where the user is."""

    text: str
    domains: Domains = field(default_factory=Domains)
    country: str | None = None


class Found(NamedTuple):
    """One result."""

    url: str
    title: str
    snippet: str


class SearchProvider(Protocol):
    """Somebody who can search the web."""

    async def search(self, query: Query, count: int) -> list[Found]:
        """At most `count` results, best first; None of them need be in the domains of the query.
        Raises `ToolFailed`."""
        ...

    async def aclose(self) -> None:
        """The server ends."""
        ...


class Api:
    """The HTTP API of a provider. All its URLs begin with the operator's `url`."""

    def __init__(
        self,
        name: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        hints: Mapping[int, str] | None = None,
    ) -> None:
        """`name` is for the log, and so is `hints`: what a status means for the operator. Raises
        ValueError when nothing can be sent to `url`."""
        self._name = name
        self._hints = hints or {}
        self._base = url.rstrip("/")
        self._headers = {"accept": "application/json", "user-agent": USER_AGENT, **(headers or {})}
        self._egress = Egress(Policy([urlsplit(url).hostname or ""]))
        self._egress.check(self._base)

    async def get(self, path: str, parameters: Mapping[str, str | int]) -> Any:
        """The JSON at a path. Raises `ToolFailed`."""
        url = f"{self._base}{path}?{urlencode(parameters)}"
        return await self._ask(Ask(url, headers=self._headers))

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that is answered to JSON. Raises `ToolFailed`."""
        headers = {**self._headers, "content-type": "application/json"}
        return await self._ask(Ask(f"{self._base}{path}", "POST", headers, orjson.dumps(body)))

    async def aclose(self) -> None:
        """Close what is open."""
        await self._egress.close()

    async def _ask(self, ask: Ask) -> Any:
        try:
            answer = await read(self._egress, ask, LIMITS)
        except (BadURL, SendError) as error:
            raise self._failed("The search provider cannot be reached.", str(error)) from None
        if answer.status != 200:
            told = _REFUSALS.get(answer.status, "The search provider failed.")
            hint = self._hints.get(answer.status)
            raise self._failed(told, f"HTTP {answer.status}" + (f": {hint}" if hint else ""))
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            raise self._failed("The search provider failed.", "its answer is no JSON") from None

    def _failed(self, told: str, reason: str) -> ToolFailed:
        _log.warning("web_search_failed", provider=self._name, reason=reason)
        return ToolFailed(told)


def rows(answer: Any, *path: str) -> Iterator[Mapping[str, Any]]:
    """The objects of the list at a path of an answer; of something else there are none."""
    for key in path:
        answer = answer.get(key) if isinstance(answer, dict) else None
    for row in answer if isinstance(answer, list) else ():
        if isinstance(row, dict):
            yield row


def found(row: Mapping[str, Any], snippet: str, url: str = "url") -> Found | None:
    """A result, cleaned; `snippet` and `url` are the keys. None: it is none."""
    address, title, text = row.get(url), row.get("title"), row.get(snippet)
    if not isinstance(address, str) or len(address) > _MOST_URL or host_of(address) is None:
        return None
    address = address.replace(" ", "%20")
    return Found(address, line(title, _MOST_TITLE) or address, line(text, _MOST_SNIPPET))


def best(results: Iterable[Found | None], count: int) -> list[Found]:
    """The first `count` results, each page once."""
    pages: dict[str, Found] = {}
    for result in filter(None, results):
        pages.setdefault(result.url, result)
    return list(pages.values())[:count]


def with_sites(query: Query, most: int) -> str:
    """The query in at most so many characters, with ``site:`` for its domains if they are few."""
    allowed, blocked = query.domains.allowed, query.domains.blocked
    sites = " OR ".join(f"site:{domain}" for domain in allowed)
    terms = [f"({sites})" if len(allowed) > 1 else sites] if 0 < len(allowed) <= _MOST_SITES else []
    if len(blocked) <= _MOST_SITES:
        terms += [f"-site:{domain}" for domain in blocked]
    ending = "".join(f" {term}" for term in terms)
    if len(ending) > most // 2:
        ending = ""
    return clipped(query.text, most - len(ending)) + ending


def clipped(text: str, most: int) -> str:
    """The first words of a query, in at most so many characters."""
    return text if len(text) <= most else text[: most + 1].rpartition(" ")[0] or text[:most]
