"""Writes the accounting records: start, interim, stop, and what a gateway left open when it died.

Each function takes many records at once and makes one statement of them. An interim or a stop for a session
that has ended already changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from aaa.interface import GatewayHello, SessionStart, SessionUsage, TerminateCause
from aaa.models import Gateway, TunnelSession
from core import audit
from core.audit import Actor
from core.clock import utc_now

# Built once: composing a statement costs more than running it.
_INSERT = insert(TunnelSession)
_KNOWN = select(TunnelSession.id).where(TunnelSession.id.in_(bindparam("ids", expanding=True)))
_UPDATE_OPEN = update(TunnelSession).where(TunnelSession.id == bindparam("session"), TunnelSession.ended_at.is_(None))


def open_sessions(connection: Connection, starts: Sequence[SessionStart], now: datetime) -> None:
    """Accounting Start for each."""
    if not starts:
        return
    connection.execute(
        _INSERT,
        [
            {
                "id": start.session_id,
                "gateway": start.gateway,
                "user_name": start.access.user_name,
                "device_id": start.access.device_id,
                "device_name": start.access.device_name,
                "method": start.access.method,
                "rule": start.access.rule,
                "certificate_serial": start.access.certificate_serial,
                "client": start.client[:64],
                "remote_address": start.remote_address[:64],
                "virtual_ipv4": start.virtual_ipv4,
                "virtual_ipv6": start.virtual_ipv6,
                "ike_suite": start.ike_suite[:96],
                "esp_suite": start.esp_suite[:96],
                "started_at": now,
                "updated_at": now,
                "ended_at": None,
                "terminate_cause": "",
                "bytes_in": 0,
                "bytes_out": 0,
                "packets_in": 0,
                "packets_out": 0,
            }
            for start in starts
        ],
    )


def known_sessions(connection: Connection, session_ids: Iterable[str]) -> set[str]:
    """Which of these have a record, open or not."""
    return set(connection.scalars(_KNOWN, {"ids": sorted(session_ids)}))


def update_sessions(connection: Connection, usages: Sequence[tuple[SessionUsage, datetime]]) -> None:
    """Interim accounting; of several for one session only the last counts."""
    newest = {usage.session_id: _counters(usage, at) for usage, at in usages}
    if newest:
        connection.execute(_UPDATE_OPEN, list(newest.values()))


def close_sessions(connection: Connection, stops: Sequence[tuple[SessionUsage, TerminateCause, datetime]]) -> None:
    """Accounting Stop for each."""
    if stops:
        connection.execute(
            _UPDATE_OPEN,
            [{**_counters(usage, at), "ended_at": at, "terminate_cause": cause.name} for usage, cause, at in stops],
        )


def gateway_started(session: Session, hello: GatewayHello) -> int:
    """Accounting-On: keep what the gateway says of itself, and close the sessions that it had before.

    Returns:
        How many were left open.
    """
    now = utc_now()
    gateway = session.get(Gateway, hello.name)
    if gateway is None:
        gateway = Gateway(name=hello.name)
        session.add(gateway)
    gateway.control_address = hello.control_address
    gateway.control_port = hello.control_port
    gateway.data_plane = hello.data_plane
    gateway.started_at = gateway.last_seen_at = now
    session.flush()
    closed = close_left_open(session, hello.name, TerminateCause.NAS_REBOOT)
    audit.record(
        session,
        Actor("system", hello.name),
        "gateway.start",
        f"gateway:{hello.name}",
        detail={
            "control": f"{hello.control_address} port {hello.control_port}",
            "data_plane": hello.data_plane,
            "sessions_left_open": closed,
        },
    )
    return closed


def gateway_stopped(session: Session, name: str) -> int:
    """Accounting-Off: the gateway has ended its sessions; close those whose stop never came.

    Returns:
        How many those were.
    """
    closed = close_left_open(session, name, TerminateCause.NAS_REQUEST)
    audit.record(
        session,
        Actor("system", name),
        "gateway.stop",
        f"gateway:{name}",
        detail={"sessions_left_open": closed},
    )
    return closed


def close_left_open(session: Session, gateway: str, cause: TerminateCause) -> int:
    """Close all open sessions of a gateway; returns how many there were."""
    now = utc_now()
    result = session.connection().execute(
        update(TunnelSession)
        .where(TunnelSession.gateway == gateway, TunnelSession.ended_at.is_(None))
        .values(ended_at=now, updated_at=now, terminate_cause=cause.name)
    )
    return result.rowcount


def _counters(usage: SessionUsage, at: datetime) -> dict[str, Any]:
    return {
        "session": usage.session_id,
        "updated_at": at,
        "remote_address": usage.remote_address[:64],
        "bytes_in": usage.bytes_in,
        "bytes_out": usage.bytes_out,
        "packets_in": usage.packets_in,
        "packets_out": usage.packets_out,
    }
