"""The register of issued certificates: stored before they are handed out, looked up, revoked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from sqlalchemy.orm import Session

from core import audit
from core.clock import utc_now
from core.errors import NotFoundError
from pki.models import Certificate
from pki.names import serial_text
from pki.profiles import ProfileName

MAXIMUM_SERIAL_TEXT = 64


@dataclass(frozen=True, slots=True)
class Revocation:
    """Why a certificate is not accepted any more."""

    revoked_at: datetime | None
    """None when the serial is not in the register at all."""
    reason: str


def store(
    session: Session,
    certificate: x509.Certificate,
    *,
    profile: ProfileName,
    subject: str,
    actor: audit.Actor,
    device_id: str | None = None,
    encrypted_key: bytes | None = None,
) -> Certificate:
    """Write an issued certificate and its audit event; nobody gets the certificate before this is committed.

    Args:
        session: the transaction in which it is issued.
        certificate: what the CA signed.
        profile: of which kind it is.
        subject: what it is for, in words: a host name, or the name of a device.
        actor: who asked for it.
        device_id: the device that it names.
        encrypted_key: the private key, for the system's own certificates only.
    """
    row = Certificate(
        serial=serial_text(certificate),
        profile=profile,
        subject=subject[:255],
        device_id=device_id,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        der=certificate.public_bytes(Encoding.DER),
        encrypted_key=encrypted_key,
        revoked_at=None,
    )
    session.add(row)
    session.flush()
    audit.record(
        session,
        actor,
        "certificate.issue",
        f"certificate:{row.serial}",
        detail={
            "profile": profile,
            "subject": row.subject,
            "device_id": device_id,
            "not_after": row.not_after.isoformat(timespec="seconds"),
        },
    )
    return row


def revocation_of(session: Session, serial: str) -> Revocation | None:
    """Whether a certificate that our CA signed is good no more; one look-up by primary key.

    A serial that is not in the register counts as revoked: either the CA's key was used behind the register's
    back, or the database was put back to an older state, and in both cases nobody should get in by it.

    Args:
        session: any session.
        serial: as `serial_text` writes it.

    Returns:
        None when the certificate is in the register and not revoked.
    """
    row = session.execute(
        select(Certificate.revoked_at, Certificate.revocation_reason).where(Certificate.serial == serial)
    ).one_or_none()
    if row is None:
        return Revocation(None, "the certificate is not in the register of issued certificates")
    return None if row.revoked_at is None else Revocation(row.revoked_at, row.revocation_reason)


def revoke_certificate(session: Session, serial: str, reason: str, actor: audit.Actor) -> bool:
    """Revoke one certificate, with its audit event.

    Args:
        session: the transaction to do it in.
        serial: hexadecimal, as people copy it: case, colons, `0x` and leading zeros don't matter.
        reason: why, in words for a person.
        actor: who revokes.

    Returns:
        False when it was revoked already; then nothing changes, the first reason stays.

    Raises:
        NotFoundError: no such certificate.
    """
    row = session.get(Certificate, _normalised(serial), with_for_update=True)
    if row is None:
        raise NotFoundError(f"no certificate has the serial number {serial!r}", fix="`ostiary ca list` shows them")
    return _revoke(session, row, reason, actor)


def revoke_all_of_device(session: Session, device_id: str, reason: str, actor: audit.Actor) -> int:
    """Revoke what a device holds and what has not ended by itself; see `pki.devices.revoke_device_certificates`."""
    rows = session.scalars(
        select(Certificate)
        .where(
            Certificate.device_id == device_id,
            Certificate.revoked_at.is_(None),
            Certificate.not_after > utc_now(),
        )
        .order_by(Certificate.serial)
        .with_for_update()
    ).all()
    return sum(_revoke(session, row, reason, actor) for row in rows)


def list_certificates(
    session: Session, *, profile: str | None = None, device_id: str | None = None, limit: int | None = None
) -> Sequence[Certificate]:
    """Issued certificates, newest first."""
    query = select(Certificate).order_by(Certificate.not_before.desc(), Certificate.serial).limit(limit)
    if profile is not None:
        query = query.where(Certificate.profile == profile)
    if device_id is not None:
        query = query.where(Certificate.device_id == device_id)
    return session.scalars(query).all()


def state_of(row: Certificate, now: datetime) -> str:
    """`valid`, `revoked`, `expired` or `not yet valid`."""
    if row.revoked_at is not None:
        return "revoked"
    if now > row.not_after:
        return "expired"
    return "valid" if now >= row.not_before else "not yet valid"


def _revoke(session: Session, row: Certificate, reason: str, actor: audit.Actor) -> bool:
    if row.revoked_at is not None:
        return False
    row.revoked_at = utc_now()
    row.revocation_reason = reason[:512]
    audit.record(
        session,
        actor,
        "certificate.revoke",
        f"certificate:{row.serial}",
        reason=reason,
        detail={"profile": row.profile, "subject": row.subject, "device_id": row.device_id},
    )
    return True


def _normalised(serial: str) -> str:
    text = serial[:MAXIMUM_SERIAL_TEXT].strip().lower().replace(":", "").removeprefix("0x").lstrip("0")
    return text or "0"
