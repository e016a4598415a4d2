"""Work that goes on for as long as the server does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

_log = structlog.get_logger(__name__)

#: Seconds before a loop that broke begins again.
PAUSE: Final = 5.0


async def for_ever(loop: Callable[[], Awaitable[None]], name: str) -> NoReturn:
    """Run `loop`; where it breaks, which it should not, say so and begin again."""
    while True:
        try:
            await loop()
        except Exception:  # noqa: BLE001 - the border of a worker (design §10 rule 7)
            _log.exception("loop_broke", loop=name)
        await asyncio.sleep(PAUSE)
