"""The tables, as SQLAlchemy Core: the source of the statements and of the migrations.

Rules
1. Every table of the clients has `project`; every statement on responses names it (R-29), but those
   of `Runs`: they are asked by whoever makes the response, and by no client.
2. A response row holds its own items only, so a chain of n turns takes O(n) space.
3. A deleted row stays as a tombstone with nothing in it, so that a run that is still going cannot
   bring it back (R-59).
4. Changes are additive (expand, then contract): the version before must read the rows (R-74).
"""

from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, String, Table, text

metadata = MetaData()

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
)
Index(
    "responses_by_expiry",
    responses.c.expires_at,
    sqlite_where=responses.c.expires_at.is_not(None),
    postgresql_where=responses.c.expires_at.is_not(None),
)

#: Only what still runs is in it, so it is small and costs a finished response nothing.
_RUNNING = text("status IN ('queued', 'in_progress')")
Index("responses_running", responses.c.owner, sqlite_where=_RUNNING, postgresql_where=_RUNNING)

_LOGGED = text("log_until IS NOT NULL")
Index("responses_by_log_end", responses.c.log_until, sqlite_where=_LOGGED, postgresql_where=_LOGGED)

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
Index("jobs_by_owner", jobs.c.owner, jobs.c.number)

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
Index("idempotency_keys_by_response", idempotency_keys.c.response_id)
Index("idempotency_keys_by_expiry", idempotency_keys.c.expires_at)

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
Index("webhook_endpoints_by_project", webhook_endpoints.c.project)

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
Index("webhook_deliveries_by_time", webhook_deliveries.c.due_at)
Index(
    "webhook_deliveries_by_endpoint", webhook_deliveries.c.endpoint_id, webhook_deliveries.c.due_at
)
