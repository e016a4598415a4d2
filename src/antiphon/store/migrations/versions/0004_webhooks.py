"""Webhook endpoints and their outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("event_types", sa.String, nullable=False),
        sa.Column("secret", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.Integer),
        sa.Column("old_secret", sa.String),
        sa.Column("old_secret_until", sa.Integer),
        sa.Column("fixed", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("failing_since", sa.Integer),
        sa.Column("disabled_at", sa.Integer),
    )
    op.create_index("webhook_endpoints_by_project", "webhook_endpoints", ["project"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("endpoint_id", sa.String, nullable=False),
        sa.Column("notice_id", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Integer, nullable=False),
    )
    op.create_index("webhook_deliveries_by_time", "webhook_deliveries", ["due_at"])
    op.create_index(
        "webhook_deliveries_by_endpoint", "webhook_deliveries", ["endpoint_id", "due_at"]
    )


def downgrade() -> None:
    op.drop_table("webhook_deliveries")
    op.drop_table("webhook_endpoints")
