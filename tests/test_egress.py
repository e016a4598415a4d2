"""The way out (src/antiphon/egress.py): reliability R-83 to R-86, R-89, R-94."""

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from antiphon.egress import BadURL, Egress, Limits, Policy, Refused, SendError
from tests.receiver import Receiver

BODY = b"{}"
#: A second loopback address: it plays the public one.
FRIEND = "127.0.0.2"


class Names(AbstractResolver):
    """Answers every question with the next of `answers`, round and round."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = answers
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self._answers[self.asked % len(self._answers)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def canary() -> Iterator[Receiver]:
    """What must not be reached."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    made = Egress(Policy())
    yield made
    await made.close()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "//example.com/",
        "http:example.com",
        "http:///path",
        "http://",
        "",
        " http://example.com/",
        "http://example.com/\n",
        "http://exa\tmple.com/",
        "http://example.com/a b",
        "http://example.com\\@127.0.0.1/",
        "http://example.com/\\@127.0.0.1/",
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://example.com:80@127.0.0.1/",
        "http://example.com./",
        "http://example..com/",
        "http://-example.com/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a.b." * 70 + "com/",
        "http://１２７.0.0.1/",
        "http://ⓔxample.com/",
        "http://münchen.de/",
        "http://%31%32%37.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.01/",
        "http://1.2.3.4.5/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:80:80/",
        "http://example.com:+80/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[1.2.3.4]/",
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(url: str) -> None:
    """R-84."""
    with pytest.raises(BadURL):
        Policy(["0.0.0.0/0", "::/0"]).parse(url)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.com", "example.com", 443),
        ("HTTP://Example.COM:8080/a?b=c#d", "example.com", 8080),
        ("http://my_service.db1/ü?q=ä", "my_service.db1", 80),
        ("https://xn--mnchen-3ya.de/", "xn--mnchen-3ya.de", 443),
        ("http://8.8.8.8/", "8.8.8.8", 80),
        ("http://[2606:4700:0:0::1111]/", "2606:4700::1111", 80),
        ("http://[::ffff:8.8.8.8]:81/", "::ffff:808:808", 81),
    ],
)
def test_what_is_parsed_is_what_is_requested(url: str, host: str, port: int) -> None:
    """R-84."""
    parsed = Policy().parse(url)
    assert (parsed.raw_host, parsed.port) == (host, port)


PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "168.63.129.16",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_wherever_they_come_from(address: str) -> None:
    """R-83: in the URL at once, and where sockets are made."""
    policy = Policy()
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(BadURL, match="private"):
        policy.parse(f"http://{host}/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(Refused):
        policy.socket((family, socket.SOCK_STREAM, 0, "", (address, 80)))


@pytest.mark.parametrize("address", ["fe80::1%1", "::1%lo", "localhost", "example.com", "0x7f.1"])
def test_only_plain_addresses_get_a_socket(address: str) -> None:
    """A socket that is given a name would look it up again (R-86)."""
    with pytest.raises(Refused):
        Policy().socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80)))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert Policy().allows(address)


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("localhost", "http://localhost:1/"),
        ("LOCALHOST", "http://localhost:1/"),
        ("127.0.0.1", "http://localhost:1/"),
        ("127.0.0.0/8", "http://LOCALHOST:1/"),
        ("::1", "http://localhost:1/"),
        (" db.internal ", "http://DB.internal/"),
        ("127.0.0.1", "http://127.0.0.1:1/"),
        ("10.0.0.0/8", "http://10.200.0.1/"),
        ("10.1.2.3/8", "http://10.200.0.1/"),
        ("10.0.0.0/8", "http://[::ffff:10.0.0.1]/"),
        ("::1", "http://[::1]/"),
        ("fd00::/8", "http://[fd12::1]/"),
    ],
)
def test_the_operator_may_vouch_for_private_hosts(allowed: str, url: str) -> None:
    assert str(Policy([allowed, ""]).parse(url)).lower().startswith("http://")
    with pytest.raises(BadURL):
        Policy(["other.example", "192.168.0.0/16"]).parse(url.replace("DB.internal", "[::1]"))


