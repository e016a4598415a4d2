"""Webhook endpoints and their outbox in memory (spec §2.5, reliability R-93).

Rules
1. Same contract as the SQL ones (tests/store/test_webhooks.py runs on both).
2. What goes in and out is a copy: nobody changes a row by accident.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace

from antiphon.store.base import Change, Delivery, Endpoint, Notice


@dataclass(slots=True)
class _Waiting:
    """A delivery in the outbox."""

    endpoint_id: str
    notice: Notice
    due_at: int
    attempts: int = 0


class MemoryWebhooks:
    """Endpoints and deliveries, both by id and in the order in which they came."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        self._outbox: dict[str, _Waiting] = {}

    def enqueue(self, project: str, notice: Notice) -> None:
        """Put a notice into the outbox: one delivery for each endpoint of the project that wants
        its type and is not disabled, due at once."""
        for endpoint in self._endpoints.values():
            wanted = notice.type in endpoint.event_types and endpoint.disabled_at is None
            if endpoint.project == project and wanted:
                id_ = "wh_" + secrets.token_hex(24)
                self._outbox[id_] = _Waiting(endpoint.id, notice, notice.created_at)

    async def add(self, endpoint: Endpoint, most: int) -> bool:
        """See `Webhooks.add`."""
        count = sum(known.project == endpoint.project for known in self._endpoints.values())
        if count < most:
            self._endpoints[endpoint.id] = _copy(endpoint)
        return count < most

    async def endpoint(self, project: str, id: str) -> Endpoint | None:  # noqa: A002
        """See `Webhooks.endpoint`."""
        found = self._endpoints.get(id)
        return _copy(found) if found is not None and found.project == project else None

    async def endpoints(self, project: str) -> list[Endpoint]:
        """See `Webhooks.endpoints`."""
        found = [_copy(known) for known in self._endpoints.values() if known.project == project]
        found.reverse()  # of those of one second the one that came last is the newest
        return sorted(found, key=lambda known: -known.created_at)

    async def change(self, project: str, id: str, change: Change, now: int) -> bool:  # noqa: A002
        """See `Webhooks.change`."""
        known = self._changeable(project, id)
        if known is None:
            return False
        before = _copy(known)
        known.name = known.name if change.name is None else change.name
        known.url = known.url if change.url is None else change.url
        if change.event_types is not None:
            known.event_types = list(change.event_types)
        if known != before:
            known.updated_at = now
        known.failing_since = known.disabled_at = None
        return True

    async def rotate(
        self,
        project: str,
        id: str,  # noqa: A002
        secret: str,
        now: int,
        keep_until: int | None,
    ) -> bool:
        """See `Webhooks.rotate`."""
        known = self._changeable(project, id)
        if known is None:
            return False
        known.old_secret = None if keep_until is None else known.secret
        known.old_secret_until = keep_until
        known.secret, known.updated_at = secret, now
        return True

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Webhooks.delete`."""
        if self._changeable(project, id) is None:
            return False
        self._forget(id)
        return True

    async def set_fixed(self, endpoints: list[Endpoint]) -> None:
        """See `Webhooks.set_fixed`."""
        wanted = {endpoint.id for endpoint in endpoints}
        for id_ in [known.id for known in self._endpoints.values() if known.fixed]:
            if id_ not in wanted:
                self._forget(id_)
        for endpoint in endpoints:
            before = self._endpoints.get(endpoint.id)
            created_at = endpoint.created_at if before is None else before.created_at
            self._endpoints[endpoint.id] = replace(_copy(endpoint), created_at=created_at)

    async def due(
        self, now: int, until: int, limit: int, busy: Collection[str] = ()
    ) -> list[Delivery]:
        """See `Webhooks.due`."""
        claimed: dict[str, Delivery] = {}
        for id_, waiting in sorted(self._outbox.items(), key=lambda entry: entry[1].due_at):
            endpoint_id = waiting.endpoint_id
            if waiting.due_at > now or len(claimed) >= limit:
                break
            if endpoint_id not in busy and endpoint_id not in claimed:
                waiting.due_at = until
                endpoint = _copy(self._endpoints[endpoint_id])
                claimed[endpoint_id] = Delivery(id_, endpoint, waiting.notice, waiting.attempts)
        return list(claimed.values())

    async def next_due(self) -> int | None:
        """See `Webhooks.next_due`."""
        return min((waiting.due_at for waiting in self._outbox.values()), default=None)

    async def delivered(self, delivery: Delivery) -> None:
        """See `Webhooks.delivered`."""
        self._outbox.pop(delivery.id, None)
        known = self._endpoints.get(delivery.endpoint.id)
        if known is not None:
            known.failing_since = None

    async def failed(self, delivery: Delivery, now: int, again_at: int | None) -> None:
        """See `Webhooks.failed`."""
        known = self._endpoints.get(delivery.endpoint.id)
        if known is not None and known.failing_since is None:
            known.failing_since = now
        if again_at is None:
            self._outbox.pop(delivery.id, None)
        elif waiting := self._outbox.get(delivery.id):
            waiting.attempts += 1
            waiting.due_at = again_at

    async def disable(self, id: str, now: int, since: int) -> bool:  # noqa: A002
        """See `Webhooks.disable`."""
        known = self._endpoints.get(id)
        if known is None or known.failing_since is None or known.failing_since > since:
            return False
        self._empty(id)
        known.disabled_at = now
        return True

    def _changeable(self, project: str, id: str) -> Endpoint | None:  # noqa: A002
        found = self._endpoints.get(id)
        return None if found is None or found.project != project or found.fixed else found

    def _forget(self, id: str) -> None:  # noqa: A002
        self._empty(id)
        del self._endpoints[id]

    def _empty(self, id: str) -> None:  # noqa: A002
        for name in [name for name, one in self._outbox.items() if one.endpoint_id == id]:
            del self._outbox[name]


def _copy(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, event_types=list(endpoint.event_types))
