"""The EAP authenticator (RFC 3748): carries packets between peers and AAA, and understands none of them."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from aaa.interface import AaaBackend, Access, EapAccepted, EapContinue, EapRejected, EapReply, Refusal
from gateway.handshake_reporter import HandshakeReporter
from gateway.ike import sign_in
from gateway.ike.evidence import evidence_of
from gateway.ike.sa import IkeSa
from gateway.sessions import Session, Sessions

_log = structlog.get_logger(__name__)


class Authenticator:
    """Sign-ins under way.

    Args:
        backend: AAA.
        sessions: where each sign-in is kept.
        reporter: told of refusals.
        clock: monotonic seconds.
        answered: called after AAA's answer was given to an SA, in the turn that asked or in a later one.
    """

    def __init__(
        self,
        backend: AaaBackend,
        sessions: Sessions,
        reporter: HandshakeReporter,
        clock: Callable[[], float],
        answered: Callable[[IkeSa], None],
    ) -> None:
        self._backend = backend
        self._sessions = sessions
        self._reporter = reporter
        self._clock = clock
        self._answered = answered

    def start_eap(self, sa: IkeSa) -> None:
        """The peer wants EAP."""
        session = self._sessions.begin(sa)
        session.conversation = self._backend.open_eap(session.sign_in)
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
                session.access = access
                sign_in.eap_succeeded(sa, packet, msk, now)
            case EapRejected(packet, refusal):
                self._refused(session, refusal, now)
                sign_in.eap_failed(sa, packet, now)
        self._answered(sa)

    def authorise_certificate(self, sa: IkeSa, chain_der: tuple[bytes, ...]) -> None:
        """The peer brings a certificate."""
        session = self._sessions.begin(sa)

        def reply(answer: Access | Refusal) -> None:
            now = self._clock()
            if sa.trace is not None:
                sa.trace.backend_answered(now)
            if isinstance(answer, Refusal):
                self._refused(session, answer, now)
                sign_in.refuse(sa, now)
            else:
                session.access = answer
                sign_in.authorised(sa, now)
            self._answered(sa)

        self._asked(sa)
        self._backend.authorise_certificate(session.sign_in, list(chain_der), reply)

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
