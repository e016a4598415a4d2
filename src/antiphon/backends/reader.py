"""The bytes of an answer → deltas: what the readers of all adapters have in common. Pure.

Rules
1. The first byte that is no blank decides what the body is: one that JSON begins with (some servers
   ignore that they are to stream), ``<`` a web page, anything else server-sent events.
2. What came before a fault in the same read goes with it (R-45).
3. Nothing is held without end (R-47).
4. An adapter says what an event means (`_take`), a body that is JSON (`_whole`), and the end of the
   bytes (`_end`). Anything that is not an answer raises `UpstreamFaultError`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NoReturn, get_args

import orjson

from antiphon.backends.faults import UpstreamFaultError, shown
from antiphon.backends.sse import EVENT_LIMIT, Event, EventDecoder, EventTooLargeError
from antiphon.errors import UpstreamError
from antiphon.protocol.deltas import Delta
from antiphon.protocol.parameters import ServiceTier

#: What comes of JSON of another shape, or of none: told apart for the operator only.
ANOTHER_SHAPE: Final = (
    *(ValueError, TypeError, AttributeError, KeyError),
    *(RecursionError, OverflowError),
)
#: Blanks and the bytes of a byte order mark, before the body.
_BLANK: Final = b"\xef\xbb\xbf \r\n\t"
#: `orjson.dumps` refuses more than 254 levels: with these around it, a value has 128 left.
_LEVELS: Final = 254 - 128
#: What an answer can have been made in.
_TIERS: Final = frozenset(get_args(ServiceTier)) - {"auto"}


def tier_of(answer: Mapping[str, Any]) -> str | None:
    """The service tier that an answer was made in, if it says so in OpenAI's words."""
    tier = answer.get("service_tier")
    return tier if isinstance(tier, str) and tier in _TIERS else None


def passable(value: Any) -> Any:
    """A value that is passed on as it is. Raises `TypeError` when it is nested too deeply to stand
    in an event."""
    wrapped = value
    for _ in range(_LEVELS):
        wrapped = [wrapped]
    orjson.dumps(wrapped)
    return value


class BodyReader(ABC):
    """One answer."""

    __slots__ = ("_body", "_body_size", "_decoder", "done", "told")

    #: What a body begins with that is JSON.
    _starts: ClassVar[tuple[bytes, ...]] = (b"{",)

    def __init__(self) -> None:
        self._decoder: EventDecoder | None = None
        self._body: list[bytes] = []  # a body that is JSON
        self._body_size = 0
        #: All is said: no more bytes are needed.
        self.done = False
        #: Some delta was given out: tokens were spent.
        self.told = False

    @property
    @abstractmethod
    def finished(self) -> bool:
        """The model has come to its end; only usage and the like may follow."""

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that these bytes complete."""
        out: list[Delta] = []
        if self._decoder is None:
            data = self._sniff(data)
            if self._decoder is None:
                return out
        try:
            events = self._decoder.feed(data)
        except EventTooLargeError as exc:
            self._fail(f"event too large: {exc}")
        try:
            self._take(events, out)
        except UpstreamFaultError as fault:
            fault.said = out
            raise
        return out

    def close(self) -> list[Delta]:
        """The last deltas, at the end of the bytes; empty when all was said before."""
        out: list[Delta] = []
        if self.done:
            return out
        try:
            if self._decoder is not None:
                self._take(self._decoder.close(), out)
            elif self._body:
                self._whole(b"".join(self._body), out)
            if not self.done:
                self._end(out)
        except UpstreamFaultError as fault:
            fault.said = out
            raise
        return out

    @abstractmethod
    def _take(self, events: list[Event], out: list[Delta]) -> None:
        """Events, in their order."""

    @abstractmethod
    def _whole(self, body: bytes, out: list[Delta]) -> None:
        """A body that is JSON."""

    @abstractmethod
    def _end(self, out: list[Delta]) -> None:
        """There is no more."""

    def _spent(self) -> bool:
        """The model has been at work: before that the client may try again (R-52)."""
        return self.told

    def _fail(self, detail: str) -> NoReturn:
        error = UpstreamError(should_retry=False if self._spent() else None)
        raise UpstreamFaultError(error, detail)

    def _not_ours(self, what: str, exc: Exception, data: bytes) -> NoReturn:
        self._fail(f"{what} ({type(exc).__name__}): {shown(data)}")

    def _sniff(self, data: bytes) -> bytes:
        """Decide what the body is; gives back the bytes so far if it is events."""
        if not self._body:
            data = data.lstrip(_BLANK)
            if not data:
                return b""
        self._body.append(data)
        self._body_size += len(data)
        if self._body_size > EVENT_LIMIT:
            self._fail(f"body larger than {EVENT_LIMIT} bytes")
        first = self._body[0][:1]
        if first in self._starts:
            return b""
        if first == b"<":
            self._fail(f"a web page: {shown(data)}")
        self._decoder = EventDecoder()
        return data
