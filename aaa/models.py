"""Users, access codes, gateways and sessions."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Date, ForeignKey, LargeBinary, String, false
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Base

LOCAL = "local"


class User(Base):
    """A person, added here or of a directory of the company's. Those with a role may also sign in to the console."""

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
    source: Mapped[str] = mapped_column(String(32), default=LOCAL, server_default=LOCAL, index=True)
    """The directory that the person is in, by its name in the settings; `local` for those who were added here."""
    source_id: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """The person's id in that directory, which outlives a change of name."""
    disabled_by_source: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Its directory is why the user is disabled, so the directory can end that as well."""


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
    method: Mapped[str] = mapped_column(String(32))
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


class HandshakeRecord(Base):
    """Why a handshake failed or was slow, explained; one row for all of a kind that follow one another.

    Beside the audit log and not in it: a stranger can cause these rows, so they are pruned, and an audit log may not
    be. What a security team needs for good, that somebody was refused and why, is an audit event as well.
    """

    __tablename__ = "handshake_report"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    """A digest of what makes two of them the same to an operator."""
    gateway: Mapped[str] = mapped_column(String(63))
    first_at: Mapped[datetime]
    last_at: Mapped[datetime] = mapped_column(index=True)
    times: Mapped[int]
    """How many; all the rest is of the last one."""
    outcome: Mapped[str] = mapped_column(String(16))
    code: Mapped[str] = mapped_column(String(48))
    cause: Mapped[str] = mapped_column(String(32))
    client: Mapped[str] = mapped_column(String(64))
    remote_address: Mapped[str] = mapped_column(String(64))
    remote_port: Mapped[int]
    identity: Mapped[str] = mapped_column(String(256))
    """As the peer gave it, in EAP or as IDi; nobody vouches for it."""
    sign_in_id: Mapped[str] = mapped_column(String(36), index=True)
    """As in the audit log; empty where there was no SA."""
    proven: Mapped[bool]
    """The peer had shown that it receives at its address. The two kinds are pruned apart, so that spoofed packets
    push out no explanation of a real client's trouble."""
    duration_ms: Mapped[int]
    explanation: Mapped[str] = mapped_column(String(1024))
    advice: Mapped[list[str]] = mapped_column(JSON)
    offered: Mapped[str] = mapped_column(String(2048))
    allowed: Mapped[str] = mapped_column(String(2048))
    facts: Mapped[list[list[str]]] = mapped_column(JSON)
    """Name and value each, in order."""
    timeline: Mapped[list[list[Any]]] = mapped_column(JSON)
    """Milliseconds since the beginning, and what happened then."""


class HandshakeCounter(Base):
    """How many handshakes of a kind came to an end at a gateway on a day (UTC)."""

    __tablename__ = "handshake_count"

    gateway: Mapped[str] = mapped_column(String(63), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    outcome: Mapped[str] = mapped_column(String(16), primary_key=True)
    cause: Mapped[str] = mapped_column(String(32), primary_key=True)
    code: Mapped[str] = mapped_column(String(48), primary_key=True)
    client: Mapped[str] = mapped_column(String(64), primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
