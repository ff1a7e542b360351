"""Room for the names of two methods in one sign-in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step."""
    with op.batch_alter_table("tunnel_session", schema=None) as batch_op:
        batch_op.alter_column("method", existing_type=sa.String(length=16), type_=sa.String(length=32))
