"""The backend for servers that speak Anthropic's Messages API.

Rules
1. What is sent is made in `request.py`, what comes back is read in `stream.py`, both pure; the I/O
   is that of all adapters (`antiphon.backends.upstream`).
2. Counting and the model list have deadlines of their own, never raise, and leave the circuit
   breaker alone (`counting.py`, `antiphon.backends.catalog`).
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import orjson

from antiphon.backends.anthropic.counting import Counter
from antiphon.backends.anthropic.faults import error_for_status
from antiphon.backends.anthropic.profiles import Profile, profile_for
from antiphon.backends.anthropic.request import Asking, check_request, messages_body
from antiphon.backends.anthropic.stream import MessagesStream
from antiphon.backends.anthropic.thoughts import Memory
from antiphon.backends.base import Deltas, Health, Media, Model, Prompt
from antiphon.backends.catalog import Catalog, window_of
from antiphon.backends.functions import custom_tool_names
from antiphon.backends.upstream import UNREADABLE, Ask, Upstream, UpstreamConfig, named
from antiphon.backends.weight import is_heavy
from antiphon.backends.windows import configured_window
from antiphon.protocol.request import CreateResponse

#: The version of the API that is spoken. In the next one (2026-10-21) no model takes `temperature`.
_VERSION: Final = "2023-06-01"
#: Pages of a model list, of `_PAGE` models each.
_PAGES: Final = 10
_PAGE: Final = 1_000
#: Where the list has the window.
_WINDOW: Final = (("max_input_tokens",),)
#: What is sent, but has nothing to do with the input.
_NOT_COUNTED: Final = frozenset(
    {"cache_control", "max_tokens", "metadata", "stream", "temperature", "top_p"}
)


class Anthropic:
    """A `Backend`; see `antiphon.backends.base`."""

    def __init__(self, config: UpstreamConfig) -> None:
        """The profile is the name of a model that all are like; None: each by its own name."""
        self.name = config.name
        self._config = config
        base_url = config.base_url.rstrip("/")
        self._messages_url = f"{base_url}/messages"
        self._models_url = f"{base_url}/models?limit={_PAGE}"
        self._base_url = base_url
        self._upstream = Upstream(
            config, lambda key: {"x-api-key": key}, {"anthropic-version": _VERSION}
        )
        self._catalog = Catalog(self._list)
        self._counter = Counter(self._upstream, f"{base_url}/messages/count_tokens")

    def check(self, request: CreateResponse, model: str) -> list[str]:
        """See `Backend.check`."""
        return check_request(request, self._profile(model))

    def media(self, model: str) -> Media:
        """See `Backend.media`: it fetches from addresses with TLS only."""
        profile = self._profile(model)
        files = frozenset({"application/pdf"} if profile.sees else ())
        return Media(files, profile.sees, self._shows(model), profile.schemas, plain_http=False)

    def generate(self, prompt: Prompt) -> Deltas:
        """See `Backend.generate`."""
        memory = self._memory(prompt.model, prompt.request.client_key)
        ask = Ask(
            self._messages_url,
            partial(_encoded, prompt, self._asking(prompt), memory),
            is_heavy(prompt),
            prompt.request.model or prompt.model,
            MessagesStream(memory, custom_tool_names(prompt.request)),
            error_for_status,
            prompt.request.client_key,
            prompt.seconds,
        )
        return self._upstream.answer(ask)

    async def count(self, prompt: Prompt) -> int | None:
        """See `Backend.count`."""
        memory = self._memory(prompt.model)
        body = partial(_counted, prompt, self._asking(prompt), memory)
        return await self._counter.count(body, in_thread=is_heavy(prompt))

    async def window(self, model: str) -> int | None:
        """See `Backend.window`: from the configuration, the model list, or the profile."""
        configured = configured_window(self._config.windows, model)
        if configured is not None:
            return configured
        await self._catalog.known()
        return self._catalog.window(model, sole=False) or self._profile(model).window

    async def models(self) -> list[Model]:
        """See `Backend.models`."""
        return await self._catalog.refresh()

    def health(self) -> Health:
        """See `Backend.health`."""
        return self._upstream.health()

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._catalog.aclose()
        await self._upstream.aclose()

    def _profile(self, model: str) -> Profile:
        """The profile, with what the configuration says of a model."""
        profile = profile_for(self._config.profile or model)
        has_schemas = self._config.has_schemas(model)
        return profile if has_schemas is None else replace(profile, schemas=has_schemas)

    def _memory(self, model: str, key: str | None = None) -> Memory:
        """`key`: the client's own; counts are made with the operator's."""
        origin = self._config.origin("anthropic", self._base_url, key)
        return Memory(origin, model, signed=self._profile(model).native)

    def _shows(self, model: str) -> bool:
        """Whether the model is shown the images that tools of this server make."""
        sees = self._config.sees(model)
        return self._profile(model).sees if sees is None else sees

    def _asking(self, prompt: Prompt) -> Asking:
        return Asking(prompt.request, self._profile(prompt.model), self._shows(prompt.model))

    async def _list(self) -> list[Model] | None:
        """The model list, page by page; None when it cannot be had."""
        models: list[Model] = []
        url = self._models_url
        try:
            for _ in range(_PAGES):
                page = await self._upstream.fetch(url)
                models += [_model(row, self.name) for row in page["data"]]
                if not page.get("has_more"):
                    break
                url = f"{self._models_url}&after_id={page['last_id']}"
        except (*UNREADABLE, AttributeError, KeyError, TypeError) as exc:
            self._upstream.tell("upstream_models_unknown", named(exc))
            return None
        return models


def _encoded(prompt: Prompt, asking: Asking, memory: Memory) -> bytes:
    return orjson.dumps(messages_body(prompt, asking, memory))


def _counted(prompt: Prompt, asking: Asking, memory: Memory) -> bytes:
    body = messages_body(prompt, asking, memory)
    return orjson.dumps({key: body[key] for key in body if key not in _NOT_COUNTED})


def _model(row: Mapping[str, Any], backend: str) -> Model:
    return Model(str(row["id"]), backend, _seconds(row), window_of(row, _WINDOW))


def _seconds(row: Mapping[str, Any]) -> int:
    """When a model was made."""
    made = row.get("created_at", row.get("created"))
    if isinstance(made, str):
        try:
            return max(0, int(datetime.fromisoformat(made).timestamp()))
        except ValueError:
            return 0
    return made if isinstance(made, int) else 0
