"""What a raw socket may say, and what it hears (reliability R-17, R-20 to R-24)."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from antiphon.api.limits import WireLimits
from tests.api.raw import RawReply, Wire, closed, eventually, next_reply, read_all, replies, serving
from tests.api.wire_app import BODY_LIMIT, KEY

GOOD = b"Host: a\r\nAuthorization: Bearer %s\r\n" % KEY.encode()
JSON = GOOD + b"Content-Type: application/json\r\n"
POST = b"POST /echo HTTP/1.1\r\n"
GET = b"GET /count HTTP/1.1\r\n"
CHUNKED = POST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with serving(WireLimits(header_timeout=2, linger_timeout=0.5)) as server:
        yield server
        log = server.log()
        assert "Traceback" not in log
        assert "\x1b" not in log
        assert KEY not in log


#: name → what is said, and the status that must come back.
ABUSES: dict[str, tuple[bytes, int]] = {
    "CL and TE": (
        POST + JSON + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "TE and CL": (
        POST + JSON + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two CL, equal": (POST + JSON + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
    "two CL, different": (POST + JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "CL list": (POST + JSON + b"Content-Length: 2, 2\r\n\r\n{}", 400),
    "CL with sign": (POST + JSON + b"Content-Length: +2\r\n\r\n{}", 400),
    "CL negative": (POST + JSON + b"Content-Length: -1\r\n\r\n{}", 400),
    "CL empty": (POST + JSON + b"Content-Length:\r\n\r\n{}", 400),
    "CL hex": (POST + JSON + b"Content-Length: 0x2\r\n\r\n{}", 400),
    "CL beyond 64 bits": (POST + JSON + b"Content-Length: 99999999999999999999\r\n\r\n{}", 400),
    "CL over the limit": (
        POST + JSON + b"Content-Length: %d\r\n\r\n{}" % (BODY_LIMIT + 1),
        413,
    ),
    "TE gzip": (POST + JSON + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    "TE gzip, chunked": (POST + JSON + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "TE xchunked": (POST + JSON + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "TE twice": (
        POST + JSON + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "TE on 1.0": (b"POST /echo HTTP/1.0\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n", 400),
    "chunk size not hex": (CHUNKED + b"zz\r\n", 400),
    "chunk size negative": (CHUNKED + b"-1\r\n", 400),
    "chunk size overflow": (CHUNKED + b"FFFFFFFFFFFFFFFFFF\r\n", 400),
    "chunk longer than said": (CHUNKED + b"2\r\n{}x\r\n0\r\n\r\n", 400),
    "chunk ends with LF": (CHUNKED + b"2\n{}\n0\n\n", 400),
    "no Host": (GET + b"\r\n", 400),
    "two Hosts": (GET + b"Host: a\r\nHost: b\r\n\r\n", 400),
    "empty Host": (GET + b"Host:\r\n\r\n", 400),
    "Host with a path": (GET + b"Host: a/b\r\n\r\n", 400),
    "Host with user": (GET + b"Host: u@a\r\n\r\n", 400),
    "Host with a space": (GET + b"Host: a b\r\n\r\n", 400),
    "Host not ASCII": (GET + b"Host: \xc3\xa4\r\n\r\n", 400),
    "Host port not a number": (GET + b"Host: a:x\r\n\r\n", 400),
    "obs-fold": (GET + b"Host: a\r\nX: a\r\n b\r\n\r\n", 400),
    "space after the request line": (GET + b" Host: a\r\n\r\n", 400),
    "space before the colon": (GET + b"Host : a\r\n\r\n", 400),
    "no colon": (GET + b"Host: a\r\nnonsense\r\n\r\n", 400),
    "empty field name": (GET + b"Host: a\r\n: x\r\n\r\n", 400),
    "LF for CRLF": (GET.replace(b"\r", b"") + b"Host: a\n\n", 400),
    "CR for CRLF": (b"GET /count HTTP/1.1\rHost: a\r\r", 400),
    "CR in a value": (GET + b"Host: a\r\nX: a\rb\r\n\r\n", 400),
    "NUL in a value": (GET + b"Host: a\r\nX: a\0b\r\n\r\n", 400),
    "ESC in a value": (GET + b"Host: a\r\nX: \x1b[31mred\r\n\r\n", 400),
    "NUL in a name": (GET + b"Host: a\r\nX\0: a\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /count\r\n\r\n", 400),
    "HTTP/1.2": (b"GET /count HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /count HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", 400),
    "unknown method": (b"BREW /count HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "method in lower case": (b"get /count HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 400),
    "TRACE": (b"TRACE /count HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    "wrong method": (b"PUT /echo HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "target without slash": (b"GET count HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target with a space": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target not ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target with a control": (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target with a fragment": (b"GET /count#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target of another scheme": (b"GET ftp://a/count HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target of 9 KB": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "escapes in the path": (b"GET /%0d%0aX:%20y%1b[31m HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    "traversal": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    "path with two slashes": (b"GET //evil.example/count HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    "101 fields": (GET + b"Host: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", 400),
    "field of 70 KB": (GET + b"Host: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 400),
    "field without end": (GET + b"Host: a\r\nX: " + b"y" * 2_000_000, 400),
    "X-Client-Request-Id too long": (
        GET + b"Host: a\r\nX-Client-Request-Id: " + b"x" * 513 + b"\r\n\r\n",
        400,
    ),
    "unknown key": (POST + b"Host: a\r\nAuthorization: Bearer nope\r\n\r\n", 401),
    "form body": (POST + GOOD + b"Content-Length: 3\r\n\r\na=b", 415),
    "gzip body": (POST + JSON + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415),
}


@pytest.mark.parametrize("name", ABUSES)
def test_abuse_is_refused_in_the_envelope(wire: Wire, name: str) -> None:
    """R-16, R-17, R-21, R-23: no 5xx, no death, OpenAI's envelope, nothing else after it."""
    said, status = ABUSES[name]
    served = status in (404, 405) or name == "X-Client-Request-Id too long"
    with wire.connect(timeout=5) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(said)
        answers = [next_reply(sock)] if served else replies(read_all(sock))
    assert [answer.status for answer in answers] == [status]
    assert_refusal(answers[0])
    if not served:
        assert answers[0].headers["connection"] == "close"


