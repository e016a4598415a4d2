"""The backend for servers that speak the Responses API themselves: OpenAI, Azure, vLLM, Ollama and
others.

Rules
1. What is sent is made in `request.py`, what comes back is read in `stream.py`, both pure; the I/O
   is that of all adapters (`antiphon.backends.upstream`).
2. The server keeps nothing for us: our store has the history, and all of it is sent each time.
3. Counting and the model list have deadlines of their own, never raise, and leave the circuit
   breaker alone (`counting.py`, `antiphon.backends.catalog`).
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from antiphon.backends.base import Deltas, Health, Media, Model, Prompt, Relayed, RelayPath
from antiphon.backends.catalog import Catalog, window_of
from antiphon.backends.faults import UNREADABLE_THOUGHTS
from antiphon.backends.functions import custom_tool_names
from antiphon.backends.origins import NOBODY, Origin
from antiphon.backends.profiles import GENERIC
from antiphon.backends.responses.counting import Counter
from antiphon.backends.responses.dialects import (
    Dialect,
    dialect_for,
    dialect_named,
    dialect_of_owner,
    tool_types,
)
from antiphon.backends.responses.faults import error_for_status, error_in_stream
from antiphon.backends.responses.request import check_request, counted_body, responses_body
from antiphon.backends.responses.stream import ResponsesStream
from antiphon.backends.upstream import UNREADABLE, Ask, Upstream, UpstreamConfig, bearer, named
from antiphon.backends.weight import is_heavy
from antiphon.backends.windows import configured_window
from antiphon.errors import APIError
from antiphon.protocol.request import CreateResponse


class Responses:
    """A `Backend`; see `antiphon.backends.base`."""

    def __init__(self, config: UpstreamConfig) -> None:
        """Its profile is a key of `DIALECTS`, else guessed from the address and the model list."""
        self.name = config.name
        self._config = config
        self._base_url = base_url = config.base_url.rstrip("/")
        self._url = f"{base_url}/responses"
        self._models_url = f"{base_url}/models"
        named_here = dialect_named(config.profile) if config.profile else None
        self._dialect = named_here or dialect_for(config.base_url)
        #: Counts are made with the operator's key.
        self._origin = config.origin("responses", base_url)
        self._upstream = Upstream(config, bearer)
        self._catalog = Catalog(self._list)
        self._counter = Counter(f"{self._url}/input_tokens", self._upstream)

    def check(self, request: CreateResponse, model: str) -> list[str]:
        """See `Backend.check`."""
        return check_request(request, self._dialect_of(model))

    def media(self, model: str) -> Media:
        """See `Backend.media`: of files PDF is taken by those who take any."""
        profile = self._dialect_of(model).profile
        files = frozenset({"application/pdf"} if profile.files else ())
        has_schemas = self._config.has_schemas(model) is not False
        tools = tool_types(self._config.hosted_tools)
        return Media(files, profile.image_urls, profile.vision, has_schemas, tools=tools)

    def generate(self, prompt: Prompt) -> Deltas:
        """See `Backend.generate`."""
        return self._upstream.answer(self._ask(prompt, self._dialect_of(prompt.model)))

    def _ask(self, prompt: Prompt, dialect: Dialect, *, remembers: bool = True) -> Ask:
        """`remembers`: it is shown its own thoughts of earlier turns."""
        native = dialect.profile.custom_tools
        origin = self._config.origin("responses", self._base_url, prompt.request.client_key)
        return Ask(
            self._url,
            partial(_encoded, prompt, dialect, origin if remembers else NOBODY),
            is_heavy(prompt),
            prompt.request.model or prompt.model,
            ResponsesStream(
                origin,
                frozenset() if native else custom_tool_names(prompt.request),
                self._config.hosted_tools,
            ),
            error_for_status,
            prompt.request.client_key,
            prompt.seconds,
            partial(self._anew, prompt, dialect) if remembers else None,
        )

    def _anew(self, prompt: Prompt, dialect: Dialect, refusal: APIError) -> Ask | None:
        """See `Ask.anew`: without thoughts that cannot be read any more."""
        if refusal.code != UNREADABLE_THOUGHTS:
            return None
        return self._ask(prompt, dialect, remembers=False)

    async def count(self, prompt: Prompt) -> int | None:
        """See `Backend.count`."""
        dialect = self._dialect_of(prompt.model)
        if not dialect.counts:
            return None
        body = partial(_counted, prompt, dialect, self._origin)
        try:
            return await self._counter.count(body, is_heavy=is_heavy(prompt))
        except APIError as error:  # it cannot be sent either
            self._upstream.tell("upstream_count_failed", error.message)
            return None

    async def window(self, model: str) -> int | None:
        """See `Backend.window`: from the configuration, else from the model list."""
        configured = configured_window(self._config.windows, model)
        profile = self._dialect.profile
        if configured is not None or not profile.windows:
            return configured
        await self._catalog.known()
        return self._catalog.window(model, sole=profile.any_name)

    async def models(self) -> list[Model]:
        """See `Backend.models`."""
        return await self._catalog.refresh()

    def health(self) -> Health:
        """See `Backend.health`."""
        return self._upstream.health()

    def relay(self, path: RelayPath, sent: Relayed) -> AsyncGenerator[bytes, None]:
        """See `Relay.relay`: most of these servers have it, too."""
        return self._upstream.relay(self._base_url + path, sent, error_for_status, error_in_stream)

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._catalog.aclose()
        await self._upstream.aclose()

    def _dialect_of(self, model: str) -> Dialect:
        """The dialect, with what the configuration says of a model."""
        dialect, sees = self._dialect, self._config.sees(model)
        if self._config.hosted_tools:
            dialect = replace(dialect, hosted=self._config.hosted_tools)
        if sees is not None:
            dialect = replace(dialect, profile=replace(dialect.profile, vision=sees))
        return dialect

    async def _list(self) -> list[Model] | None:
        """The model list, from which a kind of server may be known; None when it cannot be had."""
        try:
            rows = list((await self._upstream.fetch(self._models_url))["data"])
            models = [_model(row, self.name) for row in rows]
        except (*UNREADABLE, KeyError, TypeError, AttributeError) as exc:
            self._upstream.tell("upstream_models_unknown", named(exc))
            return None
        if models and self._dialect.name == GENERIC.name and not self._config.profile:
            self._dialect = dialect_of_owner(models[0].owned_by)
        windows = [window_of(row, self._dialect.profile.windows) for row in rows]
        return [
            replace(model, context_window=window)
            for model, window in zip(models, windows, strict=True)
        ]


def _encoded(prompt: Prompt, dialect: Dialect, origin: Origin) -> bytes:
    return orjson.dumps(responses_body(prompt, dialect, origin))


def _counted(prompt: Prompt, dialect: Dialect, origin: Origin) -> bytes:
    return orjson.dumps(counted_body(prompt, dialect, origin))


def _model(row: Mapping[str, Any], backend: str) -> Model:
    created = row.get("created")
    owner = row.get("owned_by")
    return Model(
        str(row["id"]),
        owner if isinstance(owner, str) and owner else backend,
        created if isinstance(created, int) else 0,
    )
