"""Server-sent events: a reader of a run's log (spec §4).

Rules
1. Whole events only, LF separators, an ``event:`` line always, no ``id:``; everything that is ready
   goes out in one write.
2. ``data: [DONE]`` follows the terminal event and the body ends with it (Codex reads until EOF).
3. A quiet stream gets a comment every `comment` seconds, and every `event` seconds a
   ``response.in_progress`` for clients whose idle timer ignores comments (Codex).
"""

from dataclasses import dataclass
from typing import Final

from starlette.types import Send

from antiphon.engine.run import Run
from antiphon.protocol.emitter import Frame
from antiphon.protocol.events import EFFECTS

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


async def send_stream(
    run: Run, send: Send, heartbeat: Heartbeat, headers: list[tuple[bytes, bytes]]
) -> None:
    """Answer 200 and write the run's log until its end."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS + headers})
    idle = min(heartbeat.comment, heartbeat.event)
    quiet = 0.0
    async for frames in run.log.read(idle=idle):
        if frames:
            quiet = 0.0
            body = encode(frames)
        else:
            quiet += idle
            body = _PING
            if quiet >= heartbeat.event:
                run.beat()
        # A slow client holds us here: keep the bytes only, not the frames they were made of.
        frames.clear()
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": _DONE, "more_body": False})
