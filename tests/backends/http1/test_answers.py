"""What servers send, in whatever pieces it comes, and how it ends."""

import contextlib
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.backends.http1.client import Client
from antiphon.backends.http1.connection import HttpError, Incoming
from tests.backends.http1.line import come, connected
from tests.backends.http1.peer import CHUNKED, OK, Peer, Talk, saying, serving, whole

BODY = b"data: Hello\n\ndata: \xc3\xa4\n\n"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
_CHUNKS = b"5;a=1;b\r\n" + BODY[:5] + b"\r\n%X\r\n" % (len(BODY) - 5) + BODY[5:] + b"\r\n"
#: Bytes → whether the connection can be used again.
WHOLE = {
    "length": (_HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY, True),
    "chunks": (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKS + b"0\r\n\r\n", True),
    "a trailer": (
        _HEAD + b"transfer-encoding: chunked\r\n\r\n" + _CHUNKS + b"0;x\r\nX-Late: 1\r\n\r\n",
        True,
    ),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\ncontent-type: no\r\n\r\n"
        + (_HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY),
        True,
    ),
    "told to close": (
        _HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY,
        False,
    ),
    "HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n"
        b"content-length: %d\r\n\r\n" % len(BODY) + BODY,
        False,
    ),
    "plain line feeds": (
        b"HTTP/1.1 200\ncontent-type: text/event-stream\ncontent-length: %d\n\n" % len(BODY) + BODY,
        True,
    ),
    "more than was asked": (
        _HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY + OK,
        False,
    ),
    "a bit more": (_HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY + b"H", False),
}


def read(answer: Incoming) -> bytes:
    """All that has come, without an event loop: nothing is waited for."""
    reading = answer.read()
    try:
        reading.send(None)
    except StopIteration as end:
        return cast("bytes", end.value)
    raise AssertionError("it waits")


@given(
    case=st.sampled_from(sorted(WHOLE)),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    again=st.booleans(),
)
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(
    case: str, cuts: list[int], again: bool
) -> None:
    said, is_reusable = WHOLE[case]
    edges = [0, *sorted(cuts), len(said)]
    pieces = [said[a:b] for a, b in pairwise(edges)]
    connection, line, owner = connected()
    for _ in range(1 + (again and is_reusable)):
        answer = connection.ask()
        come(connection, line, pieces)
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert "x-late" not in answer.headers
        assert read(answer) == BODY
        assert (answer.at_eof(), read(answer)) == (True, b"")
    # What comes after the end, in a read of its own, closes a connection that was good.
    assert owner.taken_back[-1] is is_reusable or line.is_aborted
    assert line.is_aborted is not is_reusable


@given(
    case=st.sampled_from(sorted(WHOLE)),
    at=st.floats(0, 1, exclude_max=True),
    mark=st.binary(min_size=1, max_size=3),
)
def test_no_bytes_harm_anything_else(case: str, at: float, mark: bytes) -> None:
    """An answer, or an `HttpError`: nothing else, and the connection has one end."""
    said, _ = WHOLE[case]
    place = int(at * len(said))
    connection, line, owner = connected()
    answer = connection.ask()
    come(connection, line, [said[:place], mark, said[place:]])
    connection.connection_lost(None)
    try:
        while not answer.at_eof():
            read(answer)
    except HttpError:
        pass
    assert answer.is_over
    assert len(owner.taken_back) == 1


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 1\r\n\r\nx", b"x"),
        (b"HTTP/1.1 200 OK\r\nx-empty:\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b""),
    ],
    ids=["204", "304", "empty", "302", "until it closes", "empty until it closes"],
)
async def test_bodies_end_where_they_should(client: Client, said: bytes, body: bytes) -> None:
    async with serving(saying(said)) as server:
        answer = await client.request("POST", server.url)
        assert answer.status == int(said[9:12])
        assert await whole(answer) == body
        assert await answer.content.read() == b""


