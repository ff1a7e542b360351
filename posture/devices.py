"""The device inventory: which device belongs to whom, and whether it is trusted.

Every change is one audit event in the transaction of the change. A revoked device stays in the inventory, so
that the audit log and old sessions keep a name, and stays revoked: to let the machine in again, enrol it anew.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import audit
from core.audit import Actor
from core.clock import utc_now
from core.errors import ConflictError, NotFoundError, OstiaryError
from posture.models import Device

TRUSTED = "trusted"
QUARANTINED = "quarantined"
REVOKED = "revoked"

_ACTIONS = {TRUSTED: "device.trust", QUARANTINED: "device.quarantine", REVOKED: "device.revoke"}

# The name becomes a DNS label in the device's certificate.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PLATFORM = re.compile(r"[A-Za-z0-9 ._+/-]{0,32}")
_LONGEST_REASON = 512


class DeviceError(OstiaryError):
    """A device can't be added or changed as asked."""


def add(session: Session, name: str, owner: str, platform: str, actor: Actor) -> Device:
    """Put a new, trusted device into the inventory.

    Args:
        session: the transaction.
        name: unique; letters, digits and hyphens, at most 63 of them; kept in lower case.
        owner: name of the user it belongs to; the caller has checked that there is one.
        platform: what it runs, for the console (`Windows 11`); may be empty.
        actor: who adds it.

    Raises:
        DeviceError: the name or the platform can't be used.
        ConflictError: the name is taken.
    """
    name = name.strip().lower()
    if not _NAME.fullmatch(name):
        raise DeviceError(
            f"device name {name[:64]!r} can't be used",
            fix="use letters, digits and inner hyphens, at most 63 of them",
        )
    if not _PLATFORM.fullmatch(platform):
        raise DeviceError(f"platform {platform[:64]!r} can't be used", fix="use at most 32 plain characters")
    taken = session.scalar(select(Device).where(Device.name == name))
    if taken is not None:
        raise ConflictError(
            f"device {name} exists already and belongs to {taken.owner}",
            fix="choose another name; the name of a revoked device is not given out again",
        )
    now = utc_now()
    device = Device(
        id=str(uuid.uuid4()),
        name=name,
        owner=owner,
        platform=platform,
        state=TRUSTED,
        state_reason="",
        created_at=now,
        state_changed_at=now,
    )
    session.add(device)
    session.flush()
    audit.record(
        session,
        actor,
        "device.add",
        f"device:{name}",
        detail={"device_id": device.id, "owner": owner, "platform": platform},
    )
    return device


def get(session: Session, device_id: str) -> Device:
    """The device with this id.

    Raises:
        NotFoundError: there is none.
    """
    device = session.get(Device, device_id)
    if device is None:
        raise NotFoundError(f"no device has the id {device_id[:64]!r}", fix="see `ostiary device list`")
    return device


def find(session: Session, name_or_id: str) -> Device:
    """The device with this name or id, as a person types it.

    Raises:
        NotFoundError: there is none.
    """
    wanted = name_or_id.strip().lower()
    device = session.scalar(select(Device).where((Device.name == wanted) | (Device.id == wanted)))
    if device is None:
        raise NotFoundError(f"there is no device {name_or_id[:64]!r}", fix="see `ostiary device list`")
    return device


def list(session: Session, *, owner: str | None = None, state: str | None = None) -> Sequence[Device]:
    """All devices by name, or those of one owner, or in one state."""
    query = select(Device).order_by(Device.name)
    if owner is not None:
        query = query.where(Device.owner == owner)
    if state is not None:
        query = query.where(Device.state == state)
    return session.scalars(query).all()


def set_state(
    session: Session,
    device: Device,
    state: str,
    reason: str,
    actor: Actor,
    *,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Change a device's state; setting the state that it has already changes nothing.

    This is the inventory's side only: `aaa.enforcement` also revokes certificates and ends tunnels.

    Args:
        session: the transaction.
        device: a device of this session.
        state: `trusted`, `quarantined` or `revoked`.
        reason: why, in words for its user.
        actor: who changes it.
        detail: further facts for the audit event.

    Raises:
        DeviceError: no such state.
        ConflictError: the device is revoked, which is final.
    """
    if state not in _ACTIONS:
        raise DeviceError(f"{state!r} is no state of a device", fix=f"use one of {', '.join(_ACTIONS)}")
    if device.state == state:
        return
    if device.state == REVOKED:
        raise ConflictError(
            f"device {device.name} is revoked, and stays so", fix="enrol the machine again under a new name"
        )
    before = device.state
    device.state = state
    device.state_reason = reason[:_LONGEST_REASON]
    device.state_changed_at = utc_now()
    audit.record(
        session,
        actor,
        _ACTIONS[state],
        f"device:{device.name}",
        reason=reason,
        detail={"device_id": device.id, "owner": device.owner, "before": before, **(detail or {})},
    )
