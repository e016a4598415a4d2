"""Clients that are slow or dead (reliability R-18, R-117), with limits cut below a second."""

import socket
import time
from collections.abc import Iterator

import pytest

from antiphon.api.limits import WireLimits
from tests.api.raw import Wire, closed, eventually, next_reply, read_all, replies, serving
from tests.api.test_wire import CHUNKED, GET, JSON, POST
from tests.api.wire_app import BODY_LIMIT

LIMITS = WireLimits(
    header_timeout=0.5,
    body_idle_timeout=0.8,
    min_rate_after=0.5,
    min_body_rate=1000,
    send_timeout=0.6,
    linger_timeout=0.3,
    keep_alive_timeout=0.4,
)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with serving(LIMITS) as server:
        yield server
        assert "Traceback" not in server.log()


def trickle(sock: socket.socket, data: bytes, pause: float) -> float:
    """Send byte by byte until the server has closed; the seconds it took."""
    start = time.monotonic()
    sock.settimeout(pause)
    for at in range(len(data)):
        try:
            sock.sendall(data[at : at + 1])
            sock.recv(1, socket.MSG_PEEK)
            break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    sock.settimeout(3)
    return time.monotonic() - start


def test_a_slow_head_is_refused(wire: Wire) -> None:
    """R-18: the whole head has to be there in time, however steadily it comes."""
    with wire.connect() as sock:
        took = trickle(sock, GET + b"Host: a\r\n" + b"X: y\r\n" * 100, 0.1)
        (answer,) = replies(read_all(sock))
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert 0.4 < took < 2


@pytest.mark.parametrize("said", [b"", b"\r\n"])
def test_a_connection_that_says_nothing_is_closed(wire: Wire, said: bytes) -> None:
    """R-18."""
    with wire.connect(timeout=3) as sock:
        sock.sendall(said)
        assert read_all(sock) == b""
        assert closed(sock)


def test_line_ends_do_not_keep_a_connection(wire: Wire) -> None:
    """uvicorn ends its keep-alive clock at any byte, and starts it only after an answer."""
    with wire.connect(timeout=3) as sock:
        sock.sendall(GET + b"Host: a\r\n\r\n")
        assert next_reply(sock).status == 200
        assert trickle(sock, b"\r\n" * 50, 0.1) < 2.5
        assert closed(sock)


def test_an_idle_keep_alive_connection_is_closed(wire: Wire) -> None:
    with wire.connect(timeout=3) as sock:
        sock.sendall(GET + b"Host: a\r\n\r\n")
        assert next_reply(sock).status == 200
        assert closed(sock)


@pytest.mark.parametrize(
    ("head", "pause"),
    [
        (POST + JSON + b"Content-Length: 1000\r\n\r\n", 0.1),
        (CHUNKED + b"3e8\r\n", 3.0),
    ],
)
def test_a_slow_body_is_refused(wire: Wire, head: bytes, pause: float) -> None:
    """R-18: one that crawls, and one that stands still."""
    before = wire.count()["taken"]
    with wire.connect() as sock:
        sock.sendall(head)
        took = trickle(sock, b"x" * 1000, pause)
        (answer,) = replies(read_all(sock))
    assert answer.status == 408
    assert answer.json()["error"]["code"] == "request_timeout"
    assert answer.headers["connection"] == "close"
    assert 0.4 < took < 2
    assert wire.count()["taken"] == before


def test_a_body_that_stops_after_a_good_start_is_refused(wire: Wire) -> None:
    """R-18: the idle limit holds even when the average is still high."""
    start = time.monotonic()
    with wire.connect() as sock:
        sock.sendall(POST + JSON + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000)
        (answer,) = replies(read_all(sock))
    assert answer.status == 408
    assert time.monotonic() - start < 4


def test_a_slow_body_that_moves_is_taken(wire: Wire) -> None:
    """R-18: longer than every limit, but never under the rate."""
    with wire.connect(timeout=2) as sock:
        sock.sendall(POST + JSON + b"Connection: close\r\nContent-Length: 12000\r\n\r\n")
        for _ in range(12):
            sock.sendall(b" " * 1000)
            time.sleep(0.1)
        (answer,) = replies(read_all(sock))
    assert answer.json()["length"] == 12_000


@pytest.mark.parametrize("wait", [b"0", b"1.5"])
def test_a_large_body_in_many_packets_is_taken(wire: Wire, wait: bytes) -> None:
    """R-18: an app that lets the client wait is not the client's fault."""
    head = b"POST /echo?" + wait + b" HTTP/1.1\r\n" + JSON + b"Connection: close\r\n"
    head += b"Content-Length: %d\r\n\r\n" % BODY_LIMIT
    (answer,) = wire.say(head + b" " * BODY_LIMIT)
    assert answer.json()["length"] == BODY_LIMIT


def slow_reader(wire: Wire, target: str, fields: bytes = b"") -> socket.socket:
    """A client with small buffers that has asked for more than they hold."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    sock.settimeout(5)
    sock.connect(("127.0.0.1", wire.port))
    sock.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (target.encode(), fields))
    return sock


def test_a_dead_reader_is_dropped(wire: Wire) -> None:
    """R-117."""
    with slow_reader(wire, "/stream?200"):
        assert eventually(lambda: wire.count()["connections"] == 2)
        assert eventually(lambda: wire.count()["connections"] == 1, within=4)


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"])
def test_a_dead_reader_of_a_finished_answer_is_dropped(wire: Wire, fields: bytes) -> None:
    """R-117: the app is done, the rest is in the server's buffer; a plain close would wait for it
    to be taken."""
    with slow_reader(wire, "/big", fields):
        assert eventually(lambda: wire.count()["connections"] == 2)
        assert eventually(lambda: wire.count()["connections"] == 1, within=5)


def test_a_slow_reader_that_moves_gets_everything(wire: Wire) -> None:
    """R-117: a little at a time, for more than twice the limit."""
    with slow_reader(wire, "/stream?160", b"Connection: close\r\n") as sock:
        received = 0
        end = time.monotonic() + 1.6
        while time.monotonic() < end:
            received += len(sock.recv(16 * 1024))
            time.sleep(0.1)
        received += len(read_all(sock))
    assert received > 160 * 65536


def test_slow_connections_do_not_keep_others_out(wire: Wire) -> None:
    """R-18: 200 of them, and a plain request is answered at once."""
    socks = [wire.connect() for _ in range(200)]
    try:
        for at, sock in enumerate(socks):
            sock.sendall(GET if at % 2 else POST + JSON + b"Content-Length: 5\r\n\r\n{")
        start = time.monotonic()
        assert wire.get("/count").status == 200
        assert time.monotonic() - start < 0.5
        assert eventually(lambda: wire.count()["connections"] == 1, within=6)
    finally:
        for sock in socks:
            sock.close()
