"""The port to what is remembered: responses and keys, runs, webhooks."""

from typing import Protocol

from antiphon.store.base.responses import (
    RUNNING,
    CorruptStoreError,
    Kept,
    KeyRow,
    NewerStoreError,
    ResponseRow,
    Responses,
    StoreError,
    Turn,
)
from antiphon.store.base.runs import (
    Batch,
    Ending,
    IdempotencyKey,
    Job,
    Lease,
    Notice,
    QueueFull,
    Runs,
    Snapshot,
    Twin,
)
from antiphon.store.base.webhooks import Change, Delivery, Endpoint, Webhooks

__all__ = [
    "RUNNING",
    "Batch",
    "Change",
    "CorruptStoreError",
    "Delivery",
    "Ending",
    "Endpoint",
    "IdempotencyKey",
    "Job",
    "Kept",
    "KeyRow",
    "Lease",
    "NewerStoreError",
    "Notice",
    "QueueFull",
    "ResponseRow",
    "Responses",
    "Runs",
    "Snapshot",
    "Store",
    "StoreError",
    "Turn",
    "Twin",
    "Webhooks",
]


class Store(Responses, Protocol):
    """Everything."""

    @property
    def runs(self) -> Runs:
        """Runs that outlive a request."""
        ...

    @property
    def webhooks(self) -> Webhooks:
        """Endpoints and deliveries."""
        ...
