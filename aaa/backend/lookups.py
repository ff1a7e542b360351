"""What the database holds about users, devices, codes and certificates: one statement for any number of them.

The statements are built once, at import: composing one costs more than running it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from aaa.backend.requests import StoredCode
from aaa.decision import DeviceIdentity, Posture, Subject
from aaa.models import AccessCode, User
from pki.models import Certificate
from posture.models import Device

MOST_CODES_PER_USER = 64
"""Each costs the check of a response; nobody has that many devices."""

_CODES_OF_USERS = (
    select(User.name, AccessCode.device_id, AccessCode.encrypted_nt_hash)
    .outerjoin(AccessCode, AccessCode.user_name == User.name)
    .where(User.name.in_(bindparam("names", expanding=True)))
    .order_by(AccessCode.expires_at.desc())
)

_DEVICE_FACTS = (
    select(
        Device.id,
        Device.name,
        Device.owner,
        Device.state,
        Device.state_reason,
        User.name.label("user_name"),
        User.groups,
        User.disabled,
        AccessCode.encrypted_nt_hash,
        AccessCode.expires_at,
    )
    .outerjoin(User, User.name == Device.owner)
    .outerjoin(AccessCode, AccessCode.device_id == Device.id)
)
_DEVICES = _DEVICE_FACTS.where(Device.id.in_(bindparam("ids", expanding=True)))
_DEVICES_BY_NAME = _DEVICE_FACTS.where(Device.name.in_(bindparam("names", expanding=True)))
# On PostgreSQL a revocation waits for the transaction that opens a session, and then finds it; on SQLite every
# writing transaction waits for the one before.
_DEVICES_LOCKED = _DEVICES.order_by(Device.id).with_for_update(read=True, of=Device)

_USERS = select(User.name, User.groups, User.disabled).where(User.name.in_(bindparam("names", expanding=True)))
# The same for a user who is disabled while a session without a known device begins.
_USERS_LOCKED = _USERS.order_by(User.name).with_for_update()

_CERTIFICATES = select(
    Certificate.serial, Certificate.device_id, Certificate.revoked_at, Certificate.revocation_reason
).where(Certificate.serial.in_(bindparam("serials", expanding=True)))


@dataclass(frozen=True, slots=True)
class CodeState:
    """The access code that a device has now."""

    encrypted_nt_hash: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a device and its owner."""

    subject: Subject | None
    device: DeviceIdentity | None
    posture: Posture | None
    code: CodeState | None


NOTHING = Known(None, None, None, None)
"""Of a device that is not in the inventory."""


@dataclass(frozen=True, slots=True)
class CertificateState:
    """What the register says of a certificate."""

    device_id: str | None
    revoked_at: datetime | None
    revocation_reason: str


def codes_of_users(connection: Connection, names: Collection[str]) -> dict[str, list[StoredCode]]:
    """The access codes of each of these users that exists, those that last longest first."""
    found: dict[str, list[StoredCode]] = {}
    if not names:
        return found
    for user_name, device_id, encrypted_nt_hash in connection.execute(_CODES_OF_USERS, {"names": sorted(names)}):
        codes = found.setdefault(user_name, [])
        if device_id is not None and len(codes) < MOST_CODES_PER_USER:
            codes.append(StoredCode(device_id, encrypted_nt_hash))
    return found


def devices(connection: Connection, device_ids: Collection[str], *, lock: bool = False) -> dict[str, Known]:
    """What is known of each of these devices that exists.

    Args:
        connection: the transaction.
        device_ids: which.
        lock: keep them from being revoked before the end of the transaction.
    """
    rows = connection.execute(_DEVICES_LOCKED if lock else _DEVICES, {"ids": sorted(device_ids)})
    return {row[0]: _known(row) for row in rows}


def devices_by_name(connection: Connection, names: Collection[str]) -> dict[str, Known]:
    """What is known of each device with one of these names."""
    if not names:
        return {}
    return {row[1]: _known(row) for row in connection.execute(_DEVICES_BY_NAME, {"names": sorted(names)})}


def users(connection: Connection, names: Collection[str], *, lock: bool = False) -> dict[str, Subject]:
    """Each of these users who exists.

    Args:
        connection: the transaction.
        names: which.
        lock: keep them from being disabled before the end of the transaction.
    """
    if not names:
        return {}
    rows = connection.execute(_USERS_LOCKED if lock else _USERS, {"names": sorted(names)})
    return {name: Subject(name, tuple(groups), disabled) for name, groups, disabled in rows}


def certificates(connection: Connection, serials: Collection[str]) -> dict[str, CertificateState]:
    """What the register says of each of these serials that it has; an empty serial is nobody's."""
    wanted = sorted(serial for serial in serials if serial)
    if not wanted:
        return {}
    return {
        serial: CertificateState(device_id, revoked_at, reason)
        for serial, device_id, revoked_at, reason in connection.execute(_CERTIFICATES, {"serials": wanted})
    }


def _known(row: Any) -> Known:
    identifier, name, owner, state, state_reason, user_name, groups, disabled, nt_hash, expires_at = row
    return Known(
        Subject(user_name, tuple(groups), disabled) if user_name is not None else None,
        DeviceIdentity(identifier, name, owner),
        Posture(state, state_reason),
        CodeState(nt_hash, expires_at) if nt_hash is not None else None,
    )
