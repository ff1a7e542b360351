"""Where users come from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step."""
    with op.batch_alter_table("user", schema=None) as batch_op:
        batch_op.add_column(sa.Column("source", sa.String(length=32), server_default="local", nullable=False))
        batch_op.add_column(sa.Column("source_id", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("disabled_by_source", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.create_index(batch_op.f("ix_user_source"), ["source"], unique=False)
