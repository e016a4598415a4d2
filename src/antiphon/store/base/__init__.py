"""The port to what is remembered: responses and keys, runs, conversations, prompts, approvals,
webhooks, files, containers, images."""

from typing import Protocol

from antiphon.store.base.approvals import UsedApprovals
from antiphon.store.base.containers import (
    MOST_CONTAINER_FILES,
    Claim,
    ContainerFile,
    ContainerRow,
    Containers,
    Fence,
    NotPut,
    Put,
    Source,
)
from antiphon.store.base.conversations import (
    Conversation,
    ConversationBusy,
    ConversationMoved,
    Conversations,
    History,
)
from antiphon.store.base.files import (
    MOST_PARTS,
    FileListing,
    FileRow,
    Files,
    PartOutcome,
    PartRow,
    UploadRow,
)
from antiphon.store.base.images import ImageRow, Images
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
from antiphon.store.base.vector_stores import (
    MOST_FILES,
    Attributes,
    Counts,
    FileBatch,
    FileStatus,
    Ingestion,
    Ingestions,
    Leftover,
    NewFile,
    News,
    Searchable,
    StoreChange,
    StoreFile,
    StoreFull,
    UnknownFile,
    VectorStoreRow,
    VectorStores,
    Window,
)
from antiphon.store.base.webhooks import Change, Delivery, Endpoint, Webhooks

__all__ = [
    "MOST_CONTAINER_FILES",
    "MOST_FILES",
    "MOST_PARTS",
    "MOST_PROMPTS",
    "MOST_VERSIONS",
    "RUNNING",
    "Attributes",
    "Batch",
    "Change",
    "Claim",
    "ContainerFile",
    "ContainerRow",
    "Containers",
    "Conversation",
    "ConversationBusy",
    "ConversationMoved",
    "Conversations",
    "CorruptStoreError",
    "Counts",
    "Delivery",
    "EncryptionKey",
    "Ending",
    "Endpoint",
    "Fence",
    "FileBatch",
    "FileListing",
    "FileRow",
    "FileStatus",
    "Files",
    "History",
    "IdempotencyKey",
    "ImageRow",
    "Images",
    "Ingestion",
    "Ingestions",
    "Job",
    "Kept",
    "KeyRow",
    "Lease",
    "Leftover",
    "Listing",
    "NewFile",
    "NewerStoreError",
    "News",
    "NotPut",
    "Notice",
    "Page",
    "PartOutcome",
    "PartRow",
    "PromptChange",
    "PromptRow",
    "PromptVersion",
    "Prompts",
    "Put",
    "QueueFull",
    "ResponseRow",
    "Responses",
    "Runs",
    "Searchable",
    "Snapshot",
    "Source",
    "Store",
    "StoreChange",
    "StoreError",
    "StoreFile",
    "StoreFull",
    "Template",
    "Turn",
    "Twin",
    "UnknownFile",
    "UploadRow",
    "UsedApprovals",
    "VectorStoreRow",
    "VectorStores",
    "Webhooks",
    "Window",
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

    @property
    def files(self) -> Files:
        """Files and uploads."""
        ...

    @property
    def vector_stores(self) -> VectorStores:
        """Vector stores and their files."""
        ...

    @property
    def ingestions(self) -> Ingestions:
        """The work on files of vector stores."""
        ...

    @property
    def containers(self) -> Containers:
        """Containers and their files."""
        ...

    @property
    def images(self) -> Images:
        """Images that were made here."""
        ...
