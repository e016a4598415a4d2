"""A small web on loopback: sites with pages, a SearXNG, a Brave, a Tavily, and a canary.

All names are at `PUBLIC`, which the guard of the tests takes for a public address; providers and
the canary are at 127.0.0.1, which it does not."""

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from antiphon.egress import Egress, Policy
from antiphon.errors import ToolFailed
from antiphon.protocol.sources import Sources
from antiphon.tools.base import Call, CallItem, Json, OpenTool, Outcome, Scope
from antiphon.tools.web.provider import Found, Query, SearchProvider
from antiphon.tools.web.searxng import SearXNG
from antiphon.tools.web.tool import WebSearch, WebSearchOptions
from tests.tools.at_once import at_once

#: A second loopback address: it plays the public one.
PUBLIC: Final = "127.0.0.2"
ARTICLE: Final = " ".join(
    f"Sentence number {number} of this article says something of some length about otters."
    for number in range(60)
)


class Names(AbstractResolver):
    """Knows that every name is at `PUBLIC`, but for those in `elsewhere`."""

    def __init__(self, elsewhere: Mapping[str, Sequence[str]] | None = None) -> None:
        self.elsewhere = dict(elsewhere or {})
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self.addresses(host)
        self.asked += 1
        if not addresses:
            raise OSError("no such name")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    def addresses(self, host: str) -> Sequence[str]:
        """What the next answer for a name is."""
        return self.elsewhere.get(host, [PUBLIC])

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Asked:
    """One request that arrived. `path` with its query."""

    host: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    query: Mapping[str, str] = field(default_factory=dict)


Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """A server: `pages` has what is at ``host/path`` or at ``/path`` of any host."""

    def __init__(self, address: str = PUBLIC) -> None:
        self.address = address
        self.port = 0
        self.asked: list[Asked] = []
        self.pages: dict[str, Answering] = {}
        #: Stop listening, before the context ends.
        self.close: Callable[[], Awaitable[None]]

    @contextlib.asynccontextmanager
    async def open(self, port: int = 0) -> AsyncIterator["Site"]:
        """Listen, for as long as the context lasts."""
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        self.close = runner.cleanup
        await runner.setup()
        await web.TCPSite(runner, self.address, port).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    def url(self, host: str, path: str = "/") -> str:
        """Where a page of this server is."""
        return f"http://{host}:{self.port}{path}"

    def put(
        self,
        place: str,
        body: str | bytes,
        content_type: str | None = "text/html; charset=utf-8",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """There is a page at ``host/path`` or ``/path``."""
        sent = body.encode() if isinstance(body, str) else body
        more = {**(headers or {}), **({"content-type": content_type} if content_type else {})}

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=sent, headers=more)

        self.pages[place] = answer

    def redirect(self, place: str, location: str, status: int = 302) -> None:
        """It is elsewhere."""
        self.put(place, "", status=status, headers={"location": location})

    def delay(self, place: str, seconds: float) -> None:
        """What is there comes late."""
        answer = self.pages[place]

        async def late(request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(seconds)
            return await answer(request)

        self.pages[place] = late

    def paths(self, but: str = "/robots.txt") -> list[str]:
        """What was asked for, in order."""
        return [asked.path for asked in self.asked if asked.path != but]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        host = (request.host or "").partition(":")[0]
        self.asked.append(
            Asked(
                host,
                request.path_qs,
                {name.lower(): value for name, value in request.headers.items()},
                await request.read(),
                dict(request.query),
            )
        )
        answer = self.pages.get(f"{host}{request.path}") or self.pages.get(request.path)
        if answer is None:
            return web.Response(status=404, text="nothing here")
        return await answer(request)  # type: ignore[arg-type]


def article(text: str = ARTICLE, title: str = "Otters", head: str = "") -> str:
    """A page with a menu and a footer around its text."""
    return (
        f"<!doctype html><html><head><title>{title}</title>{head}</head><body>"
        "<nav><ul><li><a href='/a'>Subscribe to our menu</a></li></ul></nav>"
        f"<main><article><h1>{title}</h1><p>{text}</p></article></main>"
        "<footer>All rights of the footer reserved</footer></body></html>"
    )


def searxng_answer(results: Sequence[Mapping[str, Any]]) -> bytes:
    """What a SearXNG sends."""
    return orjson.dumps({"query": "q", "number_of_results": 0, "results": list(results)})


class FakeProvider:
    """Knows its results."""

    def __init__(self, *results: Found) -> None:
        self.results = list(results)
        self.asked: list[Query] = []
        self.closed = False

    async def search(self, query: Query, count: int) -> list[Found]:
        """See `SearchProvider`."""
        self.asked.append(query)
        return self.results[:count]

    async def aclose(self) -> None:
        """See `SearchProvider`."""
        self.closed = True


class Said(CallItem):
    """The item of a call: what was said of it."""

    def __init__(self, *, fresh: bool = True) -> None:
        self._fresh = fresh
        self.events: list[str] = []

    @property
    def fresh(self) -> bool:
        """See `CallItem`."""
        return self._fresh

    def emit(self, event: str, fields: Json | None = None) -> None:
        """See `CallItem`."""
        assert fields is None
        self.events.append(event)


@dataclass
class Web:
    """A tool, the sites it can read, and the provider it asks."""

    site: Site
    tool: WebSearch
    sources: Sources = field(default_factory=Sources)

    def open(
        self,
        project: str = "p",
        include: Sequence[str] = (),
        most_text: int = 256 * 1024,
        **tool: Any,
    ) -> OpenTool:
        """The tool of a request, for one run."""
        given = {"type": "web_search", **tool}
        assert at_once(self.tool.check(given, "tools[0]", project)) == []
        return self.tool.open(given, Scope(project, frozenset(include), most_text, self.sources))

    async def run(self, function: str, arguments: Any, **more: Any) -> Outcome:
        """One call, in a run of its own."""
        return await self.open(**more).run(call(function, arguments), Said())

    async def told(self, function: str, arguments: Any, **more: Any) -> str:
        """What the model is told of it."""
        outcome = await self.run(function, arguments, **more)
        assert isinstance(outcome.told, str)
        return outcome.told


def call(function: str, arguments: Any) -> Call:
    """A call as a model writes it."""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return Call(function, text)


def a_guard(elsewhere: Mapping[str, Sequence[str]] | None = None) -> Egress:
    """The guard of these tests."""
    return Egress(Policy([PUBLIC]), Names(elsewhere))


@contextlib.asynccontextmanager
async def a_web(
    provider: SearchProvider | None = None,
    options: WebSearchOptions | None = None,
    elsewhere: Mapping[str, Sequence[str]] | None = None,
) -> AsyncIterator[Web]:
    """One site under all names, and a tool that may read it."""
    egress = a_guard(elsewhere)
    async with Site().open() as site:
        tool = WebSearch(provider, egress, options)
        try:
            yield Web(site, tool)
        finally:
            await tool.aclose()
            await egress.close()


@contextlib.asynccontextmanager
async def a_searxng(site: Site) -> AsyncIterator[SearXNG]:
    """A SearXNG at a private address, at ``/searx`` of `site`."""
    provider = SearXNG(f"http://{site.address}:{site.port}/searx/")
    try:
        yield provider
    finally:
        await provider.aclose()


class Canary:
    """Counts who connects to loopback, which nobody should."""

    def __init__(self) -> None:
        self.hits = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Canary"]:
        """Listen at the same port of the private addresses of this machine."""

        async def hit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.hits += 1
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
            )
            writer.close()

        first = await asyncio.start_server(hit, "127.0.0.1", 0)
        self.port = first.sockets[0].getsockname()[1]
        servers = [first]
        for address in ("127.9.9.9", "::1"):
            with contextlib.suppress(OSError):  # no IPv6 here
                servers.append(await asyncio.start_server(hit, address, self.port))
        try:
            yield self
        finally:
            for server in servers:
                server.close()
                await server.wait_closed()


