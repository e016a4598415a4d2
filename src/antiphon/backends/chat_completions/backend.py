"""The backend for servers that speak chat-completions: vLLM, Ollama, llama.cpp, OpenAI and others.

Rules
1. This file does the I/O and nothing else: what is sent is made in `request.py`, what comes back is
   read in `stream.py`, both pure.
2. Whole reads are passed on as they come; a slow reader slows the upstream down (R-117).
3. Retries happen before the first byte only, within one deadline (R-40). Every failure is an
   `APIError`; what the upstream said about it goes to the log and nowhere else (R-42).
4. Leaving `generate` in any way closes the upstream call, unless its last byte was read (R-53).
5. A large body is made in a thread, so that nobody else waits for it (R-118).
6. Counting and the model list have deadlines of their own, never raise, and leave the circuit
   breaker alone (`tokenize.py`, `catalog.py`).
"""

import asyncio
import io
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import aiohttp
import orjson
import structlog

from antiphon import __version__
from antiphon.backends.base import Deltas, Model, Prompt
from antiphon.backends.chat_completions.catalog import Catalog, window_of
from antiphon.backends.chat_completions.faults import (
    UpstreamFaultError,
    error_for_status,
    printable,
)
from antiphon.backends.chat_completions.request import chat_body, check_request, custom_tool_names
from antiphon.backends.chat_completions.stream import ChatStream
from antiphon.backends.chat_completions.tokenize import Tokenizer, root_of
from antiphon.backends.chat_completions.weight import is_heavy
from antiphon.backends.idle import IdleTimer
from antiphon.backends.profiles import (
    GENERIC,
    Profile,
    ThinkTags,
    profile_for,
    profile_named,
    profile_of_owner,
)
from antiphon.backends.resilience import BreakerSettings, CircuitBreaker, backoff, retry_after
from antiphon.backends.windows import NO_WINDOWS, configured_window
from antiphon.errors import APIError, RateLimitError, UpstreamError, UpstreamTimeout
from antiphon.protocol.request import CreateResponse

_log = structlog.get_logger(__name__)

#: A longer `Retry-After` is the client's to wait for, in seconds.
_LONGEST_OWN_WAIT: Final = 2.0
#: Bytes of an error body that are read.
_ERROR_BODY: Final = 64 * 1024
#: Seconds to wait for usage and ``[DONE]`` after the finish_reason.
_GRACE: Final = 5.0
#: Seconds to wait for the end of the body after ``[DONE]``, so that the connection can be kept.
_DRAIN: Final = 0.05
#: Seconds in which a model list must be there.
_LIST_TIMEOUT: Final = 10.0
#: Bytes of a request that are written in one go; aiohttp sends a file piece by piece.
_AT_ONCE: Final = 1 << 20
#: Bytes of an answer that are taken at a time: their deltas and events wait with a slow reader
#
_PIECE: Final = 64 * 1024
#: Connections to one upstream at a time; more requests wait within their first-byte deadline.
_CONNECTIONS: Final = 1024


@dataclass(frozen=True, slots=True)
class ChatCompletionsConfig:
    """One upstream. Times in seconds."""

    name: str
    #: With the version in it: ``http://127.0.0.1:8001/v1``.
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    #: A key of `PROFILES`; None guesses from the address and the model list.
    profile: str | None = None
    #: Overrides the profile: chain of thought in tags in the text.
    think: ThinkTags | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    #: Name at the upstream, or a wildcard → tokens; what is not there is asked of the model list.
    windows: Mapping[str, int] = field(default_factory=lambda: NO_WINDOWS)
    connect_timeout: float = 5.0
    first_byte_timeout: float = 60.0
    idle_timeout: float = 60.0
    total_timeout: float = 3600.0
    max_retries: int = 2
    #: Before the first retry, give or take half; doubled for each further one.
    retry_wait: float = 0.25
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


