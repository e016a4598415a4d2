"""Bytes to server-sent events, without I/O (WHATWG HTML §9.2.6).

Rules
1. Cuts may fall anywhere, also inside a CRLF or a UTF-8 sequence: `feed` keeps what is open.
2. LF, CRLF and CR end a line. Comments, `id` and `retry` are skipped; `data` lines are joined.
3. An event larger than `limit` bytes raises `EventTooLargeError`; no more is ever held (R-47).
4. `close` gives the last event although its empty line never came: many servers end that way.
5. `find`, not `in`: that asks bytes first whether they are a number, and the error costs ten times
   the search.
"""

from typing import Final, NamedTuple

#: Bytes of one event; a whole tool call with a file in it fits (R-47).
EVENT_LIMIT = 16 * 1024 * 1024

#: Bytes of a line that was cut which are joined with each further read of it; longer ones are kept
#: in pieces, or a large event would be copied over and over.
_SHORT = 16 * 1024

_BOM = b"\xef\xbb\xbf"


class EventTooLargeError(ValueError):
    """One event of the stream is larger than the limit."""


class Event(NamedTuple):
    """One event: its `data` lines joined by LF; `name` is empty for the default type."""

    data: bytes
    name: bytes = b""


#: A named tuple without the function that its class is made by.
_event: Final = tuple.__new__


class EventDecoder:
    """Feed it the reads of a stream; it gives back the events that are whole."""

    __slots__ = ("_after_cr", "_data", "_first", "_held", "_limit", "_name", "_open")

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._open: list[bytes] = []  # pieces of the line whose end has not come
        self._data: list[bytes] = []  # data lines of the event whose end has not come
        self._name = b""
        self._held = 0
        self._after_cr = False
        self._first = True

    def feed(self, data: bytes) -> list[Event]:
        """Events that are complete with these bytes."""
        if self._after_cr or data.find(b"\r") >= 0:
            data = self._unify_ends(data)
        events: list[Event] = []
        if self._first and data and not self._held and data[:1] != _BOM[:1]:
            self._first = False
        if not (self._data or self._first or self._name) and self._held <= _SHORT:
            if self._open:  # a line that was cut: with the rest it is whole
                data = b"".join([*self._open, data])
                self._open, self._held = [], 0
            data = self._take_whole(data, events)
            if not data:
                return events
        self._held += len(data)
        if data.find(b"\n") < 0:
            self._open.append(data)
            self._check_size()
            return events
        lines = data.split(b"\n")
        if self._open:
            self._open.append(lines[0])
            lines[0] = b"".join(self._open)
        rest = lines.pop()
        self._open = [rest] if rest else []
        if self._first:
            self._first = False
            lines[0] = lines[0].removeprefix(_BOM)
        self._take(lines, events)
        self._held = len(rest) + sum(map(len, self._data))
        self._check_size()
        return events

    def close(self) -> list[Event]:
        """The event that was still open at the end of the stream, if any."""
        return self.feed(b"\n\n")

    def _take_whole(self, data: bytes, events: list[Event]) -> bytes:
        """Take what there is of whole events, where nothing is open: nearly always they have one
        line each. Gives back the rest."""
        *blocks, rest = data.split(b"\n\n")
        for block in blocks:
            if block[:6] == b"data: " and block.find(b"\n") < 0 and len(block) <= self._limit:
                events.append(_event(Event, (block[6:], b"")))
            else:
                self._take([*block.split(b"\n"), b""], events)
        return rest

    def _take(self, lines: list[bytes], events: list[Event]) -> None:
        for line in lines:
            if line[:6] == b"data: ":
                self._data.append(line[6:])
            elif not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    if len(data) > self._limit:
                        raise EventTooLargeError(f"more than {self._limit} bytes")
                    events.append(Event(data, self._name))
                    self._data = []
                self._name = b""
            else:
                self._take_field(line)

    def _take_field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value

    def _unify_ends(self, data: bytes) -> bytes:
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check_size(self) -> None:
        if self._held > self._limit:
            raise EventTooLargeError(f"more than {self._limit} bytes")
