"""Answers that were compressed though nobody asked for it."""

import asyncio
import gzip
import os
import zlib

import pytest

from antiphon.backends.http1.client import Client
from antiphon.backends.http1.connection import HttpError
from antiphon.backends.http1.unpacked import unpacked
from tests.backends.http1.line import come, connected
from tests.backends.http1.peer import Peer, saying, serving, whole

TEXT = b"".join(b'data: {"n": %d}\n\n' % number for number in range(2000))


def _raw(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush()


def _answer(coding: str, packed: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(packed)}\r\n\r\n"
    return head.encode() + packed


PACKED = {
    "gzip": ("gzip", gzip.compress(TEXT), TEXT),
    "GZip": ("GZip", gzip.compress(TEXT), TEXT),
    "members": ("gzip", gzip.compress(TEXT[:999]) + gzip.compress(TEXT[999:]), TEXT),
    "deflate": ("deflate", zlib.compress(TEXT), TEXT),
    "raw deflate": ("deflate", _raw(TEXT), TEXT),
    "random": ("gzip", gzip.compress(os.urandom(200_000)), None),
    "nothing": ("gzip", b"", b""),
    "not at all": ("utf-8", TEXT, TEXT),
    "identity": ("identity", TEXT, TEXT),
}


@pytest.mark.parametrize(("coding", "packed", "text"), PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("slow", [False, True], ids=["at once", "byte by byte"])
async def test_they_are_unpacked(
    client: Client, coding: str, packed: bytes, text: bytes | None, slow: bool
) -> None:
    said = _answer(coding, packed)

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(said[:-60])
        for at in range(max(0, len(said) - 60), len(said)):
            await peer.say(said[at : at + 1])
        await peer.gone()

    async with serving(talk if slow else saying(said)) as server:
        answer = await client.request("POST", server.url)
        got = await whole(answer)
        assert got == (gzip.decompress(packed) if text is None else text)
        assert answer.content.at_eof()


async def test_events_come_as_soon_as_they_can_be_read(client: Client) -> None:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    events = [b"data: one\n\n", b"data: two\n\n", b"x" * 65536 + b"end of a full piece"]

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n")
        for event in events:
            await peer.say(packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH))
            await peer.head()  # anything: the client goes on when it has read
        await peer.say(packer.flush())

    async with serving(talk) as server:
        answer = await client.request("POST", server.url)
        (connection,) = client._open
        for event in events:
            got = b""
            while len(got) < len(event):
                got += await answer.content.read(65536)
            assert got == event
            connection._transport.write(b"on\r\n\r\n")
        assert await answer.content.read() == b""


async def test_a_bomb_comes_in_pieces(client: Client) -> None:
    size = 50_000_000
    async with serving(saying(_answer("gzip", gzip.compress(bytes(size))))) as server:
        answer = await client.request("POST", server.url)
        total = 0
        while piece := await answer.content.read():
            assert len(piece) <= 65536
            total += len(piece)
        assert total == size


@pytest.mark.parametrize(
    "said",
    [
        _answer("gzip", gzip.compress(TEXT)[:-20]),
        _answer("gzip", gzip.compress(TEXT)[:-1] + b"x"),
        _answer("gzip", TEXT),
        _answer("deflate", b"\xff" * 10),
        _answer("br", TEXT),
        _answer("zstd", TEXT),
    ],
    ids=["cut", "wrong sum", "no gzip", "no deflate", "br", "zstd"],
)
async def test_what_cannot_be_unpacked_is_an_error(client: Client, said: bytes) -> None:
    async with serving(saying(said)) as server:
        with pytest.raises(HttpError):
            await whole(await client.request("POST", server.url))
        await server.is_left()


async def test_closing_one_closes_its_connection(client: Client) -> None:
    said = _answer("gzip", gzip.compress(TEXT))

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(said[:-10])
        await peer.gone()

    async with serving(talk) as server:
        answer = await client.request("POST", server.url)
        assert await answer.content.read(10)
        answer.close()
        await server.is_left()
        with pytest.raises(HttpError):
            await answer.content.read(10)


async def test_who_refuses_one_closes_its_connection(client: Client) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(_answer("br", TEXT)[:-1])
        await peer.gone()

    async with serving(talk) as server:
        with pytest.raises(HttpError, match="br"):
            await client.request("POST", server.url)
        await server.is_left()


@pytest.mark.parametrize("more", [1, 100, 200, 300])
async def test_what_can_be_read_does_not_wait_for_more_bytes(more: int) -> None:
    """zlib has taken all of them, and has more to give than one piece."""
    packed = gzip.compress(bytes(65536 + more))
    for end in range(len(packed) - 40, len(packed)):
        known = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed[:end])
        connection, line, _ = connected()
        answer = connection.ask()
        come(connection, line, [_answer("gzip", packed)[: end - len(packed)]])
        body, total = unpacked(answer).content, 0
        async with asyncio.timeout(20):
            while total < len(known):
                total += len(await body.read())
        assert total == len(known)


@pytest.mark.parametrize("padding", [bytes(8), b"\r\n"])
async def test_padding_behind_the_last_part_is_dropped(client: Client, padding: bytes) -> None:
    said = _answer("gzip", gzip.compress(TEXT) + padding)
    async with serving(saying(said)) as server:
        assert await whole(await client.request("POST", server.url)) == TEXT


async def test_what_was_closed_before_it_was_read_does_not_look_whole(client: Client) -> None:
    said = _answer("gzip", gzip.compress(bytes(200_000)))
    async with serving(saying(said)) as server:
        answer = await client.request("POST", server.url)
        assert await answer.content.read(10)
        answer.close()
        with pytest.raises(HttpError, match="closed"):
            await answer.content.read(10)
