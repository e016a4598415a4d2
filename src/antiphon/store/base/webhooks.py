"""The port to webhook endpoints and the outbox of deliveries (spec §2.5, reliability R-93).

Rules
1. A notice becomes deliveries in the transaction that ends its response (`Runs.finish`): one for
   each endpoint of the project that wants its type. Its id, the ``webhook-id``, never changes.
2. A delivery is claimed for a while before it is tried, so that of several processes one tries it.
3. Secrets are stored as they are: they sign. They leave the store for signing and when made.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from antiphon.store.base.runs import Notice


@dataclass(slots=True)
class Endpoint:
    """A webhook endpoint; times in Unix seconds, secrets as ``whsec_<base64>``."""

    id: str
    project: str
    name: str
    url: str
    event_types: list[str]
    secret: str
    created_at: int
    updated_at: int | None = None
    #: The secret before the last rotation, and until when it signs as well.
    old_secret: str | None = None
    old_secret_until: int | None = None
    #: It comes from the configuration and cannot be changed by the API.
    fixed: bool = False
    #: Since when every delivery has failed; None: the last one worked.
    failing_since: int | None = None
    #: Since when nothing is sent any more (R-93: it failed for days).
    disabled_at: int | None = None


@dataclass(slots=True)
class Delivery:
    """One notice for one endpoint. `id` is the ``webhook-id``; it was tried `attempts` times."""

    id: str
    endpoint: Endpoint
    notice: Notice
    attempts: int


@dataclass(frozen=True, slots=True)
class Change:
    """What of an endpoint becomes different; None: nothing."""

    name: str | None = None
    url: str | None = None
    event_types: list[str] | None = None


class Webhooks(Protocol):
    """Endpoints and their deliveries."""

    async def add(self, endpoint: Endpoint, most: int) -> bool:
        """Store a new endpoint, unless its project has `most` already; whether it did."""
        ...

    async def endpoint(self, project: str, id: str) -> Endpoint | None:  # noqa: A002
        """One endpoint."""
        ...

    async def endpoints(self, project: str) -> list[Endpoint]:
        """All endpoints of a project, newest first."""
        ...

    async def change(self, project: str, id: str, change: Change, now: int) -> bool:  # noqa: A002
        """Change an endpoint, whose failures so far are forgotten: if it was disabled, it no longer
        is. Whether it is there and not fixed. `updated_at` stays when nothing is different."""
        ...

    async def rotate(
        self,
        project: str,
        id: str,  # noqa: A002
        secret: str,
        now: int,
        keep_until: int | None,
    ) -> bool:
        """Give an endpoint a new secret; the one it had signs as well until `keep_until`. Whether
        it is there and not fixed."""
        ...

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """Forget an endpoint and what was still to be sent to it; whether it was there and not
        fixed."""
        ...

    async def set_fixed(self, endpoints: list[Endpoint]) -> None:
        """These and no others are the endpoints of the configuration. What waits for those that
        stay is kept, their failures are forgotten."""
        ...

    async def due(
        self, now: int, until: int, limit: int, busy: Collection[str] = ()
    ) -> list[Delivery]:
        """Claim at most `limit` deliveries whose time has come at `now`, the one that waits longest
        of each endpoint that is not `busy`; nobody else gets them before `until`."""
        ...

    async def next_due(self) -> int | None:
        """When the next delivery is due; None: there is none."""
        ...

    async def delivered(self, delivery: Delivery) -> None:
        """It arrived: forget it; its endpoint works."""
        ...

    async def failed(self, delivery: Delivery, now: int, again_at: int | None) -> None:
        """It did not arrive: try again then, or never."""
        ...

    async def disable(self, id: str, now: int, since: int) -> bool:  # noqa: A002
        """Send nothing more to an endpoint, if it still fails since `since` or before; what was to
        be sent to it is forgotten. Whether it was so."""
        ...