async def fails(world: Web, url: str, function: str = "open_page", **more: object) -> str:
    """Why a page is not read."""
    with pytest.raises(ToolFailed) as caught:
        await world.run(function, {"url": url, "pattern": "otters"}, **more)
    return caught.value.message


@contextlib.asynccontextmanager
async def nobody_waits(most: float = 0.1) -> AsyncIterator[None]:
    """The loop is never busy for longer than `most` seconds of its thread's time (R-118). What
    shares the machine does not count, nor a collection of what all tests have made."""
    gaps = [0.0]
    gc.disable()

    async def watch() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            gaps.append(now - last)
            last = now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(0.01)  # the last gap counts, too
    finally:
        watching.cancel()
        gc.enable()
    assert max(gaps) < most


class World(Web):
    """With a SearXNG."""

    engine: Site

    def knows(self, *hosts: str) -> None:
        """The engine finds a page of each of these hosts."""
        results = [
            {
                "url": self.site.url(host),
                "title": f"Title of {host}",
                "content": f"On {host}.",
            }
            for host in hosts
        ]
        self.engine.put("/searx/search", searxng_answer(results), "application/json")

    @property
    def queries(self) -> list[dict[str, str]]:
        """What the engine was asked."""
        return [dict(asked.query) for asked in self.engine.asked]


@contextlib.asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    """A web with an engine, and an article at ``/`` of every host."""
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Site("127.0.0.1").open())
        provider = await stack.enter_async_context(a_searxng(engine))
        made = await stack.enter_async_context(a_web(provider))
        world = World(made.site, made.tool)
        world.engine = engine
        world.site.put("/", article())
        yield world
