"""Tokens of a prompt, as the server of a model counts them.

Rules
1. What is asked is what `generate` would send.
2. Counting is a courtesy: it has one short deadline, never raises, and never counts against the
   upstream's circuit breaker. What goes wrong is logged, and somebody else counts.
3. A server that does not answer, or cannot count, is left in peace for a while: who waits for a
   count waits in vain once, not each time.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

import orjson

from antiphon.backends.answers import read_up_to
from antiphon.backends.upstream import Upstream, named
from antiphon.errors import APIError

#: Seconds for all of it.
DEADLINE: Final = 5.0
#: Seconds for which a server is not asked again.
REST: Final = 30.0
#: Bytes of an answer, which is a number.
_MOST: Final = 64 * 1024
#: There is no such endpoint.
_MISSING: Final = frozenset({404, 405, 501})


class Counter:
    """Asks one server."""

    def __init__(
        self, upstream: Upstream, url: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._upstream = upstream
        self._url = url
        self._clock = clock
        self._resting_until = 0.0

    async def count(self, body: Callable[[], bytes], *, in_thread: bool) -> int | None:
        """Tokens of a request; None when the server does not say."""
        if self._clock() < self._resting_until:
            return None
        try:
            async with asyncio.timeout(DEADLINE):
                asked = await asyncio.to_thread(body) if in_thread else body()
                answer = await self._post(asked)
                return None if answer is None else _number(answer["input_tokens"])
        except OSError as exc:
            self._rest(named(exc))
        except (ValueError, KeyError, TypeError) as exc:
            self._upstream.tell("upstream_count_failed", named(exc))
        except APIError as exc:
            self._upstream.tell("upstream_count_failed", exc.message)
        return None

    async def _post(self, body: bytes) -> Any:
        with closing(await self._upstream.ask_aside(self._url, body)) as response:
            if response.status in _MISSING:
                self._rest(f"HTTP {response.status}")
                return None
            said = await read_up_to(response, _MOST)
            if response.status != 200:
                raise ValueError(f"HTTP {response.status}: {said.decode(errors='replace')}")
            return orjson.loads(said)

    def _rest(self, why: str) -> None:
        self._resting_until = self._clock() + REST
        self._upstream.tell(
            "upstream_count_failed", f"{why}; not asked again for {REST:.0f} seconds"
        )


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("the number of tokens is none")
    return value
