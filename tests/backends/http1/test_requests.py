"""What is sent, where it goes, and what becomes of it if nobody is there."""

import asyncio
import socket
from typing import Any

import pytest

from antiphon.backends.http1.client import Client
from antiphon.backends.http1.connection import HttpError, Place
from antiphon.backends.http1.target import merged, target_of
from tests.backends.http1.peer import OK, Peer, answer_all, serving, whole


@pytest.mark.parametrize(
    ("url", "place", "host", "path"),
    [
        ("http://h", Place("h", 80, is_tls=False), "h", b"/"),
        ("https://h/v%2F1?a=%2B#x", Place("h", 443, is_tls=True), "h", b"/v%2F1?a=%2B"),
        ("http://H:81/a b/ä?q=ö", Place("h", 81, is_tls=False), "h:81", b"/a%20b/%C3%A4?q=%C3%B6"),
        ("https://h:443/", Place("h", 443, is_tls=True), "h", b"/"),
        ("http://[::1]:8/", Place("::1", 8, is_tls=False), "[::1]:8", b"/"),
        ("http://bücher.example/", Place("xn--bcher-kva.example", 80, False), "", b"/"),
        ("http://u:p@h/", Place("h", 80, is_tls=False), "h", b"/"),
    ],
)
def test_a_url_says_where_to_go(url: str, place: Place, host: str, path: bytes) -> None:
    target = target_of(url, {})
    assert (target.place, target.path) == (place, path)
    assert target.headers["Host"] == (host or place.host)


@pytest.mark.parametrize("url", ["", "h", "/v1", "ftp://h/", "http://", "http://h:x/", "http://[/"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(HttpError):
        target_of(url, {})


def test_a_name_and_a_password_become_a_header_unless_there_is_one() -> None:
    assert target_of("http://u:p%40@h/", {}).headers["Authorization"] == "Basic dTpwQA=="
    mine = target_of("http://u:p@h/", {"authorization": "Bearer x"})
    assert mine.lines.lower().count(b"authorization") == 1
    assert b"Bearer x" in mine.lines


def test_the_last_of_equal_headers_counts() -> None:
    assert merged({"A": "1", "B": "2"}, {"a": "3"}, {"c": "4"}) == {"a": "3", "B": "2", "c": "4"}


async def test_what_is_sent(client: Client) -> None:
    async with serving(answer_all) as server:
        url = f"{server.url}v1/chat?x=y"
        for headers in (None, {"user-agent": "own", "X-Key": "k"}):
            await whole(await client.request("POST", url, b"{}", headers))
        await whole(await client.request("POST", url))
        await whole(await client.request("GET", url))
    host = f"Host: 127.0.0.1:{server.port}"
    ours = [host, "Accept: */*", "Accept-Encoding: identity"]
    sent = [head.decode().split("\r\n") for head in server.heads]
    start = "POST /v1/chat?x=y HTTP/1.1"
    assert sent == [
        [start, *ours, "User-Agent: test", "Content-Length: 2", "", ""],
        [start, *ours, "user-agent: own", "X-Key: k", "Content-Length: 2", "", ""],
        [start, *ours, "User-Agent: test", "Content-Length: 0", "", ""],
        ["GET /v1/chat?x=y HTTP/1.1", *ours, "User-Agent: test", "", ""],
    ]


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb", "a\0b"])
async def test_a_header_is_one_line(value: str) -> None:
    """R-130: what it holds may be a key, and is not told."""
    client = Client({"X-Key": value}, 5.0)
    with pytest.raises(HttpError, match="X-Key") as caught:
        await client.request("POST", "http://127.0.0.1:1/")
    assert value not in str(caught.value)
    await client.aclose()
    with pytest.raises(HttpError):
        await Client({}, 5.0).request("GET", "http://127.0.0.1:1/", headers={"X": value})


async def test_many_urls(client: Client) -> None:
    async with serving(answer_all) as server:
        for number in range(150):
            await whole(await client.request("GET", f"{server.url}?page={number}"))
        assert len(client._targets) <= 64
    assert server.connections == 1
    assert server.heads[-1].startswith(b"GET /?page=149 ")


async def test_redirects_are_not_followed(client: Client) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 307 X\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n")
        await peer.request()
        await peer.say(OK)

    async with serving(talk) as server:
        answer = await client.request("POST", server.url)
        assert (answer.status, await whole(answer)) == (307, b"")
    assert len(server.heads) == 1


async def test_nobody_is_there(client: Client) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(HttpError, match=f"no connection to 127.0.0.1:{port}"):
        await client.request("GET", f"http://127.0.0.1:{port}/")
    with pytest.raises(HttpError, match=r"no connection to nowhere\.invalid:80"):
        await client.request("GET", "http://nowhere.invalid/")


async def test_a_name_with_several_addresses(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8305: one after the other until somebody is there."""

    loop = asyncio.get_running_loop()
    known = loop.getaddrinfo

    async def found(host: str, port: int, **more: int) -> list[Any]:
        if host != "several.example":
            return await known(host, port, **more)
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, ("127.0.0.1", 1)), (*kind, ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", found)
    async with serving(answer_all) as server:
        answer = await client.request("GET", f"http://several.example:{server.port}/")
        assert await whole(answer) == b"ok"


async def test_connecting_has_a_limit() -> None:
    client = Client({}, connect_timeout=0.2)

    async def talk(peer: Peer) -> None:
        await peer.gone()

    async with serving(talk) as server:
        with pytest.raises(TimeoutError, match="no connection to 127"):
            await client.request("GET", server.url.replace("http:", "https:"))
        await server.is_left()
        await client.aclose()
