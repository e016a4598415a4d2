"""Pages of the web, read under guard (R-83 to R-94, R-126).

Rules
1. Every URL on the way to a page, redirects included, is asked about: the operator's domains, those
   of the request, the site's robots.txt.
2. What is told of a page that could not be fetched does not say why: a private address, a closed
   port and a dead host are the same (R-94). The log has the reason.
3. Pages and robots.txt are remembered for a while, for each project (R-33).
4. Of a page no more is fetched than is looked at, and few pages at a time, so that what waits for
   the parsers costs little memory however many calls there are (R-89).
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
from yarl import URL

from antiphon.egress import BadURL, Egress, SendError
from antiphon.egress_pages import Answer, Ask, ReadLimits, TooLarge, read
from antiphon.errors import ToolFailed
from antiphon.tools.web.cache import Cache
from antiphon.tools.web.domains import Domains
from antiphon.tools.web.extractor import Extractor
from antiphon.tools.web.provider import USER_AGENT
from antiphon.tools.web.robots import ALL, NOTHING, Robots, parse_robots
from antiphon.tools.web.text import MOST_BYTES, kind_of
from antiphon.turns import Turns

_log = structlog.get_logger(__name__)

PAGE_LIMITS: Final = ReadLimits(total=20.0, unpacked=MOST_BYTES, cut=True)
ROBOTS_LIMITS: Final = ReadLimits(total=5.0, sent=512 * 1024, unpacked=512 * 1024)
#: A robots.txt that is longer is parsed elsewhere: it takes tens of milliseconds (R-118).
_LONG_ROBOTS: Final = 32 * 1024
#: Pages that are read at once, and by one project.
_MOST_PAGES: Final = 32
_MOST_EACH: Final = 16
#: Characters of a URL.
_MOST_URL: Final = 4_096
_HEADERS: Final = {
    "user-agent": USER_AGENT,
    "accept": "text/html, application/xhtml+xml, text/plain, text/markdown, */*;q=0.1",
}


@dataclass(frozen=True, slots=True)
class PageRules:
    """The operator's: whether robots.txt counts, and which domains may be read."""

    respect_robots: bool = True
    domains: Domains = field(default_factory=Domains)
    limits: ReadLimits = PAGE_LIMITS


@dataclass(frozen=True, slots=True)
class Page:
    """What was read. `url`: where it was, after redirects."""

    url: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: a project, and the domains that its request allows."""

    project: str
    domains: Domains
    #: Nothing is fetched.
    offline: bool = False


class Pages:
    """Reads pages; `aclose` it."""

    def __init__(self, egress: Egress, extractor: Extractor, rules: PageRules) -> None:
        """Both are closed with the pages."""
        self._egress = egress
        self._extractor = extractor
        self._rules = rules
        self._turns = Turns(_MOST_PAGES, _MOST_EACH)
        self._pages: Cache[Page] = Cache(_page_size)
        self._robots: Cache[Robots] = Cache(lambda robots: robots.size)

    async def open(self, reader: Reader, url: str) -> Page | None:
        """The page at `url`; None: the reader is offline, and it is not remembered. Raises
        `ToolFailed`."""
        try:
            if len(url) > _MOST_URL:
                raise BadURL("it is too long")
            parsed = self._egress.policy.parse(url).with_fragment(None)
        except BadURL:
            raise ToolFailed("This is not the URL of a public web page.") from None
        self._check_domain(reader, parsed)
        page = self._pages.get(reader.project, str(parsed))
        if page is not None:
            self._check_domain(reader, URL(page.url))
            return page
        if reader.offline:
            return None
        async with self._turns.turn(reader.project):
            page = await self._read(reader, parsed)
        for key in {str(parsed), page.url}:
            self._pages.put(reader.project, key, page)
        return page

    async def aclose(self) -> None:
        """The server ends."""
        await self._extractor.aclose()
        await self._egress.close()

    async def _read(self, reader: Reader, url: URL) -> Page:
        answer = await self._fetch(reader, url)
        kind = answer.headers.get("content-type", "")
        text = await self._extractor.text(reader.project, answer.body, kind)
        found = answer.url.with_fragment(None)
        return Page(str(found), text.title or found.host or "", text.text)

    async def _fetch(self, reader: Reader, url: URL) -> Answer:
        ask = Ask(str(url), headers=_HEADERS)
        try:
            answer = await read(self._egress, ask, self._rules.limits, self._judge(reader))
        except TooLarge:
            raise ToolFailed("The page is too large.") from None
        except (BadURL, SendError) as error:
            _log.info("page_not_fetched", host=url.host, reason=str(error))
            raise ToolFailed("The page could not be fetched.") from None
        if answer.status != 200:
            raise ToolFailed(f"The page could not be fetched: HTTP status {answer.status}.")
        if kind_of(answer.headers.get("content-type", "")) is None:
            raise ToolFailed("It is not a page that can be read.")
        return answer

    def _judge(self, reader: Reader) -> Callable[[URL], Awaitable[None]]:
        async def judge(url: URL) -> None:
            self._check_domain(reader, url)
            if not self._rules.respect_robots:
                return
            robots = await self._robots_of(reader, url)
            if not robots.allow(url.raw_path_qs):
                raise ToolFailed("The site does not want robots to read this page (robots.txt).")

        return judge

    def _check_domain(self, reader: Reader, url: URL) -> None:
        host = url.raw_host or ""
        if not self._rules.domains.admits(host):
            raise ToolFailed("The operator of this server does not allow pages of this domain.")
        if not reader.domains.admits(host):
            raise ToolFailed("This page is outside of the domains that the request allows.")

    async def _robots_of(self, reader: Reader, url: URL) -> Robots:
        origin = str(url.origin())
        robots = self._robots.get(reader.project, origin)
        if robots is None:
            robots = await self._fetch_robots(reader, f"{origin}/robots.txt")
            self._robots.put(reader.project, origin, robots)
        return robots

    async def _fetch_robots(self, reader: Reader, url: str) -> Robots:
        """Who has none, or cannot be asked for it, allows all. (RFC 9309 §2.3.1.4 would rather not
        read a site that fails to answer; then its pages fail, too.)"""

        async def judge(target: URL) -> None:
            self._check_domain(reader, target)

        try:
            ask = Ask(url, headers=_HEADERS)
            answer = await read(self._egress, ask, ROBOTS_LIMITS, judge)
        except (BadURL, SendError, ToolFailed):
            return ALL
        if answer.status in (401, 403):
            return NOTHING
        if answer.status != 200:
            return ALL
        text = answer.body.decode("utf-8", "replace")
        if len(text) > _LONG_ROBOTS:
            return await asyncio.to_thread(parse_robots, text)
        return parse_robots(text)


def _page_size(page: Page) -> int:
    return sys.getsizeof(page.text) + sys.getsizeof(page.url) + sys.getsizeof(page.title)
