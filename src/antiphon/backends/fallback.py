"""Several places that have a model, asked one after the other (reliability R-40, R-50, R-51).

Rules
1. The next one is asked when one fails before its first list of deltas, and not for what the client
   has done wrong. Within one run the one that answered last is asked first.
2. Only who can do what the first one would have done takes its place: it refuses nothing, drops
   nothing more, and takes the files, images, schema and hosted tools of the request as they are,
   if the first one does.
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
from antiphon.protocol.items.content import PARTS_IN, seen_of
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

    def check(self, request: CreateResponse, model: str) -> list[str]:
        """See `Backend.check`: what the first one says that takes it."""
        refusal: InvalidRequestError | None = None
        tools = _needed(request, self.media(model)).tools
        for place, target in enumerate(self._targets):
            if not tools <= target.backend.media(target.model).tools:
                continue
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
        try:
            dropped = set(first.backend.check(request, first.model))
        except InvalidRequestError:  # something of the history: it was not asked of the first one
            dropped = set(first.backend.check(prompt.request, first.model))
        return _Able(request, dropped, _needed(request, self.media(first.model)))


@dataclass(frozen=True, slots=True)
class _Able:
    """Whether a target can do what the first one can (rule 2)."""

    request: CreateResponse
    dropped: set[str]
    needed: Media

    def __call__(self, target: Target) -> bool:
        if not _takes(target.backend.media(target.model), self.needed):
            return False
        try:
            return set(target.backend.check(self.request, target.model)) <= self.dropped
        except InvalidRequestError:
            return False


def _takes(media: Media, needed: Media) -> bool:
    return (
        needed.files <= media.files
        and needed.image_urls <= media.image_urls
        and needed.plain_http <= media.plain_http
        and needed.made <= media.made
        and needed.schemas <= media.schemas
        and needed.images <= media.images
        and needed.tools <= media.tools
    )


def _needed(request: CreateResponse, media: Media) -> Media:
    """What the request has of that which was left to a backend as it is."""
    keys = [(item, PARTS_IN[item["type"]]) for item in request.input if item["type"] in PARTS_IN]
    parts = [
        seen_of(part) for item, key in keys if not isinstance(item[key], str) for part in item[key]
    ]
    types = {part["type"] for part in parts} | {item["type"] for item in request.input}
    addresses = [part.get("image_url") or "" for part in parts if part["type"] == "input_image"]
    form = ((request.text or {}).get("format") or {}).get("type", "text")
    return Media(
        media.files if "input_file" in types else frozenset(),
        media.image_urls and not all(address.startswith("data:") for address in addresses),
        media.made and "image_generation_call" in types,
        media.schemas and form != "text",
        media.images and bool(addresses),
        media.tools & {tool["type"] for tool in request.tools or ()},
        media.image_urls and any(address[:5].lower() == "http:" for address in addresses),
    )
