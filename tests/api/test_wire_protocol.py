"""`GuardedProtocol` without a socket: what a kernel's buffers would hide (R-20, R-22, R-117)."""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from antiphon.api.limits import WireLimits
from antiphon.api.wire import GuardedProtocol, guarded_protocol

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LIMITS = WireLimits(send_timeout=0.08, linger_timeout=0.05, linger_bytes=1000, min_rate_after=0.02)


class Socket(asyncio.Transport):
    """A transport whose peer takes nothing: `unread` bytes are always left to write."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unread = 0
        self.ended = self.closed = self.aborted = False
        self.reading = True
        self.protocol: asyncio.BaseProtocol | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


def connect(
    app: ASGIApp,
    configure: Callable[[uvicorn.Config], None] = lambda _: None,
    limits: WireLimits = LIMITS,
) -> tuple[GuardedProtocol, Socket]:
    """A new connection to `app`."""
    config = uvicorn.Config(app, ws="none", log_config=None, access_log=False)
    config.load()
    configure(config)
    protocol = guarded_protocol(limits)(config, ServerState(), {})
    assert isinstance(protocol, GuardedProtocol)
    socket = Socket()
    protocol.connection_made(socket)
    return protocol, socket


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hi"})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110  a transport has no event to wait for
            await asyncio.sleep(0.005)


async def test_a_small_rest_that_nobody_takes_ends_the_connection() -> None:
    """R-117: below the mark at which the transport asks us to pause, and after the answer."""
    protocol, socket = connect(hello)
    socket.unread = 10
    protocol.data_received(GET)
    await until(lambda: socket.aborted)


async def test_a_rest_that_shrinks_does_not() -> None:
    """R-117."""
    protocol, socket = connect(hello)
    socket.unread = 100
    protocol.data_received(GET)
    for _ in range(20):
        await asyncio.sleep(0.01)
        socket.unread -= 1
    assert not socket.aborted
    socket.unread = 0
    await asyncio.sleep(0.15)
    assert not socket.aborted
    protocol.connection_lost(None)


async def test_a_body_that_had_to_wait_for_the_app_is_not_refused() -> None:
    """R-18, R-19: neither as slow nor as wasteful, whatever was counted before the pause."""
    ready = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await ready.wait()
        while (await receive())["more_body"]:
            pass
        await hello(scope, receive, send)

    protocol, socket = connect(app)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 201000\r\n\r\n")
    protocol.data_received(b"x" * 200_000)
    assert not socket.reading
    await asyncio.sleep(0.1)
    ready.set()
    await until(lambda: socket.reading)
    for _ in range(10):
        protocol.data_received(b"x" * 100)
    await until(lambda: socket.written.endswith(b"hi"))
    assert socket.written.startswith(b"HTTP/1.1 200 ")
    protocol.connection_lost(None)


async def test_nothing_follows_a_refusal() -> None:
    """R-22: the app hears of a broken body at once, and what it then says is not sent."""
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not heard or heard[-1] == "http.request":
            heard.append((await receive())["type"])
        await hello(scope, receive, send)

    protocol, socket = connect(app, limits=WireLimits())
    protocol.data_received(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    )
    await until(lambda: heard == ["http.request"])
    protocol.data_received(b"zz\r\n")
    await until(lambda: heard == ["http.request", "http.disconnect"])
    await asyncio.sleep(0.01)
    assert socket.written.startswith(b"HTTP/1.1 400 ")
    assert socket.written.count(b"HTTP/1.1") == 1
    protocol.connection_lost(None)


async def test_a_broken_request_behind_another_is_never_started() -> None:
    """R-22: and the one before it is the last on the connection."""
    started = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal started
        started += 1
        await hello(scope, receive, send)

    protocol, socket = connect(app)
    broken = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    protocol.data_received(GET + GET + broken)
    await until(lambda: socket.ended)
    await until(lambda: socket.closed)
    assert started == 2
    assert socket.written.count(b"HTTP/1.1 200 ") == 2
    assert socket.written.count(b"connection: close") == 1
    protocol.connection_lost(None)


async def test_lingering_reads_a_little_and_waits_a_little() -> None:
    """R-20: half-close, drop at most `linger_bytes`, close after `linger_timeout`."""
    protocol, socket = connect(hello)
    protocol.data_received(b"nonsense\r\n")
    assert socket.ended
    protocol.data_received(b"x" * 1000)
    assert socket.reading
    protocol.data_received(b"x")
    assert not socket.reading
    assert not socket.closed
    await until(lambda: socket.closed)


async def test_garbage_without_end_behind_a_running_request_ends_it() -> None:
    """R-23: dropped while the answer is made, but not for ever."""

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass

    protocol, socket = connect(app)
    protocol.data_received(GET)
    await asyncio.sleep(0)
    protocol.data_received(b"nonsense\r\n")
    protocol.data_received(b"x" * 1001)
    assert socket.aborted
    protocol.connection_lost(None)


async def test_a_broken_body_under_a_running_answer_ends_it() -> None:
    """R-22: the client is broken; half an answer must not look whole."""
    begun = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    protocol, socket = connect(app)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await begun.wait()
    protocol.data_received(b"zz\r\n")
    assert socket.aborted
    protocol.connection_lost(None)


async def test_a_bug_of_ours_is_not_told_as_the_clients_fault() -> None:
    protocol, _ = connect(hello)
    protocol.root_path = None  # type: ignore[assignment]  # any bug
    with pytest.raises(httptools.HttpParserCallbackError) as caught:
        protocol.data_received(GET)
    assert isinstance(caught.value.__context__, TypeError)
    protocol.connection_lost(None)


async def test_websockets_are_handed_over() -> None:
    """The head is replayed to uvicorn's WebSocket protocol, and no clock is left running."""
    given: list[bytes] = []

    class WebSocket(asyncio.Protocol):
        def __init__(self, **_parts: object) -> None:
            pass

        def data_received(self, data: bytes) -> None:
            given.append(data)

    def with_websockets(config: uvicorn.Config) -> None:
        config.ws_protocol_class = WebSocket

    protocol, socket = connect(hello, with_websockets)
    protocol.data_received(
        b"GET /v1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert isinstance(socket.protocol, WebSocket)
    assert given[0].startswith(b"GET /v1 HTTP/1.1\r\nhost: a\r\n")
    assert socket.written == b""
