"""Certificate authorities and the certificates they issued."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base


class Authority(Base):
    """A certificate authority of ours: `root` or `issuing`."""

    __tablename__ = "authority"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    certificate_der: Mapped[bytes] = mapped_column(LargeBinary)
    encrypted_key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class Certificate(Base):
    """One issued certificate; stored before it is handed out."""

    __tablename__ = "certificate"

    serial: Mapped[str] = mapped_column(String(40), primary_key=True)
    """Lower-case hexadecimal without leading zeros."""
    profile: Mapped[str] = mapped_column(String(16))
    """`gateway`, `portal` or `device`."""
    subject: Mapped[str] = mapped_column(String(255))
    device_id: Mapped[str | None] = mapped_column(String(36), index=True)
    not_before: Mapped[datetime]
    not_after: Mapped[datetime] = mapped_column(index=True)
    der: Mapped[bytes] = mapped_column(LargeBinary)
    encrypted_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The private key of the system's own certificates; a device's key is never kept."""
    revoked_at: Mapped[datetime | None]
    revocation_reason: Mapped[str] = mapped_column(String(512), default="")
