"""What a deployment was made on: the artifact's digest, and the decisions that allowed it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; deployments from before have none."""
    op.add_column("deployments", sa.Column("evidence", sa.JSON))


def downgrade() -> None:
    """Drop the column, and with it what stood there."""
    op.drop_column("deployments", "evidence")
