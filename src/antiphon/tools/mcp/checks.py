"""What a request may say about an MCP server (reliability R-87): everything else is a 400. The
headers of the operator are held to the same.

Rules
1. Values are never repeated in a message: they may be secrets (R-91).
"""

import re
from collections.abc import Container, Mapping
from typing import Final

from antiphon.errors import InvalidRequestError

#: What is sent of a header: visible characters of ASCII, spaces and tabs (RFC 9110 §5.5).
SENDABLE: Final = re.compile(r"[\t\x20-\x7e]*")
#: A header's name (RFC 9110 §5.1).
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
#: Those of the connection, of the message and of MCP itself.
_OURS: Final = re.compile(
    "host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|proxy-.*|"
    "content-(length|encoding|type)|accept-encoding|"
    "mcp-(session-id|protocol-version|method|name|param-.*)|last-event-id"
)
#: More is refused by most servers.
_MOST_HEADERS: Final = 64
_MOST_BYTES: Final = 16 * 1024


def check_headers(headers: Mapping[str, str], path: str, fixed: Container[str] = ()) -> None:
    """Raise `InvalidRequestError` for what cannot be sent, and for what only this server or, in
    `fixed`, its operator sets."""
    why = why_not(headers, fixed)
    if why is not None:
        raise _refused(path, why)


def why_not(headers: Mapping[str, str], fixed: Container[str] = ()) -> str | None:
    """What is wrong with these headers; None: nothing."""
    size = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > _MOST_HEADERS or size > _MOST_BYTES:
        return "too many or too long headers"
    if len({name.lower() for name in headers}) < len(headers):
        return "a header is there twice"
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            return "a header has characters that no header can have"
        if not SENDABLE.fullmatch(value):
            return f"the header '{name}' has characters that no header can have"
        if _OURS.fullmatch(name.lower()) or name.lower() in fixed:
            return f"the header '{name}' cannot be set"
    return None


def check_authorization(value: str, path: str) -> None:
    """Raise `InvalidRequestError` for what no header can have."""
    if not SENDABLE.fullmatch(value) or len(value) > _MOST_BYTES:
        raise _refused(path, "it has characters that no header can have, or is too long")


def _refused(path: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"Invalid '{path}': {why}.", param=path, code="invalid_value")
