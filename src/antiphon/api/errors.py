"""Errors to HTTP: the one place where an `APIError` becomes an answer (spec §6).

Rules
1. Every error body is OpenAI's envelope, also those of the router (404, 405; R-16).
2. Nothing of an exception reaches the client but the message of an `APIError` (R-129).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from antiphon.api.logs import printable
from antiphon.errors import (
    APIError,
    AuthenticationError,
    InvalidRequestError,
    MethodNotAllowed,
    NotFoundError,
    PayloadTooLarge,
    RateLimitError,
    UnsupportedMediaType,
)

Headers = list[tuple[bytes, bytes]]

#: Characters of a client's text that a message repeats.
MAX_ECHO: Final = 100


class Reply(NamedTuple):
    """A whole HTTP answer: status, lower-case header fields with the length, body."""

    status: int
    headers: Headers
    body: bytes


def error_response(error: APIError) -> Reply:
    """The answer that tells a client of `error`."""
    body = orjson.dumps(error.body())
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    headers += [(name.encode(), _field(value)) for name, value in error.headers().items()]
    return Reply(error.status, headers, body)


def _field(value: str) -> bytes:
    """A header value without control characters or non-ASCII (R-24)."""
    return printable(value).encode("ascii", "replace")


def unknown_path(scope: Scope) -> NotFoundError:
    """The 404 of a path that no route has."""
    return NotFoundError(f"Invalid URL ({scope['method']} {printable(scope['path'])})")


def wrong_method(scope: Scope) -> MethodNotAllowed:
    """The 405 of a path that has other methods."""
    return MethodNotAllowed(
        f"Not allowed to {scope['method']} on {printable(scope['path'])}. (HINT: Perhaps you "
        "meant to make your HTTP request using a different http method?)"
    )


def internal_error(scope: Scope) -> APIError:
    """The 500 for what nobody foresaw: it names the request, nothing else (R-131)."""
    id_ = scope.get("state", {}).get("request_id", "")
    return APIError(
        "The server had an error while processing your request. Sorry about that! Please include "
        f"the request ID {id_} if you report it."
    )


#: What a Starlette exception with this status means to us.
_BY_STATUS: dict[int, Callable[[Scope], APIError]] = {
    401: lambda _: AuthenticationError(),
    404: unknown_path,
    405: wrong_method,
    413: lambda _: PayloadTooLarge(),
    415: lambda _: UnsupportedMediaType(),
    429: lambda _: RateLimitError(),
}


def from_http_exception(scope: Scope, exc: HTTPException) -> APIError:
    """OpenAI's words for an exception of Starlette; its own text is not shown."""
    known = _BY_STATUS.get(exc.status_code)
    if known is not None:
        return known(scope)
    return APIError() if exc.status_code >= 500 else InvalidRequestError()


def _response(error: APIError, extra: Mapping[str, str] | None = None) -> Response:
    reply = error_response(error)
    fields = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body, reply.status, {**fields, **(extra or {})})


async def _on_api_error(_request: Request, exc: Exception) -> Response:
    return _response(exc if isinstance(exc, APIError) else APIError())


async def _on_anything_else(request: Request, _exc: Exception) -> Response:
    return _response(internal_error(request.scope))


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, HTTPException):
        return _response(APIError())
    allow = {"allow": ", ".join(_allowed(request))} if exc.status_code == 405 else None
    return _response(from_http_exception(request.scope, exc), allow)


def _allowed(request: Request) -> list[str]:
    """All methods of a path (RFC 9110 §15.5.6): a route knows its own."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    meant = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in meant for method in route.methods or ()})


#: For ``Starlette(exception_handlers=EXCEPTION_HANDLERS)``. The last one answers in our envelope
#: where Starlette would in plain text; Starlette raises the exception again, so that `Edge`
#: writes it to the log.
EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request, Exception], Any]] = {
    APIError: _on_api_error,
    HTTPException: _on_http_exception,
    Exception: _on_anything_else,
}
