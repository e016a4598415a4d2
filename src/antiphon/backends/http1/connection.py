"""One connection to a server, and the answers that come over it, one after the other.

Rules
1. httptools parses; nothing here looks at the bytes of a head or of a chunk.
2. A connection belongs to one answer at a time, from `ask` to the last byte of the body. Then its
   client has it back at once, though the answer may not have been read yet.
3. One task writes the request and reads the answer, so an answer has one waiter at most, and none
   when there is something to read.
4. Who does not read an answer stops its sender (R-117).
5. What is no answer in HTTP/1.1, or is cut off, is an `HttpError`; what had come before is read
   first. No error holds a header.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol, cast, final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

__all__ = ["Connection", "HttpError", "Incoming", "Lender", "Place"]

#: Bytes that wait to be read at which the sender has to wait, and at which it may go on.
_MUCH: Final = 128 * 1024
_LITTLE: Final = 64 * 1024
#: Bytes of a request that are written at a time.
_AT_ONCE: Final = 64 * 1024
#: Bytes in a row that are no part of a body: a head has a few hundred.
_MOST_FRAMING: Final = 64 * 1024
#: The media type of what has none.
_BYTES: Final = "application/octet-stream"


class HttpError(ConnectionError):
    """There is no answer, or no end of it."""


class Place(NamedTuple):
    """Where to connect to."""

    host: str
    port: int
    is_tls: bool


class Lender(Protocol):
    """Whose connections these are."""

    def take_back(self, connection: "Connection", *, is_reusable: bool) -> None:
        """The answer has come, or nobody wants it any more."""
        ...

    def forget(self, connection: "Connection") -> None:
        """It is closed."""
        ...


@final
class Incoming:
    """An answer that comes over a connection; see `Answer` and `Body`."""

    __slots__ = ("_connection", "_failure", "_left", "_waiter", "headers", "is_over", "status")

    def __init__(self, connection: "Connection") -> None:
        #: 0 until the head has come.
        self.status = 0
        self.headers: dict[str, str] = {}
        #: All has come that will come.
        self.is_over = False
        self._connection: Connection | None = connection
        self._failure: str | None = None
        self._left = b""
        self._waiter: asyncio.Future[None] | None = None

    @property
    def content_type(self) -> str:
        """See `Answer.content_type`."""
        said = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return said if said and said.isprintable() else _BYTES

    @property
    def content(self) -> "Incoming":
        """See `Answer.content`."""
        return self

    async def begun(self) -> None:
        """The head has come. Raises `HttpError`."""
        while not self.status:
            self._check()
            await self.news()

    async def read(self, n: int = -1) -> bytes:
        """See `Body.read`."""
        while not self._left:
            self._check()
            if self.is_over:
                return b""
            await self.news()
        read = self._left
        if 0 <= n < len(read):
            self._left = read[n:]
            read = read[:n]
        else:
            self._left = b""
        if self._connection is not None and len(self._left) <= _LITTLE:
            self._connection.go_on()
        return read

    def at_eof(self) -> bool:
        """See `Body.at_eof`."""
        return self.is_over and not self._left

    def close(self) -> None:
        """See `Answer.close`: also closes the connection, unless the whole body has come."""
        if self._left:  # who reads on must not take this for the end
            self._left = b""
            self._failure = self._failure or "closed"
        if self._connection is not None:
            self._connection.give_up("closed")

    @property
    def is_final(self) -> bool:
        """More of the request changes nothing."""
        return self.is_over or self.status >= 300

    async def news(self) -> None:
        """Something has come, or can be sent."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """There is news."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """The head has come."""
        self.status = status
        self.headers = headers

    def add(self, piece: bytes) -> bool:
        """Bytes of the body; whether they are much to read."""
        self._left = self._left + piece if self._left else piece
        return len(self._left) > _MUCH

    def end(self, failure: str | None) -> None:
        """Nothing more comes."""
        self.is_over = True
        self._failure = failure
        self._connection = None
        self.wake()

    def _check(self) -> None:
        if self._failure is not None:
            raise HttpError(self._failure)


@final
class Connection(asyncio.Protocol):
    """To one place; the callbacks are asyncio's and httptools'."""

    def __init__(self, place: Place, lender: Lender) -> None:
        self.place = place
        #: On the clock of the loop.
        self.idle_since = 0.0
        #: It has had an answer.
        self.is_used = False
        self._lender = lender
        self._answer: Incoming | None = None
        #: The sender of bytes has to wait: we, or the server.
        self._is_full = False
        self._is_held = False
        #: The pieces of the body from one read, as the parser gives them.
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._begin()

    def _begin(self) -> None:
        """Nothing of an answer has come."""
        self._status = 0
        self._headers: dict[str, str] = {}
        #: The request is out; the body has come; the server keeps the connection.
        self._is_sent = True
        self._is_whole = False
        self._is_kept = False
        #: Bytes since the last one of a body.
        self._framing = 0

    @property
    def is_closing(self) -> bool:
        """It is of no use."""
        return self._transport.is_closing()

    def ask(self) -> Incoming:
        """The answer to what is sent next."""
        self._begin()
        self._answer = Incoming(self)
        return self._answer

    async def send(self, answer: Incoming, head: bytes, body: bytes) -> None:
        """Write the request; a large one no faster than it is taken, and no further once the server
        has refused it (RFC 9112 §9.5)."""
        if len(body) <= _AT_ONCE:
            self._transport.write(head + body)
            return
        self._is_sent = False
        self._transport.write(head)
        rest = memoryview(body)
        for start in range(0, len(rest), _AT_ONCE):
            while self._is_full and not answer.is_final:
                await answer.news()
            if answer.is_final:
                return
            self._transport.write(rest[start : start + _AT_ONCE])
        self._is_sent = True

    def go_on(self) -> None:
        """What had come was read."""
        if self._is_held:
            self._is_held = False
            self._transport.resume_reading()

    def give_up(self, why: str | None) -> None:
        """Nobody wants more of the answer, or no more can come."""
        self._end(why, is_reusable=False)

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def _end(self, failure: str | None, *, is_reusable: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end(failure)
            if is_reusable:
                self.go_on()
            self.is_used = True
            self._lender.take_back(self, is_reusable=is_reusable)

    # -- asyncio's callbacks -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = HttpResponseParser(self)
        # As aiohttp has it: for odd values, ends of lines, and blanks after the size of a chunk.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`: the end of a body, if nothing else says where that is."""
        is_end = self._status and not _says_its_end(self._headers)
        why = "the server closed the connection" if exc is None else str(exc)
        self.give_up(None if is_end and exc is None else why)
        self._lender.forget(self)
        del self._parser  # which holds this object

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        answer = self._answer
        if answer is None:
            self.abort()  # nobody asked
            return
        failure = None
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as exc:
            failure = f"no HTTP/1.1: {exc}"
        if self._status and not answer.status:
            answer.begin(self._status, self._headers)
        if self._pieces:
            if answer.add(b"".join(self._pieces)) and not self._is_held:
                self._is_held = True
                self._transport.pause_reading()
            self._pieces.clear()
            self._framing = 0
        else:
            self._framing += len(data)
            if self._framing > _MOST_FRAMING:
                failure = "too long a head"
        if self._is_whole:
            is_reusable = self._is_kept and self._is_sent and failure is None
            self._end(None, is_reusable=is_reusable)
        elif failure is not None:
            self.give_up(failure)
        else:
            answer.wake()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._is_full = True

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._is_full = False
        if self._answer is not None:
            self._answer.wake()

    # -- httptools' callbacks, while `data_received` runs ------------------------------------------

    def on_message_begin(self) -> None:
        """Also of what nobody asked for."""
        if self._is_whole:
            raise HttpParserError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also in a trailer, which says nothing to us."""
        if not self._status:
            self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """Also of an interim answer, which says nothing to us (RFC 9110 §15.2)."""
        status = self._parser.get_status_code()
        if status < 200:
            self._headers.clear()
        else:
            self._status = status
            self._is_kept = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Also of an interim answer."""
        self._is_whole = self._status != 0


def _says_its_end(headers: Mapping[str, str]) -> bool:
    """Whether a body has an end of its own, else it is that of the connection (RFC 9112 §6.3)."""
    last_coding = headers.get("transfer-encoding", "").rpartition(",")[2]
    return "content-length" in headers or last_coding.strip().lower() == "chunked"
