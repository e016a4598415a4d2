"""``POST /v1/responses`` (spec §1).

Rules
1. The key is checked before the body is read, the body before anything runs.
2. Streamed or not, the answer is read from the same run (design §1).
3. A client that leaves stops its run (reliability R-53, R-54), unless it is durable: in the
   background, or with an Idempotency-Key. Who sends such a key will come back for the answer.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Scope, Send

from antiphon.api.auth import Authenticator, client_key
from antiphon.api.body import ClientDisconnected, parsed, read_body
from antiphon.api.shown import Headers, Shown, send_json
from antiphon.api.streams import EventStream, Heartbeat, disconnected, send_stream, while_connected
from antiphon.backends.base import CLIENT_KEY
from antiphon.engine.images import ProjectImages
from antiphon.engine.made import Admitted, Foreground
from antiphon.engine.run import Run
from antiphon.engine.runner import Engine
from antiphon.engine.view import Truncated
from antiphon.errors import InvalidRequestError
from antiphon.protocol.request import parse_request

#: Characters of an Idempotency-Key (R-79).
_MAX_KEY: Final = 255
#: Parameters of one kind that are named one by one: some clients take no header of 8 KB.
_MOST_NAMED: Final = 8


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """Settings of ``POST /v1/responses``; times in seconds, sizes in bytes."""

    max_body_bytes: int
    accept_timeout: float
    heartbeat: Heartbeat


class CreateEndpoint:
    """``POST /v1/responses`` as a plain ASGI application: this is the hot path."""

    def __init__(
        self, engine: Engine, auth: Authenticator, options: CreateOptions, images: ProjectImages
    ) -> None:
        self._engine = engine
        self._auth = auth
        self._options = options
        self._images = images

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `APIError` before the first byte."""
        options = self._options
        project = await self._auth.project(scope)
        key = _idempotency_key(scope)
        try:
            raw = await read_body(scope, receive, limit=options.max_body_bytes)
        except ClientDisconnected:
            return
        request = (await parsed(raw, parse_request)).with_client_key(client_key(scope))
        if request.background and request.client_key is not None:
            raise InvalidRequestError(
                "A key of your own is not kept: a background response cannot use it.",
                param=CLIENT_KEY,
                code="unsupported_value",
            )
        streamed = bool(request.stream)
        made = await self._engine.start(request, project, raw, key)
        shown = Shown(self._images, project)
        if isinstance(made, Admitted):
            if streamed:
                await self._follow(made, shown, scope, receive, send)
            else:
                await while_connected(receive, self._answer(made, shown, send))
            return
        task = made.task
        watch = asyncio.create_task(disconnected(receive))
        watch.add_done_callback(lambda _: task.cancel())
        try:
            await (self._stream if streamed else self._json)(made, shown, send)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
        finally:
            watch.cancel()

    # -- in the foreground -------------------------------------------------------------------

    async def _json(self, made: Foreground, shown: Shown, send: Send) -> None:
        run = made.run
        await made.task
        if run.error is not None:
            raise run.error
        await send_json(send, run.body, _remarks_on(run), shown)

    async def _stream(self, made: Foreground, shown: Shown, send: Send) -> None:
        run, heartbeat = made.run, self._options.heartbeat
        if await self._is_refused(run) and run.error is not None:
            await made.task
            raise run.error
        log = made.log.read(idle=heartbeat.idle)
        await send_stream(log, send, heartbeat, _remarks_on(run), shown.streamed, run.beat)
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

    async def _follow(
        self, made: Admitted, shown: Shown, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if made.run is not None:
            if await self._is_refused(made.run):
                await self._engine.outcome(made)
        elif made.replayed:
            await self._engine.check_log(made.id)
        heartbeat = self._options.heartbeat
        log = self._engine.follow(made.id, after=-1, idle=heartbeat.idle)
        await EventStream(log, heartbeat, _durable(made), shown.streamed)(scope, receive, send)

    async def _answer(self, made: Admitted, shown: Shown, send: Send) -> None:
        if made.background:
            body = made.body or await self._engine.body(made.id)
        else:
            body = await self._engine.outcome(made)
        await send_json(send, body, _durable(made), shown)


def remarks(ignored: list[str], truncated: Truncated | None) -> Headers:
    """What was not done as asked: parameters without effect, items that the model did not see."""
    headers: Headers = []
    if ignored:
        names = ", ".join(_summed(ignored))
        headers.append((b"x-antiphon-ignored", names.encode("ascii", "replace")))
    if truncated is not None:
        headers.append((b"x-antiphon-truncated", truncated.header().encode("ascii", "replace")))
    return headers


def _summed(names: list[str]) -> Iterable[str]:
    """Each name once, and one for many that differ by their places only."""
    kinds = {name: re.sub(r"\[[0-9]+\]", "[]", name) for name in names}
    counted = Counter(kinds.values())
    return dict.fromkeys(
        kind if counted[kind] > _MOST_NAMED else name for name, kind in kinds.items()
    )


def _remarks_on(run: Run) -> Headers:
    """And who has answered, or is asked now, and whether its form was told in words."""
    return [
        *remarks(run.ignored, run.view.truncated),
        (b"x-antiphon-backend", run.backend.name.encode("ascii", "replace")),
        *([(b"x-antiphon-json-schema", b"prompted")] if run.is_prompted else ()),
    ]


def _durable(made: Admitted) -> Headers:
    replayed = [(b"idempotent-replayed", b"true")] if made.replayed else []
    if made.run is not None:
        return _remarks_on(made.run) + replayed
    return remarks(made.ignored, made.truncated) + replayed


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
