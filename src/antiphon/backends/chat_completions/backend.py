"""The backend for servers that speak chat-completions: vLLM, Ollama, llama.cpp, OpenAI and others.

Rules
1. What is sent is made in `request.py`, what comes back is read in `stream.py`, both pure; the I/O
   is that of all adapters (`antiphon.backends.upstream`).
2. Counting and the model list have deadlines of their own, never raise, and leave the circuit
   breaker alone (`tokenize.py`, `antiphon.backends.catalog`).
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson

from antiphon.backends.base import Deltas, Health, Media, Model, Prompt, Relayed, RelayPath
from antiphon.backends.catalog import Catalog, window_of
from antiphon.backends.chat_completions.faults import error_for_status, error_in_stream
from antiphon.backends.chat_completions.quirks import QuirkRefused
from antiphon.backends.chat_completions.request import chat_body, check_request
from antiphon.backends.chat_completions.stream import ChatStream
from antiphon.backends.chat_completions.tokenize import Tokenizer, root_of
from antiphon.backends.functions import custom_tool_names
from antiphon.backends.profiles import (
    GENERIC,
    Profile,
    ThinkTags,
    profile_for,
    profile_named,
    profile_of_owner,
)
from antiphon.backends.upstream import UNREADABLE, Ask, Upstream, UpstreamConfig, bearer, named
from antiphon.backends.weight import is_heavy
from antiphon.backends.windows import configured_window
from antiphon.errors import APIError
from antiphon.protocol.request import CreateResponse

#: Models of which something is remembered.
_MOST_MODELS: Final = 1_000


class ChatCompletions:
    """A `Backend`; see `antiphon.backends.base`."""

    def __init__(
        self,
        config: UpstreamConfig,
        think: ThinkTags | None = None,
        profile: Profile | None = None,
    ) -> None:
        """Its profile is the one that is given, a key of `PROFILES`, or guessed from the address
        and the model list. `think` overrides it: chain of thought in tags in the text."""
        self.name = config.name
        self._config = config
        self._think = think
        self._base_url = config.base_url.rstrip("/")
        self._chat_url = f"{self._base_url}/chat/completions"
        self._models_url = f"{self._base_url}/models"
        if profile is None:
            name = config.profile
            profile = profile_named(name) if name else profile_for(config.base_url)
        self._profile = replace(profile, think=think) if think else profile
        #: By models, what of the profile is another for them: they have refused something.
        self._learned: dict[str, dict[str, Any]] = {}
        self._upstream = Upstream(config, bearer)
        self._catalog = Catalog(self._list)
        self._tokenizer = Tokenizer(config.base_url, self._upstream.ask_aside, self._upstream.tell)

    def check(self, request: CreateResponse, model: str) -> list[str]:
        """See `Backend.check`."""
        return check_request(request, self._profile_of(model))

    def media(self, model: str) -> Media:
        """See `Backend.media`: of files only PDF has a place in a chat message."""
        profile = self._profile_of(model)
        files = frozenset({"application/pdf"} if profile.files else ())
        return Media(
            files,
            profile.image_urls,
            profile.vision,
            profile.json_schema,
            "input_image" in profile.media,
        )

    def generate(self, prompt: Prompt) -> Deltas:
        """See `Backend.generate`."""
        return self._upstream.answer(self._ask(prompt, self._profile_of(prompt.model)))

    def _ask(self, prompt: Prompt, profile: Profile, learned: dict[str, Any] | None = None) -> Ask:
        """`learned`: what of the profile is another, because something was refused."""
        return Ask(
            self._chat_url,
            partial(_encoded, prompt, profile),
            is_heavy(prompt),
            prompt.request.model or prompt.model,
            ChatStream(profile, custom_tool_names(prompt.request)),
            error_for_status,
            prompt.request.client_key,
            prompt.seconds,
            partial(self._anew, prompt, profile, learned or {}),
            partial(self._remember, prompt.model, learned) if learned else None,
        )

    def relay(self, path: RelayPath, sent: Relayed) -> AsyncGenerator[bytes, None]:
        """See `Relay.relay`."""
        return self._upstream.relay(self._base_url + path, sent, error_for_status, error_in_stream)

    async def count(self, prompt: Prompt) -> int | None:
        """See `Backend.count`."""
        if self._is_guessing():
            await self._catalog.known()
        return await self._tokenizer.count(prompt, self._profile_of(prompt.model))

    async def window(self, model: str) -> int | None:
        """See `Backend.window`: from the configuration, else from the model list."""
        configured = configured_window(self._config.windows, model)
        if configured is not None or not self._profile.windows:
            return configured
        await self._catalog.known()
        return self._catalog.window(model, sole=self._profile.any_name)

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

    def _profile_of(self, model: str) -> Profile:
        """The profile, with what the configuration says of a model."""
        profile, config = self._profile, self._config
        if model in self._learned:
            profile = replace(profile, **self._learned[model])
        if config.vision is None and config.json_schema is None:
            return profile
        sees, has_schemas = config.sees(model), config.has_schemas(model)
        if sees is not None:
            profile = replace(profile, vision=sees)
        if has_schemas is not None:
            profile = replace(profile, json_schema=has_schemas)
        return profile

    def _anew(
        self, prompt: Prompt, asked: Profile, learned: dict[str, Any], refusal: APIError
    ) -> Ask | None:
        """See `Ask.anew`: as the model wants it."""
        change = refusal.mend(asked) if isinstance(refusal, QuirkRefused) else None
        if change is None:
            return None
        return self._ask(prompt, replace(asked, **change), {**learned, **change})

    def _remember(self, model: str, learned: dict[str, Any]) -> None:
        """It was right: a refusal alone may quote what a client has said."""
        if len(self._learned) >= _MOST_MODELS:  # some servers take any name
            self._learned.clear()
        self._upstream.tell("upstream_quirk", f"{model} is asked with {learned} from now on")
        self._learned[model] = {**self._learned.get(model, {}), **learned}

    def _is_guessing(self) -> bool:
        """Nobody has said yet what kind of server this is."""
        return self._profile.name == GENERIC.name and not self._config.profile

    async def _list(self) -> list[Model] | None:
        """The model list, from which a kind of server may be known; None when it cannot be had."""
        try:
            rows = await self._rows(self._models_url)
            models = [_model(row, self.name) for row in rows]
        except (*UNREADABLE, KeyError, TypeError) as exc:
            self._upstream.tell("upstream_models_unknown", named(exc))
            return None
        if models and self._is_guessing():
            found = profile_of_owner(models[0].owned_by)
            self._profile = replace(found, think=self._think or found.think)
        if self._profile.windows_at is not None:
            rows = await self._other_rows(self._profile.windows_at)
        windows = {str(row.get("id")): window_of(row, self._profile.windows) for row in rows}
        return [replace(model, context_window=windows.get(model.id)) for model in models]

    async def _other_rows(self, path: str) -> list[dict[str, Any]]:
        """The objects of a list at another place; none when it cannot be had."""
        try:
            return await self._rows(root_of(self._config.base_url) + path)
        except (*UNREADABLE, KeyError, TypeError) as exc:
            self._upstream.tell("upstream_windows_unknown", named(exc))
            return []

    async def _rows(self, url: str) -> list[dict[str, Any]]:
        """The objects of a list. Raises `UNREADABLE`, KeyError or TypeError."""
        rows: list[Any] = list((await self._upstream.fetch(url))["data"])
        if not all(isinstance(row, dict) for row in rows):
            raise TypeError("a row of the list is no object")
        return rows


def _encoded(prompt: Prompt, profile: Profile) -> bytes:
    return orjson.dumps(chat_body(prompt, profile))


def _model(row: Mapping[str, Any], backend: str) -> Model:
    created = row.get("created")
    owner = row.get("owned_by")
    return Model(
        str(row["id"]),
        owner if isinstance(owner, str) and owner else backend,
        created if isinstance(created, int) else 0,
    )
