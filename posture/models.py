"""The device inventory."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base


class Device(Base):
    """One enrolled device of one user."""

    __tablename__ = "device"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """A UUID; it names the device in certificates (SAN URI `urn:uuid:...`) and to the gateways."""
    name: Mapped[str] = mapped_column(String(64), unique=True)
    owner: Mapped[str] = mapped_column(String(128), index=True)
    """The name of the user it belongs to."""
    platform: Mapped[str] = mapped_column(String(32), default="")
    state: Mapped[str] = mapped_column(String(16), default="trusted")
    """`trusted`, `quarantined` or `revoked`."""
    state_reason: Mapped[str] = mapped_column(String(512), default="")
    created_at: Mapped[datetime]
    state_changed_at: Mapped[datetime]
