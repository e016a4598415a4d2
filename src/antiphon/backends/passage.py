"""What is passed on as it came, and what must not pass: an answer that is none (R-42, R-46). Pure.

Rules
1. A body that begins as JSON, or is said to be JSON, is one object. It is held until it is over, or
   longer than any error.
2. Anything else is server-sent events. A line is held until it is whole; an error ends them.
3. Errors name a parameter as the client has sent it, or none.
4. The media type goes before the first bytes that pass: until then an error can be a status.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

from antiphon.backends.complaints import complaint
from antiphon.backends.faults import UpstreamFaultError, refused, shown
from antiphon.backends.sse import EVENT_LIMIT
from antiphon.errors import APIError, InvalidRequestError, UnsupportedParameter, UpstreamError

#: Bytes of the longest error; as much is parsed at once.
_LOOKED_AT: Final = 64 * 1024
#: How events begin, whatever their media type is said to be.
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_BLANK: Final = b"\xef\xbb\xbf \r\n\t"


class Passage:
    """One answer. `feed` and `close` give what may pass, and raise `UpstreamFaultError`."""

    def __init__(self, media_type: str, error_of: Callable[[Any], APIError]) -> None:
        """`error_of`: the error in our words for one that was read."""
        self._media_type = media_type
        self._error_of = error_of
        self._is_json: bool | None = None  # until it has begun
        self._has_passed = False
        self._names_error = False  # the event at hand
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes let pass."""
        self._held.append(data)
        self._size += len(data)
        if self._is_json is None:
            start = b"".join(self._held).lstrip(_BLANK)
            if start:
                is_said = self._media_type == "application/json" and not start.startswith(_FIELDS)
                self._is_json = start.startswith(b"{") or is_said
        yield from self._lines(data) if self._is_json is False else self._object()

    def close(self) -> Iterator[bytes]:
        """What is left at the end of the bytes."""
        rest = b"".join(self._held)
        if self._is_json is False:
            yield from self._checked(rest)
        elif not self._has_passed:
            value = _parsed(rest)
            if not isinstance(value, dict) or _error_in(value):
                self._fail(rest, _error_in(value))
            yield from self._passed(rest)
        if not self._has_passed:
            self._fail(rest)

    def _object(self) -> Iterator[bytes]:
        if self._size <= _LOOKED_AT:
            return
        start = b"".join(self._held)
        if not self._has_passed and start.lstrip(_BLANK)[:1] != b"{":
            self._fail(start)
        self._held = []
        yield from self._passed(start)

    def _lines(self, data: bytes) -> Iterator[bytes]:
        end = 1 + max(data.rfind(b"\n"), data.rfind(b"\r"))
        if end:
            read = b"".join(self._held)
            left = len(data) - end
            whole = read[: len(read) - left]
            self._held, self._size = [data[end:]], left
            yield from self._checked(whole)
        elif self._size > EVENT_LIMIT:
            self._fail(b"".join(self._held))

    def _checked(self, lines: bytes) -> Iterator[bytes]:
        """Lines of events, up to an error."""
        if not self._names_error and lines.find(b"error") < 0:  # nearly always
            yield from self._passed(lines)
            return
        good: list[bytes] = []
        for line in lines.splitlines(keepends=True):
            name, _, value = line.partition(b":")
            if name == b"event":
                self._names_error = value.strip() == b"error"
            elif name == b"data":
                read = _parsed(value)
                named = (read or value.decode("latin-1")) if self._names_error else None
                error = _error_in(read) or named
                if error:
                    yield from self._passed(b"".join(good))
                    self._fail(value, error)
            if not self._names_error:
                good.append(line)
        yield from self._passed(b"".join(good))

    def _passed(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        if not self._has_passed:
            self._has_passed = True
            yield self._media_type.encode("latin-1", "replace")
        yield data

    def _fail(self, data: bytes, error: Any = None) -> NoReturn:
        told = UpstreamError(should_retry=False if self._has_passed else None)
        raise UpstreamFaultError(self._error_of(error) if error else told, shown(data))


def by_name(error: APIError, said: Any, names: frozenset[str]) -> APIError:
    """An error about what was `said`, with the name that the client has sent (`names`): errors of a
    turn have those of `/v1/responses`."""
    if isinstance(error, UnsupportedParameter) or type(error) is InvalidRequestError:
        name = re.split(r"[.\[]", complaint(said).param)[0]
        if name in names and (error.param is None or isinstance(error, UnsupportedParameter)):
            return UnsupportedParameter(
                f"Unsupported parameter: '{name}' is not supported in this form with this model.",
                param=name,
            )
        if isinstance(error, UnsupportedParameter):
            return refused()
    if error.param == "input" and "messages" in names:
        error.param = "messages"
    elif error.param not in names:
        error.param = None
    return error


def _parsed(data: bytes) -> Any:
    """The JSON value, also with the NaN of Python's servers; None: it is none, or no error."""
    try:
        return json.loads(data) if len(data) <= _LOOKED_AT else None
    except (ValueError, RecursionError):
        return None


def _error_in(value: Any) -> Any:
    """The error that an object has, or is, in one of the shapes that servers give it."""
    if not isinstance(value, dict):
        return None
    if value.get("error"):
        return value["error"]
    if value.get("object") == "error" or ("detail" in value and not {"choices", "data"} & {*value}):
        return value
    choices = value.get("choices")
    of_choices = (
        choice.get("error")
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict)
    )
    return next(filter(None, of_choices), None)
