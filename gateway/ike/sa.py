"""One IKE SA, responder's side: keys, windows, timers and state; the exchanges do the rest.

`receive_datagram` and `handle_timer` go in; datagrams and events come out through the owner (the `Responder`).
Slow work leaves as an event and comes back as a call; a call that comes too late is ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from gateway.ike.channel import AuthenticButInvalid, Channel, OutPayloads
from gateway.ike.child import Assignment, Child
from gateway.ike.config import ResponderConfig
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from gateway.ike.crypto.key_exchange import KeyPair
from gateway.ike.errors import IkeError, IntegrityError, InvalidSyntax, UnsupportedCriticalPayload
from gateway.ike.events import (
    CloseCause,
    Event,
    HandshakeFailed,
    LivenessWanted,
    PathChanged,
    SaClosed,
)
from gateway.ike.exchanges import create_child_sa, ike_auth, informational
from gateway.ike.keymat import IkeKeys, derive_ike_keys
from gateway.ike.message import Header, Payloads
from gateway.ike.path import Path
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.proposals import IkeSuite
from gateway.ike.states import UNFINISHED, Input, State, transition
from gateway.ike.window import OwnRequest, PeerRequests, Verdict

MIN_MSK_BYTES = 64
KEEPALIVE = b"\xff"
"""The NAT-keepalive of RFC 3948 section 2.3; it goes out without a non-ESP marker."""


class Owner(Protocol):
    """What an SA needs of the responder that holds it."""

    def transmit(self, datagram: bytes, path: Path) -> None:
        """Send this."""

    def emit(self, event: Event) -> None:
        """Tell the shell."""

    def settled(self, sa: IkeSa) -> None:
        """The SA is no longer half-open."""


class IkeSa:
    """An IKE SA whose IKE_SA_INIT has been answered."""

    __slots__ = (
        "_close_pending",
        "_delete_at",
        "_keepalive_at",
        "_liveness_at",
        "_owner",
        "auth",
        "channel",
        "child",
        "client",
        "config",
        "context",
        "half_open_key",
        "half_open_until",
        "init_request",
        "init_response",
        "key_pair",
        "keys",
        "last_received",
        "last_request",
        "linger_until",
        "nat_local",
        "nat_remote",
        "nonce_i",
        "nonce_r",
        "own",
        "path",
        "peer",
        "peer_fragments",
        "peer_hashes",
        "peer_identity",
        "peer_public",
        "random",
        "scheduled_at",
        "session_until",
        "spi_i",
        "spi_r",
        "state",
        "suite",
    )

    def __init__(
        self,
        owner: Owner,
        config: ResponderConfig,
        random: Callable[[int], bytes],
        *,
        spi_i: bytes,
        spi_r: bytes,
        suite: IkeSuite,
        path: Path,
    ) -> None:
        self._owner = owner
        self.config = config
        self.random = random
        self.spi_i, self.spi_r = spi_i, spi_r
        self.suite = suite
        self.path = path
        self.state = State.HALF_OPEN
        self.client = ""
        """What the peer looks like."""
        self.peer_identity = ""
        """IDi as text; proven only with certificate authentication."""
        self.nat_local = self.nat_remote = False
        self.nonce_i = self.nonce_r = b""
        self.init_request = self.init_response = b""
        """The two messages of IKE_SA_INIT, which AUTH covers."""
        self.peer_fragments = False
        """The peer takes fragments (RFC 7383)."""
        self.peer_hashes: frozenset[int] = frozenset()
        """The peer's SIGNATURE_HASH_ALGORITHMS (RFC 7427); empty where it sent none."""
        self.key_pair: KeyPair | None = None
        self.peer_public = b""
        self.keys: IkeKeys | None = None
        self.channel: Channel | None = None
        self.auth: ike_auth.IkeAuth | None = None
        """The authentication under way; gone once the SA is established."""
        self.child: Child | None = None
        self.context: object = None
        """The shell's own; the core never looks at it."""
        self.half_open_key: tuple[str, tuple[str, int, bytes]] | None = None
        """Under which address and key the responder counts the SA as half-open, while it is."""
        self.peer = PeerRequests()
        self.own = OwnRequest(config.retransmit_timeouts_s)
        self.last_request = b""
        """First datagram of the newest request, to know its retransmission by; once CLOSED only its digest."""
        self.last_received = 0.0
        """When the last authentic message came, monotonic seconds."""
        self.half_open_until: float | None = None
        self.linger_until: float | None = None
        self.session_until: float | None = None
        self._liveness_at: float | None = None
        self._keepalive_at: float | None = None
        self._delete_at: float | None = None
        self._close_pending = False
        self.scheduled_at: float | None = None
        """The responder's note of the timer that it has queued."""

    # --- Driver surface -------------------------------------------------------------------------------------

    def receive_datagram(self, header: Header, data: bytes, path: Path, now: float) -> None:
        """A datagram with this SA's SPIs, not verified yet; what is not authentic changes nothing."""
        if not header.from_initiator:
            return
        try:
            if header.is_response:
                self._receive_response(header, data, path, now)
            else:
                self._receive_request(header, data, path, now)
        except (IntegrityError, InvalidSyntax):
            return

    def get_timer(self) -> float | None:
        """When `handle_timer` has to be called next, monotonic seconds."""
        if self.half_open_until is not None:
            # The only timer of a handshake, and asked for after each of its steps.
            return self.half_open_until
        timers = (
            self.linger_until,
            self.own.deadline,
            self.session_until,
            self._liveness_at,
            self._keepalive_at,
            self._delete_at,
        )
        return min([timer for timer in timers if timer is not None], default=None)

    def handle_timer(self, now: float) -> None:
        """Whatever is due: timeouts, retransmissions, liveness, keepalives."""
        if self.half_open_until is not None and now >= self.half_open_until:
            if self.auth is not None:
                self.report_failure("handshake-timeout", CloseCause.HALF_OPEN_TIMEOUT.value)
            self._end(Input.TIMEOUT, CloseCause.HALF_OPEN_TIMEOUT, now)
            return
        if self.linger_until is not None and now >= self.linger_until:
            self.linger_until = None
            return
        if self.own.deadline is not None and now >= self.own.deadline:
            if not self.own.retransmit(now):
                self._end(Input.GONE, CloseCause.LOST, now)
                return
            self._send_all(self.own.datagrams)
        if self._delete_at is not None and now >= self._delete_at:
            self._delete_at = None
            self._send_delete(now)
        if self.session_until is not None and now >= self.session_until:
            self.close(CloseCause.SESSION_TIMEOUT, now)
            return
        if self._liveness_at is not None and now >= self._liveness_at:
            self._liveness_at = now + self.config.dpd_interval_s
            if self.own.message_id is None:
                self._owner.emit(LivenessWanted(self))
        if self._keepalive_at is not None and now >= self._keepalive_at:
            self._keepalive_at = now + self.config.keepalive_interval_s
            self._owner.transmit(KEEPALIVE, self.path)

    @property
    def is_finished(self) -> bool:
        """Nothing is left to do; the responder may forget the SA."""
        return self.state is State.CLOSED and self.linger_until is None

    # --- Calls that answer events ---------------------------------------------------------------------------

    def eap_continue(self, packet: bytes, now: float) -> None:
        """Send the next EAP-Request."""
        if self.auth is not None and self.state is State.EAP and self.peer.in_progress:
            self._guard(lambda: ike_auth.send_eap_request(self, packet), now)

    def eap_succeeded(self, packet: bytes, msk: bytes, now: float) -> None:
        """AAA says yes; the peer must now prove with AUTH that it holds the MSK.

        An MSK shorter than RFC 3748 section 7.10 has it is a fault of the backend: nobody enters with it.
        """
        if self.auth is not None and self.state is State.EAP and self.peer.in_progress:
            if len(msk) < MIN_MSK_BYTES:
                self.report_failure("no-msk", f"AAA accepted, but with an MSK of {len(msk)} bytes")
                self.refuse(now)
                return
            self.move(Input.EAP_SUCCESS)
            self.auth.msk = msk
            self.respond(ExchangeType.IKE_AUTH, [(PayloadType.EAP, packet)])

    def eap_failed(self, packet: bytes, now: float) -> None:
        """AAA says no, and has recorded why."""
        if self.auth is not None and self.state is State.EAP and self.peer.in_progress:
            payloads = [(PayloadType.EAP, packet), notify_payload(NotifyType.AUTHENTICATION_FAILED)]
            self.respond(ExchangeType.IKE_AUTH, payloads)
            self._end(Input.REFUSED, CloseCause.REFUSED, now)

    def certificate_accepted(self, now: float) -> None:
        """AAA trusts the chain and lets its holder in; now the signature decides."""
        if self.auth is not None and self.state is State.AUTHORISING:
            self._guard(lambda: ike_auth.verify_certificate_auth(self), now)

    def refuse(self, now: float) -> None:
        """AAA says no to the certificate, and has recorded why."""
        if self.state in UNFINISHED and self.peer.in_progress:
            self.respond(ExchangeType.IKE_AUTH, [notify_payload(NotifyType.AUTHENTICATION_FAILED)])
            self._end(Input.REFUSED, CloseCause.REFUSED, now)

    def assign(self, assignment: Assignment, now: float) -> None:
        """Addresses are found: negotiate the child SA."""
        if self.auth is not None and self.state is State.ASSIGNING:
            try:
                ike_auth.negotiate_child(self, self.auth, assignment)
            except IkeError as error:
                self.refuse_child(error, now)

    def child_installed(self, now: float) -> None:
        """The data plane carries the child SA: tell the peer."""
        if self.auth is not None and self.state is State.ASSIGNING:
            self.move(Input.CHILD_INSTALLED)
            self.half_open_until = None
            self._start_established_timers(now)
            ike_auth.finish(self, self.auth)
            self.auth = None
            self._owner.settled(self)

    def refuse_child(self, error: IkeError, now: float) -> None:
        """No child SA can be made: say why (the IKE SA itself is authentic), then delete the IKE SA."""
        if self.auth is None or self.state is not State.ASSIGNING:
            return
        self.report_failure(_code(error.notify or NotifyType.TEMPORARY_FAILURE), str(error))
        ike_auth.finish_without_child(self, self.auth, error)
        self.auth = None
        self.half_open_until = None
        self.move(Input.CHILD_REFUSED)
        self._owner.settled(self)
        self._owner.emit(SaClosed(self, CloseCause.REFUSED))
        # Sent at once, the Delete may overtake the response inside the client, which then waits for a dead SA.
        self._delete_at = now + self.config.refused_delete_delay_s

    def check_liveness(self, last_esp_in_s: float, now: float) -> None:
        """Ask the peer whether it is alive, unless something came from it lately (RFC 7296 section 2.4)."""
        if self.state is not State.ESTABLISHED or self.own.message_id is not None:
            return
        quiet_since = max(self.last_received, last_esp_in_s)
        if now - quiet_since < self.config.dpd_interval_s:
            self._liveness_at = quiet_since + self.config.dpd_interval_s
            return
        self._request(ExchangeType.INFORMATIONAL, [], now)

    def limit_session(self, lifetime_s: float, now: float) -> None:
        """End the SA at the latest after so many seconds."""
        self.session_until = now + lifetime_s

    def close(self, cause: CloseCause, now: float) -> None:
        """End the SA from our side: events at once, Delete to an established peer."""
        if self.state is State.ESTABLISHED:
            self.move(Input.CLOSE)
            self.session_until = self._liveness_at = self._keepalive_at = None
            self._owner.emit(SaClosed(self, cause))
            if self.own.message_id is None:
                self._send_delete(now)
            else:
                self._close_pending = True
        elif self.state in UNFINISHED:
            self._end(Input.CLOSE, cause, now)

    def forget(self, cause: CloseCause, now: float) -> None:
        """End the SA without a word: the peer said that it has lost it (INITIAL_CONTACT)."""
        if self.state is State.ESTABLISHED:
            self._end(Input.GONE, cause, now)

    # --- For the exchanges ----------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Tell the shell."""
        self._owner.emit(event)

    def move(self, given: Input) -> None:
        """Change the state by the table."""
        self.state = transition(self.state, given)

    def respond(self, exchange: ExchangeType, payloads: OutPayloads) -> None:
        """Answer the request in progress; its retransmissions will get the same bytes."""
        if self.channel is None:
            return
        datagrams = self.channel.seal(exchange, self.peer.next_id, payloads, response=True)
        self.peer.answer(datagrams)
        self._send_all(datagrams)

    def report_failure(self, code: str, reason: str) -> None:
        """One event that an operator understands."""
        self._owner.emit(HandshakeFailed(self, code, reason))

    def peer_deleted(self, now: float) -> None:
        """The peer deleted the IKE SA; the answer is out already."""
        self._end(Input.DELETED, CloseCause.PEER_DELETE, now)

    def resume(self, last_received: float, session_until: float | None, now: float) -> None:
        """The SA was restored from a snapshot: it is established, and its timers run from now."""
        self.state = State.ESTABLISHED
        self.last_received = last_received
        self.session_until = session_until
        self._start_established_timers(now)

    # --- Inside ---------------------------------------------------------------------------------------------

    def _receive_request(self, header: Header, data: bytes, path: Path, now: float) -> None:
        verdict = self.peer.judge(header.message_id)
        if verdict is Verdict.ANSWERED:
            if (_digest(data) if self.state is State.CLOSED else data) == self.last_request:
                self._send_all(self.peer.cached_response)
            return
        if verdict is not Verdict.NEW or self.state is State.CLOSED:
            return
        channel = self.channel or self._derive_channel(header)
        problem: IkeError | None = None
        payloads = None
        try:
            payloads = channel.open(header, data)
            if payloads is None:
                return
        except (AuthenticButInvalid, UnsupportedCriticalPayload) as error:
            problem = error
        self.last_request = channel.first_datagram
        self.peer.begin()
        self._heard(path, now)
        try:
            if payloads is not None:
                self._dispatch(header, payloads, now)
        except IkeError as error:
            problem = error
        if problem is not None:
            self._answer_error(header, problem, now)

    def _dispatch(self, header: Header, payloads: Payloads, now: float) -> None:
        exchange = header.exchange
        if exchange == ExchangeType.INFORMATIONAL:
            informational.handle_request(self, payloads, now)
        elif exchange == ExchangeType.IKE_AUTH and self.state in UNFINISHED:
            ike_auth.handle_request(self, payloads)
        elif exchange == ExchangeType.CREATE_CHILD_SA and self.state in (State.ESTABLISHED, State.CLOSING):
            create_child_sa.handle_request(self, payloads)
        else:
            raise InvalidSyntax(f"exchange {exchange} does not belong in state {self.state.value!r}")

    def _answer_error(self, header: Header, error: IkeError, now: float) -> None:
        """An authentic request that can't be served: the notify, and for a handshake the end."""
        exchange = ExchangeType(header.exchange) if header.exchange in _EXCHANGES else ExchangeType.INFORMATIONAL
        notify = error.notify or NotifyType.INVALID_SYNTAX
        self.respond(exchange, [notify_payload(notify, error.data)])
        if self.state in UNFINISHED:
            self.report_failure(_code(notify), str(error))
            self._end(Input.REFUSED, CloseCause.REFUSED, now)
        elif self.state is State.ESTABLISHED and isinstance(error, InvalidSyntax):
            # RFC 7296 section 2.21.3: the peer is out of step; nothing that it says can be relied on.
            self._end(Input.GONE, CloseCause.PROTOCOL_ERROR, now)

    def _guard(self, step: Callable[[], None], now: float) -> None:
        """Run a step of IKE_AUTH outside of a request's dispatch, with the same treatment of errors."""
        try:
            step()
        except IkeError as error:
            notify = error.notify or NotifyType.AUTHENTICATION_FAILED
            self.respond(ExchangeType.IKE_AUTH, [notify_payload(notify, error.data)])
            self.report_failure(_code(notify), str(error))
            self._end(Input.REFUSED, CloseCause.REFUSED, now)

    def _receive_response(self, header: Header, data: bytes, path: Path, now: float) -> None:
        if self.channel is None or header.message_id != self.own.message_id:
            return
        try:
            payloads = self.channel.open(header, data)
        except (AuthenticButInvalid, UnsupportedCriticalPayload):
            self._end(Input.GONE, CloseCause.PROTOCOL_ERROR, now)
            return
        if payloads is None or not self.own.answered(header.message_id):
            return
        self._heard(path, now)
        if self.state is State.CLOSING and not self._close_pending:
            self._end(Input.GONE, CloseCause.ADMIN, now)
        elif self._close_pending:
            self._close_pending = False
            self._send_delete(now)

    def _heard(self, path: Path, now: float) -> None:
        """An authentic message: the peer lives, and is where the message came from if that may change."""
        self.last_received = now
        if self._liveness_at is not None:
            self._liveness_at = now + self.config.dpd_interval_s
        if path == self.path:
            return
        if self.state in UNFINISHED:
            # The port changes from 500 to 4500 with the first IKE_AUTH (RFC 7296 section 2.23).
            self.path = path
        elif self.nat_remote and self.state is State.ESTABLISHED:
            self.path = path
            self._owner.emit(PathChanged(self))

    def remote_moved(self, path: Path) -> None:
        """Authentic ESP came from a new address behind the NAT (RFC 7296 section 2.23)."""
        if self.nat_remote and self.state is State.ESTABLISHED:
            self.path = path

    def _derive_channel(self, header: Header) -> Channel:
        """Diffie-Hellman, done when the first IKE_AUTH is there and not before: a flood of INITs does not pay."""
        plausible = header.exchange == ExchangeType.IKE_AUTH and header.next_payload in _ENCRYPTED
        if not plausible or self.key_pair is None:
            raise InvalidSyntax("no keys")
        shared = self.key_pair.shared_secret(self.peer_public)
        self.keys = derive_ike_keys(self.suite, shared, self.nonce_i, self.nonce_r, self.spi_i, self.spi_r)
        self.key_pair = None
        self.channel = Channel(self.suite, self.keys, self.spi_i, self.spi_r, is_initiator=False, random=self.random)
        if self.peer_fragments:
            self.channel.set_fragment_size(self.config.fragment_size_bytes, self.path.ip_version)
        return self.channel

    def _start_established_timers(self, now: float) -> None:
        self._liveness_at = now + self.config.dpd_interval_s
        if self.nat_local:
            self._keepalive_at = now + self.config.keepalive_interval_s

    def _request(self, exchange: ExchangeType, payloads: OutPayloads, now: float) -> None:
        if self.channel is None:
            return
        datagrams = self.channel.seal(exchange, self.own.next_id, payloads, response=False)
        self.own.send(datagrams, now)
        self._send_all(datagrams)

    def _send_delete(self, now: float) -> None:
        body = Delete(ProtocolId.IKE).to_bytes()
        self._request(ExchangeType.INFORMATIONAL, [(PayloadType.DELETE, body)], now)

    def _send_all(self, datagrams: tuple[bytes, ...] | list[bytes]) -> None:
        for datagram in datagrams:
            self._owner.transmit(datagram, self.path)

    def _end(self, given: Input, cause: CloseCause, now: float) -> None:
        """Into CLOSED; what is secret or large goes, the cached response stays for a while.

        No limit counts closed SAs, and a peer that wants to be refused can be so many times a second: nothing that
        it sent may stay.
        """
        was = self.state
        self.move(given)
        self.auth = None
        self.key_pair = self.keys = self.channel = None
        self.nonce_i = self.peer_public = self.init_request = self.init_response = b""
        self.last_request = _digest(self.last_request)
        self.own.answered(self.own.message_id if self.own.message_id is not None else -1)
        self.half_open_until = self.session_until = self._delete_at = None
        self._liveness_at = self._keepalive_at = None
        self.linger_until = now + self.config.linger_s
        if was in UNFINISHED:
            self._owner.settled(self)
        if was is not State.CLOSING:
            self._owner.emit(SaClosed(self, cause))


def _digest(datagram: bytes) -> bytes:
    return hashlib.sha256(datagram).digest()


def _code(notify: NotifyType) -> str:
    """`NO_PROPOSAL_CHOSEN` as the audit log names it: `no-proposal-chosen`."""
    return notify.name.lower().replace("_", "-")


_ENCRYPTED = frozenset((PayloadType.SK, PayloadType.SKF))
_EXCHANGES = frozenset((ExchangeType.IKE_AUTH, ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL))
