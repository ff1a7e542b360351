"""The EAP authenticator (RFC 3748): carries packets between peers and AAA, and understands none of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog

from aaa.interface import (
    AaaBackend,
    Access,
    EapAccepted,
    EapContinue,
    EapRejected,
    EapReply,
    FirstFactor,
    Refusal,
)
from gateway.handshake_reporter import HandshakeReporter
from gateway.ike import sign_in
from gateway.ike.events import CertificateReceived
from gateway.ike.evidence import evidence_of
from gateway.ike.sa import IkeSa
from gateway.ike.ticket import Grant
from gateway.resumption import grant_for, holder_of
from gateway.sessions import Session, Sessions

_log = structlog.get_logger(__name__)
_Yes = TypeVar("_Yes", Access, FirstFactor)


class Authenticator:
    """Sign-ins under way.

    Args:
        backend: AAA.
        sessions: where each sign-in is kept.
        reporter: told of refusals.
        clock: monotonic seconds.
        answered: called after AAA's answer was given to an SA, in the turn that asked or in a later one.
        unix_clock: seconds since 1970.
    """

    def __init__(
        self,
        backend: AaaBackend,
        sessions: Sessions,
        reporter: HandshakeReporter,
        clock: Callable[[], float],
        answered: Callable[[IkeSa], None],
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._backend = backend
        self._sessions = sessions
        self._reporter = reporter
        self._clock = clock
        self._answered = answered
        self._unix_clock = unix_clock

    def start_eap(self, sa: IkeSa, *, mutual: bool) -> None:
        """The peer wants EAP: as all it does, or for the user after the device."""
        session = self._sessions.of(sa) or self._sessions.begin(sa)
        session.conversation = self._backend.open_eap(session.sign_in, session.first_factor, mutual=mutual)
        self._asked(sa)
        session.conversation.start(lambda reply: self._eap_reply(session, reply))

    def receive_eap(self, sa: IkeSa, packet: bytes) -> None:
        """An EAP-Response of the peer."""
        session = self._sessions.of(sa)
        if session is not None and session.conversation is not None:
            self._asked(sa, packet)
            session.conversation.receive(packet, lambda reply: self._eap_reply(session, reply))

    def _eap_reply(self, session: Session, reply: EapReply) -> None:
        now, sa = self._clock(), session.sa
        if sa.trace is not None:
            sa.trace.backend_answered(now, reply.packet)
        match reply:
            case EapContinue(packet):
                sign_in.eap_continue(sa, packet, now)
            case EapAccepted(packet, msk, access):
                self._let_in(session, access)
                sign_in.eap_succeeded(sa, packet, msk, now, mutual=access.proves_gateway)
            case EapRejected(packet, refusal):
                self._refused(session, refusal, now)
                sign_in.eap_failed(sa, packet, now)
        self._answered(sa)

    def authorise_certificate(self, sa: IkeSa, received: CertificateReceived) -> None:
        """The peer brings a certificate: its own, or that of the device whose user is to follow."""
        session = self._sessions.begin(sa)
        context, chain_der = session.sign_in, list(received.chain_der)
        stapled, crls = received.ocsp_responses, received.crls
        self._asked(sa)
        if received.another_follows:
            reply = self._answer_for(session, partial(self._know_device, session))
            self._backend.check_device(context, chain_der, reply, ocsp_responses=stapled, crls=crls)
        else:
            let_in = self._answer_for(session, partial(self._let_in, session))
            self._backend.authorise_certificate(context, chain_der, let_in, ocsp_responses=stapled, crls=crls)

    def authorise_site(self, sa: IkeSa, name: str) -> None:
        """The peer has the pre-shared key of a site."""
        session = self._sessions.begin(sa)
        self._asked(sa)
        reply = self._answer_for(session, partial(self._let_in, session))
        self._backend.authorise_site(session.sign_in, name, reply)

    def resume(self, sa: IkeSa, grant: Grant) -> None:
        """The peer comes back with a ticket."""
        session, holder = self._sessions.begin(sa), holder_of(grant)
        session.resumes = holder.session_id

        def come_back(access: Access) -> None:
            # It signed in when it did: by coming back nobody stays longer.
            left_s = max(0.0, grant.until - self._unix_clock())
            session.access = replace(access, session_lifetime_s=min(access.session_lifetime_s, left_s))
            sa.resumption.grant = grant

        self._asked(sa)
        reply = self._answer_for(session, come_back)
        self._backend.authorise_resumption(session.sign_in, holder.resumed, reply)

    def _answer_for(self, session: Session, accepted: Callable[[_Yes], None]) -> Callable[[_Yes | Refusal], None]:
        """What AAA's answer does: refuse, or this and go on."""

        def reply(answer: _Yes | Refusal) -> None:
            now, sa = self._clock(), session.sa
            if sa.trace is not None:
                sa.trace.backend_answered(now)
            if isinstance(answer, Refusal):
                self._refused(session, answer, now)
                sign_in.refuse(sa, now)
            else:
                accepted(answer)
                sign_in.authorised(sa, now)
            self._answered(sa)

        return reply

    def _know_device(self, session: Session, first: FirstFactor) -> None:
        session.first_factor = first

    def _let_in(self, session: Session, access: Access) -> None:
        session.access = access
        session.sa.resumption.grant = grant_for(access, session.session_id, self._unix_clock())

    def _asked(self, sa: IkeSa, packet: bytes = b"") -> None:
        if sa.trace is not None:
            sa.trace.ask_backend(self._clock(), packet)

    def _refused(self, session: Session, refusal: Refusal, now: float) -> None:
        log_refusal(session, refusal)
        # Of a handshake whose time is over, that has been said.
        if self._sessions.of(session.sa) is session:
            self._reporter.refused(session.sign_in, evidence_of(session.sa), refusal, now)


def log_refusal(session: Session, refusal: Refusal) -> None:
    """AAA has written the audit event; this is for whoever watches the log. Of a flood, neither says everything."""
    if not refusal.recorded:
        return
    _log.info(
        "sign-in refused",
        sign_in=session.sign_in.sign_in_id,
        remote=session.sign_in.remote_address,
        code=refusal.code,
        reason=refusal.reason,
    )
