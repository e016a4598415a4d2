"""The way out: whatever is fetched or called at an address that somebody else chose goes through
here (reliability R-83 to R-86, R-94).

Rules
1. A URL is parsed once, strictly, and the parsed URL is what is requested: there is no second
   parser that could read another host in it (R-84).
2. Addresses are judged where sockets are made: what is checked is what is connected to. A name that
   resolves to another address at the next look-up gains nothing (R-86).
3. Only addresses of the public internet are allowed, and what the operator vouches for: a host by
   its name, whatever it resolves to, or addresses and networks. Who vouches for an address of
   loopback may say `localhost` for it. Or the operator allows none at all (R-95).
4. Names are looked up on threads of our own, which nobody waits for: a nameserver that hangs holds
   up neither the look-ups of others, which share the few threads of the loop, nor the end
   (`egress_names.py`).
5. Redirects are never followed, no proxy of the environment is used, no cookie is kept (R-85).
   Bodies are read, and redirects of pages followed, in `egress_pages.py`.
6. Why a request failed is for the log: to the outside a refused address, a closed port and a dead
   host are the same (R-94). It says neither the URL, which may have a secret in it, nor what the
   other side sent, which may repeat it (R-130).
7. aiohttp is loaded at the first request, in a thread: it takes 0.2 s and 8 MB.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from yarl import URL

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Family, type, protocol, canonical name, socket address: an entry of ``getaddrinfo``.
AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[object, ...]]

#: Seconds for name, connection and TLS (R-89).
CONNECT_TIMEOUT: Final = 5.0

_URL: Final = re.compile(r"(?i:https?)://([^/?#]+)(?:[/?#].*)?")
_AUTHORITY: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
#: A host whose last label is a number is an address, in one of the many ways to write one.
_NUMERIC: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")

#: What `localhost` stands for.
_LOOPBACK: Final = ("127.0.0.1", "::1")

#: An IPv4 address is in the last 32 bits (RFC 6052).
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: The only IPv6 addresses that lead anywhere in public (RFC 4291 §2.4). Outside are loopback,
#: compatible and translated IPv4 (``::ffff:0:0:0/96``), local NAT64 (``64:ff9b:1::/48``), unique
#: local, link local, site local and multicast addresses.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
#: Not public: IANA's registries of special addresses, whole, and what clouds use inside. Python's
#: `is_global` is not asked: each version knows another registry.
_NOT_PUBLIC_V4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network; Linux connects 0.0.0.0 to itself
            "10.0.0.0/8",
            "100.64.0.0/10",  # behind a carrier's NAT; metadata of a cloud
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's platform inside of every virtual network
            "169.254.0.0/16",  # link local; metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # IETF protocols; metadata of a cloud
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_NOT_PUBLIC_V6: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # Teredo, benchmarks, ORCHID and other IETF protocols
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: any IPv4 address, private ones too
            "3fff::/20",  # documentation
        ),
    )
)
#: The upper half of an ISATAP interface's name (RFC 5214 §6.1); the lower is any IPv4 address.
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


class Refused(OSError):
    """An address that may not be connected to."""


class SendError(ConnectionError):
    """A request that got no answer; the message is for the log."""


class BadURL(ValueError):
    """A URL that is not requested; the message says why."""


class Policy:
    """Which URLs and addresses may be requested."""

    def __init__(
        self,
        allowed: Iterable[str] = (),
        setting: str = "ANTIPHON_ALLOW_PRIVATE_HOSTS",
        *,
        closed: bool = False,
    ) -> None:
        """`allowed`: names, addresses or networks in spite of being private; `setting` is where the
        operator has them from. `closed`: no URL and no address. Raises ValueError."""
        self._setting = setting
        self.closed = closed
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for entry in filter(None, map(str.strip, allowed)):
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._names.add(_name(entry))

    def parse(self, text: str) -> URL:
        """The URL to request. Raises `BadURL` when it is malformed, or leads to a private address
        without asking anybody; whether a name leads to one is seen when it is connected to."""
        if self.closed:
            raise BadURL("this server requests no URL that others name (ANTIPHON_EGRESS)")
        match = _URL.fullmatch(text)
        if match is None or not text.isprintable() or " " in text or "\\" in text:
            raise BadURL("it is not an http:// or https:// URL")
        authority = _AUTHORITY.fullmatch(match[1])
        if authority is None:
            raise BadURL("its host must be a name or an address, without user or password")
        host = authority[1].strip("[]").lower()
        try:
            url = URL(text)
            same = _same_host(url.raw_host, host) and url.port == int(authority[2] or url.port or 0)
        except ValueError as error:
            raise BadURL("its host or port is malformed") from error
        if not same or not url.port:
            raise BadURL("its host or port is malformed")
        self._check_host(host)
        return url

    def trusts(self, host: str) -> bool:
        """Whether the operator vouches for this name, whatever it resolves to."""
        return not self.closed and host.lower() in self._names

    def allows(self, address: str) -> bool:
        """Whether a socket may be connected to an address as ``getaddrinfo`` writes it."""
        if self.closed:
            return False
        try:
            found: Address = ipaddress.ip_address(address)
        except ValueError:
            return False
        found = _inner(found)
        return any(found in network for network in self._networks) or _is_public(found)

    def socket(self, info: AddressInfo) -> socket.socket:
        """A socket for this one address. Raises `Refused`."""
        family, kind, protocol, _, address = info
        if not self.allows(str(address[0])):
            raise Refused(f"{address[0]} is not a public address")
        return socket.socket(family, kind, protocol)

    def _check_host(self, host: str) -> None:
        if self.trusts(host):
            return
        last = host.rpartition(".")[2]
        if ":" in host or _NUMERIC.fullmatch(last):
            try:
                ipaddress.ip_address(host)
            except ValueError as error:
                raise BadURL("its host is not an address in the usual form") from error
            if not self.allows(host):
                raise self._private(host)
            return
        if not _is_name(host):
            raise BadURL("its host is not a name")
        if last == "localhost" and (host != last or not any(map(self.allows, _LOOPBACK))):
            raise self._private(host)

    def _private(self, host: str) -> BadURL:
        return BadURL(
            f"its host is a private address, which the operator has not allowed ({self._setting} "
            f"would have to name {host})"
        )


def _name(entry: str) -> str:
    name = entry.lower()
    if not _is_name(name) or _NUMERIC.fullmatch(name.rpartition(".")[2]):
        raise ValueError(f"{entry!r} is not a host, an address or a network")
    return name


def _is_name(host: str) -> bool:
    return len(host) <= 253 and all(map(_LABEL.fullmatch, host.split(".")))


def _same_host(one: str | None, other: str) -> bool:
    """IPv6 addresses can be written in many ways."""
    if one is None or ":" not in one:
        return one == other
    return ipaddress.ip_address(one) == ipaddress.ip_address(other)


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where there is exactly one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    """What `_inner` made of an address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return (
        address in _GLOBAL_UNICAST
        and not any(address in network for network in _NOT_PUBLIC_V6)
        and int(address) >> 32 & 0xFFFFFFFF not in _ISATAP
    )


