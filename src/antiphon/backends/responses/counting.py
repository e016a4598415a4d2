"""Tokens of a prompt, counted by the server itself: ``POST /responses/input_tokens``.

Rules
1. What is counted is what `generate` would send.
2. Counting is a courtesy: it has a short deadline, never raises, and leaves the circuit breaker
   alone. What goes wrong is logged, and somebody else counts.
3. A server that does not answer, or has no such endpoint, is left in peace for a while.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

import orjson

from antiphon.backends.answers import read_up_to
from antiphon.backends.upstream import UNREADABLE, StatusError, Upstream, named

#: Seconds for all of it.
DEADLINE: Final = 5.0
#: Seconds for which a server is not asked again.
REST: Final = 30.0
#: Bytes of an answer, or of what stands in its place, that are read.
_MOST: Final = 16 * 1024
#: The request could not be counted, which says nothing about the next one.
_REFUSED: Final = frozenset({400, 413, 422})


class Counter:
    """Asks one server."""

    def __init__(
        self, url: str, upstream: Upstream, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._upstream = upstream
        self._clock = clock
        self._resting_until = 0.0

    async def count(self, body: Callable[[], bytes], *, is_heavy: bool) -> int | None:
        """Tokens of the prompt; None when the server does not say. `body` makes what is sent, in a
        thread if it `is_heavy` (R-118)."""
        if self._clock() < self._resting_until:
            return None
        try:
            async with asyncio.timeout(DEADLINE):
                return await self._ask(await asyncio.to_thread(body) if is_heavy else body())
        except TimeoutError:
            self._rest("no answer in time")
        except (*UNREADABLE, KeyError, TypeError) as exc:
            self._rest(named(exc))
        return None

    async def _ask(self, body: bytes) -> int | None:
        with closing(await self._upstream.ask_aside(self._url, body)) as response:
            said = await read_up_to(response, _MOST)
            if response.status in _REFUSED:
                detail = said.decode(errors="replace")
                self._upstream.tell("upstream_count_failed", detail, response.status)
                return None
            if response.status >= 400:
                raise StatusError(response.status)
        count = orjson.loads(said)["input_tokens"]
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ValueError("the number of tokens is none")
        return count

    def _rest(self, why: str) -> None:
        self._resting_until = self._clock() + REST
        self._upstream.tell(
            "upstream_count_failed", f"{why}; not asked again for {REST:.0f} seconds"
        )
