"""HTTP/1.1 on the socket: uvicorn's protocol with limits (reliability R-17 to R-24, R-117).

uvicorn's own has no time limit for heads and bodies, keeps reading bodies nobody wants, mixes its
400 into an answer that is under way, and waits for ever for a reader that died.

Rules
1. A request that two HTTP parsers could read differently is refused: 400 in OpenAI's envelope, and
   the connection is closed (RFC 9112 §6.1 and §11.2).
2. A refusal is never written into an answer that is under way: then the connection is closed after
   that answer.
3. An answer that begins before its request has ended closes the connection.
4. Such a close lingers: a little more is read and dropped, or the client would see a reset instead
   of the answer (R-20, RFC 9112 §9.6).
5. A server that stops says so with its answers: each is the last on its connection (R-73).
6. Each phase has a clock. It is started only when the packet at hand did not end the phase: a
   request in one packet pays nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from antiphon.api.closing import Cycle, LingeringTransport, OldCycle, WriteWatch, refusal
from antiphon.api.head import check_head, split_target
from antiphon.api.limits import WireLimits
from antiphon.errors import APIError, InvalidRequestError, RequestTimeout

#: Chunked coding costs at most 6 bytes for a byte of body, unless someone plays with extensions.
_CHUNK_COST = 8
#: Where in a request the parser is. Plain numbers: an enum's members are slow to get at, and each
#: header field asks.
_IDLE, _HEAD, _BODY = range(3)

_NOT_HTTP = "We could not parse your HTTP request."


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    limits = WireLimits()
    is_stopping: Callable[[], bool] = staticmethod(lambda: False)
    cycle: Cycle | None  # type: ignore[assignment]  # None until the first request

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn's declaration says int; it goes to `call_later`.
        self.timeout_keep_alive: float = self.limits.keep_alive_timeout  # type: ignore[assignment]
        self._phase = _IDLE
        self._running: RequestResponseCycle | None = None
        self._clock: asyncio.TimerHandle | None = None
        #: Bytes of the phase at hand: as fed to the parser, and as told by it.
        self._packet = 0
        self._fed = 0
        self._told = 0
        self._body_start = 0.0
        self._body_moved = 0.0
        self._body_told = 0
        self._was_paused = False
        self._singular: dict[bytes, bytes] = {}
        self._plain_upgrade = False
        self._replaying = False
        self._deaf = False
        self._lingering = False
        self._dropped = 0

    # ------------------------------------------------------------ the socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._closing = LingeringTransport(transport, self._linger)
        self._writes = WriteWatch(self.loop, transport, self.limits.send_timeout)
        self._start_clock(self.limits.header_timeout, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left, or the connection was dropped."""
        self._stop_clock()
        self._writes.stop()
        self._unset_keepalive_if_required()
        self._deaf = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A packet."""
        if self._deaf:
            self._drop(len(data))
            return
        self._unset_keepalive_if_required()
        before = self._phase
        self._packet = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._after_upgrade(data[exc.args[0] :])
        except httptools.HttpParserCallbackError as exc:
            # Raised by a callback below; anything but a refusal is a bug and may be seen.
            if not isinstance(exc.__context__, InvalidRequestError):
                raise
            self._refuse(exc.__context__)
        except httptools.HttpParserError:
            self._refuse(InvalidRequestError(_NOT_HTTP))
        else:
            self._measure(before, self._packet)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self._writes.start()

    # ------------------------------------------------------------ the parser

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._replaying:
            return
        super().on_message_begin()
        self._phase = _HEAD
        self._fed = self._told = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        if self._replaying:
            return
        self.url += url
        if len(self.url) > self.limits.max_target_bytes:
            raise InvalidRequestError("The request target is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer field: those are dropped, or they would pass for header
        fields."""
        if self._phase == _HEAD:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The end of the head: run the app, or queue the request behind the one that runs."""
        if self._replaying:
            return
        self._stop_clock()
        self._check_size()
        self._phase = _BODY
        self._fed = self._told = 0
        version, method = self.parser.get_http_version(), self.parser.get_method()
        self._singular = check_head(version, method, self.headers)
        self.expect_100_continue = self._singular.get(b"expect", b"").lower() == b"100-continue"
        raw_path, query = split_target(self.url)
        path = raw_path.decode("ascii")
        self.scope["method"] = method.decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        self.scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        self.scope["query_string"] = query
        if self.parser.should_upgrade():
            if self._should_upgrade():
                return
            self._plain_upgrade = True
        self._begin(self._new_cycle(version))

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._told += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of the request."""
        if self._plain_upgrade and not self._replaying:
            return
        self._phase = _IDLE
        self._stop_clock()
        super().on_message_complete()

    def _check_size(self) -> None:
        limits = self.limits
        size = self._fed + self._packet
        if size > limits.max_header_bytes:
            # The packets may hold more than this head.
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > limits.max_header_bytes or len(self.headers) > limits.max_headers:
            raise InvalidRequestError("The request header is too large.")

    def _new_cycle(self, version: str) -> Cycle:
        is_old = version == "1.0"
        cycle = (OldCycle if is_old else Cycle)(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=not is_old and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        cycle.closing_transport = self._closing
        cycle.is_stopping = self.is_stopping
        return cycle

    def _begin(self, cycle: Cycle) -> None:
        ahead = self.cycle
        if ahead is None or ahead.response_complete:
            self.cycle = cycle
            self._start_asgi_task(cycle, self.app)
            return
        if len(self.pipeline) >= self.limits.max_pipelined:
            raise InvalidRequestError("Too many pipelined requests.")
        self.cycle = cycle
        self.flow.pause_reading()
        self.pipeline.appendleft((cycle, self.app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _after_upgrade(self, rest: bytes) -> None:
        """httptools takes an upgrade for the end of HTTP. WebSockets are handed over; any other
        offer is declined by going on in HTTP/1.1 (Java's client offers h2c with each POST), which
        takes a second parser that is told how the body is framed."""
        if not self._plain_upgrade:
            self._hand_over(rest)
            return
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        framing = [
            name + b": " + self._singular[name] + b"\r\n"
            for name in (b"content-length", b"transfer-encoding")
            if name in self._singular
        ]
        self._replaying = True
        self._phase = _BODY
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
        self._replaying = self._plain_upgrade = False
        if rest:
            self.data_received(rest)
        else:
            self._measure(self._phase, 0)

    def _should_upgrade(self) -> bool:
        return (
            super()._should_upgrade()
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
        )

    def _hand_over(self, rest: bytes) -> None:
        """From here on it is a WebSocket (`wire_socket`); the client says nothing before it is
        accepted (RFC 6455 §4.1)."""
        self._stop_clock()
        if rest or not self._at_rest():
            self._refuse(InvalidRequestError("Invalid WebSocket handshake."))
            return
        self._writes.stop()
        path, query = split_target(self.url)
        self.url = path + (b"?" + query if query else b"")
        self.handle_websocket_upgrade()

    # ------------------------------------------------------------ clocks and measures

    def _start_clock(self, seconds: float, expired: Callable[[], None]) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(seconds, expired)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _measure(self, before: int, size: int) -> None:
        """After a packet of `size` bytes that was well-formed: is the phase still in bounds?"""
        phase = self._phase
        if phase == before:
            self._fed += size
        if phase == _BODY:
            self._measure_body()
        elif phase == _HEAD or self._at_rest():
            # Line ends between requests would otherwise keep a connection for ever.
            self._start_clock(self.limits.header_timeout, self._head_is_late)
            if phase == before and self._fed > self.limits.max_header_bytes:
                self._refuse(InvalidRequestError("The request header is too large."))

    def _measure_body(self) -> None:
        now = self.loop.time()
        if self._clock is None:
            self._body_start = now
            self._body_told = 0
            self._start_clock(self.limits.min_rate_after, self._check_body)
        if self._told != self._body_told:
            self._body_told = self._told
            self._body_moved = now
        if self._fed - _CHUNK_COST * self._told > self.limits.max_header_bytes:
            self._refuse(InvalidRequestError("The chunks of the request body are too wasteful."))

    def _at_rest(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _head_is_late(self) -> None:
        self._clock = None
        if self._phase == _HEAD:
            self._refuse(RequestTimeout("The request header did not arrive in time."))
        else:
            self.transport.close()

    def _check_body(self) -> None:
        """R-18: the body may not stand still, and not crawl once `min_rate_after` is over."""
        self._clock = None
        if self.cycle is None or self.cycle.response_started:
            return
        limits, now = self.limits, self.loop.time()
        paused = self.flow.read_paused
        if paused or self._was_paused:
            # The app does not read, or did not until just now: not the client's fault, the time
            # starts anew.
            self._body_start = self._body_moved = now
            self._fed = self._told = self._body_told = 0
        self._was_paused = paused
        by_rate = self._body_start + max(limits.min_rate_after, self._told / limits.min_body_rate)
        due = min(by_rate, self._body_moved + limits.body_idle_timeout)
        if due <= now:
            self._refuse(RequestTimeout())
        else:
            self._start_clock(due - now, self._check_body)

    # ------------------------------------------------------------ the end

    def on_response_complete(self) -> None:
        """An answer is out: the next request, or the keep-alive clock, or the end."""
        super().on_response_complete()
        if self._lingering:
            self._unset_keepalive_if_required()
        self._writes.start()

    def _refuse(self, error: APIError) -> None:
        """Serve nothing more on this connection; say why if no answer is under way (rule 2)."""
        self._deaf = True
        self._stop_clock()
        last = self.cycle
        if last is not None and last.more_body:
            if last.response_started:
                self.transport.abort()
                return
            last = self._forget(last)
        if last is not None and not last.response_complete:
            last.close_after()
            return
        self.transport.write(refusal(error))
        self._linger()

    def _forget(self, broken: Cycle) -> Cycle | None:
        """The app shall see that `broken` has no end (R-22); the request before it, if one is still
        to be answered."""
        broken.disconnected = True
        broken.message_event.set()
        if self._running is broken:
            return None
        self.pipeline.popleft()
        ahead = self.pipeline[0][0] if self.pipeline else self._running
        return ahead if isinstance(ahead, Cycle) else None

    def _linger(self) -> None:
        if self._lingering or self.transport.is_closing():
            return
        self._deaf = self._lingering = True
        self._stop_clock()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._start_clock(self.limits.linger_timeout, self._close)

    def _close(self) -> None:
        self._clock = None
        self.transport.close()
        self._writes.start()

    def _drop(self, size: int) -> None:
        """Something arrived that nobody will read."""
        self._dropped += size
        if self._dropped > self.limits.linger_bytes:
            if self._lingering:
                self.flow.pause_reading()
            else:
                self.transport.abort()


def guarded_protocol(
    limits: WireLimits, is_stopping: Callable[[], bool] = lambda: False
) -> type[HttpToolsProtocol]:
    """The protocol with these limits, for uvicorn's ``http=``; `is_stopping` is asked at each
    answer."""
    members = {"limits": limits, "is_stopping": staticmethod(is_stopping)}
    return type("LimitedProtocol", (GuardedProtocol,), members)
