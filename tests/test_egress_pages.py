"""Reading bodies through the guard (src/antiphon/egress_pages.py): reliability R-85, R-89, R-94."""

import asyncio
import gzip
import os
import socket
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from yarl import URL

from antiphon.egress import BadURL, Egress, Policy, SendError
from antiphon.egress_pages import Ask, ReadLimits, TooLarge, _target, read
from antiphon.errors import Overloaded
from tests.tools.web_world import PUBLIC, Canary, Names, Site, a_guard, nobody_waits

MIB = 1024 * 1024
#: Text that zlib cannot make much smaller.
NOISE = os.urandom(300_000).hex().encode()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site().open() as site:
        yield site


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    made = a_guard()
    yield made
    await made.close()


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize("body", [b"", b"x", b"plain text", NOISE, b"\x00" * 5_000_000])
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("x-GZIP", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:3]) + gzip.compress(body[3:])),
        ("gzip", lambda body: gzip.compress(body) + b"\0\0 what follows is no matter"),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ],
)
async def test_bodies_are_unpacked(
    site: Site, egress: Egress, body: bytes, encoding: str, pack: object
) -> None:
    assert callable(pack)
    headers = {"content-encoding": encoding} if encoding else {}
    site.put("/", pack(body), "text/plain", headers=headers)
    answer = await read(egress, Ask(site.url("a.example")))
    assert (answer.status, answer.body == body) == (200, True)
    assert answer.headers["content-type"] == "text/plain"
    assert site.asked[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"whatever"),
        ("zstd", b"whatever"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x"))),
        ("gzip", b"this is not packed at all"),
        ("gzip", gzip.compress(NOISE)[:-9]),
        ("gzip", b"\x1f"),
        ("deflate", raw_deflate(NOISE)[:1000]),
        ("deflate", b"\xff\xff\xff\xff"),
    ],
    ids=["br", "zstd", "twice", "plain", "cut", "one byte", "cut deflate", "no deflate"],
)
async def test_what_cannot_be_unpacked_is_an_error(
    site: Site, egress: Egress, encoding: str, body: bytes
) -> None:
    site.put("/", body, headers={"content-encoding": encoding})
    with pytest.raises(SendError, match="its body"):
        await read(egress, Ask(site.url("a.example")))


async def test_any_status_is_an_answer(site: Site, egress: Egress) -> None:
    site.put("/gone", "it was here", status=410)
    answer = await read(egress, Ask(site.url("a.example", "/gone")))
    assert (answer.status, answer.body) == (410, b"it was here")


# -- limits --------------------------------------------------------------------------------------


def test_the_limits_are_those_of_the_requirement() -> None:
    """R-89."""
    limits = ReadLimits()
    assert (limits.connect, limits.sent, limits.unpacked) == (5.0, 8 * MIB, 32 * MIB)
    assert limits.redirects == 3


@pytest.mark.parametrize("length", [True, False])
async def test_a_body_that_is_too_long_is_not_read_on(
    site: Site, egress: Egress, length: bool
) -> None:
    """R-89: whether the server says so before, or just goes on."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"content-type": "text/plain"})
        response.content_length = 1 << 40 if length else None
        await response.prepare(request)
        while sent < 256 * MIB:
            await response.write(b"x" * 65_536)
            sent += 65_536
        return response

    site.pages["/"] = endless
    with pytest.raises(TooLarge):
        await read(egress, Ask(site.url("a.example")))
    await asyncio.sleep(0.05)
    assert sent < 24 * MIB


async def test_a_body_as_long_as_the_limit_is_read(site: Site, egress: Egress) -> None:
    site.put("/", b"x" * 1000)
    limits = ReadLimits(sent=1000, unpacked=1000)
    assert len((await read(egress, Ask(site.url("a.example")), limits)).body) == 1000
    site.put("/", b"x" * 1001)
    with pytest.raises(TooLarge):
        await read(egress, Ask(site.url("a.example")), limits)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_stops_early_and_holds_nobody_up(
    site: Site, egress: Egress, encoding: str
) -> None:
    """R-89, R-118: 130 KiB that would be 128 MiB."""
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    zeros = b"\0" * (16 * MIB)
    bomb = b"".join(packer.compress(zeros) for _ in range(8)) + packer.flush()
    assert len(bomb) < MIB
    site.put("/", bomb, headers={"content-encoding": encoding})
    async with nobody_waits(0.04):
        tracemalloc.start()
        with pytest.raises(TooLarge, match="unpacked"):
            await read(egress, Ask(site.url("a.example")))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 64 * MIB


@pytest.mark.parametrize("where", ["head", "body", "redirect", "judge"])
async def test_one_time_limit_holds_for_everything(site: Site, egress: Egress, where: str) -> None:
    """R-89: each step is quick enough alone."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    async def judge(url: URL) -> None:
        if where == "judge":
            await asyncio.sleep(30)

    site.put("/", "fine")
    match where:
        case "head":
            site.delay("/", 30)
        case "body":
            site.pages["/"] = trickle
        case "redirect":
            site.redirect("/", "/?again")
            site.delay("/", 0.2)
    start = time.monotonic()
    with pytest.raises(SendError):
        await read(egress, Ask(site.url("a.example")), ReadLimits(total=0.4, redirects=99), judge)
    assert time.monotonic() - start < 2


