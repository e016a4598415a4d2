"""Request bodies: read once, bounded, or refused before they are read.

Rules
1. What can be refused by the header fields is refused before a byte is read (R-15, R-19); `wire`
   then closes the connection so that the client can still read the answer (R-20).
2. A body is counted while it is read: the limit holds for chunked bodies too (R-19).
3. A body that ended early is never returned: its request is not run (R-22).
4. There is no clock here: slow bodies are the business of `wire`, which sees each packet (R-18).
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Receive, Scope

from antiphon.api.logs import printable
from antiphon.errors import PayloadTooLarge, UnsupportedMediaType
from antiphon.protocol.bodies import parse_body

#: Bodies above this are parsed in a thread, so that the loop is not blocked (R-118).
_PARSE_IN_THREAD: Final = 128 * 1024

_Parsed = TypeVar("_Parsed")
_Form = TypeVar("_Form", bound=BaseModel)

_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;|\Z)", re.IGNORECASE)
_CHARSET = re.compile(rb";\s*charset\s*=\s*\"?([^\s\";]*)", re.IGNORECASE)


class ClientDisconnected(Exception):
    """The client left before its request was complete. Nobody is there to be answered."""


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole JSON body of a request, at most `limit` bytes.

    Raises UnsupportedMediaType (415), PayloadTooLarge (413) or ClientDisconnected.
    """
    _check_json(content_type(scope["headers"], limit, too_large(limit)))
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            break
        chunks.append(chunk)
    if not chunks:
        return chunk
    chunks.append(chunk)
    return b"".join(chunks)


async def parsed(raw: bytes, parse: Callable[[bytes], _Parsed]) -> _Parsed:
    """What `parse` makes of a body; in a thread where that takes long."""
    if len(raw) > _PARSE_IN_THREAD:
        return await asyncio.to_thread(parse, raw)
    return parse(raw)


async def read_form(
    request: Request, form: type[_Form], *, limit: int, absent: bytes = b""
) -> _Form:
    """The body of a request that may come without one: then it is `absent`.

    Raises InvalidRequestError, and what `read_body` raises.
    """
    fields = dict(request.scope["headers"])
    raw = b""
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
        raw = await read_body(request.scope, request.receive, limit=limit)
    if not form.__pydantic_complete__:  # `protocol.fields.WITH_ITEMS`
        await asyncio.to_thread(form.model_rebuild)
    return await parsed(raw or absent, partial(parse_body, form=form))


def too_large(limit: int) -> PayloadTooLarge:
    """The 413 that names the limit."""
    return PayloadTooLarge(f"The request body is too large: the limit is {limit} bytes.")


def content_type(
    headers: Iterable[tuple[bytes, bytes]], limit: int, error: PayloadTooLarge
) -> bytes:
    """What a body is said to be, unless it is said to be compressed or (`error`) too large."""
    found = b""
    for name, value in headers:
        if name == b"content-type":
            found = value
        elif name == b"content-length":
            if int(value) > limit:
                raise error
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMediaType(
                f"Unsupported content encoding: '{printable(value.decode('latin-1'), 50)}'. "
                "Send the body without compression."
            )
    return found


def wrong_type(found: bytes, accepted: str) -> UnsupportedMediaType:
    """OpenAI's words and code: openai/openai-openapi issues 194 and 502."""
    shown = printable(found.decode("latin-1"), 100)
    return UnsupportedMediaType(
        f"Unsupported content type: '{shown}'. This API method only accepts "
        f"'{accepted}' requests, but you specified the header "
        f"'Content-Type: {shown}'. Please try again with a supported content type.",
        code="unsupported_content_type",
    )


def _check_json(found: bytes) -> None:
    """Refuse what is not plain JSON."""
    if found == b"application/json":
        return
    charset = _CHARSET.search(found)
    if not _JSON.match(found) or (charset and charset[1].lower() not in (b"utf-8", b"utf8")):
        raise wrong_type(found, "application/json")
