"""Handshake reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "handshake_count",
        sa.Column("gateway", sa.String(length=63), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=32), nullable=False),
        sa.Column("code", sa.String(length=48), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "gateway", "day", "outcome", "cause", "code", "client", name=op.f("pk_handshake_count")
        ),
    )
    op.create_table(
        "handshake_report",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("gateway", sa.String(length=63), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=48), nullable=False),
        sa.Column("cause", sa.String(length=32), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("remote_address", sa.String(length=64), nullable=False),
        sa.Column("remote_port", sa.Integer(), nullable=False),
        sa.Column("identity", sa.String(length=256), nullable=False),
        sa.Column("sign_in_id", sa.String(length=36), nullable=False),
        sa.Column("proven", sa.Boolean(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("explanation", sa.String(length=1024), nullable=False),
        sa.Column("advice", sa.JSON(), nullable=False),
        sa.Column("offered", sa.String(length=2048), nullable=False),
        sa.Column("allowed", sa.String(length=2048), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("timeline", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_handshake_report")),
    )
    with op.batch_alter_table("handshake_report", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_handshake_report_kind"), ["kind"], unique=False)
        batch_op.create_index(batch_op.f("ix_handshake_report_last_at"), ["last_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_handshake_report_sign_in_id"), ["sign_in_id"], unique=False)
