"""The tables, as SQLAlchemy Core: the source of the statements and of the migrations.

Rules
1. Every table has `project`; every statement on responses names it (R-29).
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
)
Index(
    "responses_by_expiry",
    responses.c.expires_at,
    sqlite_where=responses.c.expires_at.is_not(None),
    postgresql_where=responses.c.expires_at.is_not(None),
)

#: Only what still runs is in it, so it is small and costs a finished response nothing.
_RUNNING = text("status IN ('queued', 'in_progress')")
Index("responses_unfinished", responses.c.status, sqlite_where=_RUNNING, postgresql_where=_RUNNING)

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
