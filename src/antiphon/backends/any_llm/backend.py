"""The backend for providers that any-llm knows.

Rules
1. A prompt is written, and an answer is read, as for a chat-completions server; any-llm turns one
   into the provider's words and the other into chunks.
2. Retries, deadlines and the like are those of all adapters (`antiphon.backends.upstream`), with
   `call.py` in the place of a connection.
"""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from antiphon.backends.answers import Answer
from antiphon.backends.any_llm.call import Call
from antiphon.backends.any_llm.faults import fault_of
from antiphon.backends.any_llm.library import Library
from antiphon.backends.any_llm.request import check_request, library_body
from antiphon.backends.any_llm.traits import Traits
from antiphon.backends.base import Deltas, Health, Media, Model, Prompt
from antiphon.backends.chat_completions.faults import error_for_status
from antiphon.backends.chat_completions.stream import ChatStream
from antiphon.backends.functions import custom_tool_names
from antiphon.backends.profiles import ThinkTags
from antiphon.backends.upstream import Ask, Upstream, UpstreamConfig, bearer
from antiphon.backends.weight import is_heavy
from antiphon.backends.windows import configured_window
from antiphon.protocol.request import CreateResponse

#: Seconds in which a list must be there.
_LIST_TIMEOUT: Final = 10.0


class AnyLLM:
    """A `Backend`; see `antiphon.backends.base`."""

    def __init__(
        self, config: UpstreamConfig, library: Library, think: ThinkTags | None = None
    ) -> None:
        self.name = config.name
        self._config = config
        self._library = library
        profile = library.traits.profile
        self._traits = replace(library.traits, profile=replace(profile, think=think or "tags"))
        self._upstream = Upstream(config, bearer, send=self._send)

    def check(self, request: CreateResponse, model: str) -> list[str]:
        """See `Backend.check`."""
        return check_request(request, self._traits_of(model))

    def media(self, model: str) -> Media:
        """See `Backend.media`: images as data, of files the text."""
        profile = self._traits_of(model).profile
        return Media(
            image_urls=profile.image_urls,
            made=profile.vision,
            schemas=profile.json_schema,
            images="input_image" in profile.media,
        )

    def generate(self, prompt: Prompt) -> Deltas:
        """See `Backend.generate`."""
        traits = self._traits_of(prompt.model)
        ask = Ask(
            "",
            partial(library_body, prompt, traits),
            is_heavy(prompt),
            prompt.request.model or prompt.model,
            ChatStream(traits.profile, custom_tool_names(prompt.request)),
            error_for_status,
            None,
            prompt.seconds,
        )
        return self._upstream.answer(ask)

    async def count(self, prompt: Prompt) -> int | None:  # noqa: ARG002
        """See `Backend.count`: any-llm counts nothing."""
        return None

    async def window(self, model: str) -> int | None:
        """See `Backend.window`: any-llm's lists have none."""
        return configured_window(self._config.windows, model)

    async def models(self) -> list[Model]:
        """See `Backend.models`."""
        if not self._library.lists:
            return []
        try:
            async with asyncio.timeout(_LIST_TIMEOUT):
                rows = await self._library.provider.alist_models()
        except self._library.errors as error:
            self._upstream.tell("upstream_models_unknown", str(fault_of(error, early=True)))
            return []
        except TimeoutError:
            self._upstream.tell("upstream_models_unknown", "no answer in time")
            return []
        return [Model(row.id, row.owned_by or self.name, row.created) for row in rows]

    def health(self) -> Health:
        """See `Backend.health`."""
        return self._upstream.health()

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._upstream.aclose()

    async def _send(self, _: object, body: bytes) -> Answer:
        return await Call(self._library, orjson.loads(body), self._config.total_timeout).begun()

    def _traits_of(self, model: str) -> Traits:
        """The traits, with what the configuration says of a model."""
        profile = self._traits.profile
        sees, has_schemas = self._config.sees(model), self._config.has_schemas(model)
        if sees is not None:
            profile = replace(profile, vision=sees)
        if has_schemas is not None:
            profile = replace(profile, json_schema=has_schemas)
        return replace(self._traits, profile=profile)
