"""WebSockets on the socket: uvicorn's protocol with limits (reliability R-18, R-20, R-73, R-117).

Of uvicorn's three protocols only `websockets-sansio` is a plain `asyncio.Protocol`: one class to
add clocks to, no task of its own, a denial before the handshake, and a `shutdown` that can be left
to the app. `websockets` (deprecated) cuts every connection with 1012 from inside its own tasks, and
`wsproto` is one dependency more.

Rules
1. `wire` has read the head under its limits and its clock; what is no handshake is refused in
   OpenAI's envelope.
2. Nothing is read before the app has accepted (R-20), and nothing from a client that does not read:
   answers to its pings would be memory.
3. A message that is under way has the clock of a request body (R-18), and bounds on its pieces.
4. A reader that takes nothing is dropped (R-117). A slow one is not: a pong may wait behind what it
   still has to read.
5. A stop of the server is the app's to tell (R-73): here nothing is cut.
6. What breaks the protocol is told with a close frame, and a little more is read and dropped: the
   client shall see it.
"""

import asyncio
from asyncio.transports import BaseTransport
from typing import Any, Final

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import InvalidHandshake
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from antiphon.api.closing import WriteWatch, refusal
from antiphon.api.limits import WireLimits
from antiphon.errors import InvalidRequestError

#: Pieces of one message: 64 MiB in the 16 KiB that clients cut them into.
_MOST_PIECES: Final = 4096
#: Seconds that a client has to answer a close frame.
_GOODBYE: Final = 2.0


class GuardedSocket(WebSocketsSansIOProtocol):
    """One connection."""

    limits = WireLimits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.ping_interval = self.limits.ping_interval
        self.ping_timeout = self.limits.send_timeout
        self.close_timeout = _GOODBYE
        self._deaf = False
        #: The message under way: since when, bytes so far, and when the last ones came.
        self._clock: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._told = 0
        self._moved = 0.0
        self._unread_at_ping = 0

    # ------------------------------------------------------------ the connection

    def connection_made(self, transport: BaseTransport) -> None:
        """`wire` hands a connection over."""
        super().connection_made(transport)
        self._writes = WriteWatch(self.loop, self.transport, self.limits.send_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left, or was dropped."""
        self._stop_clock()
        self._writes.stop()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: the app ends its connections (rule 5)."""

    def data_received(self, data: bytes) -> None:
        """The head, whole, and then packets."""
        if self._deaf:
            return
        super().data_received(data)
        if not self.handshake_initiated:
            self._refuse()
        elif not self._deaf:
            self._measure(len(data))

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self._writes.start()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if not self.read_paused:
            self._resume()

    def _resume(self) -> None:
        if self.writable.is_set() and not self.transport.is_closing():
            self.transport.resume_reading()

    # ------------------------------------------------------------ the handshake

    def handle_connect(self, event: Request) -> None:
        """The head was read."""
        try:
            self.conn.process_request(event)
        except InvalidHandshake:
            self.handshake_initiated = True
            self._refuse()
            return
        super().handle_connect(event)
        self.read_paused = True
        self.transport.pause_reading()

    def _refuse(self) -> None:
        self._deaf = self.handshake_complete = self.close_sent = True
        self.transport.write(refusal(InvalidRequestError("Invalid WebSocket handshake.")))
        self.transport.close()

    # ------------------------------------------------------------ messages

    def handle_cont(self, event: Frame) -> None:
        """A piece of a message."""
        if self._deaf:
            return
        if len(self.frames) >= _MOST_PIECES:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """A message is whole."""
        content = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        message: ASGIReceiveEvent = {"type": "websocket.receive", "bytes": content}
        if self.curr_msg_data_type == "text":
            try:
                message = {"type": "websocket.receive", "text": content.decode()}
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID_DATA, "not UTF-8")
                return
        self.queue.put_nowait(message)
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _measure(self, size: int) -> None:
        """After a packet: is a message under way?"""
        if not self.frames and not self.conn.reader.buffer:
            self._stop_clock()
            return
        self._moved = self.loop.time()
        if self._clock is None:
            self._began, self._told = self._moved, 0
            self._clock = self.loop.call_later(self.limits.min_rate_after, self._look)
        self._told += size

    def _look(self) -> None:
        """See `GuardedProtocol._check_body`."""
        self._clock = None
        limits, now = self.limits, self.loop.time()
        if self.read_paused or not self.writable.is_set():
            # It is us who do not read: the time starts anew.
            self._began, self._moved, self._told = now, now, 0
        by_rate = self._began + max(limits.min_rate_after, self._told / limits.min_body_rate)
        due = min(by_rate, self._moved + limits.body_idle_timeout)
        if due <= now:
            self._fail(CloseCode.POLICY_VIOLATION, "the message did not arrive in time")
        else:
            self._clock = self.loop.call_later(due - now, self._look)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    # ------------------------------------------------------------ the app

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI."""
        message = await self.queue.get()
        if message["type"] != "websocket.connect" and self.read_paused and self.queue.empty():
            self.read_paused = False
            self._resume()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI."""
        await super().send(message)
        match message["type"]:
            case "websocket.accept":
                self.read_paused = False
                self._resume()
            case "websocket.http.response.body":
                # uvicorn would call a denial an unfinished handshake, in the log.
                self.handshake_complete = True

    async def run_asgi(self) -> None:
        """Run the app."""
        await super().run_asgi()
        self._writes.start()

    # ------------------------------------------------------------ the end

    def send_keepalive_ping(self) -> None:
        """Ask whether it is alive."""
        self._unread_at_ping = self._writes.unread()
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """It has not said so."""
        if self._writes.unread() in (0, self._unread_at_ping):
            super().keepalive_timeout()
            self._writes.start()
        else:  # rule 4
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()

    def handle_parser_exception(self) -> None:
        """What came is no WebSocket protocol, or too big."""
        if self._deaf:
            return
        close = self.conn.close_sent
        self._deaf = self.close_sent = True
        self._stop_clock()
        self.stop_keepalive()
        if close is None:
            self.transport.abort()
            return
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.limits.linger_timeout, self.transport.close)
        self._writes.start()

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.frames = []
        self.conn.fail(code, reason)
        self.handle_parser_exception()


def guarded_socket(limits: WireLimits) -> type[GuardedSocket]:
    """The protocol with these limits, for uvicorn's ``ws=``."""
    return type("LimitedSocket", (GuardedSocket,), {"limits": limits})