def _why(error: Exception) -> str:
    """Why a request failed, for the log; aiohttp's own texts have the URL in them."""
    import aiohttp  # noqa: PLC0415

    if isinstance(error, aiohttp.ClientResponseError):
        detail = error.message.partition("\n")[0].partition(":")[0]  # the rest quotes the answer
    elif isinstance(error, aiohttp.ClientConnectorError):
        detail = str(error.os_error)
    else:
        detail = ""
    name = type(error).__name__
    return f"{name}: {detail}"[:200] if detail else name


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for the whole exchange, and for the connection."""

    total: float
    connect: float = CONNECT_TIMEOUT


class Egress:
    """An HTTP client for URLs that others chose; `close` it."""

    def __init__(self, policy: Policy, resolver: "AbstractResolver | None" = None) -> None:
        """Sessions are made at the first request: they need the loop. `resolver` is for tests."""
        self.policy = policy
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close what is open."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes, limits: Limits
    ) -> AsyncGenerator["aiohttp.ClientResponse", None]:
        """The answer to a request, whose body is not read yet and comes as it was sent. Connections
        are not used twice. Raises `SendError`, also while the body is read."""
        self._resolver = self._resolver or await asyncio.to_thread(_resolver)
        import aiohttp  # noqa: PLC0415

        timeout = aiohttp.ClientTimeout(total=limits.total, connect=limits.connect)
        session = self._session(trusted=self.policy.trusts(url.raw_host or ""))
        try:
            async with session.request(
                method,
                url,
                headers=headers,
                data=body or None,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                yield response
        except SendError:  # of who reads the body
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SendError(_why(error)) from error

    def check(self, url: str) -> None:
        """Raise `BadURL` if nothing can ever be sent there."""
        self.policy.parse(url)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer to a webhook; what else is in it is not read (R-93)."""
        try:
            parsed = self.policy.parse(url)
        except BadURL as error:
            raise SendError(str(error)) from error
        async with self.request("POST", parsed, headers, body, Limits(10.0)) as response:
            return response.status

    def _session(self, *, trusted: bool) -> "aiohttp.ClientSession":
        """One for hosts that the operator vouches for, one for all others."""
        import aiohttp  # noqa: PLC0415

        if trusted not in self._sessions:
            connector = aiohttp.TCPConnector(
                limit=0,
                force_close=True,
                use_dns_cache=False,
                resolver=self._resolver,
                socket_factory=None if trusted else self.policy.socket,
            )
            self._sessions[trusted] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._sessions[trusted]


def _resolver() -> "AbstractResolver":
    """With aiohttp (rule 7)."""
    from antiphon.egress_names import Resolver  # noqa: PLC0415

    return Resolver()
