"""How many devices a user may have connected at once, over all our gateways; beyond it, that connected longest goes.

Devices are counted, not tunnels: a telephone that falls back from Wi-Fi to its mobile network has two tunnels for a
moment, and a limit of one must not make it throw itself out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from aaa import enforcement
from aaa.interface import SessionStart
from aaa.models import Gateway, TunnelSession, User
from core import outbox
from core.audit import SYSTEM, Entry

# On PostgreSQL two gateways that open sessions of one user do so one after the other; SQLite has one writer anyway.
_LOCK = (
    select(User.name).where(User.name.in_(bindparam("names", expanding=True))).order_by(User.name).with_for_update()
)

# Those of RADIUS clients are not counted, for nobody could end them.
_OPEN = (
    select(TunnelSession)
    .where(
        TunnelSession.user_name.in_(bindparam("names", expanding=True)),
        TunnelSession.ended_at.is_(None),
        TunnelSession.gateway.in_(select(Gateway.name)),
    )
    .order_by(TunnelSession.started_at, TunnelSession.id)
)


@dataclass(frozen=True, slots=True)
class Surplus:
    """What was asked for in the transaction."""

    outbox_ids: list[int]
    """Disconnect-Requests, for the workers to be woken about after the commit."""
    events: list[Entry]
    """To be written with the rest of the transaction."""


def end_surplus(session: Session, starts: Sequence[SessionStart], limits: Mapping[str, int]) -> Surplus:
    """Ask the gateways to end the sessions of devices that are too many; the devices may come back.

    Args:
        session: the transaction in which the sessions that just started were opened.
        starts: those.
        limits: for each of their users who has one, how many devices may be connected.
    """
    surplus = Surplus([], [])
    if not limits:
        return surplus
    names = {"names": sorted(limits)}
    session.execute(_LOCK, names)
    just_connected = {start.access.device_id for start in starts}
    by_user: dict[str, dict[str, list[TunnelSession]]] = {}
    for tunnel in session.scalars(_OPEN, names):
        devices = by_user.setdefault(tunnel.user_name, {})
        # Taken out and put in again: the order is that of each device's newest session.
        devices[tunnel.device_id] = [*devices.pop(tunnel.device_id, []), tunnel]
    for user_name, devices in by_user.items():
        limit = limits[user_name]
        # Whoever just connected is the newest, whatever another gateway's clock says.
        order = sorted(devices, key=just_connected.__contains__)
        for device_id in order[: max(0, len(order) - limit)]:
            for tunnel in devices[device_id]:
                _end(session, tunnel, limit, surplus)
    return surplus


def _end(session: Session, tunnel: TunnelSession, limit: int, surplus: Surplus) -> None:
    payload = {"gateway": tunnel.gateway, "session_id": tunnel.id}
    surplus.outbox_ids.append(outbox.add(session, enforcement.DISCONNECT, payload).id)
    devices = "1 device" if limit == 1 else f"{limit} devices"
    event = Entry(
        SYSTEM,
        "session.disconnect",
        f"session:{tunnel.id}",
        reason=f"{tunnel.user_name} may have {devices} connected at once, and another one connected",
        detail={"device": tunnel.device_name, "user": tunnel.user_name, "gateway": tunnel.gateway},
    )
    surplus.events.append(event)
