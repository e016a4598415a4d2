"""The model list of an upstream, kept for a while: who asks for a window must not wait for it.

Rules
1. For windows the list is fetched at most every few minutes, and never by two at once; who wants to
   see the list itself gets a new one.
2. Only the first requests wait for it, together and not for long; later ones are answered from
   what is known while the list is fetched in the background.
3. A list that cannot be fetched leaves what is known as it is, and is asked for again soon.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from antiphon.backends.base import Model

#: Seconds for which a list is believed: a server that is started anew may have another window.
TTL: Final = 300.0
#: Seconds until a list that could not be had is asked for again.
RETRY: Final = 30.0
#: Seconds that the first requests wait.
PATIENCE: Final = 1.0


class Catalog:
    """What an upstream lists."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[list[Model] | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` gives None when the list cannot be had; it does not raise."""
        self._fetch = fetch
        self._clock = clock
        self._models: Mapping[str, Model] = {}
        self._fetching: asyncio.Task[list[Model] | None] | None = None
        self._due: float | None = None
        self._patient_until = 0.0

    async def refresh(self) -> list[Model]:
        """The list as it is now, empty when it cannot be had."""
        self._due = self._clock() + RETRY
        models = await self._fetch()
        if models is None:
            return []
        self._models = {model.id: model for model in models}
        self._due = self._clock() + TTL
        return models

    async def known(self) -> None:
        """Return when a list is there, or when waiting for the first one has taken too long."""
        now = self._clock()
        if self._due is None:
            self._patient_until = now + PATIENCE
        if self._fetching is None and (self._due is None or now >= self._due):
            self._fetching = asyncio.create_task(self.refresh(), name="model-list")
            self._fetching.add_done_callback(self._fetched)
        if self._fetching is not None and now < self._patient_until:
            # Not `wait_for`: who gives up must not take the list from the others.
            await asyncio.wait({self._fetching}, timeout=self._patient_until - now)

    def window(self, model: str, *, sole: bool) -> int | None:
        """Tokens of `model`. `sole`: the only model of a list goes by any name."""
        found = self._models.get(model)
        if found is None and sole and len(self._models) == 1:
            found = next(iter(self._models.values()))
        return found.context_window if found else None

    async def aclose(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    def _fetched(self, _: asyncio.Task[list[Model] | None]) -> None:
        self._fetching = None


def window_of(row: Mapping[str, Any], places: tuple[tuple[str, ...], ...]) -> int | None:
    """The first of `places` in a row of a model list that holds a number of tokens."""
    for place in places:
        value: Any = row
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