# -- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/b?c=d#e", "/b?c=d"),
        ("b", "/a/b"),
        ("../b", "/b"),
        ("?q=1", "/a/start?q=1"),
        ("//other.example:{port}/b", "/b"),
        ("http://other.example:{port}/b", "/b"),
        (" HTTP://OTHER.example:{port}/ü ", "/%C3%BC"),
    ],
)
async def test_redirects_are_followed(
    site: Site, egress: Egress, status: int, location: str, path: str
) -> None:
    site.redirect("start.example/a/start", location.format(port=site.port), status)
    site.put("/a/start", "the end")
    for place in ("/b", "/a/b", "/ü"):
        site.put(place, "the end")
    if location == "?q=1":

        async def once(request: web.Request) -> web.StreamResponse:
            if request.query_string:
                return web.Response(text="the end")
            return web.Response(status=status, headers={"location": location})

        site.pages["start.example/a/start"] = once
    answer = await read(egress, Ask(site.url("start.example", "/a/start")))
    assert (answer.status, answer.body) == (200, b"the end")
    assert answer.url.raw_path_qs == path
    assert site.asked[-1].path == path


@pytest.mark.parametrize(
    "location", ["/b\tc", "/b c", "\\\\b.example/", "/\\b.example/", "b\xa0c", "mailto:x"]
)
async def test_a_redirect_that_parsers_would_read_in_different_ways_is_none(
    site: Site, egress: Egress, location: str
) -> None:
    """R-84."""
    site.redirect("/", location)
    with pytest.raises(SendError, match="redirect"):
        await read(egress, Ask(site.url("a.example")))
    assert site.paths() == ["/"]


async def test_three_redirects_and_no_more(site: Site, egress: Egress) -> None:
    """R-85."""
    for place in range(5):
        site.redirect(f"/{place}", f"/{place + 1}")
    site.put("/5", "far away")
    assert (await read(egress, Ask(site.url("a.example", "/2")))).body == b"far away"
    site.asked.clear()
    with pytest.raises(SendError, match="too often"):
        await read(egress, Ask(site.url("a.example", "/1")))
    assert site.paths() == ["/1", "/2", "/3", "/4"]


async def test_another_origin_is_told_no_secret_even_on_the_way_back(
    site: Site, egress: Egress
) -> None:
    """R-85: a header stays within its origin; port and name make one."""
    secrets = {"Authorization": "Bearer s", "Cookie": "c=1", "X-Api-Key": "k"}
    harmless = {"User-Agent": "me", "Accept": "text/html"}
    site.redirect("/1", "/2")
    site.redirect("/2", f"http://b.example:{site.port}/3")
    site.redirect("/3", f"http://a.example:{site.port}/4")
    site.put("/4", "fine")
    await read(egress, Ask(site.url("a.example", "/1"), headers=secrets | harmless))
    kept = [{name for name in secrets if name.lower() in asked.headers} for asked in site.asked]
    assert kept == [set(secrets), set(secrets), set(), set()]
    assert {asked.headers["user-agent"] for asked in site.asked} == {"me"}
    assert {asked.headers["accept-encoding"] for asked in site.asked} == {"gzip, deflate"}


async def test_no_cookie_is_kept(site: Site, egress: Egress) -> None:
    site.put("/2", "fine")
    site.put("/1", "", status=302, headers={"location": "/2", "set-cookie": "a=b; Path=/"})
    await read(egress, Ask(site.url("a.example", "/1")))
    assert "cookie" not in site.asked[1].headers


