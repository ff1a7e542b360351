"""A small company for the pages to show, made by the functions that the product uses."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from aaa import accounting, devices, users
from aaa.interface import Access, GatewayHello, SessionStart, SessionUsage, TerminateCause
from core.audit import SYSTEM
from core.clock import utc_now
from core.runtime import Runtime
from posture.models import Device


def add_device(runtime: Runtime, owner: str, name: str, platform: str = "Linux") -> Device:
    """A device with an access code; its owner is made where there is none."""
    with runtime.database.transaction() as session:
        if owner not in {user.name for user in users.list_users(session)}:
            users.create_user(session, owner, actor=SYSTEM)
    return devices.add_device(runtime, owner, name, platform, SYSTEM).device


def add_gateway(runtime: Runtime, name: str = "gateway-1", data_plane: str = "userspace") -> None:
    """A gateway that has reported."""
    with runtime.database.transaction() as session:
        accounting.gateway_started(session, GatewayHello(name, "192.0.2.1", 3799, data_plane))


def connect(
    runtime: Runtime,
    device: Device,
    *,
    gateway: str = "gateway-1",
    client: str = "strongSwan",
    at: datetime | None = None,
    bytes_in: int = 1_500_000,
    bytes_out: int = 42_000_000_000,
) -> str:
    """A live session; returns its id."""
    access = Access(
        device.owner, device.id, device.name, "eap-tls", "trusted-devices", "trusted", None, (), (), 3600.0, 60.0
    )
    session_id = str(uuid.uuid4())
    start = SessionStart(
        session_id,
        access,
        gateway,
        "[2001:db8::7]:4500",
        client,
        "10.99.0.2",
        "fd99::2",
        "AES_GCM_16_256 / ECP_384",
        "AES_GCM_16_256",
    )
    with runtime.database.transaction() as session:
        connection = session.connection()
        accounting.open_sessions(connection, [start], at or utc_now() - timedelta(minutes=5))
        accounting.update_sessions(connection, [(_usage(session_id, bytes_in, bytes_out), utc_now())])
    return session_id


def end(runtime: Runtime, session_id: str) -> None:
    """The client hung up."""
    with runtime.database.transaction() as session:
        stop = (_usage(session_id, 2_000_000, 43_000_000_000), TerminateCause.USER_REQUEST, utc_now())
        accounting.close_sessions(session.connection(), [stop])


def _usage(session_id: str, bytes_in: int, bytes_out: int) -> SessionUsage:
    return SessionUsage(session_id, bytes_in, bytes_out, 1000, 2000, "[2001:db8::7]:4500")
