"""Asking a model server over HTTP: one request, and one answer that is read as it comes.

Rules
1. This file does the I/O of all adapters and nothing else: what is sent, and what comes back, is
   for pure code of theirs (`Ask`).
2. Whole reads are passed on as they come; a slow reader slows the upstream down (R-117).
3. Retries happen before the first byte only (R-40). Every failure is an `APIError`; what the
   upstream said about it goes to the log and nowhere else (R-42).
4. Leaving `Upstream.answer` in any way closes the call, unless its last byte was read (R-53).
5. There is one deadline for the first byte (R-44): for a place, all tries, the head, and the first
   byte after it. A place may take half of it, so that the upstream has time to answer, and is not
   blamed for our queue.
6. What is passed on and not streamed has its first byte when all is said: it may take as long as a
   whole turn, and is tried again only after failures that came soon, so that no long work is done
   twice.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias

import orjson
import structlog

from antiphon import __version__
from antiphon.backends.answers import Answer, drain, read_up_to
from antiphon.backends.base import CLIENT_KEY, Deltas, Health, Relayed
from antiphon.backends.faults import UpstreamFaultError, printable
from antiphon.backends.http1.client import Client
from antiphon.backends.http1.target import merged
from antiphon.backends.idle import IdleTimer
from antiphon.backends.outcomes import Record, RefusedError, outcome_of
from antiphon.backends.passage import Passage, by_name
from antiphon.backends.resilience import backoff, retry_after
from antiphon.backends.server import UpstreamConfig
from antiphon.errors import (
    APIError,
    InvalidRequestError,
    Overloaded,
    RateLimitError,
    UpstreamError,
    UpstreamTimeout,
)
from antiphon.protocol.deltas import Delta

__all__ = [
    "UNREADABLE",
    "Ask",
    "Reader",
    "Refusal",
    "StatusError",
    "Upstream",
    "UpstreamConfig",
    "bearer",
    "named",
    "read_up_to",
]

_log = structlog.get_logger(__name__)

#: A longer `Retry-After` is the client's to wait for, in seconds.
_LONGEST_OWN_WAIT: Final = 2.0
#: Bytes of an error body that are read.
_ERROR_BODY: Final = 64 * 1024
#: The part of the time for the first byte in which there has to be a place.
_FOR_A_PLACE: Final = 0.5
#: Seconds in which a failure has cost an answer that is not streamed little work.
_SOON: Final = 10.0
#: Seconds to wait for usage and the last event after the model has come to its end, and for what a
#: server says behind the status of a refusal.
_GRACE: Final = 5.0
#: Seconds in which a list must be there.
_LIST_TIMEOUT: Final = 10.0
#: Bytes of a list that are read.
_LIST: Final = 32 * 1024 * 1024
#: Bytes of an answer that are taken at a time: their deltas and events wait with a slow reader
#
_PIECE: Final = 64 * 1024
#: Characters from which on the value of a header may be a secret.
_SECRET: Final = 8
_WEB_PAGE: Final = "text/html"
#: What `Upstream.fetch` raises.
UNREADABLE: Final = (OSError, ValueError)


class StatusError(ValueError):
    """A question was refused."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


#: Status, body and client's name of the model → error, for an answer that is no success. A 429 has
#: the `retry_after` of the body, if there is one; that of the headers comes first.
Refusal: TypeAlias = Callable[[int, bytes, str], APIError]


#: A key → the headers that carry it.
Auth: TypeAlias = Callable[[str], Mapping[str, str]]
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


def bearer(key: str) -> Mapping[str, str]:
    """As most servers want it."""
    return {"Authorization": f"Bearer {key}"}


