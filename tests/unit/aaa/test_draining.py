"""Telling a gateway to send its clients to others, answered by its own control server, without a network."""

from __future__ import annotations

from typing import Any

import pytest

from aaa import gateways
from aaa.dynamic_authorization import (
    Answer,
    DynamicRequest,
    NoAnswer,
    Peer,
    Selector,
    WholeGateway,
    control_secret_name,
)
from aaa.gateways import drain_gateway
from aaa.models import Gateway
from core.audit import Actor, AuditEvent
from core.clock import utc_now
from core.errors import ConflictError, NotFoundError
from core.runtime import Runtime
from core.secrets import get_or_create_secret
from gateway.control.dynamic_authorization import DynamicAuthorizationServer

ADMIN = Actor("cli", "root")
NOW = 1_800_000_000


class Control:
    """A gateway's control server, asked without a network."""

    def __init__(self, secret: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[bool] = []
        self.sessions: int | None = 4
        self.is_silent = False
        self._server = DynamicAuthorizationServer("gateway-1", secret, lambda _: 0, lambda _, __: 0, self._drain)
        monkeypatch.setattr(gateways, "ask", self._ask)

    def _drain(self, draining: bool) -> int | None:
        self.told.append(draining)
        return self.sessions

    def _ask(self, peer: Peer, about: Selector | WholeGateway, change: Any = None) -> Answer:
        if self.is_silent:
            raise NoAnswer("gateway gateway-1: no answer")
        request = DynamicRequest(peer, about, change, identifier=1, timestamp=NOW)
        data = self._server.receive_datagram(request.data, NOW)
        assert data is not None
        answer = request.read_answer(data)
        assert answer is not None
        return answer


@pytest.fixture
def control(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Control:
    """A gateway that reports here."""
    now = utc_now()
    with runtime.database.transaction() as session:
        session.add(
            Gateway(name="gateway-1", control_address="127.0.0.1", control_port=9, started_at=now, last_seen_at=now)
        )
        secret = get_or_create_secret(session, runtime.box, control_secret_name("gateway-1"))
    return Control(secret.reveal(), monkeypatch)


def events(runtime: Runtime) -> list[tuple[str, str, str, str]]:
    """Action, target, outcome and reason of what was written."""
    with runtime.database.reading() as session:
        return [
            (event.action, event.target, event.outcome, event.reason)
            for event in session.query(AuditEvent).order_by(AuditEvent.id)
            if event.action.startswith("gateway.")
        ]


def test_drain_and_serve(runtime: Runtime, control: Control) -> None:
    assert drain_gateway(runtime, "gateway-1", WholeGateway.DRAIN, ADMIN) == "4 sessions changed"
    drain_gateway(runtime, "gateway-1", WholeGateway.SERVE, ADMIN)
    assert control.told == [True, False]
    assert events(runtime) == [
        ("gateway.drain", "gateway:gateway-1", "success", ""),
        ("gateway.serve", "gateway:gateway-1", "success", ""),
    ]


def test_a_gateway_that_knows_no_other(runtime: Runtime, control: Control) -> None:
    control.sessions = None
    with pytest.raises(ConflictError, match="no other gateway"):
        drain_gateway(runtime, "gateway-1", WholeGateway.DRAIN, ADMIN)
    assert [outcome for _, _, outcome, _ in events(runtime)] == ["success", "failed"]


def test_a_silent_gateway(runtime: Runtime, control: Control) -> None:
    control.is_silent = True
    with pytest.raises(NoAnswer):
        drain_gateway(runtime, "gateway-1", WholeGateway.DRAIN, ADMIN)
    assert events(runtime)[-1] == ("gateway.drain", "gateway:gateway-1", "failed", "gateway gateway-1: no answer")


def test_an_unknown_gateway(runtime: Runtime) -> None:
    with pytest.raises(NotFoundError):
        drain_gateway(runtime, "gateway-9", WholeGateway.DRAIN, ADMIN)
    assert events(runtime) == []
