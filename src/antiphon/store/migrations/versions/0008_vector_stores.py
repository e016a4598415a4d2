"""Vector stores, their files, and what of them indexes must forget.

Additive: a process of the version before goes on working on the same file (R-74); it knows of no
files, so it deletes none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_BATCHED = sa.text("batch_id IS NOT NULL")
_LIMITED = sa.text("expires_days IS NOT NULL")
_READY = sa.text("status = 'in_progress' AND due_at = 0")
_PUT_OFF = sa.text("status = 'in_progress' AND due_at > 0")
_ZERO = sa.text("0")


def upgrade() -> None:
    op.create_table(
        "vector_stores",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("description", sa.String),
        sa.Column("metadata", sa.String, nullable=False),
        sa.Column("expires_days", sa.Integer),
        sa.Column("last_active_at", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("removed", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("file_count", sa.Integer, nullable=False, server_default=_ZERO),
        sqlite_autoincrement=True,
    )
    op.create_index("vector_stores_by_project", "vector_stores", ["project", "number"])
    op.create_index(
        "vector_stores_by_expiry",
        "vector_stores",
        ["expires_days"],
        sqlite_where=_LIMITED,
        postgresql_where=_LIMITED,
    )
    _files()
    op.create_table(
        "vector_store_batches",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("store_id", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("cancelled", sa.Integer, nullable=False, server_default=_ZERO),
    )
    op.create_index("vector_store_batches_by_store", "vector_store_batches", ["store_id"])
    op.create_table(
        "index_leftovers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("store_id", sa.String, nullable=False),
        sa.Column("number", sa.Integer),
        sqlite_autoincrement=True,
    )
    _triggers()


def _files() -> None:
    op.create_table(
        "vector_store_files",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("store_id", sa.String, nullable=False),
        sa.Column("file_id", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("usage_bytes", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("chunk_size", sa.Integer, nullable=False),
        sa.Column("chunk_overlap", sa.Integer, nullable=False),
        sa.Column("attributes", sa.String, nullable=False),
        sa.Column("error_code", sa.String),
        sa.Column("error_message", sa.String),
        sa.Column("batch_id", sa.String),
        sa.Column("version", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("owner", sa.String),
        sa.Column("attempt", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("deaths", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("tries", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("due_at", sa.Integer, nullable=False, server_default=_ZERO),
        sa.UniqueConstraint("store_id", "file_id"),
        sqlite_autoincrement=True,
    )
    name = "vector_store_files"
    op.create_index("vector_store_files_by_file", name, ["file_id"])
    op.create_index("vector_store_files_by_place", name, ["store_id", "number"])
    op.create_index("vector_store_files_by_version", name, ["store_id", "version"])
    op.create_index(
        "vector_store_files_by_status", name, ["store_id", "status", "number", "usage_bytes"]
    )
    op.create_index(
        "vector_store_files_by_batch",
        name,
        ["batch_id", "number", "status"],
        sqlite_where=_BATCHED,
        postgresql_where=_BATCHED,
    )
    op.create_index(
        "vector_store_files_ready",
        name,
        ["project", "number"],
        sqlite_where=_READY,
        postgresql_where=_READY,
    )
    op.create_index(
        "vector_store_files_put_off",
        name,
        ["due_at"],
        sqlite_where=_PUT_OFF,
        postgresql_where=_PUT_OFF,
    )


def _triggers() -> None:
    op.execute(
        "CREATE TRIGGER files_dropped AFTER DELETE ON files"
        " BEGIN DELETE FROM vector_store_files WHERE file_id = OLD.id; END"
    )
    op.execute(
        "CREATE TRIGGER vector_store_files_dropped AFTER DELETE ON vector_store_files"
        " WHEN EXISTS (SELECT 1 FROM vector_stores WHERE id = OLD.store_id)"
        " BEGIN UPDATE vector_stores SET version = version + 1, removed = version + 1,"
        " file_count = file_count - 1 WHERE id = OLD.store_id;"
        " INSERT INTO index_leftovers (store_id, number) VALUES (OLD.store_id, OLD.number); END"
    )
    op.execute(
        "CREATE TRIGGER vector_stores_dropped AFTER DELETE ON vector_stores"
        " BEGIN INSERT INTO index_leftovers (store_id, number) VALUES (OLD.id, NULL); END"
    )


def downgrade() -> None:
    """What was promised to nobody but the newer version goes with it; the triggers first."""
    for trigger in ("files_dropped", "vector_store_files_dropped", "vector_stores_dropped"):
        op.execute(f"DROP TRIGGER {trigger}")
    tables = ("index_leftovers", "vector_store_batches", "vector_store_files", "vector_stores")
    for table in tables:
        op.drop_table(table)
