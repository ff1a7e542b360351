"""Forgetting a gateway: only one that is silent, and nothing of it stays."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aaa import enforcement, sessions
from aaa.dynamic_authorization import control_secret_name
from aaa.gateways import forget_gateway
from aaa.models import Gateway
from core.audit import Actor, AuditEvent
from core.clock import utc_now
from core.errors import ConflictError, NotFoundError
from core.runtime import Runtime
from core.secrets import StoredSecret, get_or_create_secret

ADMIN = Actor("cli", "root")


def _add(runtime: Runtime, name: str, seen_ago: timedelta) -> None:
    now = utc_now()
    with runtime.database.transaction() as session:
        session.add(
            Gateway(
                name=name,
                control_address="127.0.0.1",
                control_port=9,
                started_at=now - timedelta(days=1),
                last_seen_at=now - seen_ago,
            )
        )
        get_or_create_secret(session, runtime.box, control_secret_name(name))


def test_a_silent_gateway_is_forgotten_with_its_secret(runtime: Runtime) -> None:
    _add(runtime, "old", timedelta(hours=1))
    with runtime.database.transaction() as session:
        assert forget_gateway(session, "old", ADMIN) == 0
    with runtime.database.reading() as session:
        assert sessions.known_gateways(session) == []
        assert session.get(StoredSecret, control_secret_name("old")) is None
        event = session.query(AuditEvent).order_by(AuditEvent.id.desc()).first()
        assert event is not None
        assert (event.action, event.target, event.actor) == ("gateway.forget", "gateway:old", "cli:root")


def test_what_was_to_be_told_to_it_counts_as_done(runtime: Runtime) -> None:
    enforcement.deliver(runtime, {"gateway": "old", "device_id": "none"})
    with runtime.database.reading() as session:
        assert sessions.known_gateways(session) == []


def test_a_gateway_at_work_is_not_forgotten(runtime: Runtime) -> None:
    _add(runtime, "busy", timedelta(seconds=20))
    with pytest.raises(ConflictError, match="at work"), runtime.database.transaction() as session:
        forget_gateway(session, "busy", ADMIN)
    with runtime.database.reading() as session:
        assert [gateway.name for gateway in sessions.known_gateways(session)] == ["busy"]


def test_an_unknown_gateway_is_named(runtime: Runtime) -> None:
    with pytest.raises(NotFoundError, match="no gateway 'nowhere'"), runtime.database.transaction() as session:
        forget_gateway(session, "nowhere", ADMIN)
