"""Images in items, and who needs them.

Additive: a process of the version before goes on working on the same file (R-74); what it deletes
is noted by the triggers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "images",
        sa.Column("blob", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("response_id", sa.String, nullable=False),
        sa.Column("conversation_id", sa.String),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("check_at", sa.Integer),
    )
    op.create_index("images_by_size", "images", ["project", "bytes"])
    op.create_index("images_by_response", "images", ["response_id"])
    op.create_index("images_by_conversation", "images", ["conversation_id"])
    op.create_index("images_by_check", "images", ["check_at"])
    op.execute(
        "CREATE TRIGGER images_of_deleted_response AFTER UPDATE OF deleted ON responses"
        " WHEN NEW.deleted = 1 AND OLD.deleted = 0"
        " BEGIN UPDATE images SET check_at = 0 WHERE response_id = NEW.id; END"
    )
    op.execute(
        "CREATE TRIGGER images_of_dropped_response AFTER DELETE ON responses"
        " BEGIN UPDATE images SET check_at = 0 WHERE response_id = OLD.id; END"
    )
    op.execute(
        "CREATE TRIGGER images_of_conversation AFTER DELETE ON conversations"
        " BEGIN UPDATE images SET check_at = 0 WHERE conversation_id = OLD.id; END"
    )


def downgrade() -> None:
    """The blobs become orphans, which the version before removes; its items show what it cannot
    read."""
    for trigger in ("deleted_response", "dropped_response", "conversation"):
        op.execute(f"DROP TRIGGER images_of_{trigger}")
    op.drop_table("images")
