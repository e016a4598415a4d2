"""Several places that have a model, asked one after the other (reliability R-40, R-50, R-51).

Rules
1. The next one is asked when one fails before its first list of deltas, and not for what the client
   has done wrong. Within one run the one that answered last is asked first.
2. Only who can do all that the first one can takes its place: it refuses nothing, drops nothing
   more, and takes the same files and images as they are.
3. There is one deadline for the first list of all of them together. Each but the last has at most
   half of what is left of it, so that there is time for the next.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import structlog

from antiphon.backends.base import Backend, Deltas, Health, Media, Model, Prompt
from antiphon.errors import (
    APIError,
    InvalidRequestError,
    ModelNotFound,
    Overloaded,
    RateLimitError,
    UpstreamError,
    UpstreamTimeout,
)
from antiphon.protocol.request import CreateResponse

_log = structlog.get_logger(__name__)

#: What another one may do better.
_FAILED: Final = (UpstreamError, UpstreamTimeout, Overloaded, RateLimitError, ModelNotFound)

#: The part of its time in which a backend gives up by itself.
_OWN: Final = 0.95


@dataclass(frozen=True, slots=True)
class Target:
    """A backend, and the name of the model there."""

    backend: Backend
    model: str


class Fallback:
    """See `Backend`; for one request. `name` is that of the one that answered last."""

    def __init__(self, targets: Sequence[Target], seconds: float) -> None:
        """`targets`, two or more, in the order in which they are asked; `seconds` until the first
        list of deltas."""
        self._targets = list(targets)
        self._seconds = seconds

    @property
    def name(self) -> str:
        """See `Backend`."""
        return self._first.backend.name

    @property
    def _first(self) -> Target:
        return self._targets[0]

    def check(self, request: CreateResponse, model: str) -> list[str]:  # noqa: ARG002
        """See `Backend.check`: what the first one says that takes it."""
        refusal: InvalidRequestError | None = None
        for place, target in enumerate(self._targets):
            try:
                dropped = target.backend.check(request, target.model)
            except InvalidRequestError as error:
                refusal = refusal or error
                continue
            self._targets = self._targets[place:]
            return dropped
        raise refusal or InvalidRequestError

    def media(self, model: str) -> Media:  # noqa: ARG002
        """See `Backend.media`."""
        return self._first.backend.media(self._first.model)

    async def generate(self, prompt: Prompt) -> Deltas:
        """See `Backend.generate`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._seconds
        able = [self._first, *filter(self._can_stand_in(prompt), self._targets[1:])]
        for place, target in enumerate(able):
            left = until - loop.time()
            is_last = place == len(able) - 1
            seconds = left if is_last else left / 2
            # Its own limit comes first, so that it knows that it was late.
            asked = replace(prompt, model=target.model, seconds=seconds * _OWN)
            turn = target.backend.generate(asked)
            async with aclosing(turn):
                try:
                    async with asyncio.timeout(seconds):
                        first = await anext(turn)
                except (*_FAILED, TimeoutError) as error:
                    failure = error if isinstance(error, APIError) else UpstreamTimeout()
                    if is_last or loop.time() >= until:
                        raise failure from None
                    _log.warning(
                        "fallback", backend=target.backend.name, error=type(failure).__name__
                    )
                    continue
                self._prefer(target)
                yield first
                async for deltas in turn:
                    yield deltas
                return

    async def count(self, prompt: Prompt) -> int | None:
        """See `Backend.count`."""
        target = self._first
        return await target.backend.count(replace(prompt, model=target.model))

    async def window(self, model: str) -> int | None:  # noqa: ARG002
        """See `Backend.window`."""
        return await self._first.backend.window(self._first.model)

    async def models(self) -> list[Model]:
        """See `Backend.models`: nobody asks for a list of these."""
        return []

    def health(self) -> Health:
        """See `Backend.health`."""
        return self._first.backend.health()

    async def aclose(self) -> None:
        """See `Backend.aclose`: the backends are somebody else's."""

    def _prefer(self, target: Target) -> None:
        if target is not self._first:
            self._targets = [target, *(one for one in self._targets if one is not target)]

    def _can_stand_in(self, prompt: Prompt) -> "_Able":
        first = self._first
        request = prompt.request.model_copy(update={"input": prompt.items})
        return _Able(
            request, set(first.backend.check(request, first.model)), self.media(first.model)
        )


@dataclass(frozen=True, slots=True)
class _Able:
    """Whether a target can do what the first one can (rule 2)."""

    request: CreateResponse
    dropped: set[str]
    media: Media

    def __call__(self, target: Target) -> bool:
        media = target.backend.media(target.model)
        if not (
            self.media.files <= media.files
            and self.media.image_urls <= media.image_urls
            and self.media.made <= media.made
            and self.media.schemas <= media.schemas
        ):
            return False
        try:
            return set(target.backend.check(self.request, target.model)) <= self.dropped
        except InvalidRequestError:
            return False
