"""The backend for Google's Gemini API, and for servers that speak it.

Rules
1. What is sent is made in `request.py`, what comes back is read in `stream.py`, both pure; the I/O
   is that of all adapters (`antiphon.backends.upstream`).
2. Counting and the model list have deadlines of their own, never raise, and leave the circuit
   breaker alone. Who does not count is left in peace for a while; a refusal is about one prompt.
3. A name that clients chose is one segment of the address, whatever is in it.
4. Signatures belong to the model that made them, at its deployment: another one would refuse them.
"""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import orjson

from antiphon.backends.base import Deltas, Health, Media, Model, Prompt
from antiphon.backends.catalog import Catalog, window_of
from antiphon.backends.functions import custom_tool_names
from antiphon.backends.gemini.faults import error_for_status
from antiphon.backends.gemini.messages import Target
from antiphon.backends.gemini.request import check_request, gemini_body
from antiphon.backends.gemini.stream import GeminiStream
from antiphon.backends.gemini.traits import traits_of
from antiphon.backends.upstream import UNREADABLE, Ask, StatusError, Upstream, UpstreamConfig, named
from antiphon.backends.weight import is_heavy
from antiphon.backends.windows import configured_window
from antiphon.errors import APIError
from antiphon.protocol.request import CreateResponse

#: Collections of models that a configured name may begin with.
_COLLECTIONS: Final = ("models", "tunedModels")
#: Rows of a page of the model list, the most that there may be, and pages that are read at most.
_ROWS: Final = 1000
_PAGES: Final = 10
#: Seconds in which a count must be there, and for which nobody is asked after a failure.
_COUNT_TIMEOUT: Final = 5.0
_REST: Final = 30.0


class Gemini:
    """A `Backend`; see `antiphon.backends.base`."""

    def __init__(self, config: UpstreamConfig) -> None:
        self.name = config.name
        self._config = config
        self._base_url = config.base_url.rstrip("/")
        self._upstream = Upstream(config, lambda key: {"x-goog-api-key": key})
        self._catalog = Catalog(self._list)
        self._resting_until = 0.0

    def check(self, request: CreateResponse, model: str) -> list[str]:
        """See `Backend.check`."""
        return check_request(request, traits_of(model))

    def media(self, model: str) -> Media:
        """See `Backend.media`: all is inline, so addresses are fetched by this server."""
        sees, has_schemas = self._target(model).sees, self._config.has_schemas(model) is not False
        return Media(frozenset({"application/pdf"}), False, sees, has_schemas)

    def generate(self, prompt: Prompt) -> Deltas:
        """See `Backend.generate`."""
        request = prompt.request
        target = self._target(prompt.model, request.client_key)
        all_turns = (request.reasoning or {}).get("context") == "all_turns"
        ask = Ask(
            f"{self._address(prompt.model)}:streamGenerateContent?alt=sse",
            partial(_encoded, prompt, target),
            is_heavy(prompt),
            request.model or prompt.model,
            GeminiStream(target.origin, custom_tool_names(request), all_turns=all_turns),
            error_for_status,
            request.client_key,
            prompt.seconds,
        )
        return self._upstream.answer(ask)

    async def count(self, prompt: Prompt) -> int | None:
        """See `Backend.count`."""
        if time.monotonic() < self._resting_until:
            return None
        url = f"{self._address(prompt.model)}:countTokens"
        make = partial(_question, prompt, self._target(prompt.model))
        try:
            async with asyncio.timeout(_COUNT_TIMEOUT):
                body = await asyncio.to_thread(make) if is_heavy(prompt) else make()
                tokens = (await self._upstream.fetch(url, body))["totalTokens"]
        except (*UNREADABLE, KeyError, TypeError) as exc:
            if not (isinstance(exc, StatusError) and exc.status == 400):
                self._resting_until = time.monotonic() + _REST
            self._upstream.tell("upstream_count_failed", named(exc))
            return None
        except APIError as exc:
            self._upstream.tell("upstream_count_failed", exc.message)
            return None
        return tokens if isinstance(tokens, int) else None

    async def window(self, model: str) -> int | None:
        """See `Backend.window`: from the configuration, else from the model list."""
        configured = configured_window(self._config.windows, model)
        if configured is not None:
            return configured
        await self._catalog.known()
        return self._catalog.window(_short(model), sole=False)

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

    def _target(self, model: str, key: str | None = None) -> Target:
        """`key`: the client's own; counts are made with the operator's."""
        sees = self._config.sees(model)
        origin = self._config.origin("gemini", f"{self._base_url}/{_short(model)}", key)
        return Target(model, traits_of(model), origin, sees is not False)

    def _address(self, model: str) -> str:
        return f"{self._base_url}/{_resource(model)}"

    async def _list(self) -> list[Model] | None:
        """The models that answer prompts; None when the list cannot be had."""
        found: list[Model] = []
        token = ""
        try:
            for _ in range(_PAGES):
                more = f"&pageToken={quote(token, safe='')}" if token else ""
                page = await self._upstream.fetch(f"{self._base_url}/models?pageSize={_ROWS}{more}")
                found += [_model(row, self.name) for row in page["models"] if _answers(row)]
                token = page.get("nextPageToken") or ""
                if not token:
                    break
        except (*UNREADABLE, KeyError, TypeError, AttributeError) as exc:
            self._upstream.tell("upstream_models_unknown", named(exc))
            return None
        return found


def _short(model: str) -> str:
    """The name without its usual collection."""
    return model.removeprefix("models/")


def _resource(model: str) -> str:
    collection, slash, name = model.partition("/")
    if slash and collection in _COLLECTIONS:
        return f"{collection}/{quote(name, safe='')}"
    return f"models/{quote(model, safe='')}"


def _encoded(prompt: Prompt, target: Target) -> bytes:
    return orjson.dumps(gemini_body(prompt, target))


def _question(prompt: Prompt, target: Target) -> bytes:
    """The body of ``:countTokens``: all that ``:streamGenerateContent`` would get."""
    asked = {"model": _resource(target.model), **gemini_body(prompt, target)}
    return orjson.dumps({"generateContentRequest": asked})


def _answers(row: Mapping[str, Any]) -> bool:
    """Whether a model of the list makes text; a server that does not say so lists such only."""
    return "generateContent" in row.get("supportedGenerationMethods", ("generateContent",))


def _model(row: Mapping[str, Any], backend: str) -> Model:
    window = window_of(row, (("inputTokenLimit",),))
    return Model(_short(str(row["name"])), backend, context_window=window)