async def test_there_is_no_way_back_from_https_to_http(site: Site, egress: Egress) -> None:
    """What was asked for in private would be sent for all to see. (No TLS here: the two parts.)"""
    secure = URL("https://a.example/1")
    with pytest.raises(SendError, match="https to http"):
        _target(egress, secure, "http://a.example/1")
    assert _target(egress, secure, "/2").scheme == "https"
    assert _target(egress, URL("http://a.example/"), "https://a.example/").scheme == "https"


async def test_a_post_is_never_sent_elsewhere(site: Site, egress: Egress) -> None:
    for status in (301, 302, 303, 307, 308):
        site.redirect("/", "/other", status)
        answer = await read(egress, Ask(site.url("a.example"), "POST", {}, b"secret"))
        assert answer.status == status
    assert site.paths() == ["/"] * 5


async def test_the_judge_is_asked_before_each_request(site: Site, egress: Egress) -> None:
    judged: list[str] = []

    async def judge(url: URL) -> None:
        judged.append(url.path)
        assert len(site.asked) == len(judged) - 1
        if url.path == "/3":
            raise KeyError("no further")

    site.redirect("/1", "/2")
    site.redirect("/2", "/3")
    with pytest.raises(KeyError):
        await read(egress, Ask(site.url("a.example", "/1")), judge=judge)
    assert site.paths() == ["/1", "/2"]


# -- what is said of failures --------------------------------------------------------------------


async def test_a_url_that_is_none_is_an_error_of_its_own(egress: Egress) -> None:
    for url in ("nonsense", "ftp://a.example/", "http://10.0.0.1/"):
        with pytest.raises(BadURL):
            await read(egress, Ask(url))


async def test_what_is_private_looks_like_what_is_dead(site: Site) -> None:
    """R-94: an address that is refused, a port that is closed, a name that is none, a redirect to
    what is refused: one kind of error."""
    async with Canary().open() as canary:
        elsewhere = {"private.example": ["127.0.0.1"], "none.example": []}
        egress = Egress(Policy([PUBLIC]), Names(elsewhere))
        with socket.socket() as closed:
            closed.bind((PUBLIC, 0))
            dead = closed.getsockname()[1]
            site.redirect("/", f"http://127.0.0.1:{canary.port}/")
            urls = [
                f"http://private.example:{canary.port}/",
                f"http://private.example:{dead}/",
                f"http://none.example:{canary.port}/",
                f"http://a.example:{dead}/",
                site.url("a.example"),
            ]
            for url in urls:
                with pytest.raises(SendError) as caught:
                    await read(egress, Ask(url))
                assert type(caught.value) is SendError
        await egress.close()
        assert canary.hits == 0


@pytest.mark.parametrize("size", [999, 1000, 1001, 5 * MIB])
@pytest.mark.parametrize("packed", [False, True])
async def test_a_body_may_be_cut_where_its_limit_is(
    site: Site, egress: Egress, size: int, *, packed: bool
) -> None:
    body = os.urandom(size)
    encoding = {"content-encoding": "gzip"} if packed else {}
    site.put("/", gzip.compress(body) if packed else body, headers=encoding)
    limits = ReadLimits(unpacked=1000, cut=True)
    answer = await read(egress, Ask(site.url("a.example")), limits)
    assert answer.body == body[:1000]


@pytest.mark.parametrize("packed", [False, True])
async def test_a_body_has_room_before_it_is_kept(
    site: Site, egress: Egress, *, packed: bool
) -> None:
    """R-118: as it is unpacked; who gives none ends it."""
    asked: list[int] = []

    async def take(size: int) -> None:
        asked.append(size)
        if sum(asked) > 4 * MIB:
            raise Overloaded

    for size, fits in ((4 * MIB, True), (5 * MIB, False)):
        asked.clear()
        encoding = {"content-encoding": "gzip"} if packed else {}
        site.put("/", gzip.compress(bytes(size)) if packed else bytes(size), headers=encoding)
        if fits:
            await read(egress, Ask(site.url("a.example")), ReadLimits(take=take))
            assert sum(asked) == size
        else:
            with pytest.raises(Overloaded):
                await read(egress, Ask(site.url("a.example")), ReadLimits(take=take))
            assert sum(asked) < size
