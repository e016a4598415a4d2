"""Approvals of MCP calls that were used.

Additive: a process of the version before goes on working on the same file (R-74).
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "used_approvals",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("response_id", sa.String, nullable=False),
        sa.Column("expires_at", sa.Integer, nullable=False),
    )
    op.create_index("used_approvals_by_expiry", "used_approvals", ["expires_at"])


def downgrade() -> None:
    op.drop_table("used_approvals")
