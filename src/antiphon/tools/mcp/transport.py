"""HTTP for the MCP SDK, by way of the guard of `antiphon.egress`.

Rules
1. The SDK chooses paths, never hosts: whatever it asks for goes to the origin that `Policy.parse`
   has read, and another origin is not asked (reliability R-84, R-85). The address is judged where
   the socket is made (R-86). No proxy of the environment, no cookie.
2. Headers with secrets are added here, at the last moment: neither the SDK nor an exception of its
   client has them (R-91).
3. A request that fails is answered with a status of our own and never with an exception: that would
   end the session of all calls (R-34). What happened stands in the `Exchange` of who asks.
4. Nothing is decompressed, and whatever is read is bounded (R-89).
5. What the SDK says without waiting for an answer (a cancellation, an answer to the server's
   question) is sent beside it, a few at a time: a server that does not take it holds nobody up.
6. The stream of the server's own messages is listened to, because it may wait for an answer to one.
   How often it is opened is bounded: a server may end it at once each time.
"""

import asyncio
import re
from typing import Final

import aiohttp
import anyio
import httpx2
import orjson
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from antiphon import __version__
from antiphon.egress import CONNECT_TIMEOUT
from antiphon.tools.mcp.checks import SENDABLE
from antiphon.tools.mcp.exchange import (
    EXCHANGE,
    FAILURES,
    MOST_BODY,
    Exchange,
    Stream,
    content_of,
    is_answer,
    why,
)
from antiphon.tools.mcp.faults import BadStatus, Fault, NotMcp, SessionLost, TooLarge, Unreached
from antiphon.tools.mcp.servers import Remote
from antiphon.tools.mcp.sockets import MOST_OF_ONE, any_address, counted

#: Bytes of the body of an error.
_MOST_ERROR: Final = 64 * 1024
#: How often a stream that broke is asked for again.
_MOST_RESUMED: Final = 16
#: Seconds for what needs no answer or gets it on another way, and for the last word of a session.
_NOTE_TIMEOUT: Final = 5.0
_LEAVE_TIMEOUT: Final = 2.0
#: How much of that is sent at once.
_MOST_NOTES: Final = 4

#: Headers that the SDK may send, and those of an answer that it sees.
_SAID: Final = re.compile(
    "accept|cache-control|content-type|last-event-id|"
    "mcp-(session-id|protocol-version|method|name|param-.*)"
)
_HEARD: Final = ("content-type", "location", "mcp-session-id")
_SESSION: Final = re.compile(r"[\x21-\x7e]{1,1024}")
#: Stands for every request that failed.
_FAILED: Final = 502


