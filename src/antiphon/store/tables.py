"""The tables, as SQLAlchemy Core: the source of the statements and of the migrations.

Rules
1. Every table of the clients has `project`; every statement on responses names it (R-29), but those
   of `Runs`: they are asked by whoever makes the response, and by no client.
2. A response row holds its own items only, so a chain of n turns takes O(n) space.
3. A deleted row stays as a tombstone with nothing in it, so that a run that is still going cannot
   bring it back (R-59).
4. Changes are additive (expand, then contract): the version before must read the rows (R-74).
5. What the version before must do without knowing of it is a trigger (`triggers.py`).
"""

from typing import Any

from sqlalchemy import (
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

metadata = MetaData()
#: In the order of their making, which decides between two that serve a question equally well.
INDEXES: list[Index] = []


def _index(name: str, *columns: Any, **options: Any) -> None:
    INDEXES.append(Index(name, *columns, **options))


responses = Table(
    "responses",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("status", String, nullable=False),
    #: Unix seconds, as all times here.
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer),
    Column("previous_response_id", String),
    Column("deleted", Integer, nullable=False, server_default=text("0")),
    Column("body", LargeBinary, nullable=False),
    Column("input", LargeBinary, nullable=False),
    #: See `store.base.Kept`.
    Column("kept", String, nullable=False, server_default="stored"),
    #: The lease: who makes it, and how often it was taken over.
    Column("owner", String),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    #: When its events go before it does.
    Column("log_until", Integer),
    Column("conversation", String),
    #: A JSON object; None: an empty one.
    Column("metadata", String),
    #: See `ResponseRow.told`.
    Column("told", LargeBinary),
)
_index(
    "responses_by_expiry",
    responses.c.expires_at,
    sqlite_where=responses.c.expires_at.is_not(None),
)

#: Only what still runs is in it, so it is small and costs a finished response nothing.
_RUNNING = text("status IN ('queued', 'in_progress')")
_index("responses_running", responses.c.owner, sqlite_where=_RUNNING)

_LOGGED = text("log_until IS NOT NULL")
_index("responses_by_log_end", responses.c.log_until, sqlite_where=_LOGGED)

#: Which conversations are busy.
_BUSY = text("conversation IS NOT NULL AND status IN ('queued', 'in_progress')")
_index(
    "responses_by_conversation",
    responses.c.conversation,
    sqlite_where=_BUSY,
)

#: In which order they are listed: as they came, since the rowid is the end of every index.
_index("responses_by_project", responses.c.project, responses.c.created_at)

#: What of the metadata of responses is looked for; only those that have any are in it.
response_metadata = Table(
    "response_metadata",
    metadata,
    Column("response_id", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
    Column("project", String, nullable=False),
    Column("created_at", Integer, nullable=False),
)
_index(
    "response_metadata_by_value",
    response_metadata.c.project,
    response_metadata.c.key,
    response_metadata.c.value,
    response_metadata.c.created_at,
)

#: One row: how often responses were deleted, so that others need not look for each of them.
removals = Table("removals", metadata, Column("number", Integer, primary_key=True))

#: Background responses that are still to be made; `number` is their order.
jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("response_id", String, nullable=False, unique=True),
    Column("project", String, nullable=False),
    #: The same as that of its response: here it finds and counts those that wait.
    Column("owner", String),
    Column("request", LargeBinary, nullable=False),
    Column("progress", LargeBinary, nullable=False),
    Column("deaths", Integer, nullable=False),
)
_index("jobs_by_owner", jobs.c.owner, jobs.c.number)

