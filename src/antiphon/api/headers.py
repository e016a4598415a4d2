"""The outermost ASGI layer: what every answer has, and the last net under every request.

Rules
1. Every answer, errors included, carries `x-request-id`, `openai-version`, `openai-processing-ms`
   and `nosniff` (spec §6, R-26, R-52).
2. An `APIError` that comes up here becomes its JSON answer. Anything else becomes a 500 that says
   no more than the request id could tell, and a line in the log (R-129, R-131; `logbook`).
   When the answer has begun the connection is closed instead: half an answer must not look whole.
   What a server that ends has no more time for is a 503 (R-73).
3. One access line a request: no body, no query, no key, no control character (R-130).
4. Cross-origin answers only for the origins in the settings; never with credentials (R-26).
5. Pure ASGI: a wrapper around `send`, no task, no queue (R-55).
6. A WebSocket is one request: what it is refused with is an HTTP answer like any other, its access
   line is written when it ends. What fails in the middle closes it with 1011.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Iterable
from time import perf_counter
from typing import Final, Protocol

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from antiphon.api.body import ClientDisconnected
from antiphon.api.errors import Headers, Reply, error_response, internal_error
from antiphon.api.logs import printable, without_keys
from antiphon.engine.mint import random_hex
from antiphon.errors import APIError, InvalidRequestError, Overloaded

#: On every answer, the ones of `wire` included.
FIXED_HEADERS: Final[Headers] = [
    (b"openai-version", b"2020-10-01"),
    (b"x-content-type-options", b"nosniff"),
]
_EXPOSED = (
    b"x-request-id, openai-processing-ms, openai-version, retry-after, retry-after-ms, "
    b"x-should-retry, x-antiphon-ignored, x-antiphon-truncated, x-antiphon-token-count, "
    b"x-antiphon-backend, x-antiphon-json-schema, idempotent-replayed"
)
_MAX_CLIENT_ID = 512
#: nginx's number for "client closed request": only ever in the log.
_CLIENT_LEFT = 499
#: In what uvicorn says when it cancels.
_GRACE_IS_OVER: Final = "graceful shutdown exceeded"
#: What a WebSocket begins with, and the code that it is closed with after a fault of ours.
_SWITCHED = 101
_INTERNAL_ERROR = 1011
_FIELD_NAMES = re.compile(rb"[A-Za-z0-9_\-, ]{1,2048}\Z")


class Logger(Protocol):
    """The part of a structlog logger that is needed here."""

    def info(self, event: str, **fields: object) -> object:
        """Write a line."""
        ...

    def error(self, event: str, **fields: object) -> object:
        """Write a line that asks for attention."""
        ...


def request_id() -> str:
    """A new ``req_`` id: 32 random hex digits."""
    return "req_" + random_hex()


class Edge:
    """Wraps the whole app: ids, headers, errors, access log, CORS."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        cors_origins: Iterable[str] = (),
        access_log: bool = True,
        logger: Logger | None = None,
    ) -> None:
        """`cors_origins`: exact origins ("https://app.example") or "*"; none switches CORS off."""
        self._app = app
        self._origins = frozenset(origin.encode() for origin in cors_origins)
        self._log: Logger = logger or structlog.get_logger("antiphon.http")
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        is_socket = scope["type"] == "websocket"
        if is_socket:
            scope["method"] = "GET"  # which it is on the wire
        exchange = _Exchange(send, request_id(), is_socket=is_socket)
        state = scope.setdefault("state", {})
        state["request_id"] = exchange.request_id
        try:
            if not self._admit(scope, exchange):
                await self._app(scope, receive, exchange.reply)
        except APIError as exc:
            exchange.refusal = error_response(exc)
        except ClientDisconnected:
            exchange.status = exchange.status or _CLIENT_LEFT
        except asyncio.CancelledError as cancelled:
            if _GRACE_IS_OVER not in str(cancelled):
                raise
            late = Overloaded("The server is shutting down.", should_retry=False)
            exchange.refusal = error_response(late)
        except Exception as exc:  # noqa: BLE001  the border of design §10.7: HTTP 500
            self._log.error("unhandled exception", request_id=exchange.request_id, exc_info=exc)
            exchange.refusal = error_response(internal_error(scope))
        if exchange.refusal is not None:
            await exchange.refuse(exchange.refusal)
        if self._access_log:
            self._log.info(
                "request",
                method=scope["method"],
                path=printable(without_keys(scope["path"])),
                status=exchange.status,
                ms=exchange.milliseconds(),
                request_id=exchange.request_id,
                project=state.get("project"),
            )

    def _admit(self, scope: Scope, exchange: "_Exchange") -> bool:
        """Look at the fields that concern this layer; whether the request is answered by them."""
        origin = None
        for name, value in scope["headers"]:
            if name == b"x-client-request-id":
                if len(value) > _MAX_CLIENT_ID or not value.isascii():
                    raise InvalidRequestError(
                        "Invalid 'X-Client-Request-Id' header: expected at most "
                        f"{_MAX_CLIENT_ID} ASCII characters."
                    )
            elif name == b"origin":
                origin = value
        if origin is None or not self._origins:
            return False
        allowed = self._allowed(origin)
        if allowed is None:
            return False
        exchange.extra = [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]
        if scope["method"] != "OPTIONS":
            return False
        preflight = _preflight(scope["headers"])
        if preflight is None:
            return False
        exchange.refusal = Reply(204, preflight, b"")
        return True

    def _allowed(self, origin: bytes) -> bytes | None:
        if origin in self._origins:
            return origin
        return b"*" if b"*" in self._origins else None


