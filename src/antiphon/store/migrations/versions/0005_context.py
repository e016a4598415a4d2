"""Conversations, prompt templates, keys of sealed contents, and lists of responses.

Additive: a process of the version before goes on working on the same file (R-74). What it stores
has no rows in `response_metadata`: it is listed, but not found by its metadata. What it deletes
is counted, and what was noted of it goes, by triggers (store/triggers.py).
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BUSY = sa.text("conversation IS NOT NULL AND status IN ('queued', 'in_progress')")


def upgrade() -> None:
    _responses()
    _conversations()
    _prompts()
    op.create_table(
        "encryption_keys",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
    )


def _responses() -> None:
    op.add_column("responses", sa.Column("conversation", sa.String))
    op.add_column("responses", sa.Column("metadata", sa.String))
    op.create_index(
        "responses_by_conversation",
        "responses",
        ["conversation"],
        sqlite_where=_BUSY,
        postgresql_where=_BUSY,
    )
    op.create_index("responses_by_project", "responses", ["project", "created_at"])
    op.create_table(
        "response_metadata",
        sa.Column("response_id", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
    )
    op.create_index(
        "response_metadata_by_value",
        "response_metadata",
        ["project", "key", "value", "created_at"],
    )
    removals = op.create_table("removals", sa.Column("number", sa.Integer, primary_key=True))
    op.bulk_insert(removals, [{"number": 0}])
    op.execute(
        "CREATE TRIGGER responses_deleted AFTER UPDATE OF deleted ON responses"
        " WHEN NEW.deleted = 1 AND OLD.deleted = 0"
        " BEGIN UPDATE removals SET number = number + 1;"
        " UPDATE responses SET metadata = NULL WHERE id = NEW.id AND metadata IS NOT NULL;"
        " DELETE FROM response_metadata WHERE response_id = NEW.id; END"
    )
    op.execute(
        "CREATE TRIGGER responses_dropped AFTER DELETE ON responses"
        " BEGIN DELETE FROM response_metadata WHERE response_id = OLD.id; END"
    )


def _conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("metadata", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "conversation_items",
        sa.Column("conversation_id", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("item_id", sa.String, nullable=False),
        sa.Column("item", sa.LargeBinary, nullable=False),
    )
    op.create_index(
        "conversation_items_by_item",
        "conversation_items",
        ["project", "item_id", "conversation_id"],
    )


def _prompts() -> None:
    op.create_table(
        "prompts",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.Integer, nullable=False),
        sa.Column("default_version", sa.Integer, nullable=False),
        sa.Column("versions", sa.Integer, nullable=False),
        sa.Column("draft", sa.LargeBinary),
    )
    op.create_index("prompts_by_project", "prompts", ["project"])
    op.create_table(
        "prompt_versions",
        sa.Column("prompt_id", sa.String, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("template", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """What was promised to nobody but the newer version goes with it; the triggers first, since
    they name what goes."""
    op.execute("DROP TRIGGER responses_deleted")
    op.execute("DROP TRIGGER responses_dropped")
    for table in (
        "encryption_keys",
        "prompt_versions",
        "prompts",
        "conversation_items",
        "conversations",
        "removals",
        "response_metadata",
    ):
        op.drop_table(table)
    op.drop_index("responses_by_project", "responses")
    op.drop_index("responses_by_conversation", "responses")
    for column in ("metadata", "conversation"):
        op.drop_column("responses", column)
