"""The backend for a GGUF file on this machine.

Rules
1. The model is asked as any llama.cpp server (`chat_completions`), at the address where its
   `Engine` has it; there is no second way to make a request or to read an answer.
2. It is loaded by the first turn or count, and not by a list, a check or a window.
3. A model without `mmproj` sees and hears nothing: an image is a 400 before anything is loaded,
   and earlier ones are told in words.
4. What it is never sent is in `refusals.py`; that goes for what is only passed on, too.
5. A file with a model that makes vectors is asked for vectors, and for nothing else.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import orjson

from antiphon.backends.base import Deltas, Health, Media, Model, Prompt, Relayed, RelayPath
from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.chat_completions.request import check_request
from antiphon.backends.local.engine import Address, Engine, Load
from antiphon.backends.local.refusals import (
    refuse_addresses,
    refuse_long_schemas,
    refuse_relayed,
    refuse_task,
)
from antiphon.backends.profiles import PROFILES
from antiphon.backends.upstream import UpstreamConfig
from antiphon.errors import UpstreamError
from antiphon.protocol.request import CreateResponse

_PROFILE: Final = "llama.cpp"
#: What `mmproj` adds. Videos are none: llama.cpp would fetch them itself.
_SIGHT: Final = frozenset({"input_audio", "input_image"})


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """One model. `chat`: how it is asked, all but where; see `Engine`."""

    load: Load
    chat: UpstreamConfig
    idle_unload: float | None = None
    preload: bool = False


class Local:
    """A `Backend`; see `antiphon.backends.base`."""

    def __init__(self, config: LocalConfig) -> None:
        self.name = config.chat.name
        self._config = config
        sees = config.load.mmproj is not None
        self._profile = replace(
            PROFILES[_PROFILE],
            media=_SIGHT if sees else frozenset(),
            vision=sees,
            image_urls=False,
        )
        self._engine = Engine(self.name, config.load, config.idle_unload)
        #: Who asks it, and where that is.
        self._asking: tuple[Address, ChatCompletions] | None = None
        #: How calls ended before it was loaded this time.
        self._ended: Counter[str] = Counter()

    def check(self, request: CreateResponse, model: str) -> list[str]:  # noqa: ARG002
        """See `Backend.check`."""
        refuse_task("/chat/completions", vectors=self._config.load.vectors)
        refuse_long_schemas(request)
        return check_request(request, self._profile)

    def media(self, model: str) -> Media:  # noqa: ARG002
        """See `Backend.media`."""
        sees = self._profile.vision
        return Media(images=sees, image_urls=False, made=sees)

    async def generate(self, prompt: Prompt) -> Deltas:
        """See `Backend.generate`."""
        refuse_long_schemas(prompt.request)  # of tools that servers have told of, too
        refuse_addresses(prompt.items)
        async with self._engine.use() as address:
            chat = await self._at(address)
            async with aclosing(chat.generate(prompt)) as turn:
                async for deltas in turn:
                    yield deltas

    async def relay(self, path: RelayPath, sent: Relayed) -> AsyncGenerator[bytes, None]:
        """See `Relay.relay`."""
        refuse_task(path, vectors=self._config.load.vectors)
        await asyncio.to_thread(lambda: refuse_relayed(orjson.loads(sent.body)))
        async with self._engine.use() as address:
            chat = await self._at(address)
            async with aclosing(chat.relay(path, sent)) as answer:
                async for piece in answer:
                    yield piece

    async def count(self, prompt: Prompt) -> int | None:
        """See `Backend.count`."""
        try:
            async with self._engine.use() as address:
                chat = await self._at(address)
                return await chat.count(prompt)
        except UpstreamError:
            return None  # the turn will say so

    async def window(self, model: str) -> int | None:  # noqa: ARG002
        """See `Backend.window`."""
        return self._config.load.window

    async def models(self) -> list[Model]:
        """See `Backend.models`: the one that it has, by the name of its file."""
        path = Path(self._config.load.path)
        return [Model(path.stem, self.name, context_window=self._config.load.window)]

    def health(self) -> Health:
        """See `Backend.health`."""
        now = self._asking[1].health() if self._asking is not None else Health()
        outcomes = now.outcomes.keys() | self._ended.keys()
        return Health(
            now.is_resting, {how: now.outcomes.get(how, 0) + self._ended[how] for how in outcomes}
        )

    def start(self) -> None:
        """Load it now, if it is not to wait until it is asked."""
        if self._config.preload:
            self._engine.preload()

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        if self._asking is not None:
            await self._asking[1].aclose()
        await self._engine.aclose()

    async def _at(self, address: Address) -> ChatCompletions:
        """Who asks the model there."""
        before = self._asking
        if before is None or before[0] != address:
            config = replace(self._config.chat, base_url=address.url, api_key=address.key)
            self._asking = (address, ChatCompletions(config, profile=self._profile))
            if before is not None:
                self._ended.update(before[1].health().outcomes)
                await before[1].aclose()
            return self._asking[1]
        return before[1]