#: One row a batch: the bodies of its frames, joined by newlines; `first` is the number of the
#: first one. No body holds a raw newline, and each begins with its type (`protocol.emitter`).
events = Table(
    "events",
    metadata,
    Column("response_id", String, primary_key=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("frames", LargeBinary, nullable=False),
)

#: Processes that make responses; `beat` grows while one lives.
owners = Table(
    "owners",
    metadata,
    Column("id", String, primary_key=True),
    Column("beat", Integer, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("response_id", String, nullable=False),
    Column("expires_at", Integer, nullable=False),
)
_index("idempotency_keys_by_response", idempotency_keys.c.response_id)
_index("idempotency_keys_by_expiry", idempotency_keys.c.expires_at)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    #: SHA-256 of the key in hex (R-28).
    Column("hash", String, nullable=False, unique=True),
    Column("hint", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("revoked_at", Integer),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("url", String, nullable=False),
    #: A JSON array of names.
    Column("event_types", String, nullable=False),
    Column("secret", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("updated_at", Integer),
    Column("old_secret", String),
    Column("old_secret_until", Integer),
    Column("fixed", Integer, nullable=False, server_default=text("0")),
    Column("failing_since", Integer),
    Column("disabled_at", Integer),
)
_index("webhook_endpoints_by_project", webhook_endpoints.c.project)

#: The outbox: one row for each notice and endpoint, until it has arrived or is given up (R-93).
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("endpoint_id", String, nullable=False),
    Column("notice_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    #: When it may be tried (again), or until when somebody who tries it has it for himself.
    Column("due_at", Integer, nullable=False),
)
_index("webhook_deliveries_by_time", webhook_deliveries.c.due_at)
_index(
    "webhook_deliveries_by_endpoint", webhook_deliveries.c.endpoint_id, webhook_deliveries.c.due_at
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    #: A JSON object.
    Column("metadata", String, nullable=False),
    Column("version", Integer, nullable=False),
)

#: `number` is the order; it grows and is not used twice. `project` is that of the conversation, so
#: that who looks for an item by its id meets none of another project (R-29).
conversation_items = Table(
    "conversation_items",
    metadata,
    Column("conversation_id", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("project", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("item", LargeBinary, nullable=False),
    Column("told", LargeBinary),
)
_index(
    "conversation_items_by_item",
    conversation_items.c.project,
    conversation_items.c.item_id,
    conversation_items.c.conversation_id,
)

prompts = Table(
    "prompts",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("updated_at", Integer, nullable=False),
    Column("default_version", Integer, nullable=False),
    Column("versions", Integer, nullable=False),
    #: JSON.
    Column("draft", LargeBinary),
)
_index("prompts_by_project", prompts.c.project)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    Column("prompt_id", String, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created_at", Integer, nullable=False),
    #: JSON.
    Column("template", LargeBinary, nullable=False),
)

#: Approvals of MCP calls, each used by one response.
used_approvals = Table(
    "used_approvals",
    metadata,
    Column("project", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("response_id", String, nullable=False),
    Column("expires_at", Integer, nullable=False),
)
_index("used_approvals_by_expiry", used_approvals.c.expires_at)

#: What `encrypted_content` is sealed with.
encryption_keys = Table(
    "encryption_keys",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("key", LargeBinary, nullable=False),
    Column("created_at", Integer, nullable=False),
)

#: `number` is the order in which they came; `version` grows with each change of what can be found,
#: `removed` is the version at which something last went. The files of a store that is gone are
#: nobody's until they are removed, in steps.
vector_stores = Table(
    "vector_stores",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("project", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("name", String, nullable=False),
    Column("description", String),
    #: A JSON object.
    Column("metadata", String, nullable=False),
    Column("expires_days", Integer),
    Column("last_active_at", Integer, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("0")),
    Column("removed", Integer, nullable=False, server_default=text("0")),
    Column("file_count", Integer, nullable=False, server_default=text("0")),
    sqlite_autoincrement=True,
)
_index("vector_stores_by_project", vector_stores.c.project, vector_stores.c.number)
_LIMITED = text("expires_days IS NOT NULL")
_index(
    "vector_stores_by_expiry",
    vector_stores.c.expires_days,
    sqlite_where=_LIMITED,
)

#: `number` is never used twice: chunks are known by it (decision 0008).
vector_store_files = Table(
    "vector_store_files",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("store_id", String, nullable=False),
    Column("file_id", String, nullable=False),
    Column("project", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("usage_bytes", Integer, nullable=False, server_default=text("0")),
    Column("chunk_size", Integer, nullable=False),
    Column("chunk_overlap", Integer, nullable=False),
    #: A JSON object.
    Column("attributes", String, nullable=False),
    Column("error_code", String),
    Column("error_message", String),
    Column("batch_id", String),
    #: The version of the store that brought it, or its attributes.
    Column("version", Integer, nullable=False, server_default=text("0")),
    Column("owner", String),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("deaths", Integer, nullable=False, server_default=text("0")),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    #: When a file that was put off is ready again; 0: it is.
    Column("due_at", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("store_id", "file_id"),
    sqlite_autoincrement=True,
)
_index("vector_store_files_by_file", vector_store_files.c.file_id)
_index("vector_store_files_by_place", vector_store_files.c.store_id, vector_store_files.c.number)
_index("vector_store_files_by_version", vector_store_files.c.store_id, vector_store_files.c.version)
_index(
    "vector_store_files_by_status",
    vector_store_files.c.store_id,
    vector_store_files.c.status,
    vector_store_files.c.number,
    vector_store_files.c.usage_bytes,
)
_BATCHED = text("batch_id IS NOT NULL")
_index(
    "vector_store_files_by_batch",
    vector_store_files.c.batch_id,
    vector_store_files.c.number,
    vector_store_files.c.status,
    sqlite_where=_BATCHED,
)
#: What is still to be read is in one of these: claims pass over nothing that was put off.
_READY = text("status = 'in_progress' AND due_at = 0")
_index(
    "vector_store_files_ready",
    vector_store_files.c.project,
    vector_store_files.c.number,
    sqlite_where=_READY,
)
_PUT_OFF = text("status = 'in_progress' AND due_at > 0")
_index("vector_store_files_put_off", vector_store_files.c.due_at, sqlite_where=_PUT_OFF)

vector_store_batches = Table(
    "vector_store_batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("store_id", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False, server_default=text("0")),
)
_index("vector_store_batches_by_store", vector_store_batches.c.store_id)

#: What indexes must forget; `number` NULL: the whole store, and its rows. An `id` is never used
#: twice: who has forgotten says so later.
index_leftovers = Table(
    "index_leftovers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("store_id", String, nullable=False),
    Column("number", Integer),
    sqlite_autoincrement=True,
)

#: `number` is the order of those that came in one second.
files = Table(
    "files",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("project", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer),
    Column("bytes", Integer, nullable=False),
    Column("filename", String, nullable=False),
    Column("purpose", String, nullable=False),
)
_index("files_by_project", files.c.project, files.c.created_at)
#: What a project has in all is asked of this index alone.
_index("files_by_size", files.c.project, files.c.bytes)
_EXPIRES = text("expires_at IS NOT NULL")
_index(
    "files_by_expiry",
    files.c.expires_at,
    sqlite_where=_EXPIRES,
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("filename", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("file_lifetime", Integer),
    Column("status", String, nullable=False),
    Column("file_id", String),
    Column("parts_key", String),
)
_index("uploads_by_expiry", uploads.c.expires_at)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("id", String, primary_key=True),
    Column("upload_id", String, nullable=False),
    Column("project", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
)
_index("upload_parts_by_upload", upload_parts.c.upload_id, upload_parts.c.bytes)
_index("upload_parts_by_size", upload_parts.c.project, upload_parts.c.bytes)

#: Where code runs. `number` is their order; `owner` has the live session of one; `given`: JSON.
containers = Table(
    "containers",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("last_active_at", Integer, nullable=False),
    Column("expires_minutes", Integer, nullable=False),
    Column("memory_limit", String, nullable=False),
    Column("owner", String),
    Column("used", Integer, nullable=False, server_default=text("0")),
    Column("busy_until", Integer, nullable=False, server_default=text("0")),
    Column("given", LargeBinary),
)
_index("containers_by_project", containers.c.project, containers.c.last_active_at)
_index("containers_by_activity", containers.c.last_active_at)

#: Whoever asks for one has found its container, which has the project.
container_files = Table(
    "container_files",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("container_id", String, nullable=False),
    Column("path", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("source", String, nullable=False),
    Column("changed", Integer, nullable=False),
    #: The id of its bytes, a new one with each change of them.
    Column("blob", String, nullable=False, unique=True),
    UniqueConstraint("container_id", "path"),
)

#: Images in items. `check_at`: when to ask whether anybody needs one.
images = Table(
    "images",
    metadata,
    Column("blob", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("response_id", String, nullable=False),
    Column("conversation_id", String),
    Column("created_at", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("media_type", String, nullable=False),
    Column("check_at", Integer),
)
_index("images_by_size", images.c.project, images.c.bytes)
_index("images_by_response", images.c.response_id)
_index("images_by_conversation", images.c.conversation_id)
_index("images_by_check", images.c.check_at)

#: One row: what the folder of files knows its database by.
database_id = Table("database_id", metadata, Column("id", String, primary_key=True))
