"""Delivers what is in the outbox of webhooks (spec §2.5, reliability R-93).

Rules
1. At least once: a delivery is claimed, tried, and then forgotten or due again; whoever dies in
   between leaves it to the next after `CLAIM`. Its ``webhook-id`` is the same in every try.
2. Only 2xx is success. A try fails for whatever other reason, and is repeated later and later until
   `GIVE_UP` after the event.
3. A slow receiver takes at most `MOST_EACH` of the places for tries, tests included.
4. An endpoint at which nothing has arrived for `DISABLE` is disabled; changing it enables it.
5. URLs are not logged: many have a secret in them.
"""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from antiphon import __version__
from antiphon.errors import APIError, RateLimitError
from antiphon.protocol.webhooks import FIRED, event_body, signature
from antiphon.store.base import Delivery, Endpoint, Notice, Webhooks

#: Times in seconds. A try takes 10 at most; what it takes to note it down is not in it.
CLAIM: Final = 30
GIVE_UP: Final = 72 * 3600
DISABLE: Final = 5 * 86_400
#: Each wait is so many times longer than the one before, up to the longest, give or take a fifth.
_FACTOR: Final = 5
_LONGEST: Final = 6 * 3600
_JITTER: Final = 0.2
#: Tries at the same time, in all and for one endpoint.
MOST: Final = 32
MOST_EACH: Final = 4
#: The store is asked at most this often, and at least this often.
_PACE: Final = 0.1
_LOOK: Final = 1.0
#: How long `close` waits for tries that are under way.
_GRACE: Final = 3.0
#: When a test that found no place may find one: a try takes no longer.
_RETRY_TEST: Final = 10.0
_TOO_MANY: Final = (
    "Too many deliveries and tests of webhooks are under way. Please try again later."
)

_log = structlog.get_logger(__name__)


