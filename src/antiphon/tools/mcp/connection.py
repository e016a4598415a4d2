"""A connection to an MCP server, with the official SDK (the extra `mcp`).

Rules
1. `session.py` is one session; here is what outlives it. A session that has ended is opened anew
   when the server is asked the next time. A call is repeated only if the server says that it did
   not know the session: then nothing was run.
2. Streamable HTTP is tried first and HTTP with SSE second, as MCP's backwards compatibility says;
   for a path that ends in ``/sse`` the other way round.
3. Whoever asks while a session is being opened waits for that one, and gets its fault if it fails.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
from aiohttp.abc import AbstractResolver
from mcp.client import Transport
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from antiphon.tools.mcp.exchange import MOST_BODY
from antiphon.tools.mcp.faults import BadStatus, Fault, Lost, NotMcp, SessionLost, Unreached
from antiphon.tools.mcp.opened import Spawn
from antiphon.tools.mcp.program import pipes
from antiphon.tools.mcp.servers import Local, Remote, Target
from antiphon.tools.mcp.session import Answer, Listed, Session
from antiphon.tools.mcp.transport import GuardedTransport

#: Seconds in which a session must be open; with the list of tools (R-89).
OPEN_TIMEOUT: Final = 10.0
LIST_TIMEOUT: Final = 10.0
_REDIRECTS: Final = 3
#: Statuses with which a server says that it does not know the transport.
_OTHER_TRANSPORT: Final = (400, 404, 405)


class Connection:
    """A server, for one run. Nothing is opened before it is needed."""

    def __init__(self, resolver: AbstractResolver, target: Target, spawn: Spawn) -> None:
        self._spawn = spawn
        self._ways = _ways(target, resolver)
        self._sessions: list[Session] = []
        self._opening: asyncio.Task[Fault | None] | None = None
        self._closed = False

    async def tools(self) -> list[Listed]:
        """All that the server lists. Raises `Fault`."""
        try:
            async with asyncio.timeout(LIST_TIMEOUT):
                return await (await self._session()).tools()
        except TimeoutError:
            pass
        raise Unreached("TimeoutError")

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """What a tool answers: a ``CallToolResult`` as JSON. Raises `Fault`."""
        session = await self._session()
        try:
            return await session.call(name, arguments)
        except SessionLost:
            session.retire()
        return await (await self._session()).call(name, arguments)

    def close(self) -> None:
        """Let go of everything; it ends in the background."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        for session in self._sessions:
            session.close()

    async def _session(self) -> Session:
        """A session that is open. Raises `Fault`."""
        self._sessions = [session for session in self._sessions if not session.task.done()]
        for session in self._sessions:
            if session.is_open:
                return session
        if self._opening is None or self._opening.done():
            self._opening = self._spawn(self._open())
        opening = self._opening
        await asyncio.wait({opening})
        if self._closed or opening.cancelled():
            raise Lost
        fault = opening.result()
        if fault is not None:
            raise fault
        return self._sessions[-1]

    async def _open(self) -> Fault | None:
        """Open a session, in one way or the other. Returns why there is none."""
        first: Fault | None = None
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                for way in self._ways:
                    fault = await self._try(way)
                    if fault is None:
                        return None
                    first = _more_telling(first, fault)
                    if not _may_be_of_another_kind(fault):
                        break
        except TimeoutError:
            return Unreached("TimeoutError")
        return first

    async def _try(self, way: Callable[[], Transport]) -> Fault | None:
        session = Session(way, self._spawn)
        self._sessions.append(session)
        try:
            fault = await session.opened()
        except asyncio.CancelledError:
            session.close()
            raise
        if fault is not None:
            session.close()
        return fault


def _may_be_of_another_kind(fault: Fault) -> bool:
    if isinstance(fault, BadStatus):
        return fault.status in _OTHER_TRANSPORT
    return isinstance(fault, NotMcp)


def _more_telling(first: Fault | None, second: Fault) -> Fault:
    """Of two transports that failed, the fault that says more: ``401`` after ``405``."""
    if first is None:
        return second
    says_more = isinstance(second, BadStatus) and not _may_be_of_another_kind(second)
    return second if says_more else first


def _ways(target: Target, resolver: AbstractResolver) -> list[Callable[[], Transport]]:
    """The transports to try, in their order."""
    if isinstance(target, Local):
        return [lambda: pipes(target)]
    ways: list[Callable[[], Transport]] = [
        lambda: _streamable(target, resolver),
        lambda: _with_sse(target, resolver),
    ]
    return ways[::-1] if target.url.path.rstrip("/").endswith("/sse") else ways


def _client(remote: Remote, resolver: AbstractResolver, *, listens: bool) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=GuardedTransport(remote, resolver, listens=listens),
        timeout=None,
        trust_env=False,
        max_redirects=_REDIRECTS,
    )


@asynccontextmanager
async def _streamable(remote: Remote, resolver: AbstractResolver) -> AsyncIterator[Any]:
    url = str(remote.url.with_fragment(None))
    async with (
        _client(remote, resolver, listens=False) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MOST_BODY) as streams,
    ):
        yield streams


def _with_sse(remote: Remote, resolver: AbstractResolver) -> Transport:
    def client(
        headers: dict[str, str] | None = None,  # noqa: ARG001
        timeout: httpx2.Timeout | None = None,  # noqa: ARG001
        auth: httpx2.Auth | None = None,  # noqa: ARG001
    ) -> httpx2.AsyncClient:
        return _client(remote, resolver, listens=True)

    return sse_client(str(remote.url.with_fragment(None)), httpx_client_factory=client)
