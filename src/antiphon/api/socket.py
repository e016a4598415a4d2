"""``GET /v1/responses`` with Upgrade: WebSocket mode (spec §2.6, §10).

Rules
1. The key is checked before the handshake is answered, and again for each response (R-37). A key
   that is no longer good closes the connection when what runs has ended.
2. Events are the frames of the log, one a message, with the lane's name if it has one; there is no
   ``[DONE]``, which clients would take for an event of the next response.
3. What cannot be begun is an ``error`` frame in its lane; what fails later is ``response.failed``,
   and that alone: clients take any ``error`` for the end of what they have asked, and what follows
   it for the next answer.
4. A client that leaves stops its runs (R-53). One that reads slowly slows them (R-117): every send
   waits until the last one was taken.
5. A connection ends after `minutes`, or when the server stops (R-73): nothing more begins, and what
   runs ends before it is closed.
6. Who sends is always read, so that it is noticed when it leaves: what waits is bounded (`lanes`).
"""

import asyncio
import time
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import structlog
from prometheus_client import Gauge
from starlette.types import Message, Receive, Scope, Send

from antiphon.api.auth import Authenticator, client_key
from antiphon.api.errors import unknown_path
from antiphon.api.lanes import LaneLimits, Lanes
from antiphon.api.shown import Shown
from antiphon.engine.images import ProjectImages
from antiphon.engine.made import Foreground
from antiphon.engine.metrics import REGISTRY, SHED
from antiphon.engine.recent import Recent, Remembered, measure
from antiphon.engine.runner import Engine
from antiphon.errors import APIError, AuthenticationError, Overloaded, RateLimitError
from antiphon.protocol.events import TERMINAL
from antiphon.protocol.image_references import MARK
from antiphon.protocol.socket import (
    ClientEvent,
    Create,
    Steer,
    error_frame,
    in_lane,
    not_text,
    parse_event,
    time_is_over,
)

#: Messages above this are read in a thread, so that the loop is not blocked (R-118).
_IN_THREAD: Final = 128 * 1024
#: Seconds after which another connection may be tried.
_LATER: Final = 5
#: Close codes (RFC 6455 §7.4.1, IANA): an orderly end, a key that is not good, a restart.
_NORMAL, _POLICY, _RESTART = 1000, 1008, 1012
#: Ends of a run that can be continued.
_CONTINUABLE: Final = frozenset({"completed", "incomplete"})

_OPEN: Final = Gauge("antiphon_websockets", "Open WebSocket connections.", registry=REGISTRY)
_log = structlog.get_logger("antiphon.http")


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Settings of WebSocket mode; `event_heartbeat` in seconds."""

    path: str
    minutes: float
    event_heartbeat: float
    #: Connections at once: in all, and of one project.
    most: int
    most_per_project: int
    lanes: LaneLimits
    access_log: bool


class SocketEndpoint:
    """All WebSockets, as a plain ASGI application."""

    def __init__(
        self, engine: Engine, auth: Authenticator, options: SocketOptions, images: ProjectImages
    ) -> None:
        self._images = images
        self._engine = engine
        self._auth = auth
        self._options = options
        self._open: set[Connection] = set()
        self._of_project: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. Raises `APIError` before it is accepted."""
        if scope["path"] != self._options.path:
            raise unknown_path(scope)
        if self._engine.stopping:
            raise Overloaded("The server is shutting down.", retry_after=_LATER)
        project = await self._auth.project(scope)
        self._enter(project)
        shown = Shown(self._images, project)
        connection = Connection(self._engine, self._auth, self._options, shown, scope, send)
        self._open.add(connection)
        _OPEN.inc()
        try:
            await connection.serve(receive)
        finally:
            _OPEN.dec()
            self._open.discard(connection)
            self._of_project[project] -= 1
            self._of_project += Counter()  # drops the zeros

    def _enter(self, project: str) -> None:
        options = self._options
        if self._of_project[project] >= options.most_per_project:
            SHED.labels("project").inc()
            raise RateLimitError(
                "Rate limit reached: this project has "
                f"{options.most_per_project} open WebSocket connections. Please try again later.",
                retry_after=_LATER,
            )
        if self._of_project.total() >= options.most:
            SHED.labels("server").inc()
            raise Overloaded(retry_after=_LATER)
        self._of_project[project] += 1

    def stop(self) -> None:
        """The server stops: every connection is closed as soon as nothing runs on it."""
        for connection in self._open:
            connection.wind_up(_RESTART)


@dataclass(slots=True)
class _Ending:
    """Why a connection will be closed; `error` is said before."""

    code: int
    error: APIError | None