class ChatCompletions:
    """A `Backend`; see `antiphon.backends.base`."""

    def __init__(self, config: ChatCompletionsConfig) -> None:
        self.name = config.name
        self._config = config
        base_url = config.base_url.rstrip("/")
        self._chat_url = f"{base_url}/chat/completions"
        self._models_url = f"{base_url}/models"
        self._timeout = aiohttp.ClientTimeout(
            total=config.total_timeout, sock_connect=config.connect_timeout
        )
        profile = profile_named(config.profile) if config.profile else profile_for(config.base_url)
        self._profile = replace(profile, think=config.think) if config.think else profile
        self._breaker = CircuitBreaker(config.breaker)
        self._session: aiohttp.ClientSession | None = None
        self._catalog = Catalog(self._list)
        self._tokenizer = Tokenizer(config.base_url, self._client, self._tell)

    def check(self, request: CreateResponse) -> list[str]:
        """See `Backend.check`."""
        return check_request(request, self._profile)

    async def generate(self, prompt: Prompt) -> Deltas:
        """See `Backend.generate`."""
        stream = ChatStream(self._profile, custom_tool_names(prompt.request))
        if is_heavy(prompt):
            body = await asyncio.to_thread(_encoded, prompt, self._profile)
        else:
            body = _encoded(prompt, self._profile)
        response = await self._open(body, prompt.request.model or prompt.model)
        try:
            if response.content_type == "text/event-stream":
                yield []
            with IdleTimer(self._config.first_byte_timeout, response.close) as timer:
                while not stream.done:
                    data = await self._read(response, stream, timer)
                    deltas = stream.feed(data) if data else stream.close()
                    if deltas:
                        yield deltas
                    idle = self._config.idle_timeout
                    timer.allow(min(_GRACE, idle) if stream.finished else idle)
            self._breaker.succeeded()
            await _drain(response)
        except UpstreamFaultError as fault:
            self._tell("upstream_fault", fault.detail)
            raise fault.error from None
        finally:
            # Closes the connection unless the whole body was read.
            response.close()

    async def count(self, prompt: Prompt) -> int | None:
        """See `Backend.count`."""
        if self._is_guessing():
            await self._catalog.known()
        return await self._tokenizer.count(prompt, self._profile)

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

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._catalog.aclose()
        if self._session:
            await self._session.close()

    def _is_guessing(self) -> bool:
        """Nobody has said yet what kind of server this is."""
        return self._profile.name == GENERIC.name and not self._config.profile

    async def _list(self) -> list[Model] | None:
        """The model list, from which a kind of server may be known; None when it cannot be had."""
        try:
            rows = await self._rows(self._models_url)
            models = [_model(row, self.name) for row in rows]
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as exc:
            self._tell("upstream_models_unknown", _named(exc))
            return None
        if models and self._is_guessing():
            found = profile_of_owner(models[0].owned_by)
            self._profile = replace(found, think=self._config.think or found.think)
        if self._profile.windows_at is not None:
            rows = await self._other_rows(self._profile.windows_at)
        windows = {str(row.get("id")): window_of(row, self._profile.windows) for row in rows}
        return [replace(model, context_window=windows.get(model.id)) for model in models]

    async def _other_rows(self, path: str) -> list[dict[str, Any]]:
        """The objects of a list at another place; none when it cannot be had."""
        try:
            return await self._rows(root_of(self._config.base_url) + path)
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as exc:
            self._tell("upstream_windows_unknown", _named(exc))
            return []

    async def _rows(self, url: str) -> list[dict[str, Any]]:
        """The objects of a list. Raises what aiohttp does, ValueError, KeyError or TypeError."""
        timeout = aiohttp.ClientTimeout(
            total=_LIST_TIMEOUT, sock_connect=self._config.connect_timeout
        )
        async with self._client().get(url, allow_redirects=False, timeout=timeout) as response:
            response.raise_for_status()
            rows: list[Any] = list(orjson.loads(await response.read())["data"])
        if not all(isinstance(row, dict) for row in rows):
            raise TypeError("a row of the list is no object")
        return rows

    async def _open(self, body: bytes, model: str) -> aiohttp.ClientResponse:
        """An answer with status 200, after retries; all of it within one deadline."""
        self._breaker.admit()
        try:
            async with asyncio.timeout(self._config.first_byte_timeout):
                response = await self._post_until_accepted(body, model)
            self._breaker.accepted()
            return response
        except TimeoutError:
            self._breaker.failed()
            self._tell("upstream_timeout", "no answer in time")
            raise UpstreamTimeout from None
        except _RefusedError as refused:
            if refused.broken:
                self._breaker.failed()
            else:
                self._breaker.accepted()
            raise refused.error from None
        finally:
            self._breaker.release()

    async def _post_until_accepted(self, body: bytes, model: str) -> aiohttp.ClientResponse:
        attempt = 0
        while True:
            try:
                return await self._post(body, model)
            except _RefusedError as refused:
                attempt += 1
                asked = refused.error.retry_after or 0.0
                if (
                    attempt > self._config.max_retries
                    or not refused.may_pass
                    or asked > _LONGEST_OWN_WAIT
                ):
                    raise
            await asyncio.sleep(max(backoff(attempt, self._config.retry_wait), asked))

    async def _post(self, body: bytes, model: str) -> aiohttp.ClientResponse:
        """One attempt. Raises `_RefusedError` unless the status is 200."""
        data = body if len(body) <= _AT_ONCE else io.BytesIO(body)
        try:
            response = await self._client().post(
                self._chat_url, data=data, allow_redirects=False, timeout=self._timeout
            )
        except (aiohttp.ClientError, OSError) as exc:
            self._tell("upstream_unreachable", _named(exc))
            late = isinstance(exc, TimeoutError)
            raise _RefusedError(
                UpstreamTimeout() if late else UpstreamError(), broken=True
            ) from None
        if response.status == 200:
            return response
        try:
            said = await response.content.read(_ERROR_BODY)
        except (aiohttp.ClientError, OSError) as exc:
            said = _named(exc).encode()
        finally:
            response.close()
        error = error_for_status(response.status, said, model)
        if isinstance(error, RateLimitError):
            error.retry_after = retry_after(response.headers, time.time())
        self._tell("upstream_refused", said.decode(errors="replace"), response.status)
        raise _RefusedError(error, broken=response.status >= 500)

    async def _read(
        self, response: aiohttp.ClientResponse, stream: ChatStream, timer: IdleTimer
    ) -> bytes:
        """The next bytes, empty at the end. Raises `UpstreamFaultError`."""
        timer.begin()
        try:
            return await response.content.read(_PIECE)
        except (aiohttp.ClientError, OSError) as exc:
            if stream.finished:
                return b""  # all that counts was said
            self._breaker.failed()
            late = timer.expired or isinstance(exc, TimeoutError)
            error = UpstreamTimeout if late else UpstreamError
            raise UpstreamFaultError(error(should_retry=False), f"cut off: {_named(exc)}") from None
        finally:
            timer.end()

    def _client(self) -> aiohttp.ClientSession:
        """The session; made here because it belongs to the running loop."""
        if self._session is None:
            headers = {
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",  # decompressing every chunk costs more than it saves
                "User-Agent": f"antiphon/{__version__}",
            }
            if self._config.api_key:
                headers["Authorization"] = f"Bearer {self._config.api_key}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={**headers, **self._config.headers},
            )
        return self._session

    def _tell(self, event: str, detail: str, status: int | None = None) -> None:
        """A line for the operator; 401 and 403 are theirs to mend (R-41)."""
        if self._config.api_key:
            detail = detail.replace(self._config.api_key, "…")
        level = logging.ERROR if status in (401, 402, 403) else logging.WARNING
        _log.log(level, event, backend=self.name, status=status, detail=printable(detail))


class _RefusedError(Exception):
    """One attempt failed. `broken`: the upstream's own failure, not its answer to the request."""

    def __init__(self, error: APIError, *, broken: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.broken = broken

    @property
    def may_pass(self) -> bool:
        """The same request may succeed a moment later."""
        rate = isinstance(self.error, RateLimitError) and self.error.should_retry is not False
        return self.broken or rate


def _encoded(prompt: Prompt, profile: Profile) -> bytes:
    return orjson.dumps(chat_body(prompt, profile))


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the end of the body, which follows ``[DONE]``: the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN):
            while not response.content.at_eof():
                await response.content.readany()
    except (aiohttp.ClientError, OSError):
        return


def _named(exc: Exception) -> str:
    """Not `repr`: aiohttp puts all headers of the request into it, keys included (R-130)."""
    return f"{type(exc).__name__}: {exc}"


def _model(row: Mapping[str, Any], backend: str) -> Model:
    created = row.get("created")
    owner = row.get("owned_by")
    return Model(
        str(row["id"]),
        owner if isinstance(owner, str) and owner else backend,
        created if isinstance(created, int) else 0,
    )
