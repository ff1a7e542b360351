"""Users, access codes, gateways and sessions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base


class User(Base):
    """A person of the local directory. Those with a role may also sign in to the console."""

    __tablename__ = "user"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    """Lower case; what the person types, without domain."""
    display_name: Mapped[str] = mapped_column(String(128), default="")
    groups: Mapped[list[str]] = mapped_column(JSON, default=list)
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    role: Mapped[str | None] = mapped_column(String(16))
    """`administrator` (all), `security` (see and revoke), `auditor` (see); none for an employee."""
    password_hash: Mapped[str | None] = mapped_column(String(255))
    """argon2id; only for the console."""
    encrypted_totp_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    last_totp_step: Mapped[int] = mapped_column(BigInteger, default=0)
    """The newest 30-second step that was used, so that no code is accepted twice."""


class AccessCode(Base):
    """The short-lived secret with which one device signs in by EAP-MSCHAPv2."""

    __tablename__ = "access_code"

    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"), primary_key=True)
    user_name: Mapped[str] = mapped_column(ForeignKey("user.name"), index=True)
    encrypted_nt_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class Gateway(Base):
    """A gateway that reports here and is told here; its shared secret is the stored secret `gateway:NAME`."""

    __tablename__ = "gateway"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    control_address: Mapped[str] = mapped_column(String(45))
    control_port: Mapped[int]
    data_plane: Mapped[str] = mapped_column(String(32), default="")
    started_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]


class TunnelSession(Base):
    """One accounted session of one device on one gateway."""

    __tablename__ = "tunnel_session"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """The Acct-Session-Id."""
    gateway: Mapped[str] = mapped_column(String(63), index=True)
    user_name: Mapped[str] = mapped_column(String(128), index=True)
    device_id: Mapped[str] = mapped_column(String(36), index=True)
    device_name: Mapped[str] = mapped_column(String(64))
    method: Mapped[str] = mapped_column(String(16))
    rule: Mapped[str] = mapped_column(String(64))
    certificate_serial: Mapped[str] = mapped_column(String(40), default="")
    """The client certificate that opened it; empty for one opened with an access code."""
    client: Mapped[str] = mapped_column(String(64), default="")
    """What the client looks like (`strongSwan`, `Windows`, ...)."""
    remote_address: Mapped[str] = mapped_column(String(64))
    """Outer address and port, `192.0.2.7:4500`."""
    virtual_ipv4: Mapped[str | None] = mapped_column(String(15))
    virtual_ipv6: Mapped[str | None] = mapped_column(String(45))
    ike_suite: Mapped[str] = mapped_column(String(96), default="")
    esp_suite: Mapped[str] = mapped_column(String(96), default="")
    started_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(index=True)
    terminate_cause: Mapped[str] = mapped_column(String(32), default="")
    bytes_in: Mapped[int] = mapped_column(BigInteger, default=0)
    """From the client to the network (Acct-Input-Octets)."""
    bytes_out: Mapped[int] = mapped_column(BigInteger, default=0)
    packets_in: Mapped[int] = mapped_column(BigInteger, default=0)
    packets_out: Mapped[int] = mapped_column(BigInteger, default=0)
