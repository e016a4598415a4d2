"""What a URL and headers become in the head of a request. Pure."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Final, NamedTuple

from yarl import URL

from antiphon.backends.http1.connection import HttpError, Place

_SCHEMES: Final = ("http", "https")


class Target(NamedTuple):
    """Where a request goes, and what it says there."""

    place: Place
    #: With its query.
    path: bytes
    headers: Mapping[str, str]
    #: The same as lines.
    lines: bytes


def target_of(url: str, headers: Mapping[str, str]) -> Target:
    """`headers`: of the client; they take the place of ours. Raises `HttpError`."""
    try:
        parsed = URL(url)
    except ValueError as exc:
        raise HttpError(f"no address: {exc}") from None
    host, port = parsed.raw_host, parsed.port
    if parsed.scheme not in _SCHEMES or not host or port is None:
        raise HttpError("no address of an HTTP server")
    ours = {"Host": parsed.host_port_subcomponent or host, "Accept": "*/*"}
    # Unpacking each piece costs more than it saves.
    ours["Accept-Encoding"] = "identity"
    if parsed.user is not None or parsed.password is not None:
        pair = f"{parsed.user or ''}:{parsed.password or ''}"
        ours["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    every = merged(ours, headers)
    place = Place(host, port, parsed.scheme == "https")
    return Target(place, parsed.raw_path_qs.encode("ascii"), every, lines_of(every))


def merged(*several: Mapping[str, str]) -> dict[str, str]:
    """Headers, of which the last one counts, however it is written."""
    named = {name.lower(): (name, value) for each in several for name, value in each.items()}
    return dict(named.values())


def lines_of(headers: Mapping[str, str]) -> bytes:
    """Raises `HttpError`, which does not hold the value."""
    for name, value in headers.items():
        if any(mark in name + value for mark in "\r\n\0"):
            raise HttpError(f"the header {name!r} has a line break in it")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