@pytest.mark.parametrize(
    ("said", "before"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 O", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-len", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", b"hel"),
        (CHUNKED + b"5\r\nhel", b"hel"),
        (CHUNKED + b"5\r\nhello\r\n", b"hello"),
        (CHUNKED + b"5\r\nhello\r\nzzz\r\n", b"hello"),
        (CHUNKED + b"0\r\n", b""),
        (b"SSH-2.0-OpenSSH\r\n\r\n", b""),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-type: a\rset-cookie: b\r\n\r\n", b""),
    ],
)
async def test_what_is_cut_off_or_no_http_is_an_error(
    client: Client, said: bytes, before: bytes
) -> None:
    """What had come is read first."""
    got = b""
    async with serving(saying(said)) as server:
        with contextlib.suppress(HttpError):
            answer = await client.request("POST", server.url)
            while piece := await answer.content.read():
                got += piece
            pytest.fail("there was no error")
        await server.is_left()
    assert got == before
    assert server.connections == 1


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"HTTP/1.1 200 ", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nx: ", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 500 + b"\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 20),
        (CHUNKED + b"5;x=", b"y" * 1000),
        (CHUNKED + b"0\r\nx: ", b"y" * 1000),
    ],
    ids=["reason", "header", "headers", "interim", "extension", "trailer"],
)
async def test_heads_have_an_end(client: Client, start: bytes, more: bytes) -> None:
    async with serving(_endless(start, more)) as server:
        with pytest.raises(HttpError, match="too long"):
            await whole(await client.request("POST", server.url))
        await server.is_left()


def _endless(start: bytes, more: bytes) -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(start)
        while True:
            await peer.say(more)

    return talk


async def test_pieces_are_as_large_as_they_are_wanted() -> None:
    connection, line, _ = connected()
    answer = connection.ask()
    come(connection, line, [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcdefghi"])
    assert [await answer.read(4) for _ in range(4)] == [b"abcd", b"efgh", b"i", b""]


async def test_the_first_of_equal_headers_counts_and_names_are_in_lower_case() -> None:
    connection, line, _ = connected()
    answer = connection.ask()
    said = b"HTTP/1.1 429 X\r\nRetry-After: 1\r\nRETRY-AFTER: 2\r\nX: \xe4\r\n\r\n"
    come(connection, line, [said])
    assert answer.headers == {"retry-after": "1", "x": "ä"}


async def test_who_does_not_read_stops_the_sender() -> None:
    """R-117."""
    connection, line, _ = connected()
    answer = connection.ask()
    come(connection, line, [b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000])
    assert not line.is_paused
    come(connection, line, [b"y" * 100_000])
    assert line.is_paused
    assert await answer.read(100_000) == b"x" * 100_000
    assert line.is_paused
    assert len(await answer.read(65536)) == 65536
    assert not line.is_paused


async def test_the_next_answer_is_not_held_by_one_that_nobody_reads() -> None:
    connection, line, owner = connected()
    first = connection.ask()
    size = 300_000
    come(connection, line, [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size])
    come(connection, line, [b"x" * 200_000])
    assert line.is_paused
    connection.data_received(b"x" * 100_000)  # was on its way
    assert owner.taken_back == [True]
    assert not line.is_paused
    second = connection.ask()
    come(connection, line, [OK])
    assert (read(second), len(read(first))) == (b"ok", size)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"content-type: Text/HTML ; charset=x\r\n", "text/html"),
        (b"", "application/octet-stream"),
        (b"content-type:\r\n", "application/octet-stream"),
        (b"content-type: a\x0bb\r\n", "application/octet-stream"),
    ],
    ids=["parameters", "none", "empty", "control characters"],
)
def test_the_media_type(said: bytes, kind: str) -> None:
    connection, line, _ = connected()
    answer = connection.ask()
    come(connection, line, [b"HTTP/1.1 200 OK\r\n" + said + b"content-length: 0\r\n\r\n"])
    assert answer.content_type == kind


@pytest.mark.parametrize("coding", [b"identity", b"gzip"])
def test_a_coding_that_says_no_end_ends_with_the_connection(coding: bytes) -> None:
    """RFC 9112 §6.3."""
    connection, line, _ = connected()
    answer = connection.ask()
    come(connection, line, [_HEAD + b"transfer-encoding: " + coding + b"\r\n\r\n" + BODY])
    connection.connection_lost(None)
    assert read(answer) == BODY
    assert read(answer) == b""


def test_what_was_closed_before_it_was_read_does_not_look_whole() -> None:
    connection, line, owner = connected()
    answer = connection.ask()
    come(connection, line, [WHOLE["length"][0]])
    assert owner.taken_back == [True]
    answer.close()
    with pytest.raises(HttpError, match="closed"):
        read(answer)
