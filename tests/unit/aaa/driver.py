"""Plays the gateway for the in-process backend: pumps its answers, carries EAP packets between it and a peer."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select

from aaa.in_process import InProcessBackend
from aaa.interface import (
    Access,
    EapAccepted,
    EapContinue,
    EapConversation,
    EapRejected,
    EapReply,
    FirstFactor,
    GatewayHello,
    Refusal,
    SessionStart,
    SessionUsage,
    SignInContext,
)
from core.audit import AuditEvent, verify_chain
from core.runtime import Runtime
from tests.peers.eap import EapPeer

WAIT_S = 20.0


class Driver:
    """One backend and its loop, which is the thread of the test."""

    def __init__(self, runtime: Runtime, *, hello: bool = True) -> None:
        self.runtime = runtime
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.backend = InProcessBackend.open(runtime, self._posted.put)
        if hello:
            self.backend.hello(GatewayHello("gateway-1", "127.0.0.1", 3799, "userspace"))

    def pump(self, until: Callable[[], bool]) -> None:
        """Run what the backend posts until a condition holds."""
        while not until():
            self._posted.get(timeout=WAIT_S)()

    def run_posted(self) -> None:
        """Run what is posted already."""
        while not self._posted.empty():
            self._posted.get()()

    def sign_in(self, peer: EapPeer, **changes: str) -> EapAccepted | EapRejected:
        """A whole sign-in by EAP."""
        return Conversation(self, peer, context(**changes)).run()

    def certificate(
        self, chain_der: list[bytes], ike_identity: str, *, ocsp_responses: Sequence[bytes] = (), **changes: str
    ) -> Access | Refusal:
        """A whole sign-in by certificate, as far as AAA goes."""
        answers: list[Access | Refusal] = []
        circumstances = context(ike_identity=ike_identity, **changes)
        self.backend.authorise_certificate(circumstances, chain_der, answers.append, ocsp_responses=ocsp_responses)
        self.pump(lambda: bool(answers))
        return answers[0]

    def start_session(self, access: Access, session_id: str = "") -> tuple[str, Refusal | None]:
        """Open the accounting record."""
        session_id = session_id or str(uuid.uuid4())
        answers: list[Refusal | None] = []
        self.backend.session_started(session_start(access, session_id), answers.append)
        self.pump(lambda: bool(answers))
        return session_id, answers[0]

    def events(self, action: str = "") -> list[dict[str, Any]]:
        """The audit events, their chain checked."""
        with self.runtime.database.reading() as session:
            verify_chain(session)
            query = select(AuditEvent).order_by(AuditEvent.id)
            return [
                {
                    "action": event.action,
                    "actor": event.actor,
                    "target": event.target,
                    "outcome": event.outcome,
                    "reason": event.reason,
                    **event.detail,
                }
                for event in session.scalars(query)
                if not action or event.action == action
            ]

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.goodbye()


class Conversation:
    """One EAP conversation, packet by packet."""

    def __init__(
        self,
        driver: Driver,
        peer: EapPeer,
        context: SignInContext,
        first: FirstFactor | None = None,
        *,
        mutual: bool = False,
    ) -> None:
        self.driver = driver
        self.peer = peer
        self.eap: EapConversation = driver.backend.open_eap(context, first, mutual=mutual)
        self.replies: list[EapReply] = []
        self.eap.start(self.replies.append)
        self.driver.pump(lambda: bool(self.replies))

    def step(self) -> EapReply:
        """Give the peer the last reply's packet, and the backend the peer's answer; returns the next reply."""
        last = self.replies[-1]
        answer = self.peer.receive(last.packet)
        assert answer is not None
        count = len(self.replies)
        self.eap.receive(answer, self.replies.append)
        self.driver.pump(lambda: len(self.replies) > count)
        return self.replies[-1]

    def run(self) -> EapAccepted | EapRejected:
        """To the end."""
        last = self.replies[-1]
        while isinstance(last, EapContinue):
            last = self.step()
        assert self.peer.receive(last.packet) is None
        return last


def context(
    *,
    remote_address: str = "192.0.2.7",
    ike_identity: str = "10.0.0.5",
    sign_in_id: str = "",
    client: str = "strongSwan",
) -> SignInContext:
    """The circumstances of a sign-in."""
    return SignInContext(sign_in_id or str(uuid.uuid4()), "gateway-1", remote_address, ike_identity, client)


def session_start(access: Access, session_id: str) -> SessionStart:
    """An Accounting Start."""
    return SessionStart(
        session_id=session_id,
        access=access,
        gateway="gateway-1",
        remote_address="192.0.2.7:4500",
        client="strongSwan",
        virtual_ipv4="10.99.0.2",
        virtual_ipv6=None,
        ike_suite="AES_GCM_16_256/PRF_HMAC_SHA2_256/CURVE25519",
        esp_suite="AES_GCM_16_256",
    )


def usage(session_id: str, count: int) -> SessionUsage:
    """Counters that grow with `count`."""
    return SessionUsage(session_id, count * 1000, count * 2000, count, 2 * count, "192.0.2.8:4500")
