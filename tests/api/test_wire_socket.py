"""WebSockets on the wire: handshakes that are none, and clients that are dead (R-17 to R-24,
R-117)."""

import asyncio
import base64
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import TypeAlias

import orjson
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from antiphon.api.limits import WireLimits
from antiphon.api.wire_socket import guarded_socket
from tests.api.raw import closed, read_all, replies
from tests.live import KEY, LiveServer

FIELDS = {
    "Host": "a",
    "Authorization": f"Bearer {KEY}",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"k" * 16).decode(),
}


def handshake(line: str = "GET /v1/responses HTTP/1.1", without: str = "", **more: str) -> bytes:
    """A handshake with other fields; their underscores become dashes."""
    fields = {**FIELDS, **{name.replace("_", "-"): value for name, value in more.items()}}
    fields.pop(without, None)
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{line}\r\n{head}\r\n".encode()


def say(server: LiveServer, *packets: bytes, timeout: float = 3) -> bytes:
    """All that the server answers until it closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout) as sock:
        for packet in packets:
            sock.sendall(packet)
            time.sleep(0.05)
        return read_all(sock)


ODD = {
    "no key": handshake(without="Sec-WebSocket-Key"),
    "short key": handshake(Sec_WebSocket_Key="abcd"),
    "no version": handshake(without="Sec-WebSocket-Version"),
    "old version": handshake(Sec_WebSocket_Version="8"),
    "long field": handshake(X_Long="x" * 9000),
    "body": handshake(Content_Length="5"),
    "chunked": handshake(Transfer_Encoding="chunked"),
    "data": handshake() + b"\x81\x80abcd",
}


@pytest.mark.parametrize("name", ODD)
def test_a_handshake_that_is_none(server: LiveServer, name: str) -> None:
    """R-16: OpenAI's envelope, and the end."""
    (reply,) = replies(say(server, ODD[name]))
    assert reply.status == 400
    assert reply.json()["error"]["message"] == "Invalid WebSocket handshake."
    assert reply.headers["connection"] == "close"
    assert reply.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("line", "status"),
    [("GET /v1/responses HTTP/1.0", 200), ("DELETE /v1/responses HTTP/1.1", 405)],
)
def test_an_offer_that_cannot_be_taken_is_an_ordinary_request(
    server: LiveServer, line: str, status: int
) -> None:
    (reply,) = replies(say(server, handshake(line), timeout=1))
    assert reply.status == status


def test_an_absolute_target(server: LiveServer) -> None:
    """R-21: its authority means nothing."""
    line = "GET http://other.example/v1/responses?a=b HTTP/1.1"
    assert say(server, handshake(line), timeout=1).startswith(b"HTTP/1.1 101 ")


def test_a_handshake_behind_a_request_that_is_answered(server: LiveServer) -> None:
    """Nothing is written into the answer; it is whole, and the last one."""
    body = orjson.dumps({"model": "simulator", "input": "[[tokens=3]] [[pace=100ms]]"})
    post = (
        b"POST /v1/responses HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
        % (KEY.encode(), len(body), body)
    )
    (reply,) = replies(say(server, post + handshake()))
    assert reply.status == 200
    assert reply.json()["status"] == "completed"


def test_a_handshake_behind_one_that_was_answered(server: LiveServer) -> None:
    get = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    said = say(server, get, handshake(), timeout=1)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 101 " in said


def test_a_slow_head(server: LiveServer) -> None:
    """R-18: the clock of every head."""
    with socket.create_connection(("127.0.0.1", server.port), 12) as sock:
        sock.sendall(handshake()[:40])
        began = time.monotonic()
        assert closed(sock)
        assert time.monotonic() - began < 11


# -- clients that are dead ------------------------------------------------------------------------

#: A server and where it is.
Served: TypeAlias = tuple[uvicorn.Server, str]
#: Times that tests can wait for.
LIMITS = WireLimits(
    ping_interval=0.2,
    send_timeout=0.6,
    linger_timeout=0.2,
    min_rate_after=0.3,
    body_idle_timeout=0.5,
)


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes text; "N" is answered with N messages of 64 KiB."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    with contextlib.suppress(OSError):
        while (message := await receive())["type"] == "websocket.receive":
            for _ in range(int(message["text"])):
                await send({"type": "websocket.send", "text": "x" * 65536})