class GuardedTransport(httpx2.AsyncBaseTransport):
    """The way to one server. `listens`: in the old transport, where answers come on one stream and
    not to the request."""

    def __init__(self, remote: Remote, resolver: AbstractResolver, *, listens: bool) -> None:
        self._remote = remote
        self._resolver = resolver
        self._listens = listens
        self._session: aiohttp.ClientSession | None = None
        self._notes: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(_MOST_NOTES)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request of the SDK."""
        exchange = EXCHANGE.get(None) or Exchange()
        url = self._target(request.url)
        if url is None:
            return self._fail(request, exchange, exchange.fault or NotMcp())
        if request.method != "POST":
            return await self._other(request, url, exchange)
        body = await request.aread()
        message = orjson.loads(body)
        if "id" not in message or "method" not in message:
            note = self._note(request, url, body)
            if message.get("method") == "notifications/initialized":
                await note  # the next request may rely on it
            else:
                self._notes.add(task := asyncio.create_task(note))
                task.add_done_callback(self._notes.discard)
            return httpx2.Response(202)
        limit = _NOTE_TIMEOUT if self._listens else None
        answer = await self._open(request, url, body, exchange, limit)
        if answer is None:
            return self._fail(request, exchange, exchange.fault)
        return await self._read(request, answer, exchange, message["id"])

    async def aclose(self) -> None:
        """Say what is still to be said, and close all connections."""
        with anyio.move_on_after(2 * _LEAVE_TIMEOUT, shield=True):
            if self._notes:
                await asyncio.wait(self._notes, timeout=_LEAVE_TIMEOUT)
            for note in self._notes:
                note.cancel()
            if self._session is not None:
                await self._session.close()

    def _target(self, url: httpx2.URL) -> URL | None:
        """Where it goes; None: to another origin than the one that was allowed (rule 1)."""
        base = self._remote.url
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
        if (url.scheme, url.host, port) != (base.scheme, base.raw_host, base.port):
            return None
        path, _, query = url.raw_path.decode("ascii").partition("?")
        return URL.build(
            scheme=base.scheme,
            authority=base.raw_authority,
            path=path,
            query_string=query,
            encoded=True,
        )

    async def _other(
        self, request: httpx2.Request, url: URL, exchange: Exchange
    ) -> httpx2.Response:
        """The stream to listen on, the rest of an answer, or the end of a session."""
        if request.method == "DELETE":
            answer = await self._open(request, url, b"", Exchange(), _LEAVE_TIMEOUT)
            if answer is not None:
                answer.close()
            return httpx2.Response(200)
        exchange.resumed += 1
        if exchange.resumed > _MOST_RESUMED or isinstance(exchange.fault, TooLarge):
            return httpx2.Response(405)
        answer = await self._open(request, url, b"", exchange)
        if answer is None:
            return self._fail(request, exchange, exchange.fault)
        return await self._read(request, answer, exchange, None)

    async def _note(self, request: httpx2.Request, url: URL, body: bytes) -> None:
        async with self._turn:
            answer = await self._open(request, url, body, Exchange(), _NOTE_TIMEOUT)
            if answer is not None:
                answer.release()

    async def _open(
        self,
        request: httpx2.Request,
        url: URL,
        body: bytes,
        exchange: Exchange,
        total: float | None = None,
    ) -> aiohttp.ClientResponse | None:
        """The answer, whose body is not read yet; None: there was none, and `exchange` says why."""
        timeout = aiohttp.ClientTimeout(total=total, connect=CONNECT_TIMEOUT)
        try:
            return await self._client().request(
                request.method,
                url,
                headers=self._headers(request),
                data=body or None,
                timeout=timeout,
                allow_redirects=False,
            )
        except FAILURES as error:
            exchange.fault = Unreached(why(error))
            return None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            policy = self._remote.policy
            trusted = policy.trusts(self._remote.url.raw_host or "")
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MOST_OF_ONE,
                    use_dns_cache=False,
                    resolver=self._resolver,
                    socket_factory=counted(any_address if trusted else policy.socket),
                ),
                connector_owner=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    def _headers(self, request: httpx2.Request) -> CIMultiDict[str]:
        headers = CIMultiDict({"user-agent": f"antiphon/{__version__}"})
        headers.update(self._remote.headers)
        for name, value in request.headers.items():
            if _SAID.fullmatch(name.lower()):
                headers[name] = value
        headers["accept-encoding"] = "identity"
        return headers

    async def _read(
        self,
        request: httpx2.Request,
        answer: aiohttp.ClientResponse,
        exchange: Exchange,
        asked: object,
    ) -> httpx2.Response:
        """The answer as the SDK may see it. `asked`: the id of the request in it."""
        exchange.fault, exchange.explained = None, False
        heard = self._heard(request, answer)
        kind = heard.get("content-type", "")
        streams = False
        try:
            if answer.status >= 300:
                content = await self._bad(request, answer, exchange, kind)
                if self._listens and request.method == "POST":
                    return self._fail(request, exchange, exchange.fault)
                return httpx2.Response(answer.status, headers=heard, content=content)
            if self._listens and request.method == "POST":
                answer.release()  # the answer comes on the stream
                return httpx2.Response(202)
            _check(answer, kind, asked)
            if kind == "text/event-stream":
                streams = True
                return httpx2.Response(200, headers=heard, stream=Stream(answer, exchange))
            content = await content_of(answer, MOST_BODY)
            if not is_answer(content, asked):
                raise NotMcp
            return httpx2.Response(200, headers=heard, content=content)
        except Fault as fault:
            return self._fail(request, exchange, fault)
        except FAILURES as error:
            return self._fail(request, exchange, Unreached(why(error)))
        finally:
            if not streams:
                answer.close()  # a body that was read to its end has let its connection go

    async def _bad(
        self,
        request: httpx2.Request,
        answer: aiohttp.ClientResponse,
        exchange: Exchange,
        kind: str,
    ) -> bytes:
        """The body of an answer that is none of success, if it can be of use."""
        ended = answer.status == 404 and "mcp-session-id" in request.headers
        exchange.fault = SessionLost() if ended else BadStatus(answer.status)
        if kind != "application/json" or "content-encoding" in answer.headers:
            return b""
        try:
            content = await content_of(answer, _MOST_ERROR)
        except TooLarge:
            return b""
        exchange.explained = b'"jsonrpc"' in content and b'"error"' in content
        return content

    def _heard(self, request: httpx2.Request, answer: aiohttp.ClientResponse) -> dict[str, str]:
        """The headers of an answer that the SDK may see; of redirects those within the origin. Text
        is UTF-8, whatever the server says: what is weighed is what is read."""
        found = {name: answer.headers.get(name, "") for name in _HEARD}
        found["content-type"] = found["content-type"].partition(";")[0].strip().lower()
        heard = {name: value for name, value in found.items() if value}
        if "location" in heard:
            try:
                within = self._target(request.url.join(heard["location"])) is not None
            except (httpx2.InvalidURL, ValueError):
                within = False
            if not within:
                del heard["location"]
        return {name: value for name, value in heard.items() if SENDABLE.fullmatch(value)}

    def _fail(
        self, request: httpx2.Request, exchange: Exchange, fault: Fault | None
    ) -> httpx2.Response:
        """What the SDK is told of a request that failed: of one whose answer comes on another way
        it would not hear."""
        exchange.fault = fault
        if self._listens and request.method == "POST":
            exchange.scope.cancel()
            return httpx2.Response(202)
        return httpx2.Response(_FAILED)


def _check(answer: aiohttp.ClientResponse, kind: str, asked: object) -> None:
    """Raise `NotMcp` for what the SDK would wait for in vain, or not survive."""
    session = answer.headers.get("mcp-session-id")
    if session is not None and not _SESSION.fullmatch(session):
        raise NotMcp
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise NotMcp
    is_one = kind == "text/event-stream" or (kind == "application/json" and asked is not None)
    if answer.status != 200 or not is_one:
        raise NotMcp
