"""One table of ways to write a private address, all of them tried: reliability R-83 to R-86."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

import pytest

from antiphon.egress import BadURL, Egress, Policy, Refused, SendError
from antiphon.egress_pages import Ask, ReadLimits, read
from tests.tools.web_world import PUBLIC, Canary, Names, Site

LIMITS = ReadLimits(total=5.0)
#: What a name leads to that is asked of the resolver: the worst that it can say.
WORST = ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "0.0.0.0"]

#: Hosts and what else stands in their place. ``{port}`` is put behind each.
HOSTS = [
    # IPv4 as it should be, of every range that is not public
    "127.0.0.1",
    "127.9.9.9",
    "127.255.255.254",
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.7",
    "192.88.99.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.255",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    # IPv4 in the ways that C libraries know
    "127.1",
    "127.0.1",
    "127.0.0.01",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0X7F000001",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "0177.1",
    "127.0x1",
    "0",
    "0x0",
    "4294967295",
    "127.0.0.1.",
    "127.0.0.1..",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    # letters and digits that look like others, or become them
    "１２７.0.0.1",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "127．0．0．1",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "ｌｏｃａｌｈｏｓｔ",
    "loc\u00adalhost",
    "١٢٧.0.0.1",
    # IPv6
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::ffff:127.0.0.1]",
    "[::FFFF:7F00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[64:ff9b:1:ffff::8.8.8.8]",
    "[100::1]",
    "[2001::1]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[2001:2::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[2001:db8::1]",
    "[2002:7f00:1::1]",
    "[2002:a9fe:a9fe::]",
    "[2606:4700::5efe:7f00:1]",
    "[2606:4700::200:5efe:127.0.0.1]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[::1%lo]",
    "[::1%25lo]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "::1",
    "[::1",
    "[[::1]]",
    "[127.0.0.1]",
    "[v1.127.0.0.1]",
    # names
    "localhost",
    "LOCALHOST",
    "localhost.",
    "sub.localhost",
    "a.b.LocalHost",
    "localhost.localdomain",
    "metadata.google.internal",
    "metadata",
    "instance-data",
    "kubernetes.default.svc",
    "127.0.0.1.nip.example",
    "intranet.example.com",
    # what another parser would take for the host
    "example.com@127.0.0.1",
    "user:password@127.0.0.1",
    "127.0.0.1@example.com",
    "127.0.0.1#@example.com",
    "127.0.0.1?@example.com",
    "127.0.0.1\\@example.com",
    "example.com\\@127.0.0.1",
    "127.0.0.1\t",
    "\t127.0.0.1",
    "127.0\t.0.1",
    "127.0.0.1\r\nhost: example.com",
    "127.0.0.1 example.com",
    "127.0.0.1\x00.example.com",
    "127.0.0.1,example.com",
    "127.0.0.1;example.com",
    "127.0.0.1%00.example.com",
    "example.com:80@127.0.0.1",
]

#: What stands in front of a host besides ``http://``, in a redirect.
SPELLINGS = ["http:/", "http:", "http:\\\\", "//", "///", "HTTP:///", "gopher://", "file://"]


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    """Everything that must not be reached."""
    async with Canary().open() as canary:
        yield canary


@contextlib.asynccontextmanager
async def a_site(address: str = PUBLIC) -> AsyncIterator[Site]:
    async with Site(address).open() as site:
        yield site


def test_the_table_is_long_enough() -> None:
    assert len(HOSTS) == len(set(HOSTS))
    assert len(HOSTS) >= 60


async def test_no_way_to_write_a_private_address_reaches_it(canary: Canary) -> None:
    """R-83, R-84: directly, and as the target of each kind of redirect (R-85)."""
    egress = Egress(Policy([PUBLIC]), Names(dict.fromkeys(_names(), WORST)))
    reached = []
    async with a_site() as site:
        for place, host in enumerate(HOSTS):
            target = f"http://{host}:{canary.port}/secret"
            status = (301, 302, 303, 307, 308)[place % 5]
            site.redirect(f"/{place}", target, status)
            for url in (target, f"http://{PUBLIC}:{site.port}/{place}"):
                try:
                    answer = await read(egress, Ask(url), LIMITS)
                except (BadURL, SendError):
                    continue
                reached.append((host, url, answer.status))
        for beginning in SPELLINGS:
            site.redirect("/spelt", f"{beginning}127.0.0.1:{canary.port}/")
            with contextlib.suppress(SendError):  # or it is a path of the site's own
                answer = await read(egress, Ask(f"http://{PUBLIC}:{site.port}/spelt"), LIMITS)
                assert (answer.status, answer.url.raw_host) == (404, PUBLIC)
    await egress.close()
    assert reached == []
    assert canary.hits == 0


def _names() -> list[str]:
    """Hosts that a resolver could be asked for, and their ends without a port."""
    return [host.lower() for host in HOSTS] + ["example.com", "nip.example"]


async def test_the_table_would_notice(canary: Canary) -> None:
    """What the table tries does lead to the canary where nobody guards it."""
    egress = Egress(Policy(["127.0.0.0/8", "::1", PUBLIC]))
    async with a_site() as site:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.9.9.9"):
            site.redirect("/", f"http://{host}:{canary.port}/")
            with contextlib.suppress(SendError):  # no IPv6 here
                assert (await read(egress, Ask(f"http://{PUBLIC}:{site.port}/"))).body == b"ok"
    await egress.close()
    assert canary.hits >= 3


async def test_names_that_lead_to_private_addresses_are_refused_at_the_socket(
    canary: Canary,
) -> None:
    """R-83: one of each kind, as a resolver would write it."""
    addresses = [host.strip("[]") for host in HOSTS if _is_address(host.strip("[]"))]
    assert len(addresses) > 60
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with pytest.raises(Refused):
            Policy().socket((family, socket.SOCK_STREAM, 0, "", (address, canary.port)))
    assert canary.hits == 0


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            return bool(socket.inet_pton(family, text))
    return False


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "198.17.255.255",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450::5efd:1",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
    ],
)
def test_neighbours_of_what_is_refused_are_public(address: str) -> None:
    assert Policy().allows(address)


async def test_a_name_that_changes_its_address_gains_nothing(canary: Canary) -> None:
    """R-86: public, private, public … for 1,000 requests of pages, each with a redirect."""

    class Alternating(Names):
        def addresses(self, host: str) -> Sequence[str]:
            return [(PUBLIC, "127.0.0.1", "::1")[self.asked % 3]]

    names = Alternating()
    egress = Egress(Policy([PUBLIC]), names)
    async with Site().open(canary.port) as site:
        site.redirect("/", "/next")
        site.put("/next", "fine", "text/plain")
        url = f"http://rebind.example:{canary.port}/"
        for _ in range(50):
            asking = [read(egress, Ask(url), LIMITS) for _ in range(20)]
            for outcome in await asyncio.gather(*asking, return_exceptions=True):
                assert isinstance(outcome, SendError) or outcome.body == b"fine"  # type: ignore[union-attr]
    await egress.close()
    assert names.asked >= 1_000
    assert canary.hits == 0
