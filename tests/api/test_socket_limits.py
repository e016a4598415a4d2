"""WebSocket mode under stress: who leaves, reads slowly, sends too much, stays too long, and what a
stop of the server does to them."""

import asyncio
import contextlib
import re
import signal
import socket as sockets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson
import pytest
from websockets.exceptions import ConnectionClosed

from antiphon.api.lanes import LaneLimits
from antiphon.api.socket import Connection, SocketOptions
from tests.api.command import antiphon
from tests.api.raw import eventually
from tests.api.talk import client_of
from tests.api.talk_socket import ENDS, Socket, denial, plug, plugged
from tests.api.watch import open_files, resident_mib
from tests.backends.upstream import DONE, ChatUpstream, Reply, Step, chunk, sse
from tests.live import CHAT_TOML, KEY, OTHER_KEY, LiveServer, serve

HELLO: Final = sse(chunk(content="Hello"))
ENDLESS: Final[list[Step]] = [HELLO, "stall"]
#: Seconds in which the upstream must see that nobody listens any more (R-53).
SOON: Final = 1.0
SLOW: Final = "[[tokens=400]] [[pace=50ms]]"


def status_of(client: httpx2.Client, id_: str) -> str:
    status: str = client.get(f"/v1/responses/{id_}").json()["status"]
    return status


def until(socket: Socket, type_: str) -> Any:
    """The first event of this type."""
    while (event := socket.next())["type"] != type_:
        pass
    return event


def reset(socket: Socket) -> None:
    """Leave without a close frame."""
    raw = socket.raw.socket
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with contextlib.suppress(OSError):
        raw.shutdown(sockets.SHUT_RDWR)
    raw.close()


# -- leaving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
def test_leaving_stops_all_that_runs(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream, how: str
) -> None:
    """R-53: upstream calls closed within a second, the rows say `cancelled`; what waits is not
    begun."""
    upstream.script(Reply(body=ENDLESS))
    socket = plug(server)
    for lane in ("a", "b", "c"):
        socket.ask(model="m", stream_id=lane)
    socket.ask(model="m", stream_id="a")
    made: list[str] = []
    while len(made) < 3:
        event = socket.next()
        if event["type"] == "response.output_text.delta":
            made.append(event["item_id"])
        elif event["type"] == "response.created":
            made_id = event["response"]["id"]
    assert status_of(client, made_id) == "in_progress"
    left = time.monotonic()
    if how == "close":
        socket.raw.close()
    else:
        reset(socket)
    assert all(request.left.wait(SOON) for request in upstream.requests)
    assert time.monotonic() - left < SOON
    assert eventually(lambda: status_of(client, made_id) == "cancelled")
    assert len(upstream.requests) == 3


