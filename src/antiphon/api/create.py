"""``POST /v1/responses`` (spec §1).

Rules
1. The key is checked before the body is read, the body before anything runs.
2. Streamed or not, the answer is read from the same run (design §1).
3. A client that leaves stops its run (reliability R-53, R-54), unless it is durable: in the
   background, or with an Idempotency-Key. Who sends such a key will come back for the answer.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Scope, Send

from antiphon.api.auth import Authenticator
from antiphon.api.body import ClientDisconnected, parsed, read_body
from antiphon.api.streams import EventStream, Heartbeat, disconnected, send_stream, while_connected
from antiphon.engine.made import Admitted, Foreground
from antiphon.engine.run import Run
from antiphon.engine.runner import Engine
from antiphon.engine.view import Truncated
from antiphon.errors import InvalidRequestError
from antiphon.protocol.request import parse_request

#: Characters of an Idempotency-Key (R-79).
_MAX_KEY: Final = 255

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """Settings of ``POST /v1/responses``; times in seconds, sizes in bytes."""

    max_body_bytes: int
    accept_timeout: float
    heartbeat: Heartbeat


class CreateEndpoint:
    """``POST /v1/responses`` as a plain ASGI application: this is the hot path."""

    def __init__(self, engine: Engine, auth: Authenticator, options: CreateOptions) -> None:
        self._engine = engine
        self._auth = auth
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `APIError` before the first byte."""
        options = self._options
        project = await self._auth.project(scope)
        key = _idempotency_key(scope)
        try:
            raw = await read_body(scope, receive, limit=options.max_body_bytes)
        except ClientDisconnected:
            return
        request = await parsed(raw, parse_request)
        streamed = bool(request.stream)
        made = await self._engine.start(request, project, raw, key)
        if isinstance(made, Admitted):
            if streamed:
                await self._follow(made, scope, receive, send)
            else:
                await while_connected(receive, self._answer(made, send))
            return
        task = made.task
        watch = asyncio.create_task(disconnected(receive))
        watch.add_done_callback(lambda _: task.cancel())
        try:
            await (self._stream if streamed else self._json)(made, send)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
        finally:
            watch.cancel()

    # -- in the foreground -------------------------------------------------------------------

    async def _json(self, made: Foreground, send: Send) -> None:
        run = made.run
        await made.task
        if run.error is not None:
            raise run.error
        await send_json(send, run.body, remarks(run.ignored, run.view.truncated))

    async def _stream(self, made: Foreground, send: Send) -> None:
        run, heartbeat = made.run, self._options.heartbeat
        if await self._is_refused(run) and run.error is not None:
            await made.task
            raise run.error
        log = made.log.read(idle=heartbeat.idle)
        headers = remarks(run.ignored, run.view.truncated)
        await send_stream(log, send, heartbeat, headers, run.beat)
        await made.task

    async def _is_refused(self, run: Run) -> bool:
        """Whether it failed before the model said anything: then that is an HTTP error. Who takes
        long to say so gets a stream, and what goes wrong then is an event."""
        try:
            async with asyncio.timeout(self._options.accept_timeout):
                await run.accepted.wait()
        except TimeoutError:
            return False
        return not run.spoken and run.error is not None

    # -- durable -----------------------------------------------------------------------------

    async def _follow(self, made: Admitted, scope: Scope, receive: Receive, send: Send) -> None:
        if made.run is not None:
            if await self._is_refused(made.run):
                await self._engine.outcome(made)
        elif made.replayed:
            await self._engine.check_log(made.id)
        heartbeat = self._options.heartbeat
        log = self._engine.follow(made.id, after=-1, idle=heartbeat.idle)
        await EventStream(log, heartbeat, _durable(made))(scope, receive, send)

    async def _answer(self, made: Admitted, send: Send) -> None:
        if made.background:
            body = made.body or await self._engine.body(made.id)
        else:
            body = await self._engine.outcome(made)
        await send_json(send, body, _durable(made))


async def send_json(send: Send, body: bytes, headers: Headers) -> None:
    """Answer 200 with a JSON body."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def remarks(ignored: list[str], truncated: Truncated | None) -> Headers:
    """What was not done as asked: parameters without effect, items that the model did not see."""
    headers: Headers = []
    if ignored:
        headers.append((b"x-antiphon-ignored", ", ".join(ignored).encode("ascii", "replace")))
    if truncated is not None:
        headers.append((b"x-antiphon-truncated", truncated.header().encode("ascii", "replace")))
    return headers


def _durable(made: Admitted) -> Headers:
    replayed = [(b"idempotent-replayed", b"true")] if made.replayed else []
    truncated = made.truncated if made.run is None else made.run.view.truncated
    return remarks(made.ignored, truncated) + replayed


def _idempotency_key(scope: Scope) -> str | None:
    """The Idempotency-Key: 1 to 255 printable ASCII characters (R-79)."""
    found = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    if not found:
        return None
    key: str = found[0].decode("latin-1")
    if len(found) > 1 or not 0 < len(key) <= _MAX_KEY or not (key.isascii() and key.isprintable()):
        raise InvalidRequestError(
            f"Invalid 'Idempotency-Key': expected one header of 1 to {_MAX_KEY} printable ASCII "
            "characters.",
            param="Idempotency-Key",
            code="invalid_value",
        )
    return key