@pytest.mark.parametrize("host", ["10.1.2.3", "[::1]", "localhost", "sub.localhost"])
def test_who_is_refused_learns_what_the_operator_would_have_to_say(host: str) -> None:
    allowed = ["192.168.0.0/16"] if host == "localhost" else ["127.0.0.1"]
    with pytest.raises(
        BadURL, match=rf"SETTING would have to name {re.escape(host.strip('[]'))}\)"
    ):
        Policy(allowed, "SETTING").parse(f"http://{host}:1/")


async def test_localhost_is_what_the_operator_allows_of_it(canary: Receiver) -> None:
    """R-86: the name is judged where the socket is made, like any other."""
    for addresses, status in ((["::1", "127.0.0.1"], 200), (["10.0.0.1", "127.0.0.2"], 0)):
        egress = Egress(Policy(["127.0.0.1"]), Names(addresses))
        with contextlib.nullcontext() if status else pytest.raises(SendError):
            assert await egress.post(f"http://localhost:{canary.port}/", {}, BODY) == status
        await egress.close()
    assert len(canary.got) == 1


@pytest.mark.parametrize("entry", ["http://x/", "10.0.0.0/33", "a:80", "x y", "127.1", "*"])
def test_what_cannot_be_vouched_for_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host, an address or a network"):
        Policy([entry])


async def test_a_literal_address_is_judged_where_the_socket_is_made(
    egress: Egress, canary: Receiver
) -> None:
    """R-83: also when nobody parsed the URL before."""
    for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost", "127.1", "2130706433"):
        with pytest.raises(SendError):
            async with egress.request(
                "POST", URL(f"http://{host}:{canary.port}/"), {}, BODY, Limits(2.0)
            ):
                pass
    assert canary.got == []


async def test_a_name_that_changes_its_address_gains_nothing(canary: Receiver) -> None:
    """R-86: public, private, public … in 1,000 requests, 0 at the private one."""
    names = Names([FRIEND], ["127.0.0.1"])
    egress = Egress(Policy([FRIEND]), names)
    url = f"http://rebind.example:{canary.port}/"
    with Receiver(host=FRIEND, port=canary.port) as friend:
        refused = 0
        for _ in range(50):
            tries = (egress.post(url, {}, BODY) for _ in range(20))
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            refused += sum(isinstance(outcome, SendError) for outcome in outcomes)
        await egress.close()
        assert (names.asked, refused, len(friend.got), len(canary.got)) == (1000, 500, 500, 0)


async def test_of_several_addresses_the_public_ones_are_tried(canary: Receiver) -> None:
    egress = Egress(Policy([FRIEND]), Names(["127.0.0.1", FRIEND]))
    with Receiver(host=FRIEND, port=canary.port) as friend:
        assert await egress.post(f"http://both.example:{canary.port}/x", {}, BODY) == 200
        await egress.close()
        assert [got.path for got in friend.got] == ["/x"]
        assert friend.got[0].headers["host"] == f"both.example:{canary.port}"
    assert canary.got == []


async def test_redirects_are_not_followed(canary: Receiver) -> None:
    """R-85."""
    egress = Egress(Policy([FRIEND]))
    with Receiver(307, host=FRIEND, location=canary.url) as friend:
        assert await egress.post(friend.url, {}, BODY) == 307
        await egress.close()
    assert canary.got == []


