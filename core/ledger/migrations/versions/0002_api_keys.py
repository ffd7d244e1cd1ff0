"""API keys of the gateway; like leases they may be changed, what was done to them stands among the decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("use_cases", sa.JSON, nullable=False),
        sa.Column("rate_per_s", sa.Integer),
        sa.Column("quota_per_day", sa.BigInteger),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("replaced_by", sa.String(12)),
    )


def downgrade() -> None:
    """Drop the table, and with it every key."""
    op.drop_table("api_keys")
