"""Files, uploads and their parts.

Additive: a process of the version before goes on working on the same file (R-74).
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_EXPIRES = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.Integer),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("filename", sa.String, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
    )
    op.create_index("files_by_project", "files", ["project", "created_at"])
    op.create_index("files_by_size", "files", ["project", "bytes"])
    op.create_index(
        "files_by_expiry",
        "files",
        ["expires_at"],
        sqlite_where=_EXPIRES,
        postgresql_where=_EXPIRES,
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("filename", sa.String, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("file_lifetime", sa.Integer),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("file_id", sa.String),
        sa.Column("parts_key", sa.String),
    )
    op.create_index("uploads_by_expiry", "uploads", ["expires_at"])
    op.create_table(
        "upload_parts",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("upload_id", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
    )
    op.create_index("upload_parts_by_upload", "upload_parts", ["upload_id", "bytes"])
    op.create_index("upload_parts_by_size", "upload_parts", ["project", "bytes"])
    database_id = op.create_table("database_id", sa.Column("id", sa.String, primary_key=True))
    op.bulk_insert(database_id, [{"id": secrets.token_hex(16)}])


def downgrade() -> None:
    """Their blobs become orphans, which the version before does not remove."""
    for table in ("database_id", "upload_parts", "uploads", "files"):
        op.drop_table(table)