def assert_refusal(answer: RawReply) -> None:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert len(answer.headers["x-request-id"]) == 36
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    "said",
    [
        GET + b"Host: a\r\n\r\n",
        GET + b"Host: [::1]:8000\r\n\r\n",
        b"\r\n\r\n" + GET + b"Host: a_b.example:65535\r\n\r\n",
        b"GET /count HTTP/1.0\r\n\r\n",
        b"GET http://other.example/count?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%63ount HTTP/1.1\r\nHost: a\r\n\r\n",
        POST + JSON + b"Content-Length: 2\r\n\r\n{}",
        CHUNKED + b"1;ext=1\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n",
    ],
)
def test_what_is_allowed_is_served(wire: Wire, said: bytes) -> None:
    with wire.connect() as sock:
        sock.sendall(said)
        assert next_reply(sock).status == 200


def test_no_chunks_for_http_1_0(wire: Wire) -> None:
    """RFC 9112 §6.1: who does not know them would take their sizes for the body."""
    (answer,) = wire.say(b"GET /stream?3 HTTP/1.0\r\n\r\n")
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    assert answer.body == b"x" * 3 * 64 * 1024


def test_a_refusal_tells_no_more_than_needed(wire: Wire) -> None:
    """R-129: no path, no trace, no words of a library."""
    (answer,) = wire.say(GET + b"Host: a\r\nX: a\0b\r\n\r\n")
    assert answer.json()["error"]["message"] == "We could not parse your HTTP request."


def test_trailer_fields_do_not_become_header_fields(wire: Wire) -> None:
    """R-17: a trailer must not smuggle in credentials."""
    said = (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
        b"Authorization: Bearer %s\r\n\r\n" % KEY.encode()
    )
    (answer,) = wire.say(said)
    assert answer.status == 401


@pytest.mark.parametrize("waste", [b"1;" + b"x" * 30_000 + b"\r\n{\r\n", None])
def test_wasteful_chunks_are_refused(wire: Wire, waste: bytes | None) -> None:
    """R-19: extensions and trailers are bounded like the head; Go refuses the same."""
    said = waste * 40 if waste else b"2\r\n{}\r\n0\r\nX: " + b"y" * 4_000_000
    before = wire.count()["taken"]
    with wire.connect() as sock:
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(CHUNKED + said), 8192):
                sock.sendall((CHUNKED + said)[at : at + 8192])
        (answer,) = replies(read_all(sock))
    assert answer.status == 400
    assert wire.count()["taken"] == before


@pytest.mark.parametrize("half_close", [True, False])
@pytest.mark.parametrize(
    "said", [POST + JSON + b"Content-Length: 10\r\n\r\n{}", CHUNKED + b"2\r\n{}\r\n"]
)
def test_a_truncated_body_is_not_run(wire: Wire, said: bytes, half_close: bool) -> None:
    """R-22."""
    before = wire.count()
    with wire.connect() as sock:
        sock.sendall(said)
        assert eventually(lambda: wire.count()["connections"] > 1)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
            assert closed(sock)
    assert eventually(lambda: wire.count()["connections"] == 1)
    assert wire.count()["taken"] == before["taken"]