@pytest.fixture
async def server_and_url() -> AsyncIterator[Served]:
    """A server with `LIMITS`, in this process."""
    config = uvicorn.Config(
        _app,
        ws=guarded_socket(LIMITS),
        ws_per_message_deflate=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield server, f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        await task


def _open(url: str, buffer: int = 1 << 20) -> connect:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.connect(("127.0.0.1", int(url.rsplit(":", 1)[1].rstrip("/"))))
    return connect(url, sock=sock, compression=None, ping_interval=None, max_size=None, proxy=None)


def _deafen(client: ClientConnection) -> None:
    client.transport.pause_reading()


async def _gone(server: uvicorn.Server, within: float) -> bool:
    """Whether all connections end in time."""
    end = time.monotonic() + within
    while server.server_state.connections and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return not server.server_state.connections


async def test_a_quiet_client_that_answers_stays(
    server_and_url: Served,
) -> None:
    server, url = server_and_url
    async with _open(url) as client:
        assert not await _gone(server, 1.5)
        await client.send("1")
        assert len(await client.recv()) == 65536


async def test_a_client_that_answers_no_ping_is_dropped(
    server_and_url: Served,
) -> None:
    """R-117."""
    server, url = server_and_url
    client = await _open(url)
    _deafen(client)
    assert await _gone(server, 2.5)
    client.transport.abort()


async def test_a_client_that_reads_nothing_is_dropped(
    server_and_url: Served,
) -> None:
    """R-117."""
    server, url = server_and_url
    client = await _open(url, buffer=16 * 1024)
    await client.send("200")
    _deafen(client)
    assert await _gone(server, 3)
    client.transport.abort()


async def test_a_slow_reader_stays(server_and_url: Served) -> None:
    """Its pongs are late: they wait behind what it still has to read."""
    server, url = server_and_url
    client = await _open(url, buffer=16 * 1024)
    await client.send("60")
    for _ in range(10):
        client.transport.pause_reading()
        await asyncio.sleep(0.25)
        client.transport.resume_reading()
        await client.recv()
    assert server.server_state.connections
    for _ in range(50):
        await client.recv()
    await client.close()


async def test_pings_that_nobody_reads_the_answers_of_are_not_memory(
    server_and_url: Served,
) -> None:
    """R-117: a client that only writes is not read."""
    server, url = server_and_url
    client = await _open(url, buffer=16 * 1024)
    _deafen(client)
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(2):
            await _ping_for_ever(client, server)
    assert await _gone(server, 3)
    client.transport.abort()


async def _ping_for_ever(client: ClientConnection, server: uvicorn.Server) -> None:
    ping = b"\x89\xfdabcd" + b"x" * 125
    loop = asyncio.get_running_loop()
    with client.transport.get_extra_info("socket").dup() as raw:
        raw.setblocking(False)
        while True:
            await loop.sock_sendall(raw, ping * 1000)
            for connection in server.server_state.connections:
                assert connection.transport.get_write_buffer_size() < 4 << 20


async def test_a_stop_leaves_connections_to_the_app(
    server_and_url: Served,
) -> None:
    """R-73."""
    server, url = server_and_url
    async with _open(url) as client:
        for connection in server.server_state.connections:
            connection.shutdown()
        await client.send("1")
        assert len(await client.recv()) == 65536


async def test_what_breaks_the_protocol_is_told(server_and_url: Served) -> None:
    _, url = server_and_url
    client = await _open(url)
    client.transport.write(b"\x83\x80abcd")  # a reserved opcode
    with pytest.raises(ConnectionClosed) as ended:
        await client.recv()
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1002


@pytest.mark.parametrize("start", [b"\x81\xfe\x10\x00abcd" + b"x" * 100, b"\x01\x81abcdx"])
async def test_a_message_that_does_not_come_is_not_waited_for(
    server_and_url: Served, start: bytes
) -> None:
    """R-18: the rest of a frame, or of a message in pieces."""
    _, url = server_and_url
    client = await _open(url)
    client.transport.write(start)
    began = time.monotonic()
    with pytest.raises(ConnectionClosed) as ended:
        await client.recv()
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1008
    assert time.monotonic() - began < 1.5


async def test_a_message_that_comes_piece_by_piece_is_taken(server_and_url: Served) -> None:
    _, url = server_and_url
    async with _open(url) as client:
        text = "1" + " " * 2000
        for start in range(0, len(text), 400):
            opcode = (0x01 if start == 0 else 0) | (0x80 if start + 400 >= len(text) else 0)
            piece = text[start : start + 400].encode()
            head = bytes([opcode, 0x80 | 126]) + len(piece).to_bytes(2, "big") + bytes(4)
            client.transport.write(head + piece)
            await asyncio.sleep(0.15)
        assert len(await client.recv()) == 65536
