"""Forms with a file, ``multipart/form-data``: read while they arrive (RFC 7578, reliability R-102).

Rules
1. A form has one file and a few fields that are known by name, in any order; one of them may stand
   for the file. That is handed on in pieces as it comes: nothing here holds more of it than one
   packet.
2. Nobody reads ahead: as long as the file is not taken, the client is not read from.
3. What can be refused is refused at once: by the header fields, by the name of a part, by its size.
4. A form that ends before its last boundary is malformed; who leaves in the middle gets no answer
   (`ClientDisconnected`). Either way `Arrival.take` has failed or its blob is still loose.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.requests import Request
from starlette.types import Receive

from antiphon.api.body import ClientDisconnected, content_type, wrong_type
from antiphon.engine.files import Arrival
from antiphon.errors import InvalidRequestError, PayloadTooLarge
from antiphon.protocol.validation import echo, missing, unknown

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Bytes of the header of a part, of one of its lines, and how many it may have (R-102).
_MAX_HEADER: Final = 16 * 1024
_MAX_LINES: Final = 16
#: Bytes of the value of a field.
_MAX_VALUE: Final = 64 * 1024
#: Bytes of all that is not the file.
_MAX_REST: Final = 1024 * 1024
#: Bytes that are parsed at once: a malicious body takes 1 µs a byte (R-118).
_SLICE: Final = 32 * 1024
_PLAIN_ENCODINGS: Final = (b"7bit", b"8bit", b"binary")

_TYPE: Final = re.compile(rb"multipart/form-data\s*(?:;|\Z)", re.IGNORECASE)
_BOUNDARY: Final = re.compile(rb';\s*boundary=(?:"([^"]{1,70})"|([^\s";]{1,70}))', re.IGNORECASE)
_PARAMETER: Final = re.compile(r';\s*([A-Za-z0-9_*-]+)=("((?:[^"\\]|\\.)*)"|[^;]*)')
#: What browsers and httpx write for these, and for nothing else (WHATWG).
_ESCAPES: Final = {"%22": '"', "%0D": "\r", "%0A": "\n", '\\"': '"', "\\\\": "\\"}
_ESCAPE: Final = re.compile("|".join(map(re.escape, _ESCAPES)))

# It writes what clients sent to the log, as often as they like.
logging.getLogger("python_multipart.multipart").disabled = True


@dataclass(frozen=True, slots=True)
class Form:
    """What a form may have: the name of its file, those of its fields; `check` is asked when the
    file begins whether it is wanted at all, by the fields that came before. `instead`: the field
    with which there is no file."""

    file: str
    fields: tuple[str, ...] = ()
    check: Callable[[Mapping[str, str]], None] = lambda _: None
    instead: str | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    """The beginning of a part."""

    name: str
    filename: str


class _End:
    """The end of a part."""


_Event: TypeAlias = _Head | bytes | _End


def is_form(request: Request) -> bool:
    """Whether the body is said to be one."""
    return any(
        name == b"content-type" and _TYPE.match(value) is not None
        for name, value in request.scope["headers"]
    )


async def read_multipart(
    request: Request, form: Form, arrival: Arrival
) -> tuple[dict[str, str], str]:
    """Take the file of a form; its fields, and what the client calls the file, if there is one.

    Raises InvalidRequestError, UnsupportedMediaType (415), PayloadTooLarge (413),
    ClientDisconnected, and what `arrival` raises.
    """
    limit = arrival.limit + _MAX_REST
    found = content_type(request.scope["headers"], limit, arrival.too_large)
    body = _Body(request.receive, _boundary(found), limit, arrival.too_large)
    values: dict[str, str] = {}
    filename = ""
    names: set[str] = set()
    while (head := await body.next_part()) is not None:
        name = head.name
        _check_name(name, form, names)
        names.add(name)
        if name == form.file:
            form.check(values)
            filename = head.filename
            await arrival.take(body.content())
        else:
            values[name] = await _text(body, name)
    if names.isdisjoint((form.file, form.instead)):
        raise missing(form.file)
    return values, filename


def _check_name(name: str, form: Form, names: Collection[str]) -> None:
    """Whether a part may come after those of `names`. Raises `InvalidRequestError`."""
    if name in names:
        raise InvalidRequestError(
            f"Duplicate parameter: '{echo(name)}'.", param=echo(name), code="invalid_value"
        )
    if name not in (form.file, form.instead, *form.fields):
        raise unknown(echo(name))
    if {name, *names} >= {form.file, form.instead}:
        raise InvalidRequestError(
            f"Send either '{form.file}' or '{form.instead}', not both.", param=form.instead
        )


async def _text(body: "_Body", name: str) -> str:
    """The value of a field."""
    value = b""
    async for piece in body.content():
        value += piece
        if len(value) > _MAX_VALUE:
            raise PayloadTooLarge(f"The field '{name}' is too large.")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(
            f"Invalid '{name}': expected UTF-8.", param=name, code="invalid_value"
        ) from None


def _boundary(found: bytes) -> bytes:
    if not _TYPE.match(found):
        raise wrong_type(found, "multipart/form-data")
    boundary = _BOUNDARY.search(found)
    if boundary is None:
        raise InvalidRequestError(
            "The Content-Type of a 'multipart/form-data' request must name its boundary."
        )
    return boundary[1] or boundary[2]


class _Body:
    """The parts of a body, one after the other."""

    def __init__(
        self, receive: Receive, boundary: bytes, limit: int, too_large: PayloadTooLarge
    ) -> None:
        self._receive = receive
        self._limit = limit
        self._too_large = too_large
        self._parts = _Parts(boundary)
        #: What came and is not parsed.
        self._rest = b""
        self._size = 0
        self._more = True

    async def next_part(self) -> _Head | None:
        """The next part, when the one before has been read to its end; None: there is none."""
        event = await self._next()
        if event is None:
            await self._drain()
            return None
        assert isinstance(event, _Head), "the part before was not read"  # noqa: S101
        return event

    async def content(self) -> AsyncIterator[bytes]:
        """The bytes of this part."""
        while True:
            event = await self._next()
            if not isinstance(event, bytes):
                return
            yield event

    async def _next(self) -> _Event | None:
        while not self._parts.events:
            if self._parts.is_over:
                return None
            if not self._rest:
                self._rest = await self._packet()
            self._parts.feed(self._rest[:_SLICE])
            self._rest = self._rest[_SLICE:]
            if self._rest:
                await asyncio.sleep(0)
        return self._parts.events.popleft()

    async def _packet(self) -> bytes:
        packet = b""
        while not packet:
            if not self._more:
                raise _malformed()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            packet = message.get("body", b"")
            self._more = message.get("more_body", False)
            self._size += len(packet)
            if self._size > self._limit:
                raise self._too_large
        return packet

    async def _drain(self) -> None:
        """What follows the last boundary has no meaning (RFC 2046 §5.1.1)."""
        while self._more:
            try:
                await self._packet()
            except InvalidRequestError:
                return


class _Parts:
    """What the parser finds, as events in a queue."""

    def __init__(self, boundary: bytes) -> None:
        self.events: deque[_Event] = deque()
        #: Whether the last boundary has come.
        self.is_over = False
        self._name = b""
        self._value = b""
        self._fields: dict[bytes, bytes] = {}
        self._size = 0
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_part_data": self._add_content,
            "on_part_end": lambda: self.events.append(_End()),
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_field,
            "on_headers_finished": self._end_head,
            "on_end": self._end,
        }
        self._parser = MultipartParser(
            boundary,
            callbacks,
            max_header_count=_MAX_LINES,
            max_header_size=_MAX_HEADER,
        )

    def feed(self, piece: bytes) -> None:
        """Parse on. Raises `InvalidRequestError`."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _malformed() from None

    def _begin(self) -> None:
        self._fields = {}
        self._size = 0

    def _add_content(self, text: bytes, start: int, end: int) -> None:
        self.events.append(text[start:end])

    def _add_name(self, text: bytes, start: int, end: int) -> None:
        self._name += text[start:end]
        self._count(end - start)

    def _add_value(self, text: bytes, start: int, end: int) -> None:
        self._value += text[start:end]
        self._count(end - start)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > _MAX_HEADER:
            raise _malformed()

    def _end_field(self) -> None:
        self._fields[self._name.lower()] = self._value
        self._name = self._value = b""

    def _end_head(self) -> None:
        encoding = self._fields.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise InvalidRequestError(
                f"Unsupported Content-Transfer-Encoding: '{echo(encoding.decode('latin-1'))}'. "
                "Send the parts of the form as they are."
            )
        self.events.append(_head(self._fields.get(b"content-disposition", b"")))

    def _end(self) -> None:
        self.is_over = True


def _head(disposition: bytes) -> _Head:
    """Names from ``form-data; name="file"; filename="a.txt"``."""
    found: dict[str, str] = {}
    text = disposition.decode("utf-8", "replace")
    for name, plain, quoted in _PARAMETER.findall(text):
        value = quoted if plain.startswith('"') else plain.strip()
        found[name.lower()] = _ESCAPE.sub(lambda match: _ESCAPES[match[0]], value)
    if not text.lower().startswith("form-data") or "name" not in found:
        raise _malformed()
    filename = found.get("filename", "")
    charset, _, extended = found.get("filename*", "").partition("'")
    if charset.lower() == "utf-8":
        # RFC 5987; RFC 7578 would not have it here, and some clients write it.
        filename = unquote(extended.partition("'")[2], errors="replace") or filename
    return _Head(found["name"], filename)


def _malformed() -> InvalidRequestError:
    return InvalidRequestError("We could not parse the multipart body of your request.")