@dataclass(eq=False)
class Connection:
    """One WebSocket."""

    _engine: Engine
    _auth: Authenticator
    _options: SocketOptions
    _shown: Shown
    _scope: Scope
    _send: Send
    _recent: Recent = field(default_factory=Recent)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ending: _Ending | None = None
    #: None until it is accepted.
    _lanes: Lanes | None = None
    _goodbye: bool = False
    _closed: bool = False

    async def serve(self, receive: Receive) -> None:
        """Accept it and stay until it is over."""
        await receive()  # websocket.connect
        await self._write({"type": "websocket.accept"})
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._options.minutes * 60, self._time_is_over)
        async with asyncio.TaskGroup() as self._group:
            lanes = Lanes(self._group, self._turn, self._close_if_idle, self._options.lanes)
            self._lanes = lanes
            self._close_if_idle()
            try:
                while (message := await receive())["type"] != "websocket.disconnect":
                    await self._take(message, lanes)
                    await asyncio.sleep(0)  # thousands may have come in one packet
            finally:
                timer.cancel()
                self._closed = True
                lanes.cancel()

    # -- what the client says ----------------------------------------------------------------

    async def _take(self, message: Message, lanes: Lanes) -> None:
        if self._closed:
            return
        text = message.get("text")
        try:
            if text is None:
                raise not_text()
            event = await _parse(text)
        except APIError as error:
            await self._say(error_frame(error))
            return
        if isinstance(event, Steer):
            await self._say(event.failed())
            return
        try:
            lanes.add(event, len(text))
        except APIError as error:
            await self._say(error_frame(error, event.stream_id))

    # -- one response ------------------------------------------------------------------------

    async def _turn(self, event: Create, size: int) -> None:
        """Everything about one ``response.create``."""
        began = time.monotonic()
        response_id, status = None, 200
        try:
            made, stored = await self._start(event, size)
        except APIError as error:
            status = error.status
            self._recent.evict(event.stream_id, event.previous_response_id)
            await self._say(error_frame(error, event.stream_id))
        else:
            response_id = made.run.id
            try:
                await self._tell(made, event, stored=stored)
            finally:
                made.task.cancel()
        if self._options.access_log:
            _log.info(
                "websocket_response",
                response_id=response_id,
                status=status,
                ms=round((time.monotonic() - began) * 1000),
                request_id=self._scope["state"]["request_id"],
                project=self._scope["state"]["project"],
            )

    async def _start(self, event: Create, size: int) -> tuple[Foreground, bool]:
        """Set it going; whether it is stored."""
        if self._ending is not None and self._ending.error is not None:
            raise self._ending.error
        try:
            project = await self._auth.project(self._scope)
        except AuthenticationError:
            self.wind_up(_POLICY)
            raise
        if size > _IN_THREAD:
            request, generate = await asyncio.to_thread(event.request)
        else:
            request, generate = event.request()
        request = request.with_client_key(client_key(self._scope))
        made = await self._engine.start(request, project, recent=self._recent, generate=generate)
        if not isinstance(made, Foreground):
            raise TypeError("a request without background and key became a durable response")
        made.run.machine.options.errors = False
        return made, request.store is not False

    async def _tell(self, made: Foreground, event: Create, *, stored: bool) -> None:
        """Write the log, as it grows. What is not stored is for us to remember."""
        log = made.log.read(idle=self._options.event_heartbeat)
        async with aclosing(log):
            async for frames in log:
                if not frames:
                    made.run.beat()
                    continue
                if frames[-1][0] in TERMINAL:
                    # Who reads it may go on from there at once, in any lane, and in its place.
                    await asyncio.wait([made.task])
                    await self._remember(made, event, stored=stored)
                for _, body in frames:
                    shown = await self._shown.whole(body) if body.find(MARK) >= 0 else body
                    await self._say(in_lane(shown, event.stream_id))

    async def _remember(self, made: Foreground, event: Create, *, stored: bool) -> None:
        run, lane, past = made.run, event.stream_id, made.plan.context.past
        if run.machine.status not in _CONTINUABLE:
            self._recent.evict(lane, event.previous_response_id)
        elif not stored:
            items = made.items()
            size = past.size + await measure(items[len(past.items) :] if past.unstored else items)
            self._recent.put(lane, Remembered(run.id, items, size))

    async def _say(self, event: bytes) -> None:
        """One message; waits while the client does not read."""
        await self._write({"type": "websocket.send", "text": event.decode()})

    async def _write(self, message: Message) -> None:
        async with self._writing:
            if self._closed:
                return
            self._closed = message["type"] == "websocket.close"
            try:
                await self._send(message)
            except OSError:  # it has left; `receive` says so, too
                self._closed = True

    # -- the end -----------------------------------------------------------------------------

    def wind_up(self, code: int, error: APIError | None = None) -> None:
        """Close with `code`, and say `error` before, once nothing runs."""
        if self._ending is None:
            self._ending = _Ending(code, error)
            self._close_if_idle()

    def _time_is_over(self) -> None:
        self.wind_up(_NORMAL, time_is_over(self._options.minutes))

    def _close_if_idle(self) -> None:
        """Whatever has come to an end calls this."""
        if self._ending is None or self._goodbye or self._closed:
            return
        if self._lanes is None or self._lanes.busy:
            return
        self._goodbye = True
        self._group.create_task(self._close(self._ending))

    async def _close(self, ending: _Ending) -> None:
        if ending.error is not None:
            await self._say(error_frame(ending.error))
        await self._write({"type": "websocket.close", "code": ending.code})


async def _parse(text: str) -> ClientEvent:
    if len(text) > _IN_THREAD:
        return await asyncio.to_thread(lambda: parse_event(text.encode()))
    return parse_event(text.encode())