def test_sixty_sockets_that_leave_leave_nothing(
    server: LiveServer, client: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-56: no upstream call, no file descriptor, no memory."""
    upstream.script(Reply(body=[HELLO * 20, "stall"]))
    files, memory = open_files(server), resident_mib(server)
    for number in range(60):
        socket = plug(server)
        if number % 3:
            socket.ask(model="m", store=number % 2 == 0)
        if number % 4 == 0:
            socket.raw.close()
        else:
            reset(socket)
    assert eventually(lambda: all(request.left.is_set() for request in upstream.requests), 10)
    assert eventually(lambda: abs(open_files(server) - files) <= 30, 10)
    assert resident_mib(server) - memory < 20
    for name in ("antiphon_responses_in_flight", "antiphon_websockets"):
        assert eventually(lambda: metric(client, name) == 0), name  # noqa: B023


def metric(client: httpx2.Client, name: str) -> float:
    found = re.search(rf"^{name} (.*)$", client.get("/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


# -- reading slowly ------------------------------------------------------------------------------


@pytest.fixture
def endless() -> Iterator[ChatUpstream]:
    """An upstream that says far more than the kernel holds for a reader, as fast as it is taken."""
    burst = sse(chunk(content="word ")) * 200
    with ChatUpstream() as upstream:
        upstream.script(
            Reply.chat("Warm"), Reply(body=[*[burst] * 3000, sse(chunk(finish="stop")), DONE])
        )  # 60 MB
        yield upstream


def test_a_reader_that_takes_nothing_slows_the_upstream_and_is_dropped(
    tmp_path: Path, endless: ChatUpstream
) -> None:
    """R-117: less than 4 MiB for each response, and gone after the send timeout."""
    env = {"ANTIPHON_SEND_TIMEOUT": "4"}
    readers = 8
    toml = CHAT_TOML.format(base_url=endless.base_url)
    with (
        serve(tmp_path, toml, env) as live,
        client_of(live) as client,
        contextlib.ExitStack() as stack,
    ):
        with plugged(live) as warm:
            warm.made(model="m", store=False)
        before = resident_mib(live)
        for _ in range(readers):
            socket = plug(live, buffer=16 * 1024)
            stack.callback(reset, socket)
            # The library reads ahead, in a thread of its own.
            socket.raw.recv_messages.pause()
            socket.ask(model="m", store=False)
        assert eventually(lambda: metric(client, "antiphon_responses_in_flight") == readers)
        time.sleep(1.5)
        cost = (resident_mib(live) - before) / readers
        print(f"{cost:.2f} MiB for each reader")
        assert cost < 4
        assert metric(client, "antiphon_websockets") == readers
        assert eventually(lambda: metric(client, "antiphon_websockets") == 0, within=12)
        assert all(request.left.wait(SOON) for request in endless.requests[1:])
        assert metric(client, "antiphon_responses_in_flight") == 0


# -- sending too much ----------------------------------------------------------------------------


def test_a_message_that_is_too_large_ends_the_connection(tmp_path: Path) -> None:
    """R-19: told by 1009; the other connections go on."""
    with serve(tmp_path, None, {"ANTIPHON_MAX_BODY_BYTES": "100000"}) as live:
        with plugged(live) as socket, plugged(live) as other:
            socket.made("x" * 90_000)
            socket.ask("x" * 100_000)
            assert socket.close_code() == 1009
            other.made()
        assert "Traceback" not in live.log()


def test_a_message_in_endless_pieces_ends_the_connection(server: LiveServer) -> None:
    with plugged(server) as socket:
        with contextlib.suppress(ConnectionClosed):
            socket.raw.send(["" for _ in range(10_000)])
        assert socket.close_code() == 1009


def test_text_that_is_no_utf_8_ends_the_connection(server: LiveServer) -> None:
    """RFC 6455 §8.1; and no trace of ours."""
    with plugged(server) as socket:
        socket.raw.send(b"\xff\xfe", text=True)
        assert socket.close_code() == 1007
    assert "Traceback" not in server.log()


def test_what_waits_is_bounded(server: LiveServer) -> None:
    """More than 64 are refused at once, and all others answered."""
    with plugged(server) as socket:
        socket.ask("[[tokens=3]] [[pace=300ms]]")
        for _ in range(70):
            socket.ask("[[tokens=1]]")
        ended = refused = 0
        while ended < 65:
            event = socket.next()
            ended += event["type"] in ENDS
            if event["type"] == "error":
                refused += 1
                assert event["status"] == 429
                assert event["error"]["code"] == "rate_limit_exceeded"
                assert ended == 0
    assert refused == 6


def test_waiting_bytes_are_bounded(tmp_path: Path) -> None:
    env = {"ANTIPHON_MAX_BODY_BYTES": "100000"}
    with serve(tmp_path, None, env) as live, plugged(live) as socket:
        socket.ask("[[tokens=3]] [[pace=300ms]]")
        for _ in range(3):
            socket.ask("x" * 60_000)
        statuses: list[int | None] = []
        while len(statuses) < 4:
            event = socket.next()
            if event["type"] in (*ENDS, "error"):
                statuses.append(event.get("status"))
    assert statuses == [429, 429, None, None]


def test_sockets_are_counted(tmp_path: Path) -> None:
    """R-115: by project, and in all."""
    env = {"ANTIPHON_MAX_WEBSOCKETS": "3", "ANTIPHON_MAX_WEBSOCKETS_PER_PROJECT": "2"}
    with serve(tmp_path, None, env) as live, plugged(live) as first, plugged(live):
        many = denial(live).response
        assert many.status_code == 429
        assert orjson.loads(many.body or b"")["error"]["code"] == "rate_limit_exceeded"
        assert int(many.headers["retry-after"]) >= 1
        with plugged(live, OTHER_KEY):
            assert denial(live, OTHER_KEY).response.status_code == 503
        first.raw.close()
        with plugged(live) as third:
            third.made()


def test_responses_are_counted_like_all_others(tmp_path: Path) -> None:
    env = {"ANTIPHON_MAX_IN_FLIGHT_PER_PROJECT": "1"}
    with serve(tmp_path, None, env) as live, plugged(live) as socket:
        socket.ask(SLOW, stream_id="a")
        assert socket.next()["type"] == "response.created"
        socket.ask(stream_id="b")
        frame = until(socket, "error")
        assert (frame["status"], frame["stream_id"]) == (429, "b")
        assert int(frame["error"]["headers"]["retry-after"]) >= 1


# -- the end -------------------------------------------------------------------------------------


def test_a_connection_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """Spec §2.6: what runs ends first; nothing else begins."""
    env = {"ANTIPHON_WEBSOCKET_MINUTES": "0.02"}
    with serve(tmp_path, None, env) as live, plugged(live) as idle, plugged(live) as busy:
        busy.ask("[[tokens=20]] [[pace=100ms]]")
        busy.ask()
        ended = idle.error()
        assert ended["status"] == 400
        assert ended["error"]["code"] == "websocket_connection_limit_reached"
        assert ended["error"]["message"] == (
            "Responses websocket connection limit reached (0.02 minutes). Create a new "
            "websocket connection to continue."
        )
        assert idle.close_code() == 1000
        assert busy.rest()[-1]["type"] == "response.completed"
        assert busy.error() == ended, "of the one that waited"
        assert busy.error() == ended
        assert busy.close_code() == 1000


def test_a_revoked_key_ends_the_connection(tmp_path: Path) -> None:
    """R-37: within five seconds, and what runs may end."""
    with serve(tmp_path) as live:
        key = antiphon(tmp_path, "keys", "create", "--name", "x").stdout
        found = re.search(r"sk-antiphon-\S+", key)
        assert found, key
        with plugged(live, found[0]) as socket:
            socket.made()
            with contextlib.closing(sqlite3.connect(tmp_path / "antiphon.db")) as database:
                (key_id,) = database.execute("SELECT id FROM api_keys").fetchone()
            socket.ask("[[tokens=120]] [[pace=100ms]]", stream_id="running")
            assert socket.next()["type"] == "response.created"
            assert antiphon(tmp_path, "keys", "revoke", key_id).returncode == 0
            time.sleep(5.5)
            socket.ask(stream_id="late")
            frame = until(socket, "error")
            assert frame["status"] == 401
            assert frame["error"]["code"] == "invalid_api_key"
            assert until(socket, "response.completed")["stream_id"] == "running"
            assert socket.close_code() == 1008


def test_a_stop_ends_every_connection(tmp_path: Path) -> None:
    """R-73: idle ones at once, what runs has its time; nothing new; status 0."""
    with serve(tmp_path, None, {"ANTIPHON_SHUTDOWN_GRACE": "3"}) as live:
        with plugged(live) as idle, plugged(live) as short, plugged(live) as slow:
            short.ask("[[tokens=10]] [[pace=100ms]]")
            slow.ask(SLOW)
            assert short.next()["type"] == slow.next()["type"] == "response.created"
            live.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert idle.close_code() == 1012
            assert time.monotonic() - began < 0.5
            short.ask(stream_id="late")
            late = until(short, "error")
            assert (late["status"], late["stream_id"]) == (503, "late")
            assert until(short, "response.completed")["response"]["status"] == "completed"
            assert short.close_code() == 1012
            assert time.monotonic() - began < 2
            failed = until(slow, "response.failed")
            assert failed["response"]["error"]["message"] == "The server is shutting down."
            assert 2.5 < time.monotonic() - began < 4
            assert slow.close_code() == 1012
        assert live.process.wait(5) == 0
        assert "Traceback" not in live.log()


def test_a_stop_does_not_wait_for_clients_that_are_dead(tmp_path: Path) -> None:
    """R-73: one that answers no close frame, and one that reads nothing."""
    with serve(tmp_path, None, {"ANTIPHON_SHUTDOWN_GRACE": "1"}) as live:
        silent, stalled = plug(live), plug(live)
        for socket in (silent, stalled):
            socket.raw.recv_messages.pause()
        stalled.ask("[[tokens=200000]]", store=False)
        time.sleep(0.5)
        live.process.send_signal(signal.SIGTERM)
        assert live.process.wait(15) == 0
        for socket in (silent, stalled):
            reset(socket)


def test_each_connection_and_each_response_has_its_line(tmp_path: Path) -> None:
    env = {"ANTIPHON_ACCESS_LOG": "true", "ANTIPHON_LOG_FORMAT": "json"}
    with serve(tmp_path, None, env) as live:
        with plugged(live) as socket:
            response_id = socket.made()["id"]
            socket.refused(temperature=9)
        denial(live, None)
        assert eventually(lambda: live.log().count('"event": "request"') >= 2)
        lines = [orjson.loads(line) for line in live.log().splitlines() if line.startswith("{")]
    said = [line for line in lines if line["event"] == "websocket_response"]
    assert [(line["response_id"], line["status"]) for line in said] == [
        (response_id, 200),
        (None, 400),
    ]
    connections = [line for line in lines if line["event"] == "request"]
    assert sorted(line["status"] for line in connections) == [101, 401]
    whole = next(line for line in connections if line["status"] == 101)
    assert (whole["method"], whole["path"], whole["project"]) == ("GET", "/v1/responses", "first")
    assert {line["request_id"] for line in said} == {whole["request_id"]}
    assert KEY not in live.log()


async def test_thousands_of_messages_in_one_packet_let_others_run() -> None:
    """R-118: what is refused is answered at once, and so nobody else came to anything."""
    said: Final = {"type": "websocket.receive", "text": "1"}
    messages = [{"type": "websocket.disconnect"}, *[said] * 500, {"type": "websocket.connect"}]
    sent = turns = 0

    async def receive() -> Any:
        return messages.pop()

    async def send(_: Any) -> None:
        nonlocal sent
        sent += 1

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    nobody: Any = None
    options = SocketOptions("/v1/responses", 60, 60, 1, 1, LaneLimits(), access_log=False)
    other = asyncio.create_task(others())
    await Connection(nobody, nobody, options, nobody, {}, send).serve(receive)
    other.cancel()
    assert sent == 501
    assert turns >= 500
