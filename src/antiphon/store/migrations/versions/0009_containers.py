"""Containers and their files; what a model was told of calls.

Additive: a process of the version before goes on working on the same file (R-74). What it deletes
takes with it, by a trigger, what was told.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "containers",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("last_active_at", sa.Integer, nullable=False),
        sa.Column("expires_minutes", sa.Integer, nullable=False),
        sa.Column("memory_limit", sa.String, nullable=False),
        sa.Column("owner", sa.String),
        sa.Column("used", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("busy_until", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    op.create_index("containers_by_project", "containers", ["project", "last_active_at"])
    op.create_index("containers_by_activity", "containers", ["last_active_at"])
    op.create_table(
        "container_files",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("container_id", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("changed", sa.Integer, nullable=False),
        sa.Column("blob", sa.String, nullable=False, unique=True),
        sa.UniqueConstraint("container_id", "path"),
    )
    op.add_column("responses", sa.Column("told", sa.LargeBinary))
    op.add_column("conversation_items", sa.Column("told", sa.LargeBinary))
    op.execute(
        "CREATE TRIGGER told_of_deleted_response AFTER UPDATE OF deleted ON responses"
        " WHEN NEW.deleted = 1 AND OLD.deleted = 0 AND NEW.told IS NOT NULL"
        " BEGIN UPDATE responses SET told = NULL WHERE id = NEW.id; END"
    )


def downgrade() -> None:
    """The blobs become orphans, which the version before removes."""
    op.execute("DROP TRIGGER told_of_deleted_response")
    for table in ("conversation_items", "responses"):
        op.drop_column(table, "told")
    for table in ("container_files", "containers"):
        op.drop_table(table)