def test_a_body_broken_in_the_middle_is_not_run(wire: Wire) -> None:
    """R-22: the app already waits for the rest when the parser finds the error."""
    before = wire.count()["taken"]
    with wire.connect() as sock:
        sock.sendall(CHUNKED + b"1\r\n{\r\n")
        assert eventually(lambda: wire.count()["connections"] > 1)
        sock.sendall(b"nonsense\r\n")
        (answer,) = replies(read_all(sock))
    assert answer.status == 400
    assert_refusal(answer)
    assert wire.count()["taken"] == before


def test_chunked_body_over_the_limit(wire: Wire) -> None:
    """R-19: counted while it is read."""
    with wire.connect() as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(CHUNKED)
            for _ in range(BODY_LIMIT // 65536 + 20):
                sock.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        (answer,) = replies(read_all(sock))
    assert answer.status == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert answer.headers["connection"] == "close"


def test_a_body_at_the_limit_is_taken(wire: Wire) -> None:
    (answer,) = wire.say(
        POST
        + JSON
        + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % BODY_LIMIT
        + b" " * BODY_LIMIT
    )
    assert answer.json()["length"] == BODY_LIMIT


def test_an_unauthenticated_body_is_not_read(wire: Wire) -> None:
    """R-20: 100 MB are offered, most of them is never taken, and the client has time to read the
    answer before the connection is reset."""
    before = wire.count()["rss_kb"]
    start = time.monotonic()
    head = POST + b"Host: a\r\nContent-Length: 100000000\r\n\r\n"
    sent = 0
    with wire.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        with contextlib.suppress(ConnectionError):
            sock.sendall(head)
            while sent < 100_000_000:
                sent += sock.send(b"x" * 65536)
        (answer,) = replies(read_all(sock))
    assert answer.status == 401
    assert answer.headers["connection"] == "close"
    assert answer.headers["www-authenticate"] == "Bearer"
    # The socket buffers of both sides may hold some MB more than the server takes.
    assert sent < 20_000_000
    assert time.monotonic() - start > 0.4
    assert wire.count()["rss_kb"] - before < 16_000


def test_a_refused_client_may_finish_what_it_says(wire: Wire) -> None:
    """R-20: up to 1 MiB is read and dropped; the end is an end, not a reset."""
    with wire.connect() as sock:
        sock.sendall(POST + b"Host: a\r\nContent-Length: 900000\r\n\r\n")
        assert next_reply(sock).status == 401
        for _ in range(9):
            sock.sendall(b"x" * 100_000)
        assert sock.recv(1) == b""


@pytest.mark.parametrize("said", [b"{}", b"{"])
def test_an_answer_that_says_close_is_the_last(wire: Wire, said: bytes) -> None:
    """R-20: whether the body was there or not, and it says so once."""
    head = POST + b"Host: a\r\nAuthorization: Bearer no\r\nContent-Length: 2\r\n\r\n"
    with wire.connect() as sock:
        sock.sendall(head + said)
        heard = read_all(sock)
        assert heard.startswith(b"HTTP/1.1 401 ")
        assert heard.lower().count(b"\r\nconnection: close\r\n") == 1
        assert closed(sock)


def test_keep_alive_after_errors(wire: Wire) -> None:
    """An error whose request was read to its end costs no connection."""
    said = b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
    with wire.connect() as sock:
        for _ in range(3):
            sock.sendall(said)
            assert next_reply(sock).status == 404
        sock.sendall(POST + JSON + b"Content-Length: 2\r\n\r\n{}")
        assert next_reply(sock).status == 200


def test_answer_before_the_body_closes(wire: Wire) -> None:
    """R-20: what follows an early answer is never taken for a request (R-17)."""
    smuggled = b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n"
    with wire.connect() as sock:
        sock.sendall(b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n")
        first = sock.recv(65536)
        sock.sendall(b"x" * 500 + smuggled)
        rest = read_all(sock)
    (answer,) = replies(first + rest)
    assert answer.status == 404
    assert answer.headers["connection"] == "close"


def test_expect_100_continue(wire: Wire) -> None:
    head = POST + JSON + b"Content-Length: 2\r\nExpect: 100-continue\r\n"
    with wire.connect() as sock:
        sock.sendall(head + b"\r\n")
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"{}")
        assert next_reply(sock).status == 200
    # Refused by its head: the body is not asked for.
    (answer,) = wire.say(head.replace(KEY.encode(), b"wrong") + b"\r\n")
    assert answer.status == 401


@pytest.mark.parametrize("split", [False, True])
def test_an_offer_to_upgrade_is_declined_with_the_body_intact(wire: Wire, split: bool) -> None:
    """Java's client offers h2c with every request; llhttp would take that for the end of HTTP."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n"
    head = POST + JSON + offer + b"Content-Length: 12\r\n\r\n"
    with wire.connect() as sock:
        sock.sendall(head if split else head + b'{"a": "bcd"}')
        if split:
            assert eventually(lambda: wire.count()["connections"] > 1)
            sock.sendall(b'{"a": "bcd"}')
        last = GET + b"Host: a\r\nConnection: close\r\n\r\n"
        sock.sendall(GET + offer + b"Host: a\r\n\r\n" + last)
        answers = replies(read_all(sock))
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert answers[0].json()["length"] == 12


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    said = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + POST + JSON + b"Content-Length: 2\r\n\r\n{}"
    with wire.connect(timeout=1) as sock:
        sock.sendall(said + GET + b"Host: a\r\nConnection: close\r\n\r\n")
        slow, echo, count = replies(read_all(sock))
    assert slow.json() == {"slow": True}
    assert echo.json()["length"] == 2
    assert "taken" in count.json()


@pytest.mark.parametrize("apart", [False, True])
def test_a_refusal_is_not_mixed_into_an_answer(wire: Wire, apart: bool) -> None:
    """R-23: garbage behind a request ends the connection, after the answer."""
    with wire.connect() as sock:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + (b"" if apart else b"nonsense\r\n"))
        if apart:
            assert eventually(lambda: wire.count()["connections"] > 1)
            sock.sendall(b"nonsense\r\n")
        (answer,) = replies(read_all(sock))
    assert answer.json() == {"slow": True}
    assert answer.headers["connection"] == "close"


def test_a_pipelined_request_with_a_broken_body_is_not_run(wire: Wire) -> None:
    """R-22: the request before it is answered, then the connection is closed."""
    before = wire.count()["taken"]
    with wire.connect() as sock:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + CHUNKED + b"zz\r\n")
        (answer,) = replies(read_all(sock))
    assert answer.json() == {"slow": True}
    assert answer.headers["connection"] == "close"
    assert wire.count()["taken"] == before


def test_a_pipelining_flood_is_bounded(wire: Wire) -> None:
    flood = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + (GET + b"Host: a\r\n\r\n") * 5000
    with wire.connect() as sock:
        sock.sendall(flood)
        answers = replies(read_all(sock))
    assert len(answers) == 1 + WireLimits().max_pipelined
    assert {answer.status for answer in answers} == {200}
    assert answers[-1].headers["connection"] == "close"


def test_a_failure_is_a_500_with_the_request_id_only(wire: Wire) -> None:
    """R-129, R-131: the cause is in the log, under the same id."""
    answer = wire.get("/boom")
    assert answer.status == 500
    error = answer.json()["error"]
    id_ = answer.headers["x-request-id"]
    assert error["type"] == "server_error"
    assert id_ in error["message"]
    assert b"secret" not in answer.body
    assert eventually(lambda: id_ in wire.log())
    lines = [json.loads(line) for line in wire.log().splitlines() if id_ in line]
    trace = next(line["exception"] for line in lines if "exception" in line)
    assert "ZeroDivisionError" in trace
    assert "sk-antiphon-abcdefgh" not in trace


def test_a_server_that_stops_closes_each_connection_after_the_next_answer() -> None:
    """R-73: a client that keeps connections must not come back on this one."""
    with serving(WireLimits()) as wire, wire.connect() as kept, wire.connect() as other:
        for sock in (kept, other):
            sock.sendall(GET + b"Host: a\r\n\r\n")
            assert "connection" not in next_reply(sock).headers
        other.sendall(b"GET /stop HTTP/1.1\r\nHost: a\r\n\r\n")
        assert next_reply(other).headers["connection"] == "close"
        kept.sendall(GET + b"Host: a\r\n\r\n")
        answer = next_reply(kept)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert closed(kept)


def test_half_an_answer_does_not_look_whole(wire: Wire) -> None:
    """R-131: after the first byte the connection is cut without the last chunk."""
    with wire.connect() as sock:
        sock.sendall(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        received = read_all(sock)
    assert received.endswith(b"4\r\nhalf\r\n")


def test_log_lines_are_on_one_line_and_without_the_query(wire: Wire) -> None:
    """R-24, R-130."""
    answer = wire.say(
        b"GET /%0a%1b[31m%e2%80%ae?secret=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )[0]
    id_ = answer.headers["x-request-id"]
    assert eventually(lambda: id_ in wire.log())  # lines are written beside
    line = json.loads(next(line for line in wire.log().splitlines() if id_ in line))
    assert line["path"] == r"/\n\x1b[31m\u202e"
    assert line["status"] == 404
    assert "secret" not in wire.log()[wire.log().index(id_) :]