class Sender(Protocol):
    """The way out."""

    def check(self, url: str) -> None:
        """Raise ValueError, which says why, if the URL can never be sent to."""
        ...

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer; redirects are not followed. Raises ConnectionError when there
        is none within 10 s; its message is for the log."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """`first_retry`: seconds between the first try and the second."""

    first_retry: float = 5.0


def notice_of(response_id: str, status: str, now: int) -> Notice | None:
    """What webhooks are told when a background response ends; None: no event is for this status."""
    type_ = f"response.{status}"
    return _notice(type_, now, response_id) if type_ in FIRED else None


def headers_of(endpoint: Endpoint, id_: str, now: int, body: bytes) -> dict[str, str]:
    """The header fields of one try; while the old secret is good it signs as well."""
    keys = [endpoint.secret]
    if endpoint.old_secret is not None and (endpoint.old_secret_until or 0) > now:
        keys.append(endpoint.old_secret)
    return {
        "content-type": "application/json",
        "user-agent": f"Antiphon/{__version__}",
        "webhook-id": id_,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(signature(key, id_, now, body) for key in keys),
    }


def again_at(delivery: Delivery, now: int, first_retry: float) -> int | None:
    """When to try again after a failure; None: never."""
    wait = min(_LONGEST, first_retry * _FACTOR ** min(delivery.attempts, 10))
    wait *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not a secret
    at = now + max(1, round(wait))
    return at if at <= delivery.notice.created_at + GIVE_UP else None


class Deliverer:
    """Sends what is due, from `start` to `close`."""

    def __init__(
        self,
        store: Webhooks,
        sender: Sender,
        wait: Callable[[float], Awaitable[None]],
        options: DeliveryOptions = DeliveryOptions(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`wait` returns when something was committed to the store, or after so many seconds."""
        self.sender = sender
        self._store = store
        self._wait = wait
        self._options = options
        self._clock = clock
        self._loop: asyncio.Task[None] | None = None
        #: Each try, and its endpoint.
        self._tries: dict[asyncio.Task[None], str] = {}
        #: The endpoints that are being tested.
        self._tests: Counter[str] = Counter()
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Begin to deliver."""
        self._loop = asyncio.create_task(self._run(), name="webhooks")
        self._loop.add_done_callback(_report)

    async def close(self) -> None:
        """Stop; tries under way have a moment to end, what remains is repeated later."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        if self._tries:
            await asyncio.wait(self._tries, timeout=_GRACE)
        for task in self._tries:
            task.cancel()
        await asyncio.gather(*self._tries, return_exceptions=True)

    async def test(self, endpoint: Endpoint, type_: str) -> int:
        """Send an event of no importance, once; the status of the answer. Raises ConnectionError,
        and `RateLimitError` when there is no place for it."""
        taken = self._taken()
        if taken.total() >= MOST or taken[endpoint.id] >= MOST_EACH:
            raise RateLimitError(_TOO_MANY, retry_after=_RETRY_TEST)
        family = type_.partition(".")[0]
        subject = ("resp" if family == "response" else family) + "_" + secrets.token_hex(24)
        notice = _notice(type_, int(self._clock()), subject)
        self._tests[endpoint.id] += 1
        try:
            return await self._send(endpoint, "wh_" + secrets.token_hex(24), notice.body)
        finally:
            self._tests -= Counter([endpoint.id])
            self._ended.set()

    def _taken(self) -> Counter[str]:
        """The places that each endpoint has."""
        return Counter(self._tries.values()) + self._tests

    async def _run(self) -> None:
        while True:
            try:
                started = await self._start_due()
            except APIError as error:
                _log.warning("webhooks_wait_for_the_store", error=error.message)
                started = False
            except Exception:  # noqa: BLE001 - a mistake of ours; the next look may meet others
                _log.exception("webhooks_broke")
                started = False
            if not started:
                await self._rest()

    async def _start_due(self) -> bool:
        """Try what is due, as far as there are places; whether there was anything."""
        self._ended.clear()
        now = int(self._clock())
        next_due = await self._store.next_due()
        taken = self._taken()
        places = MOST - taken.total()
        if next_due is None or next_due > now or places <= 0:
            return False
        busy = [id_ for id_, count in taken.items() if count >= MOST_EACH]
        claimed = await self._store.due(now, now + CLAIM, places, busy)
        for delivery in claimed:
            task = asyncio.create_task(self._try(delivery), name=delivery.id)
            self._tries[task] = delivery.endpoint.id
            task.add_done_callback(self._end)
        return bool(claimed)

    async def _rest(self) -> None:
        """Until something was committed, a place is free, or a second has passed."""
        await asyncio.sleep(_PACE)
        waits = [
            asyncio.ensure_future(self._wait(_LOOK)),
            asyncio.ensure_future(self._ended.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._tries[task]
        self._ended.set()
        _report(task)

    async def _try(self, delivery: Delivery) -> None:
        try:
            why = await self._arrives(delivery)
            if why is None:
                await self._store.delivered(delivery)
            else:
                await self._failed(delivery, why)
        except APIError as error:
            _log.warning("webhook_outcome_not_stored", webhook=delivery.id, error=error.message)

    async def _arrives(self, delivery: Delivery) -> str | None:
        """Try once; why it failed, if it did."""
        try:
            status = await self._send(delivery.endpoint, delivery.id, delivery.notice.body)
        except ConnectionError as error:
            return str(error)
        return None if 200 <= status < 300 else f"status {status}"

    async def _send(self, endpoint: Endpoint, id_: str, body: bytes) -> int:
        headers = headers_of(endpoint, id_, int(self._clock()), body)
        return await self.sender.post(endpoint.url, headers, body)

    async def _failed(self, delivery: Delivery, why: str) -> None:
        now = int(self._clock())
        again = again_at(delivery, now, self._options.first_retry)
        await self._store.failed(delivery, now, again)
        endpoint = delivery.endpoint
        log = _log.bind(endpoint=endpoint.id, webhook=delivery.id, error=why)
        if again is None:
            log.warning("webhook_given_up", tries=delivery.attempts + 1)
        else:
            log.info("webhook_failed", tries=delivery.attempts + 1, again_in=again - now)
        long_ago = now - DISABLE
        if endpoint.failing_since is None or endpoint.failing_since > long_ago:
            return
        if await self._store.disable(endpoint.id, now, long_ago):
            _log.warning(
                "webhook_endpoint_disabled", endpoint=endpoint.id, project=endpoint.project
            )


def _notice(type_: str, now: int, subject: str) -> Notice:
    id_ = "evt_" + secrets.token_hex(24)
    return Notice(id_, type_, now, event_body(id_, type_, now, subject))


def _report(task: asyncio.Task[None]) -> None:
    """Nobody waits for these tasks: a mistake in one must not go unseen."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("webhooks_broke", task=task.get_name(), exc_info=error)