def _preflight(headers: Iterable[tuple[bytes, bytes]]) -> Headers | None:
    """The fields that answer a CORS preflight; None when this is none."""
    fields = dict(headers)
    if b"access-control-request-method" not in fields:
        return None
    names = fields.get(b"access-control-request-headers", b"")
    if not _FIELD_NAMES.match(names):
        names = b"authorization, content-type"
    return [
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", names),
        (b"access-control-max-age", b"600"),
    ]


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_prefix", "_send", "_started", "extra", "refusal", "request_id", "status")

    def __init__(self, send: Send, id_: str, *, is_socket: bool) -> None:
        self._send = send
        #: Of the messages that are an HTTP answer.
        self._prefix = "websocket." if is_socket else ""
        self._started = perf_counter()
        self.request_id = id_
        #: 0 until the answer begins.
        self.status = 0
        self.extra: Headers = []
        #: What this layer answers itself.
        self.refusal: Reply | None = None

    def milliseconds(self) -> int:
        """Since the request came in."""
        return round((perf_counter() - self._started) * 1000)

    def reply(self, message: Message) -> Awaitable[None]:
        """`send` for the app: adds the fields that every answer has."""
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self._add_fields(message, message["status"])
            case "websocket.accept":
                self._add_fields(message, _SWITCHED)
        return self._send(message)

    def _add_fields(self, message: Message, status: int) -> None:
        self.status = status
        message["headers"] = [
            *message.get("headers", ()),
            (b"x-request-id", self.request_id.encode()),
            (b"openai-processing-ms", b"%d" % self.milliseconds()),
            *FIXED_HEADERS,
            *self.extra,
        ]

    async def refuse(self, reply: Reply) -> None:
        """Send a whole answer; what has begun is closed instead."""
        if not self.status:
            await self._answer(reply)
        elif self.status == _SWITCHED:
            with contextlib.suppress(OSError):  # it has left
                await self._send({"type": "websocket.close", "code": _INTERNAL_ERROR})

    async def _answer(self, reply: Reply) -> None:
        start, body = self._prefix + "http.response.start", self._prefix + "http.response.body"
        await self.reply({"type": start, "status": reply.status, "headers": reply.headers})
        await self.reply({"type": body, "body": reply.body})
