"""Connections: kept and used again, closed in time, never leaked."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from antiphon.backends.http1 import client as module
from antiphon.backends.http1.client import Client
from antiphon.backends.http1.connection import HttpError
from tests.backends.http1.line import connected
from tests.backends.http1.peer import CHUNKED, OK, Peer, answer_all, serving, whole


async def once(client: Client, url: str, body: bytes = b"{}") -> bytes:
    """One request, its whole answer."""
    return await whole(await client.request("POST", url, body))


# -- kept ----------------------------------------------------------------------------------------


async def test_a_connection_is_used_again_as_soon_as_the_body_has_come(client: Client) -> None:
    async with serving(answer_all) as server:
        first = await client.request("POST", server.url)
        assert await once(client, server.url) == b"ok"
        assert await whole(first) == b"ok"  # though nobody had read it
    assert (server.connections, len(server.heads)) == (1, 2)


async def test_what_was_used_last_is_used_next(client: Client) -> None:
    asked, others = asyncio.Event(), asyncio.Event()

    async def talk(peer: Peer) -> None:
        number = server.connections
        while True:
            await peer.request()
            if number == 1:
                asked.set()
                await others.wait()
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number)

    async with serving(talk) as server:
        first = asyncio.create_task(once(client, server.url))
        await asked.wait()
        rest = await asyncio.gather(once(client, server.url), once(client, server.url))
        assert set(rest) == {b"2", b"3"}
        others.set()
        assert await first == b"1"
        assert [await once(client, server.url) for _ in range(3)] == [b"1"] * 3


@pytest.mark.parametrize(
    "end", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"], ids=["1.1", "1.0"]
)
async def test_a_server_that_closes_is_believed(client: Client, end: bytes) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(end + b"content-length: 2\r\n\r\nok")
        await peer.gone()

    async with serving(talk) as server:
        assert [await once(client, server.url) for _ in range(2)] == [b"ok", b"ok"]
        assert server.connections == 2
        await server.is_left()


@pytest.mark.parametrize("last", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
async def test_what_was_closed_while_idle_is_not_used(client: Client, last: bytes) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await asyncio.sleep(0.05)
        if last:
            await peer.say(last)

    async with serving(talk) as server:
        for _ in range(2):
            assert await once(client, server.url) == b"ok"
            await server.is_left()
            await asyncio.sleep(0.05)
    assert (server.connections, len(server.heads)) == (2, 2)


async def test_what_nobody_uses_is_closed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK", 0.02)
    monkeypatch.setattr(module, "_KEPT", 0.1)
    async with serving(answer_all) as server:
        await once(client, server.url)
        await asyncio.sleep(0.05)
        await server.is_at(1)
        await server.is_left()
        assert await once(client, server.url) == b"ok"
        await server.is_left()


# -- sent again ----------------------------------------------------------------------------------


async def _once_only(peer: Peer) -> None:
    """Answers a request; the next one on the same connection gets nothing."""
    await peer.request()
    await peer.say(OK)
    await peer.request()


async def test_a_get_on_a_connection_that_was_just_closed_goes_out_again(client: Client) -> None:
    async with serving(_once_only) as server:
        for _ in range(3):
            assert await whole(await client.request("GET", server.url)) == b"ok"
    assert (server.connections, len(server.heads)) == (3, 5)


async def test_a_post_does_not(client: Client) -> None:
    """RFC 9110 §9.2.2: the server may have been at work."""
    async with serving(_once_only) as server:
        await once(client, server.url)
        with pytest.raises(HttpError, match="closed"):
            await once(client, server.url)
    assert (server.connections, len(server.heads)) == (1, 2)


async def test_nothing_goes_out_again_on_a_new_connection(client: Client) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()

    async with serving(talk) as server:
        with pytest.raises(HttpError, match="closed"):
            await client.request("GET", server.url)
    assert len(server.heads) == 1


# -- large requests ------------------------------------------------------------------------------


async def test_a_large_request_is_written_as_fast_as_it_is_taken() -> None:
    connection, line, _ = connected()
    answer = connection.ask()
    body = bytes(range(256)) * 4096
    connection.pause_writing()
    sending = asyncio.create_task(connection.send(answer, b"head", body))
    await asyncio.sleep(0)
    assert line.written == [b"head"]
    connection.resume_writing()
    connection.pause_writing()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(b"".join(line.written)) == 4
    connection.resume_writing()
    await sending
    assert b"".join(line.written) == b"head" + body
    assert max(map(len, line.written)) <= 65536


async def test_a_large_request_arrives(client: Client) -> None:
    got: list[bytes] = []

    async def talk(peer: Peer) -> None:
        got.append(await peer.request())
        await peer.say(OK)

    body = b"0123456789" * 2_000_000
    async with serving(talk) as server:
        assert await once(client, server.url, body) == b"ok"
    assert got == [body]


@pytest.mark.parametrize("closes", [True, False])
async def test_a_refusal_that_comes_early_is_read(client: Client, closes: bool) -> None:
    """RFC 9112 §9.5. The rest of the request does not go out, so the connection is of no use."""
    said = b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge"

    async def talk(peer: Peer) -> None:
        await peer.head()
        await peer.say(said)
        if closes:
            peer.writer.write_eof()
        await peer.gone()

    async with serving(talk) as server:
        for _ in range(2):
            answer = await client.request("POST", server.url, bytes(30_000_000))
            assert (answer.status, await whole(answer)) == (413, b"large")
        assert server.connections == 2
        await server.is_left()


async def test_an_answer_may_begin_while_the_request_goes_out(client: Client) -> None:
    size = 5_000_000

    async def talk(peer: Peer) -> None:
        await peer.head()
        await peer.say(CHUNKED + b"2\r\nok\r\n")
        await peer.reader.readexactly(size)
        await peer.say(b"0\r\n\r\n")
        await answer_all(peer)

    async with serving(talk) as server:
        assert await once(client, server.url, bytes(size)) == b"ok"
        assert await once(client, server.url) == b"ok"
    assert server.connections == 1


# -- slow readers --------------------------------------------------------------------------------


async def test_a_slow_reader_slows_the_server_down(client: Client) -> None:
    """R-117, with the sockets' own buffers between."""
    total, piece = 100_000_000, bytes(65536)
    sent = 0

    async def talk(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            await peer.say(piece[: total - sent])
            sent += min(len(piece), total - sent)

    async with serving(talk) as server:
        answer = await client.request("POST", server.url)
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < total // 2
        read = 0
        while data := await answer.content.read(65536):
            read += len(data)
        assert read == total


# -- leaving -------------------------------------------------------------------------------------


async def _silence(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def _deaf(peer: Peer) -> None:
    await peer.head()
    await asyncio.sleep(0.5)
    await peer.gone()


async def _half(peer: Peer) -> None:
    await peer.request()
    await peer.say(CHUNKED + b"2\r\nok\r\n")
    await peer.gone()


@pytest.mark.parametrize(
    ("talk", "size"),
    [(_silence, 0), (_deaf, 50_000_000), (_half, 0)],
    ids=["waiting for the head", "sending", "reading"],
)
async def test_who_leaves_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch, talk: Callable[[Peer], Awaitable[None]], size: int
) -> None:
    monkeypatch.setattr(module, "_CONNECTIONS", 1)
    client = Client({}, 5.0)
    async with serving(talk) as server:
        for _ in range(2):  # with one place, the second time shows that it was given back
            task = asyncio.create_task(once(client, server.url, bytes(size)))
            await server.is_at(1)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.is_left()
        assert server.connections == 2
        await client.aclose()


async def test_who_leaves_while_it_connects_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TLS greeting that is never answered."""
    monkeypatch.setattr(module, "_CONNECTIONS", 1)
    client = Client({}, 5.0)

    async def talk(peer: Peer) -> None:
        await peer.gone()

    async with serving(talk) as server:
        for _ in range(2):
            url = server.url.replace("http:", "https:")
            task = asyncio.create_task(client.request("GET", url))
            await server.is_at(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.is_left()
        await client.aclose()


async def test_closing_an_answer_ends_the_read_that_waits(client: Client) -> None:
    async with serving(_half) as server:
        answer = await client.request("POST", server.url)
        assert await answer.content.read() == b"ok"
        asyncio.get_running_loop().call_later(0.05, answer.close)
        with pytest.raises(HttpError, match="closed"):
            await answer.content.read()
        await server.is_left()


async def test_the_end_closes_everything(client: Client) -> None:
    async with serving(_half) as halves, serving(answer_all) as wholes:
        answer = await client.request("POST", halves.url)
        await once(client, wholes.url)
        assert await answer.content.read() == b"ok"
        await client.aclose()
        with pytest.raises(HttpError):
            await answer.content.read()
        await halves.is_left()
        await wholes.is_left()
        with pytest.raises(HttpError):
            await client.request("POST", wholes.url)
        await wholes.is_left()


# -- many ----------------------------------------------------------------------------------------


async def test_many_at_once(client: Client) -> None:
    async def talk(peer: Peer) -> None:
        while True:
            body = await peer.request()
            await peer.say(CHUNKED + b"%x\r\n%b\r\n" % (len(body), body))
            await asyncio.sleep(0.01)
            await peer.say(b"0\r\n\r\n")

    async with serving(talk) as server:
        bodies = [b"number %d" % number for number in range(200)]
        for _ in range(2):
            got = await asyncio.gather(*(once(client, server.url, body) for body in bodies))
            assert got == bodies
    assert server.connections == 200


async def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CONNECTIONS", 2)
    client = Client({}, 5.0)
    async with serving(_half) as server:
        answers = [await client.request("POST", server.url) for _ in range(2)]
        third = asyncio.create_task(client.request("POST", server.url))
        await asyncio.sleep(0.1)
        assert len(server.heads) == 2
        answers[0].close()
        (await third).close()
        assert len(server.heads) == 3
        await client.aclose()
