"""The devices, and one device with everything that is known of it. Changes are in `device_changes`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from cryptography.hazmat.primitives.serialization import Encoding
from flask import Blueprint, Response, abort, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from aaa.devices import device_overview
from aaa.enrolment.profile import FILES, MEDIA_TYPES, make_profile, profile_kind
from aaa.enrolment.target import target_for
from aaa.models import TunnelSession
from aaa.sessions import sessions_of_device
from core.audit import AuditEvent
from core.clock import utc_now
from core.errors import NotFoundError
from pki.authority import CertificateAuthority
from pki.certificates import list_certificates, state_of
from pki.models import Certificate
from posture.models import Device
from web.access import Permission, requires
from web.console.handshakes import explained_sign_ins
from web.context import runtime
from web.forms import Form, FormError, OptionalLine, read_query

devices = Blueprint("devices", __name__)

LISTED = 500
SESSIONS_LISTED = 20
EVENTS_LISTED = 10
CERTIFICATES_LISTED = 6


class DeviceFilter(Form):
    """What the list shows."""

    q: OptionalLine = ""
    state: Literal["", "trusted", "quarantined", "revoked"] = ""


@devices.get("/devices")
@requires(Permission.SEE)
def show_all() -> ResponseReturnValue:
    """The list."""
    try:
        wanted = read_query(DeviceFilter)
    except FormError:
        wanted = DeviceFilter()
    query = select(Device).order_by(Device.name).limit(LISTED + 1)
    if wanted.q:
        query = query.where(
            or_(
                Device.name.contains(wanted.q.lower(), autoescape=True),
                Device.owner.contains(wanted.q.lower(), autoescape=True),
            )
        )
    if wanted.state:
        query = query.where(Device.state == wanted.state)
    with runtime().database.reading() as session:
        found = session.scalars(query).all()
        shown = found[:LISTED]
        return render_template(
            "console/devices.html",
            filter=wanted,
            devices=shown,
            more=len(found) > LISTED,
            counts=_state_counts(session),
            live=_live_counts(session),
            last=_last_connected(session, [device.id for device in shown]),
        )


@devices.get("/devices/<string:device_id>")
@requires(Permission.SEE)
def show(device_id: str) -> ResponseReturnValue:
    """One device."""
    return device_page(device_id)


@devices.get("/devices/<string:device_id>/live")
@requires(Permission.SEE)
def live(device_id: str) -> ResponseReturnValue:
    """The part of the page that refreshes."""
    with runtime().database.reading() as session:
        find_device(session, device_id)
        rows = sessions_of_device(session, device_id, limit=SESSIONS_LISTED)
    return render_template("console/device_sessions_fragment.html", device_sessions=rows)


@devices.get("/devices/<string:device_id>/profile")
@requires(Permission.SEE)
def profile(device_id: str) -> ResponseReturnValue:
    """What sets up the device's own client, as a file; there is no secret in it."""
    with runtime().database.reading() as session:
        device = find_device(session, device_id)
        target = target_for(session, runtime(), device)
    kind = profile_kind(device.platform)
    if kind is None:
        abort(404)
    root_der = CertificateAuthority.open(runtime()).root.public_bytes(Encoding.DER)
    response = Response(make_profile(kind, target, root_der), mimetype=MEDIA_TYPES[kind])
    response.headers["Content-Disposition"] = f'attachment; filename="{FILES[kind]}"'
    return response


def device_page(device_id: str, **extra: Any) -> str:
    """The page of one device, with what an act on it has to say (`enforcement`)."""
    now = utc_now()
    with runtime().database.reading() as session:
        try:
            known = device_overview(session, device_id)
        except NotFoundError:
            abort(404)
        name = known.device.name
        about = AuditEvent.target.in_((f"device:{name}", f"device:{device_id}")) | (
            AuditEvent.actor == f"device:{name}"
        )
        events = session.scalars(select(AuditEvent).where(about).order_by(AuditEvent.id.desc()).limit(EVENTS_LISTED))
        listed = events.all()
        return render_template(
            "console/device.html",
            device=known.device,
            owner=known.owner,
            now=now,
            code_expires_at=known.code_expires_at,
            certificates=[(row, state_of(row, now)) for row in known.certificates[:CERTIFICATES_LISTED]],
            device_sessions=known.recent_sessions,
            events=listed,
            device_ids={},
            explained_ids=explained_sign_ins(session, listed),
            **extra,
        )


def find_device(session: Session, device_id: str) -> Device:
    """The device, or the 404 page."""
    device = session.get(Device, device_id)
    if device is None:
        abort(404)
    return device


def valid_certificates(session: Session, device_id: str, now: datetime) -> list[Certificate]:
    """Those that revoking the device would revoke."""
    return [row for row in list_certificates(session, device_id=device_id) if state_of(row, now) == "valid"]


def _state_counts(session: Session) -> dict[str, int]:
    counts = {"": 0, "trusted": 0, "quarantined": 0, "revoked": 0}
    for state, count in session.execute(select(Device.state, func.count()).group_by(Device.state)):
        counts[state] = count
        counts[""] += count
    return counts


def _live_counts(session: Session) -> dict[str, int]:
    query = (
        select(TunnelSession.device_id, func.count())
        .where(TunnelSession.ended_at.is_(None))
        .group_by(TunnelSession.device_id)
    )
    return dict(session.execute(query).all())


def _last_connected(session: Session, device_ids: list[str]) -> dict[str, datetime]:
    query = (
        select(TunnelSession.device_id, func.max(TunnelSession.started_at))
        .where(TunnelSession.device_id.in_(device_ids))
        .group_by(TunnelSession.device_id)
    )
    return dict(session.execute(query).all())