class Reader(Protocol):
    """The bytes of one answer → deltas. Raises `UpstreamFaultError`."""

    #: All is said: no more bytes are needed.
    done: bool
    #: Some delta was given out.
    told: bool

    @property
    def finished(self) -> bool:
        """The model has come to its end; only usage and the like may follow."""
        ...

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that these bytes complete."""
        ...

    def close(self) -> list[Delta]:
        """The last deltas, at the end of the bytes; `done` is true then."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """One turn: what is sent where, and who reads the answer. `model`: the client's name of it.
    `body` makes what is sent, in a thread if it `is_heavy` (R-118)."""

    url: str
    body: Callable[[], bytes]
    is_heavy: bool
    model: str
    reader: Reader
    refusal: Refusal
    #: The client's own key for this server.
    key: str | None = field(default=None, repr=False)
    #: Seconds until it is accepted, if less than `first_byte_timeout`.
    seconds: float | None = None
    #: What is asked instead, after this was refused before anything was said; None where nothing
    #: would help.
    anew: Callable[[APIError], "Ask | None"] | None = None
    #: Called when all was said.
    went_well: Callable[[], None] | None = None
    #: See `Relayed`.
    is_streamed: ClassVar = True


class _Relaying(NamedTuple):
    """What of an `Ask` there is when nobody here reads the answer."""

    url: str
    model: str
    refusal: Refusal
    key: str | None
    is_streamed: bool


#: Sends the bytes of a request; raises OSError.
Send: TypeAlias = Callable[[Ask | _Relaying, bytes], Awaitable[Answer]]


class Upstream:
    """One model server, for one adapter."""

    def __init__(
        self,
        config: UpstreamConfig,
        auth: Auth,
        headers: Mapping[str, str] = _NO_HEADERS,
        send: Send | None = None,
    ) -> None:
        """`auth`: a key as this kind of server wants it; `headers`: of every request. Those of the
        configuration come last. `send`: takes the place of a POST with all that."""
        self._send = send or self._sent
        self._config = config
        self._auth = auth
        key = auth(config.api_key) if config.api_key else _NO_HEADERS
        ours = {"Content-Type": "application/json", "User-Agent": f"antiphon/{__version__}"}
        every = merged(ours, headers, key, config.headers)
        self._client = Client(every, config.connect_timeout)
        hidden = [value for value in config.headers.values() if len(value) >= _SECRET]
        self._secrets = [*hidden, *([config.api_key] if config.api_key else [])]
        self._record = Record(config.breaker)
        most = config.max_concurrency
        self._places = None if most is None else asyncio.Semaphore(most)

    def answer(self, ask: Ask) -> Deltas:
        """The turn, as `Backend.generate` has it."""
        return self._answer(ask) if self._places is None else self._in_turn(ask)

    async def _in_turn(self, ask: Ask) -> Deltas:
        """The same, when there is a place for it."""
        began = _now()
        async with self._place(ask.seconds), aclosing(self._answer(ask, began)) as turn:
            async for deltas in turn:
                yield deltas

    def _limit(self, seconds: float | None) -> float:
        """Seconds until a call is accepted; `seconds`: see `Ask`."""
        most = min(self._config.first_byte_timeout, self._config.total_timeout)
        return most if seconds is None else min(most, seconds)

    @asynccontextmanager
    async def _place(self, seconds: float | None = None) -> AsyncGenerator[None, None]:
        """One of those that there are. Raises `Overloaded` when none is free in time."""
        if self._places is None:
            yield
            return
        try:
            async with asyncio.timeout(self._limit(seconds) * _FOR_A_PLACE):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded(retry_after=1) from None
        try:
            yield
        finally:
            self._places.release()

    async def _answer(self, ask: Ask, began: float | None = None) -> Deltas:
        """`began`: before there was a place."""
        again: Ask | None = None
        began = _now() if began is None else began
        ask, response = await self._accepted(ask, began + self._limit(ask.seconds))
        reader = ask.reader
        left = began + self._config.first_byte_timeout - _now()
        until = began + self._config.total_timeout
        try:
            if response.content_type == "text/event-stream":
                yield []
            with IdleTimer(left, response.close, until) as timer:
                while not reader.done:
                    data = await self._read(response, reader, timer)
                    deltas = reader.feed(data) if data else reader.close()
                    if deltas:
                        yield deltas
                    idle = self._config.idle_timeout
                    timer.allow(min(_GRACE, idle) if reader.finished else idle)
            self._record.count("ok")
            if ask.went_well is not None:
                ask.went_well()
            await drain(response)
        except UpstreamFaultError as fault:
            self._record.count(outcome_of(fault.error))
            self.tell("upstream_fault", fault.detail, key=ask.key)
            again = None if reader.told else _again(ask, fault.error)
            if again is None:
                if fault.said:
                    yield fault.said
                raise fault.error from None
        finally:
            # Closes the connection unless the whole body was read.
            response.close()
        if again is not None:
            async with aclosing(self._answer(again, began)) as turn:
                async for deltas in turn:
                    yield deltas

    async def _accepted(self, ask: Ask, until: float) -> tuple[Ask, Answer]:
        """The answer, of which nothing is read, and what was asked: anew, if it had to be."""
        while True:
            try:
                return ask, await self._open(ask, await _made(ask), until)
            except InvalidRequestError as refusal:
                again = _again(ask, refusal)
                if again is None:
                    raise
            ask = again

    async def relay(
        self, url: str, sent: Relayed, refusal: Refusal, error_of: Callable[[Any], APIError]
    ) -> AsyncGenerator[bytes, None]:
        """See `Relay`. `error_of`: the error for what is an error with status 200."""

        def refused(status: int, said: bytes, model: str) -> APIError:
            return by_name(refusal(status, said, model), said, sent.names)

        def failed(error: Any) -> APIError:
            return by_name(error_of(error), error, sent.names)

        began, config = _now(), self._config
        async with self._place():
            asked = _Relaying(url, sent.model, refused, sent.key, sent.is_streamed)
            most = self._limit(None) if sent.is_streamed else config.total_timeout
            response = await self._open(asked, sent.body, began + most)
            try:
                if response.content_type == _WEB_PAGE:  # of a proxy, or of another server
                    raise UpstreamFaultError(UpstreamError(), "a web page")
                passage = Passage(response.content_type, failed)
                left, until = began + most - _now(), began + config.total_timeout
                with IdleTimer(left, response.close, until) as timer:
                    async for piece in self._passed(response, passage, timer):
                        yield piece
                self._record.count("ok")
            except UpstreamFaultError as fault:
                self._record.count(outcome_of(fault.error))
                self.tell("upstream_fault", fault.detail, key=sent.key)
                raise fault.error from None
            finally:
                response.close()

    async def _passed(
        self, response: Answer, passage: Passage, timer: IdleTimer
    ) -> AsyncGenerator[bytes, None]:
        while data := await self._read(response, None, timer):
            for piece in passage.feed(data):
                yield piece
            timer.allow(self._config.idle_timeout)
        for piece in passage.close():
            yield piece

    async def fetch(self, url: str, body: bytes | None = None) -> Any:
        """A JSON document, within a short time; it leaves the circuit breaker alone. `body` is
        posted. Raises `UNREADABLE`."""
        async with asyncio.timeout(_LIST_TIMEOUT):
            with closing(await self.ask_aside(url, body)) as response:
                if response.status >= 400:
                    raise StatusError(response.status)
                return orjson.loads(await read_up_to(response, _LIST))

    async def ask_aside(self, url: str, body: bytes | None = None) -> Answer:
        """An answer that is no turn: without retries, limits, or the circuit breaker. Close it.
        `body` is posted. Raises OSError."""
        if body is None:
            return await self._client.request("GET", url)
        return await self._client.request("POST", url, body)

    def health(self) -> Health:
        """See `Backend.health`."""
        return self._record.health()

    async def aclose(self) -> None:
        """Release connections."""
        await self._client.aclose()

    def tell(
        self,
        event: str,
        detail: str,
        status: int | None = None,
        *,
        alarm: bool = False,
        key: str | None = None,
    ) -> None:
        """A line for the operator; `alarm`: it is theirs to mend, as 401 and 403 are (R-41); `key`:
        the client's own, which nobody sees, nor the operator's (R-130)."""
        for secret in (*self._secrets, *([key] if key else [])):
            detail = detail.replace(secret, "…")
        level = logging.ERROR if alarm else logging.WARNING
        _log.log(level, event, backend=self._config.name, status=status, detail=printable(detail))

    async def _open(self, ask: Ask | _Relaying, body: bytes, until: float) -> Answer:
        """An answer with status 200, after retries; `until`: on the clock of the loop."""
        if self._config.client_key and not (ask.key or self._config.api_key):
            raise InvalidRequestError(
                f"This model needs your own key for it, in the header '{CLIENT_KEY}'.",
                param=CLIENT_KEY,
                code="missing_upstream_key",
            )
        breaker = self._record.breaker
        is_probe = breaker.admit()
        try:
            async with asyncio.timeout_at(until):
                response = await self._post_until_accepted(ask, body)
            breaker.accepted()
            return response
        except TimeoutError:
            self._record.count("late")
            self.tell("upstream_timeout", "no answer in time")
            raise UpstreamTimeout from None
        except RefusedError as refused:
            self._record.count(refused.outcome)
            raise refused.error from None
        finally:
            breaker.release(is_probe=is_probe)

    async def _post_until_accepted(self, ask: Ask | _Relaying, body: bytes) -> Answer:
        attempt = 0
        while True:
            began = _now()
            try:
                return await self._post(ask, body)
            except RefusedError as refused:
                attempt += 1
                asked = refused.error.retry_after or 0.0
                if (
                    attempt > self._config.max_retries
                    or not refused.may_pass
                    or asked > _LONGEST_OWN_WAIT
                    or not (ask.is_streamed or _now() - began < _SOON)
                ):
                    raise
            await asyncio.sleep(max(backoff(attempt, self._config.retry_wait), asked))

    async def _post(self, ask: Ask | _Relaying, body: bytes) -> Answer:
        """One attempt. Raises `RefusedError` unless the status is 200."""
        key = self._own_key(ask)
        try:
            response = await self._send(ask, body)
        except OSError as exc:
            self.tell("upstream_unreachable", named(exc))
            late = isinstance(exc, TimeoutError)
            raise RefusedError(
                UpstreamTimeout() if late else UpstreamError(), broken=True
            ) from None
        if response.status == 200:
            return response
        try:
            async with asyncio.timeout(min(_GRACE, self._config.idle_timeout)):
                said = await read_up_to(response, _ERROR_BODY)
        except OSError as exc:
            said = named(exc).encode()
        finally:
            response.close()
        error = ask.refusal(response.status, said, ask.model)
        if key and response.status in (401, 403):
            error = InvalidRequestError(
                f"The model backend does not accept the key in '{CLIENT_KEY}'.",
                param=CLIENT_KEY,
                code="invalid_upstream_key",
            )
        if isinstance(error, RateLimitError):
            asked = retry_after(response.headers, time.time())
            error.retry_after = error.retry_after if asked is None else asked
        wrong = response.status < 500 and isinstance(error, UpstreamError)
        told = said.decode(errors="replace")
        self.tell("upstream_refused", told, response.status, alarm=wrong, key=ask.key)
        is_theirs = not isinstance(error, InvalidRequestError)
        raise RefusedError(error, broken=response.status >= 500 and is_theirs)

    async def _sent(self, ask: Ask | _Relaying, body: bytes) -> Answer:
        key = self._own_key(ask)
        return await self._client.request("POST", ask.url, body, self._auth(key) if key else None)

    def _own_key(self, ask: Ask | _Relaying) -> str | None:
        """The client's, if it is asked for."""
        return ask.key if self._config.client_key else None

    async def _read(self, response: Answer, reader: Reader | None, timer: IdleTimer) -> bytes:
        """The next bytes, empty at the end. Raises `UpstreamFaultError`."""
        timer.begin()
        try:
            return await response.content.read(_PIECE)
        except OSError as exc:
            if reader is not None and reader.finished:
                return b""  # all that counts was said
            late = timer.expired or isinstance(exc, TimeoutError)
            error = UpstreamTimeout if late else UpstreamError
            raise UpstreamFaultError(error(should_retry=False), f"cut off: {named(exc)}") from None
        finally:
            timer.end()


def _now() -> float:
    """On the clock of the loop."""
    return asyncio.get_running_loop().time()


async def _made(ask: Ask) -> bytes:
    return await asyncio.to_thread(ask.body) if ask.is_heavy else ask.body()


def _again(ask: Ask, refusal: APIError) -> Ask | None:
    return None if ask.anew is None else ask.anew(refusal)


def named(exc: Exception) -> str:
    """What happened, without anything of the request (R-130)."""
    return f"{type(exc).__name__}: {exc}"
