"""What several parts of the configuration are made of."""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import StringConstraints

#: A header's name (RFC 9110 §5.1).
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: The name of an environment variable.
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
#: A domain, as DNS writes it.
Domain = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]


def _encodable(host: str) -> None:
    """Raise ValueError when no resolver takes it: an empty label, or one that is too long."""
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError("must be a URL whose host is a name or an address") from error


def http_url(value: str) -> str:
    """An address of HTTP. Raises ValueError."""
    parts = urlsplit(value)
    _encodable(parts.hostname or "")
    plain = value.isprintable() and " " not in value
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise ValueError("must be an http:// or https:// URL with a host")
    if parts.port == 0:
        raise ValueError("port 0 is none")
    return value


def base_url(value: str) -> str:
    """An address that paths are put behind. Raises ValueError."""
    if "?" in value or "#" in value:
        raise ValueError("must end with its path, without '?' or '#'")
    return http_url(value)


def sendable(headers: dict[str, str]) -> dict[str, str]:
    """Headers. Raises ValueError; a value is not shown: it may be a secret."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not value.isprintable():
            raise ValueError(f"{name!r} has characters that no header can have")
    return headers


def number(value: object) -> object:
    """A whole number where any may stand."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
