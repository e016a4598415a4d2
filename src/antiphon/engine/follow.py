"""Reading the log of any response, at any time, wherever it is made (design §5).

Rules
1. What this process makes is read from memory; what it no longer has there, or never had, from the
   store. One reader holds one window of events at most.
2. Trouble of the store ends no stream: the reader waits until it is over.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, Protocol

from antiphon.engine.durable import DurableLog
from antiphon.errors import APIError
from antiphon.protocol.emitter import Frame
from antiphon.protocol.events import TERMINAL
from antiphon.store.base import RUNNING, Runs

#: Bytes of events that a reader takes from the store at a time.
WINDOW: Final = 128 * 1024
#: Seconds between two looks at a response that another process makes: at least and at most.
_PAUSE: Final = 0.02
_POLL: Final = 1.0


class Unfinished(Exception):
    """The server stops while the response still runs: its log can be read elsewhere, or later."""


class Here(Protocol):
    """What a process knows of the runs that it makes itself."""

    stopping: bool

    def live(self, response_id: str) -> DurableLog | None:
        """The log of a run of this process."""
        ...


async def follow(
    runs: Runs, here: Here, response_id: str, *, after: int, idle: float
) -> AsyncGenerator[list[Frame], None]:
    """The events above `after` until the response ends; an empty list after `idle` quiet seconds.

    Raises `Unfinished` when the server stops first.
    """
    number = after + 1
    loop = asyncio.get_running_loop()
    quiet_since = loop.time()
    while True:
        live = here.live(response_id)
        frames = live.since(number) if live is not None else None
        ended = False
        if frames is None:
            frames, ended = await _stored(runs, response_id, number)
        if frames:
            number += len(frames)
            ended = frames[-1][0] in TERMINAL
            yield frames
            quiet_since = loop.time()
        elif not ended:
            if here.stopping and (live is None or live.closed):
                raise Unfinished
            rest = idle - (loop.time() - quiet_since)
            if rest <= 0:
                yield []
                quiet_since = loop.time()
            else:
                await _news(runs, live, rest)
        if ended:
            return


async def _stored(runs: Runs, response_id: str, number: int) -> tuple[list[Frame], bool]:
    """The stored events from `number` on, and whether that is all there will ever be."""
    try:
        status = await runs.status(response_id)  # before the events: so none is missed
        frames = await runs.read(response_id, number - 1, WINDOW)
    except APIError:
        return [], False
    return frames, not frames and status not in RUNNING


async def _news(runs: Runs, live: DurableLog | None, seconds: float) -> None:
    """Until there may be more to read."""
    if live is not None and not live.closed:
        await live.news(seconds)
    else:
        await runs.wait(min(seconds, _POLL))
        await asyncio.sleep(_PAUSE)
