"""The gateway at work: datagrams and timers into the responder, its effects to AAA, sessions and data plane.

Everything runs on one event loop. Each entry (a datagram, a timer, an answer of AAA) is one turn: the core is
called, its events are served until there are none, then what it wants sent is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

import structlog

from aaa.interface import AaaBackend, Refusal
from gateway.authenticator import Authenticator, log_refusal
from gateway.balance import Balance
from gateway.control.change import SessionChange
from gateway.control.dynamic_authorization import SessionSelector
from gateway.handshake_reporter import HandshakeReporter
from gateway.ike import events
from gateway.ike.events import CloseCause, Event
from gateway.ike.evidence import evidence_of
from gateway.ike.exchanges import replace_child
from gateway.ike.path import Path
from gateway.ike.payloads.redirect import GatewayId
from gateway.ike.responder import Responder
from gateway.ike.sa import IkeSa
from gateway.sessions import Session, Sessions, moved
from gateway.transport import Transport

ACCOUNTING_SWEEP_S = 2.0
HEARTBEAT_S = 20.0
SLOW_HANDSHAKE_S = 5.0

_log = structlog.get_logger(__name__)


class Engine:
    """Ties the protocol core to everything around it.

    Args:
        loop: the event loop; all methods are called on its thread.
        responder: the protocol core.
        sessions: what exists beyond the protocol.
        backend: AAA.
        gateway_name: for audit events of peers that never had an SA.
        clock: monotonic seconds.
        slow_handshake_s: a handshake that takes longer is explained.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        responder: Responder,
        sessions: Sessions,
        backend: AaaBackend,
        gateway_name: str,
        clock: Callable[[], float] = time.monotonic,
        slow_handshake_s: float = SLOW_HANDSHAKE_S,
    ) -> None:
        self._loop = loop
        self.responder = responder
        self.sessions = sessions
        self._backend = backend
        self._clock = clock
        self._transport: Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._sweep: asyncio.TimerHandle | None = None
        self._heartbeat_due = 0.0
        self._serving = False
        self._reporter = HandshakeReporter(backend, gateway_name, slow_handshake_s, clock())
        self.balance = Balance(loop, responder, sessions, self._send_away)
        self._authenticator = Authenticator(backend, sessions, self._reporter, clock, self._answered)

    def start(self, transport: Transport) -> None:
        """The sockets are open."""
        self._transport = transport
        self._sweep_accounting()

    # --- Entries: each is one turn --------------------------------------------------------------------------

    def receive_ike(self, data: bytes, path: Path) -> None:
        """A datagram from the network. Whatever is wrong with it, the gateway lives."""
        now = self._clock()
        try:
            self.responder.receive_datagram(data, path, now)
        except Exception:
            _log.exception("IKE datagram dropped by a fault of ours", remote=path.remote, bytes=len(data))
        self._turn(now)

    def remote_moved(self, spi_in: int, remote: IPv4Address | IPv6Address, remote_port: int) -> None:
        """The data plane heard an authentic packet from a new address, and has moved that pair there.

        All pairs of the SA go where IKE says that it is now (RFC 7296 section 2.23): the others with this one, or
        this one back, where the packet was a late one of a pair that has been replaced.
        """
        session = self.sessions.of_spi(spi_in)
        if session is None:
            return
        child = session.sa.children.get(spi_in)
        if child is not None and child.is_live:
            session.sa.remote_moved(moved(session.sa.path, str(remote), remote_port))
        self.sessions.path_changed(session, self._clock())

    def expired(self, spi_in: int, *, hard: bool) -> None:
        """The lifetime of a child SA is over, says the data plane."""
        session = self.sessions.of_spi(spi_in)
        if session is None:
            return
        now = self._clock()
        replace_child.expired(session.sa, spi_in, now, hard=hard)
        self.responder.touch(session.sa)
        self._turn(now)

    def disconnect(self, selector: SessionSelector) -> int:
        """End the sessions that a Disconnect-Request names; returns how many."""
        now = self._clock()
        found = self.sessions.matching(selector)
        for session in found:
            self._close(session, CloseCause.ADMIN, now)
        self._turn(now)
        return len(found)

    def change(self, selector: SessionSelector, change: SessionChange) -> int:
        """Change what the sessions reach that a CoA-Request names; returns how many. Their packets obey at once."""
        now = self._clock()
        found = self.sessions.matching(selector)
        for session in found:
            self.sessions.change(session, change, now)
            self.responder.touch(session.sa)
        self._turn(now)
        return len(found)

    def drain(self, draining: bool) -> int | None:
        """Send clients to other gateways, or take them in again; see `Balance.drain`."""
        return self.balance.drain(draining)

    def announce_addresses(self, addresses: Sequence[str]) -> None:
        """The gateway can be reached at other addresses than before."""
        now = self._clock()
        self.responder.announce_addresses(addresses, now)
        self._turn(now)

    async def stop(self, timeout_s: float) -> None:
        """Close every SA and give the peers a moment to answer the Deletes."""
        self.balance.stop()
        for timer in (self._sweep, self._timer):
            if timer is not None:
                timer.cancel()
        now = self._clock()
        self.responder.close_all(CloseCause.SHUTDOWN, now)
        self._turn(now)
        deadline = now + timeout_s
        while self._clock() < deadline and any(sa.own.message_id is not None for sa in self.responder.sas()):
            await asyncio.sleep(0.02)
        if self._timer is not None:
            self._timer.cancel()
        self._backend.alive(self._reporter.take_counts(self.responder.statistics))

    # --- The turn -------------------------------------------------------------------------------------------

    def _turn(self, now: float) -> None:
        """Serve events until there are none, send, set the timer. A call from within joins the turn under way."""
        if self._serving:
            return
        self._serving = True
        served: set[IkeSa] = set()
        try:
            while (event := self.responder.next_event()) is not None:
                try:
                    self._serve(event, now)
                except Exception:
                    _log.exception("event failed by a fault of ours", kind=type(event).__name__)
                if not isinstance(event, events.FirstRequestRefused):
                    served.add(event.sa)
            for sa in served:
                self.responder.touch(sa)
            if self._transport is not None:
                for datagram, path in self.responder.datagrams_to_send():
                    self._transport.send_ike(datagram, path)
        finally:
            self._serving = False
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        due = self.responder.get_timer()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(0.0, due - now), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        now = self._clock()
        try:
            self.responder.handle_timer(now)
        except Exception:
            _log.exception("timer failed by a fault of ours")
        self._turn(now)

    def _sweep_accounting(self) -> None:
        now = self._clock()
        self._sweep = self._loop.call_later(ACCOUNTING_SWEEP_S, self._sweep_accounting)
        self.sessions.account(now)
        for session in self.sessions.unconfirmed(now):
            _log.error("session not confirmed by AAA", session=session.session_id)
            self._close(session, CloseCause.NOT_CONFIRMED, now)
        self._turn(now)
        if now >= self._heartbeat_due:
            self._heartbeat_due = now + HEARTBEAT_S
            self._backend.alive(self._reporter.take_counts(self.responder.statistics))

    def _close(self, session: Session, cause: CloseCause, now: float) -> None:
        session.sa.close(cause, now)
        self.responder.touch(session.sa)

    # --- Serving events -------------------------------------------------------------------------------------

    def _serve(self, event: Event, now: float) -> None:
        match event:
            case events.EapReceived(sa, packet):
                self._authenticator.receive_eap(sa, packet)
            case events.EapStarted(sa, mutual):
                self._authenticator.start_eap(sa, mutual=mutual)
            case events.CertificateReceived(sa):
                self._authenticator.authorise_certificate(sa, event)
            case events.SitePeerProved(sa, name):
                self._authenticator.authorise_site(sa, name)
            case events.TicketRedeemed(sa, grant):
                self._authenticator.resume(sa, grant)
            case events.HandshakeFailed():
                self._handshake_failed(event, now)
            case events.FirstRequestRefused(code, reason, evidence):
                self._reporter.failed(evidence, code, reason, now)
            case events.LivenessWanted(sa):
                session = self.sessions.of(sa)
                sa.check_liveness(self.sessions.last_esp_in_s(session) if session else 0.0, now)
            case _:
                session = self.sessions.of(event.sa)
                if session is not None:
                    self._serve_session(session, event, now)

    def _serve_session(self, session: Session, event: Event, now: float) -> None:
        match event:
            case events.AssignmentWanted(sa) if (target := self.balance.target(sa)) is not None:
                sa.redirect(target, now)
            case events.AssignmentWanted():
                if event.initial_contact:
                    self._forget(self.sessions.others_of(session), now)
                left_behind = self.sessions.resumed_by(session)
                if left_behind is not None:
                    self._forget([left_behind], now)
                self._end_oldest(session, now)
                self.sessions.assign(session, event, now)
            case events.ChildReady(_, child, outbound):
                self.sessions.install(session, child, now, outbound=outbound)
            case events.ChildStarted(_, spi_in):
                self.sessions.child_started(session, spi_in)
            case events.ChildRefused(_, spi_in, reason, rekeying):
                self._child_refused(session, spi_in, reason, now, rekeying=rekeying)
            case events.RekeyRefused(_, reason):
                _log.warning("IKE SA not rekeyed", session=session.session_id, reason=reason)
            case events.SaRekeyed(_, new):
                self.sessions.rekeyed(session, new)
            case events.SaEstablished(sa):
                self._reporter.established(sa, session.sign_in, now)
                self.sessions.started(session, self._start_refused, now)
                self.balance.count()
            case events.ChildDeleted(_, spi_in):
                self.sessions.child_deleted(session, spi_in)
            case events.PathChanged():
                self.sessions.path_changed(session, now)
            case events.SaClosed(_, cause):
                self.sessions.end(session, cause)
                self.balance.count()

    def _answered(self, sa: IkeSa) -> None:
        """AAA has answered: in the turn that asked, which goes on then, or later, in a turn of its own."""
        if not self._serving:
            self.responder.touch(sa)
            self._turn(self._clock())

    def _forget(self, sessions: Sequence[Session], now: float) -> None:
        """The device has lost these SAs: they end here and now, so that it can have its address again."""
        for other in sessions:
            other.sa.forget(CloseCause.REPLACED, now)
            self.sessions.end(other, CloseCause.REPLACED)
            self.responder.touch(other.sa)

    def _end_oldest(self, session: Session, now: float) -> None:
        """A device has as many sessions as it may: its oldest makes room."""
        for other in self.sessions.too_many_with(session):
            self._close(other, CloseCause.REPLACED, now)
            self.sessions.end(other, CloseCause.REPLACED)

    def _send_away(self, session: Session, target: GatewayId) -> None:
        now = self._clock()
        _log.info("client sent to another gateway", session=session.session_id, gateway=str(target))
        session.sa.redirect(target, now)
        self.responder.touch(session.sa)
        self._turn(now)

    def _child_refused(self, session: Session, spi_in: int, reason: str, now: float, *, rekeying: bool) -> None:
        """A rekeying can wait, for the client will do it, and what should reach less is restricted already. A session
        that should reach more has to begin anew: the client signs in again and gets it.
        """
        _log.warning(
            "child SA not replaced",
            session=session.session_id,
            spi_in=f"{spi_in:#x}",
            reason=reason,
            rekeying=rekeying,
        )
        if not rekeying and self.sessions.is_short_of(session):
            self._close(session, CloseCause.CHANGED, now)

    def _start_refused(self, session: Session, refusal: Refusal) -> None:
        """The device was revoked between the decision and the start of the session."""
        now = self._clock()
        log_refusal(session, refusal)
        self._reporter.refused(session.sign_in, evidence_of(session.sa), refusal, now)
        self._close(session, CloseCause.ADMIN, now)
        self._turn(now)

    # --- Failed handshakes ----------------------------------------------------------------------------------

    def _handshake_failed(self, event: events.HandshakeFailed, now: float) -> None:
        session = self.sessions.of(event.sa)
        refusal = None
        if session is not None and session.conversation is not None:
            refusal = session.conversation.close()
        if session is not None and refusal is not None:
            self._reporter.refused(session.sign_in, event.evidence, refusal, now)
        else:
            context = session.sign_in if session is not None else None
            self._reporter.failed(event.evidence, event.code, event.reason, now, context)