async def test_no_proxy_of_the_environment_is_used(
    canary: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    egress = Egress(Policy([FRIEND]))
    with Receiver(host=FRIEND) as friend:
        assert await egress.post(friend.url, {}, BODY) == 200
        await egress.close()
    assert canary.got == []


async def test_a_name_that_the_operator_vouches_for_may_be_private(canary: Receiver) -> None:
    egress = Egress(Policy(["localhost"]))
    assert await egress.post(f"http://localhost:{canary.port}/", {}, BODY) == 200
    with pytest.raises(SendError):
        await egress.post(canary.url, {}, BODY)
    await egress.close()
    assert len(canary.got) == 1


async def test_a_server_that_says_nothing_costs_a_limited_time() -> None:
    """R-89."""
    egress = Egress(Policy(["127.0.0.1"]))
    with Receiver(-30) as slow:
        start = time.monotonic()
        with pytest.raises(SendError, match="Timeout"):
            async with egress.request("POST", URL(slow.url), {}, BODY, Limits(0.3)):
                pass
        assert time.monotonic() - start < 2
        await egress.close()


async def test_a_name_that_is_not_resolved_costs_less() -> None:
    """R-89: 5 s for the connection, names included."""

    class Slow(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            await asyncio.sleep(30)
            return await super().resolve(host, port, family)

    egress = Egress(Policy(), Slow([FRIEND]))
    start = time.monotonic()
    with pytest.raises(SendError, match="Timeout"):
        async with egress.request("POST", URL("http://x/"), {}, BODY, Limits(30, connect=0.2)):
            pass
    assert time.monotonic() - start < 2
    await egress.close()


async def test_an_answer_without_end_is_not_read() -> None:
    """R-89: the status is all that is wanted."""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
        try:
            while sent < 256 * 1024 * 1024:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    egress = Egress(Policy(["127.0.0.1"]))
    port = server.sockets[0].getsockname()[1]
    assert await egress.post(f"http://127.0.0.1:{port}/", {}, BODY) == 200
    await egress.close()
    server.close()
    await server.wait_closed()
    assert sent < 16 * 1024 * 1024


async def test_nobody_there_and_a_refused_address_are_the_same_error(egress: Egress) -> None:
    """R-94: who asks through us learns nothing about ports."""
    allowed = Egress(Policy(["127.0.0.1"]))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for client in (egress, allowed):
            with pytest.raises(SendError):
                await client.post(f"http://127.0.0.1:{port}/", {}, BODY)
    await allowed.close()


#: What answers that are none look like; `{path}`: the request's own words.
GARBAGE = [
    b"no HTTP {path}\r\n\r\n",
    b"HTTP/1.1 abc {path}\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n{path}\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: {path}\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"{path}" * 1000 + b"\r\n\r\n",
    b"",
]


@pytest.mark.parametrize("answer", [*GARBAGE, None])
async def test_a_url_never_stands_in_the_reason(answer: bytes | None) -> None:
    """R-130: it may have a token in it; nor what the other side sent, which may repeat it. None: it
    says nothing at all."""
    leave = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n")).split()[1]
        if answer is None:
            await leave.wait()
        else:
            writer.write(answer.replace(b"{path}", path))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    egress = Egress(Policy(["127.0.0.1"]))
    url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/T0KEN?t=T0KEN#T0KEN")
    with pytest.raises(SendError) as caught:
        async with egress.request("POST", url, {}, BODY, Limits(0.3)):
            pass
    leave.set()
    await egress.close()
    server.close()
    await server.wait_closed()
    assert "T0KEN" not in str(caught.value)
    assert str(caught.value), "the reason is for the operator"


def test_a_closed_policy_lets_nothing_out() -> None:
    """R-95: neither public addresses nor what would be allowed."""
    policy = Policy(["127.0.0.1", "hooks.internal"], closed=True)
    for url in ("https://example.com/", "http://127.0.0.1:1/", "http://hooks.internal/"):
        with pytest.raises(BadURL, match="ANTIPHON_EGRESS"):
            policy.parse(url)
    assert not policy.trusts("hooks.internal")
    for address in ("1.1.1.1", "127.0.0.1"):
        with pytest.raises(Refused):
            policy.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80)))
