"""A user's devices and what they sign in with: access codes and certificates.

An access code is shown once, when it is made; what is kept is its NT hash, encrypted. The row stays after the
code has ended and after its device was revoked, so that a refused sign-in can be told from a wrong code.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from sqlalchemy.orm import Session

from aaa import sessions, users
from aaa.eap.mschapv2 import nt_password_hash
from aaa.models import AccessCode, TunnelSession, User
from core import audit
from core.audit import Actor
from core.clock import utc_now
from core.errors import ConflictError
from core.runtime import Runtime
from core.secrets import Secret, SecretBox
from pki.authority import CertificateAuthority
from pki.certificates import list_certificates
from pki.devices import issue_device_certificate
from pki.keys import DevicePrivateKey, KeyType, generate_private_key
from pki.models import Certificate
from posture import devices as inventory
from posture.models import Device

CODE_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Nothing in it looks like anything else in it: no 0, 1, i, l, o, and one case only."""
CODE_GROUPS = 5
CODE_GROUP_LENGTH = 5
"""25 characters of 31: 123 bits, so that neither guessing nor a recorded MSCHAPv2 exchange leads anywhere."""


@dataclass(frozen=True, slots=True)
class IssuedCode:
    """A new access code, shown once."""

    code: str = field(repr=False)
    """As it is typed, hyphens included."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A new device with its first access code."""

    device: Device
    access_code: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A new certificate with the private key that was made for it; the key is kept nowhere else."""

    certificate: x509.Certificate
    private_key: DevicePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeviceOverview:
    """All that there is to say about one device."""

    device: Device
    owner: User | None
    code_expires_at: datetime | None
    """None where there is no access code."""
    certificates: Sequence[Certificate]
    live_sessions: Sequence[TunnelSession]
    recent_sessions: Sequence[TunnelSession]


def new_access_code() -> str:
    """A random access code, such as `k7m3q-...`."""
    return "-".join(
        "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_GROUP_LENGTH)) for _ in range(CODE_GROUPS)
    )


def add_device(runtime: Runtime, owner: str, name: str, platform: str, actor: Actor) -> NewDevice:
    """Enrol a device of a user, and give it an access code.

    Args:
        runtime: of this process.
        owner: name of the user.
        name: of the device; unique, a DNS label.
        platform: what it runs, for the console.
        actor: who does it.

    Raises:
        NotFoundError: there is no such user.
        ConflictError: the user is disabled, or the device's name is taken.
        DeviceError: the name can't be used.
    """
    with runtime.database.transaction() as session:
        user = users.get_user(session, owner)
        _refuse_disabled(user)
        device = inventory.add(session, name, user.name, platform, actor)
        issued = _issue_code(session, runtime, device, actor)
        return NewDevice(device, issued.code, issued.expires_at)


def renew_access_code(runtime: Runtime, device_id: str, actor: Actor) -> IssuedCode:
    """Give a device a new access code; the one before ends at once, tunnels that are up stay.

    Raises:
        NotFoundError: there is no such device.
        ConflictError: the device is revoked, or its owner disabled.
    """
    with runtime.database.transaction() as session:
        device = inventory.get(session, device_id)
        _refuse_unfit(session, device)
        return _issue_code(session, runtime, device, actor)


def issue_certificate(
    runtime: Runtime, authority: CertificateAuthority, device_id: str, key_type: KeyType, actor: Actor
) -> IssuedCertificate:
    """Make a key pair for a device and issue a certificate for it.

    Raises:
        NotFoundError: there is no such device.
        ConflictError: the device is revoked, or its owner disabled.
    """
    # Made outside the transaction: an RSA key takes a while, and the transaction keeps others from writing.
    private_key = generate_private_key(key_type)
    with runtime.database.transaction() as session:
        device = inventory.get(session, device_id)
        _refuse_unfit(session, device)
        certificate = issue_device_certificate(
            session, authority, device.id, device.name, device.owner, private_key.public_key(), actor
        )
        return IssuedCertificate(certificate, private_key)


def device_overview(session: Session, device_id: str) -> DeviceOverview:
    """All that there is to say about one device.

    Raises:
        NotFoundError: there is no such device.
    """
    device = inventory.get(session, device_id)
    code = session.get(AccessCode, device_id)
    return DeviceOverview(
        device=device,
        owner=session.get(User, device.owner),
        code_expires_at=code.expires_at if code is not None else None,
        certificates=list_certificates(session, device_id=device_id),
        live_sessions=sessions.sessions_of_device(session, device_id, live_only=True),
        recent_sessions=sessions.sessions_of_device(session, device_id, limit=20),
    )


def _issue_code(session: Session, runtime: Runtime, device: Device, actor: Actor) -> IssuedCode:
    text = new_access_code()
    now = utc_now()
    expires_at = now + timedelta(seconds=runtime.settings.aaa.access_code_lifetime_s)
    row = session.get(AccessCode, device.id)
    if row is None:
        row = AccessCode(device_id=device.id, user_name=device.owner)
        session.add(row)
    row.encrypted_nt_hash = _encrypted_hash(runtime.box, text)
    row.created_at = now
    row.expires_at = expires_at
    session.flush()
    audit.record(
        session,
        actor,
        "device.issue-code",
        f"device:{device.name}",
        detail={
            "device_id": device.id,
            "owner": device.owner,
            "expires_at": expires_at.isoformat(timespec="seconds"),
        },
    )
    return IssuedCode(text, expires_at)


def _encrypted_hash(box: SecretBox, code: str) -> bytes:
    return box.encrypt(Secret(nt_password_hash(code)))


def _refuse_unfit(session: Session, device: Device) -> None:
    if device.state == inventory.REVOKED:
        raise ConflictError(f"device {device.name} is revoked", fix="enrol the machine again under a new name")
    _refuse_disabled(users.get_user(session, device.owner))


def _refuse_disabled(user: User) -> None:
    if user.disabled:
        raise ConflictError(f"user {user.name} is disabled", fix=f"ostiary user enable {user.name}")
