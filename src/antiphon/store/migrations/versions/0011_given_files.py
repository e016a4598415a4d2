"""Which files of the Files API a container was given.

Additive: a process of the version before goes on working on the same file (R-74).
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("containers", sa.Column("given", sa.LargeBinary))


def downgrade() -> None:
    """What was given may be brought again, for as long as these containers live."""
    op.drop_column("containers", "given")
