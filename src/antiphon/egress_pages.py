"""Reading bodies at addresses that somebody else chose (reliability R-85, R-89).

Rules
1. Every URL on the way is parsed by `Policy.parse`, and judged again where the socket is made.
2. Redirects of GET are followed, a few. Another origin gets no header that tells who asks, and
   there is no way back from https to http.
3. A body has two limits, as it is sent and unpacked. It is unpacked in pieces, so that a bomb costs
   no more than the limit, and nobody else waits for it (R-118). Who needs the beginning only has it
   cut where the second limit is.
4. One time limit holds for all: names, redirects, the judge, the body.
"""

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from yarl import URL

from antiphon.egress import BadURL, Egress, Limits, SendError

if TYPE_CHECKING:
    import aiohttp

#: What `read` can unpack.
ENCODINGS: Final = "gzip, deflate"
#: Bytes that are unpacked in one go.
_PIECE: Final = 256 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: What another origin is told as well.
_HARMLESS: Final = frozenset({"accept", "accept-encoding", "accept-language", "user-agent"})
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: For zlib: an encoding that names itself (gzip or zlib), and one without any head.
_WITH_HEAD: Final = 32 + zlib.MAX_WBITS
_WITHOUT_HEAD: Final = -zlib.MAX_WBITS

#: Raises what is to be raised instead of a request to this URL, which is about to be made.
Judge = Callable[[URL], Awaitable[None]]


class TooLarge(SendError):
    """A body beyond its limit."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class ReadLimits(Limits):
    """Seconds for all, bytes of a body as it is sent and unpacked, redirects. `cut`: of what is
    longer unpacked there is the beginning. `take` is asked for bytes of the body before they are
    kept; what it raises ends the reading."""

    total: float = 20.0
    sent: int = 8 * 1024 * 1024
    unpacked: int = 32 * 1024 * 1024
    redirects: int = 3
    cut: bool = False
    take: Callable[[int], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was read. `url`: where it was, after redirects; `headers` have lower-case names."""

    url: URL
    status: int
    headers: Mapping[str, str]
    body: bytes


async def read(
    egress: Egress, ask: Ask, limits: ReadLimits | None = None, judge: Judge | None = None
) -> Answer:
    """The answer to a request, whatever its status is; its body is unpacked.

    Raises `BadURL` when the URL of `ask` is none, `SendError` for all else that goes wrong
    (`TooLarge` for a body beyond its limit), and what `judge` raises, which is asked about every
    URL on the way.
    """
    limits = limits or ReadLimits()
    url = egress.policy.parse(ask.url)
    try:
        async with asyncio.timeout(limits.total):
            return await _follow(egress, url, ask, limits, judge)
    except TimeoutError as error:
        raise SendError("it took too long") from error


async def _follow(
    egress: Egress, url: URL, ask: Ask, limits: ReadLimits, judge: Judge | None
) -> Answer:
    headers = {name.lower(): value for name, value in ask.headers.items()}
    headers["accept-encoding"] = ENCODINGS
    for _ in range(limits.redirects + 1):
        if judge is not None:
            await judge(url)
        async with egress.request(ask.method, url, headers, ask.body, limits) as response:
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or location is None or ask.method != "GET":
                body = await _body(response, limits)
                found = {name.lower(): value for name, value in response.headers.items()}
                return Answer(url, response.status, found, body)
        target = _target(egress, url, location)
        if target.origin() != url.origin():
            headers = {name: value for name, value in headers.items() if name in _HARMLESS}
        url = target
    raise SendError("it redirects too often")


def _target(egress: Egress, url: URL, location: str) -> URL:
    """Where a redirect leads. Raises `SendError`: who asked does not learn where, or whether that
    is private (R-94)."""
    location = location.strip(" \t")
    if not location.isprintable() or " " in location or "\\" in location:
        raise SendError("its redirect is malformed")  # what urljoin would mend
    if not _SCHEME.match(location):
        location = urljoin(str(url), location)
    try:
        target = egress.policy.parse(location)
    except BadURL as error:
        raise SendError(f"it redirects to what is not requested: {error}") from error
    if url.scheme == "https" and target.scheme == "http":
        raise SendError("it redirects from https to http")
    return target


async def _body(response: "aiohttp.ClientResponse", limits: ReadLimits) -> bytes:
    length = response.content_length
    if length is not None and length > limits.sent:
        raise TooLarge("its body is too long")
    unpacked = _unpacker(response.headers.get("content-encoding", ""))
    whole = BytesIO()  # which grows: a join would have all of it twice
    sent = size = 0
    async for piece in response.content.iter_any():
        sent += len(piece)
        if sent > limits.sent:
            raise TooLarge("its body is too long")
        for part in unpacked.feed(piece):
            size += len(part)
            if size > limits.unpacked and limits.cut:
                whole.write(part[: limits.unpacked - size])
                return whole.getvalue()
            if size > limits.unpacked:
                raise TooLarge("its body is too long when it is unpacked")
            if limits.take is not None:
                await limits.take(len(part))
            whole.write(part)
            await asyncio.sleep(0)
    whole.write(unpacked.end(sent))
    return whole.getvalue()


class _Plain:
    """A body as it is."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What a piece of the body stands for, a little at a time. Raises `SendError`."""
        yield piece

    def end(self, sent: int) -> bytes:  # noqa: ARG002
        """What is left of a body of so many bytes. Raises `SendError` when it is not whole."""
        return b""


class _Packed(_Plain):
    """A body in gzip, in zlib's format, or in neither (``deflate`` of some servers)."""

    def __init__(self) -> None:
        self._head = b""
        self._stream: zlib._Decompress | None = None
        self._whole = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        if self._stream is None:
            piece = self._head + piece
            self._head = piece
            if len(piece) < 2:
                return
            self._stream = zlib.decompressobj(_window(piece))
        while piece:
            if self._stream.eof:  # another member of a gzip file, or what may be ignored
                self._whole = True
                self._stream = zlib.decompressobj(_WITH_HEAD)
            try:
                part = self._stream.decompress(piece, _PIECE)
            except zlib.error as error:
                if self._whole:
                    return
                raise SendError("its body is not packed as it says") from error
            piece = self._stream.unconsumed_tail or self._stream.unused_data
            yield part

    def end(self, sent: int) -> bytes:
        rest = self._stream.flush() if self._stream is not None else b""  # a few bits' worth
        whole = self._whole or (self._stream is not None and self._stream.eof)
        if sent and not whole:
            raise SendError("its body ends too early")
        return rest


def _unpacker(encoding: str) -> _Plain:
    match encoding.strip().lower():
        case "" | "identity":
            return _Plain()
        case "gzip" | "x-gzip" | "deflate":
            return _Packed()
    raise SendError("its body is packed in a way that was not asked for")


def _window(head: bytes) -> int:
    """What to tell zlib, by the first two bytes (RFC 1950 §2.2, RFC 1952 §2.3.1)."""
    zlib_head = head[0] & 0x0F == 8 and int.from_bytes(head[:2]) % 31 == 0
    return _WITH_HEAD if zlib_head or head[:2] == b"\x1f\x8b" else _WITHOUT_HEAD
