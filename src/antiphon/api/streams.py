"""Server-sent events: a reader of a response's log (spec §4).

Rules
1. Whole events only, LF separators, an ``event:`` line always, no ``id:``; everything that is ready
   goes out in one write.
2. ``data: [DONE]`` follows the last event and the body ends with it (Codex reads until EOF). When
   the server stops before a background response is over, the body ends without it: the stream can
   be resumed.
3. A quiet stream gets a comment every `comment` seconds, and every `event` seconds a
   ``response.in_progress`` for clients whose idle timer ignores comments (Codex).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from antiphon.engine.follow import Unfinished
from antiphon.protocol.emitter import Frame
from antiphon.protocol.events import EFFECTS
from antiphon.protocol.image_references import MARK

#: Events, or any JSON, as it was encoded → in pieces as a client sees it (`engine.images`).
Show: TypeAlias = Callable[[bytes], AsyncGenerator[bytes, None]]

HEADERS: Final[list[tuple[bytes, bytes]]] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_DONE: Final = b"data: [DONE]\n\n"
_PING: Final = b": ping\n\n"
_PREFIX: Final = {type_: f"event: {type_}\ndata: ".encode() for type_ in EFFECTS}


def encode(frames: list[Frame]) -> bytes:
    """Frames as server-sent events."""
    return b"".join([_PREFIX[type_] + body + b"\n\n" for type_, body in frames])


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Idle seconds after which a stream gets a comment, and an event."""

    comment: float = 15.0
    event: float = 120.0

    @property
    def idle(self) -> float:
        """How long a reader may be quiet before it is asked again."""
        return min(self.comment, self.event)


async def send_stream(
    log: AsyncGenerator[list[Frame], None],
    send: Send,
    heartbeat: Heartbeat,
    headers: list[tuple[bytes, bytes]],
    show: Show,
    beat: Callable[[], None] | None = None,
) -> None:
    """Answer 200 and write a log, read with `heartbeat.idle`, until its end. `show` fills in what
    bodies refer to; `beat` makes a quiet log say something: a durable one does so by itself."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS + headers})
    quiet = 0.0
    last = _DONE
    async with aclosing(log):
        try:
            async for frames in log:
                if frames:
                    quiet = 0.0
                    body = encode(frames)
                else:
                    quiet += heartbeat.idle
                    body = _PING
                    if quiet >= heartbeat.event and beat is not None:
                        beat()
                # A slow client holds us here: keep the bytes, not the frames they were made of.
                frames.clear()
                if body.find(MARK) >= 0:
                    await _send_pieces(send, show(body))
                else:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                body = b""  # it may be quiet for long now
        except Unfinished:
            last = b""
    await send({"type": "http.response.body", "body": last, "more_body": False})


async def _send_pieces(send: Send, pieces: AsyncGenerator[bytes, None]) -> None:
    """Events with images, as fast as the client reads: no more than a piece is in memory."""
    async with aclosing(pieces):
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})


class EventStream(Response):
    """A durable log as an answer. A client that leaves ends its own reading only (R-61)."""

    def __init__(
        self,
        log: AsyncGenerator[list[Frame], None],
        heartbeat: Heartbeat,
        headers: list[tuple[bytes, bytes]],
        show: Show,
    ) -> None:
        self.background = None
        self._show = show
        self._log = log
        self._heartbeat = heartbeat
        self._more_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer."""
        stream = send_stream(self._log, send, self._heartbeat, self._more_headers, self._show)
        await while_connected(receive, stream)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do `work` until it is done or the client has left."""
    task = asyncio.create_task(work)
    watch = asyncio.create_task(disconnected(receive))
    watch.add_done_callback(lambda _: task.cancel())
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        raise
    finally:
        watch.cancel()
    if not task.cancelled():
        task.result()


async def disconnected(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
