"""What the head of a request may look like: pure checks on parsed fields (RFC 9112).

httptools has already refused bare LF, obs-fold, control characters, several Content-Lengths and
Content-Length beside Transfer-Encoding; here is what it lets pass.

Rules
1. Only versions 1.0 and 1.1; exactly one valid Host on 1.1. Nothing is ever derived from it (R-21).
2. The only transfer coding is ``chunked``, and not on 1.0 (RFC 9112 §6.1).
3. A field that has one meaning occurs once.
4. The target is a path; of an absolute-form target the authority is ignored.
"""

import re
from typing import Final

import httptools

from antiphon.errors import InvalidRequestError

Fields = dict[bytes, bytes]

#: Two of these, and two readers may disagree which one counts.
SINGULAR: Final = frozenset(
    (b"content-length", b"content-type", b"expect", b"host", b"transfer-encoding")
)

#: reg-name without percent-encoding, IPv4, or a bracketed IPv6 address; then a port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")


def check_head(version: str, method: bytes, headers: list[tuple[bytes, bytes]]) -> Fields:
    """Raise InvalidRequestError for a head that must not be served, else return its `SINGULAR`
    fields. The names in `headers` are in lower case.
    """
    singular: Fields = {}
    for name, value in headers:
        if name in SINGULAR:
            if name in singular:
                raise InvalidRequestError(f"Duplicate '{name.decode().title()}' header.")
            singular[name] = value
    if version not in ("1.1", "1.0"):
        raise InvalidRequestError("Unsupported HTTP version. Use HTTP/1.1.")
    if method == b"CONNECT":
        raise InvalidRequestError("This server is not a proxy.")
    host = singular.get(b"host")
    if host is None:
        if version == "1.1":
            raise InvalidRequestError("Missing 'Host' header.")
    elif not _HOST.match(host):
        raise InvalidRequestError("Invalid 'Host' header.")
    coding = singular.get(b"transfer-encoding")
    if coding is not None and (version == "1.0" or coding.strip().lower() != b"chunked"):
        raise InvalidRequestError("Invalid 'Transfer-Encoding' header: only 'chunked' is accepted.")
    return singular


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """The raw path and the query of a request target."""
    if not target.startswith(b"/"):
        if target == b"*":
            return target, b""
        target = _absolute(target)
    if b"#" in target:
        raise InvalidRequestError("Invalid request target.")
    path, _, query = target.partition(b"?")
    return path, query


def _absolute(target: bytes) -> bytes:
    """The origin-form of ``http://host/path?query``."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError as exc:
        raise InvalidRequestError("Invalid request target.") from exc
    if url.schema not in (b"http", b"https") or not url.host:
        raise InvalidRequestError("Invalid request target.")
    return (url.path or b"/") + (b"?" + url.query if url.query else b"")
