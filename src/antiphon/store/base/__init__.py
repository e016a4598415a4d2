"""The port to what is remembered: responses and keys, runs, conversations, prompts, approvals,
webhooks."""

from typing import Protocol

from antiphon.store.base.approvals import UsedApprovals
from antiphon.store.base.conversations import (
    Conversation,
    ConversationBusy,
    ConversationMoved,
    Conversations,
    History,
)
from antiphon.store.base.prompts import (
    MOST_PROMPTS,
    MOST_VERSIONS,
    PromptChange,
    PromptRow,
    Prompts,
    PromptVersion,
    Template,
)
from antiphon.store.base.responses import (
    RUNNING,
    CorruptStoreError,
    EncryptionKey,
    Kept,
    KeyRow,
    Listing,
    NewerStoreError,
    Page,
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
    "MOST_PROMPTS",
    "MOST_VERSIONS",
    "RUNNING",
    "Batch",
    "Change",
    "Conversation",
    "ConversationBusy",
    "ConversationMoved",
    "Conversations",
    "CorruptStoreError",
    "Delivery",
    "EncryptionKey",
    "Ending",
    "Endpoint",
    "History",
    "IdempotencyKey",
    "Job",
    "Kept",
    "KeyRow",
    "Lease",
    "Listing",
    "NewerStoreError",
    "Notice",
    "Page",
    "PromptChange",
    "PromptRow",
    "PromptVersion",
    "Prompts",
    "QueueFull",
    "ResponseRow",
    "Responses",
    "Runs",
    "Snapshot",
    "Store",
    "StoreError",
    "Template",
    "Turn",
    "Twin",
    "UsedApprovals",
    "Webhooks",
]


class Store(Responses, Protocol):
    """Everything."""

    @property
    def runs(self) -> Runs:
        """Runs that outlive a request."""
        ...

    @property
    def conversations(self) -> Conversations:
        """Conversations and their items."""
        ...

    @property
    def prompts(self) -> Prompts:
        """Prompt templates."""
        ...

    @property
    def approvals(self) -> UsedApprovals:
        """Approvals that were used."""
        ...

    @property
    def webhooks(self) -> Webhooks:
        """Endpoints and deliveries."""
        ...
