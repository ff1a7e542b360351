"""One IKE SA: keys, windows, timers and state; the driver brings what comes in, the exchanges do the rest.

Datagrams and events come out through the owner (the `Responder`). Slow work leaves as an event and comes back as a
call; a call that comes too late is ignored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from core.rate import TokenBucket
from gateway.ike import child_lifecycle, handover
from gateway.ike.channel import Channel, OutPayloads
from gateway.ike.child import Assignment, Child
from gateway.ike.config import ResponderConfig
from gateway.ike.constants import ExchangeType
from gateway.ike.crypto.key_exchange import KeyPair
from gateway.ike.events import (
    CloseCause,
    Event,
    HandshakeFailed,
    SaClosed,
)
from gateway.ike.evidence import evidence_of
from gateway.ike.exchanges import (
    first_child,
    ike_followup_ke,
    ike_intermediate,
    informational,
    mobike,
)
from gateway.ike.exchanges.auth_state import IkeAuth
from gateway.ike.exchanges.own import OwnExchange
from gateway.ike.exchanges.redirect import Redirect, Willing
from gateway.ike.keymat import IkeKeys
from gateway.ike.path import EspPath, Path
from gateway.ike.payloads.redirect import GatewayId
from gateway.ike.proposals import IkeSuite
from gateway.ike.states import UNFINISHED, Input, State, transition
from gateway.ike.ticket import Resumption
from gateway.ike.timers import Timer, Timers
from gateway.ike.trace import Trace
from gateway.ike.window import OwnRequest, PeerRequests

KEEPALIVE = b"\xff"
"""The NAT-keepalive of RFC 3948 section 2.3; it goes out without a non-ESP marker."""
FORGED_PER_S, FORGED_BURST = 500.0, 2000.0
"""Messages of a half-open SA that do not verify (RFC 8019 section 4.7); it lives on, and its timer with it."""
STRAY_ANSWERS_PER_S, STRAY_ANSWERS_BURST = 2.0, 10.0
"""Messages that go once more, and to another address than the SA's, or than the SA's was."""
NEW_KEYS_PER_S, NEW_KEYS_BURST = 2.0, 20.0
"""Rekeyings and new child SAs that a peer may ask for. Windows rekeys by volume, at most some once a second."""


class Owner(Protocol):
    """What an SA needs of the responder that holds it."""

    def transmit(self, datagram: bytes, path: Path) -> None:
        """Send this."""

    def emit(self, event: Event) -> None:
        """Tell the shell."""

    def settled(self, sa: IkeSa) -> None:
        """The SA is no longer half-open."""

    def touch(self, sa: IkeSa) -> None:
        """Its timers have changed."""

    def adopt(self, sa: IkeSa) -> None:
        """Take in an SA that came from rekeying."""

    def new_ike_spi(self) -> bytes:
        """An SPI for an IKE SA, 8 bytes."""

    def new_child_spi(self) -> int:
        """An inbound SPI for a child SA."""

    def free_child_spi(self, spi_in: int) -> None:
        """It is not in use any more."""

    def new_lineage(self) -> int:
        """A number for child SAs that follow one another."""


class IkeSa:
    """An IKE SA whose IKE_SA_INIT has been answered, or one that came from rekeying such an SA."""

    __slots__ = (
        "assignment",
        "auth",
        "channel",
        "children",
        "client",
        "config",
        "context",
        "deaf_until",
        "deleted_unknown",
        "forged",
        "half_open_key",
        "init_request",
        "init_response",
        "intermediate",
        "is_initiator",
        "key_pair",
        "keys",
        "last_received",
        "mobility",
        "nat_local",
        "nat_remote",
        "new_keys",
        "nonce_i",
        "nonce_r",
        "outstanding",
        "own",
        "owner",
        "path",
        "peer",
        "peer_fragments",
        "peer_hashes",
        "peer_identity",
        "peer_public",
        "peer_takes_ppk",
        "pending",
        "predecessor",
        "queue",
        "random",
        "resumption",
        "rival",
        "scheduled_at",
        "spi_i",
        "spi_r",
        "state",
        "stray_answers",
        "successor",
        "suite",
        "timers",
        "trace",
        "unfinished",
        "willing",
    )

    def __init__(  # noqa: PLR0915 - a list of attributes, with what each is for
        self,
        owner: Owner,
        config: ResponderConfig,
        random: Callable[[int], bytes],
        *,
        spi_i: bytes,
        spi_r: bytes,
        suite: IkeSuite,
        path: Path,
        is_initiator: bool = False,
    ) -> None:
        self.owner = owner
        self.config = config
        self.random = random
        self.spi_i, self.spi_r = spi_i, spi_r
        self.suite = suite
        self.path = path
        self.is_initiator = is_initiator
        """True after a rekeying that we began; an SA of a client's IKE_SA_INIT has us as the responder."""
        self.state = State.HALF_OPEN
        self.client = ""
        """What the peer looks like."""
        self.peer_identity = ""
        """IDi as text; proven only with certificate authentication."""
        self.nat_local = self.nat_remote = False
        self.nonce_i = self.nonce_r = b""
        self.init_request = self.init_response = b""
        """The two messages of IKE_SA_INIT, which AUTH covers."""
        self.intermediate: ike_intermediate.Intermediate | None = None
        """The additional key exchanges that IKE_SA_INIT agreed on (RFC 9370)."""
        self.mobility: mobike.Mobility | None = None
        """Both sides speak MOBIKE (RFC 4555)."""
        self.willing: Willing | None = None
        """What the peer said of being sent to another gateway (RFC 5685)."""
        self.resumption = Resumption()
        self.peer_fragments = False
        """The peer takes fragments (RFC 7383)."""
        self.peer_hashes: frozenset[int] = frozenset()
        """The peer's SIGNATURE_HASH_ALGORITHMS (RFC 7427); empty where it sent none."""
        self.peer_takes_ppk = False
        """Both sides announced USE_PPK (RFC 8784)."""
        self.key_pair: KeyPair | None = None
        self.peer_public = b""
        self.keys: IkeKeys | None = None
        self.channel: Channel | None = None
        self.auth: IkeAuth | None = None
        """The authentication under way; gone once the SA is established."""
        self.assignment: Assignment | None = None
        """What the peer may use, as the shell says now; the source of every child SA's selectors."""
        self.children: dict[int, Child] = {}
        """By inbound SPI."""
        self.context: object = None
        """The shell's own; the core never looks at it."""
        self.half_open_key: tuple[str, tuple[str, int, bytes]] | None = None
        """Under which address and key the responder counts the SA as half-open, while it is."""
        self.peer = PeerRequests()
        self.own = OwnRequest(config.retransmit_timeouts_s)
        self.outstanding: OwnExchange | None = None
        """The exchange of ours that waits for its answer."""
        self.rival: IkeSa | None = None
        """The IKE SA that the peer made of this one by rekeying while our own rekeying is outstanding."""
        self.predecessor: IkeSa | None = None
        """Of a rival: the SA whose place it may take."""
        self.successor: IkeSa | None = None
        """The SA that has taken the place of this one."""
        self.stray_answers = TokenBucket(STRAY_ANSWERS_PER_S, STRAY_ANSWERS_BURST, 0.0)
        self.queue: deque[OwnExchange] = deque()
        self.pending: dict[int, child_lifecycle.PendingChild] = {}
        self.unfinished: dict[bytes, ike_followup_ke.Unfinished] = {}
        """What the peer has to complete by additional key exchanges, by the link that tells it."""
        self.deleted_unknown: set[bytes] = set()
        """SPIs of child SAs unknown to us that the peer has deleted while an exchange of ours is outstanding, whose
        answer may tell of them.
        """
        self.last_received = 0.0
        """When the last authentic message came, monotonic seconds."""
        self.forged = TokenBucket(FORGED_PER_S, FORGED_BURST, 0.0)
        self.deaf_until = 0.0
        """While it is half-open and gets too much that is not authentic, it looks at some of it only."""
        self.new_keys = TokenBucket(NEW_KEYS_PER_S, NEW_KEYS_BURST, 0.0)
        self.timers = Timers()
        self.trace: Trace | None = None
        """Of the handshake, until a little after it; an SA that came from rekeying or a snapshot has none."""
        self.scheduled_at: float | None = None
        """The responder's note of the timer that it has queued."""

    @property
    def own_spi(self) -> bytes:
        """The SPI of the two that we chose, by which the responder finds the SA."""
        return self.spi_i if self.is_initiator else self.spi_r

    def get_timer(self) -> float | None:
        """When `handle_timer` has to be called next, monotonic seconds."""
        earliest, deadline = self.timers.earliest, self.own.deadline
        if deadline is None:
            return earliest
        return deadline if earliest is None else min(earliest, deadline)

    @property
    def is_finished(self) -> bool:
        """Nothing is left to do; the responder may forget the SA."""
        return self.state is State.CLOSED and self.timers.get(Timer.LINGER) is None

    # --- Calls that answer events: authentication -----------------------------------------------------------

    def established(self, given: Input, now: float) -> None:
        """IKE_AUTH is through, with a child SA or without; its last response is about to go out."""
        self.move(given)
        self.auth = self.intermediate = self.resumption.redeemed = None
        self.init_request = self.init_response = b""
        self.timers.cancel(Timer.HALF_OPEN)
        self.start_established_timers(now)
        self.owner.settled(self)

    def redirect(self, target: GatewayId, now: float) -> None:
        """Send a peer that has said that it understands it to another gateway: instead of a child SA, or later."""
        if self.auth is not None and self.state is State.ASSIGNING and self.assignment is None:
            first_child.finish_with_redirect(self, self.auth, target)
            # The peer deletes the SA when it has read it.
            self.close_without_child(CloseCause.REDIRECTED, now + self.config.redirect_patience_s)
        elif self.state is State.ESTABLISHED:
            self.initiate(Redirect(target), now)

    def close_without_child(self, cause: CloseCause, delete_at: float) -> None:
        """IKE_AUTH ends without child SA and session; a Delete follows, unless the peer sends one first."""
        self.auth = None
        self.timers.cancel(Timer.HALF_OPEN)
        self.move(Input.CHILD_REFUSED)
        self.owner.settled(self)
        self.owner.emit(SaClosed(self, cause))
        self.timers.set(Timer.DELETE, delete_at)

    # --- Calls that answer events: while it is up -----------------------------------------------------------

    def check_liveness(self, last_esp_in_s: float, now: float) -> None:
        """Ask the peer whether it is alive, unless something came from it lately (RFC 7296 section 2.4)."""
        if self.state is not State.ESTABLISHED or self.own.message_id is not None:
            return
        # Compared as it is set: what rounding makes of a difference could be due again at once, for ever.
        due = max(self.last_received, last_esp_in_s) + self.config.dpd_interval_s
        if now < due:
            self.timers.set(Timer.LIVENESS, due)
            return
        self.initiate(informational.Liveness(), now)

    def limit_session(self, lifetime_s: float, now: float) -> None:
        """End the SA at the latest after so many seconds."""
        self.timers.set(Timer.SESSION_END, now + lifetime_s)

    def remote_moved(self, path: Path) -> None:
        """Authentic ESP came from a new address behind the NAT (RFC 7296 section 2.23)."""
        if self.nat_remote and self.state is State.ESTABLISHED:
            self.change_path(path)
            if self.mobility is not None:
                self.mobility.held = None

    def announce_addresses(self, addresses: Sequence[str], now: float) -> None:
        """The gateway can be reached at other addresses than before: tell a peer that can make use of them."""
        if self.mobility is not None and self.state is State.ESTABLISHED:
            self.initiate(mobike.AnnounceAddresses(addresses), now)

    def close(self, cause: CloseCause, now: float) -> None:
        """End the SA from our side: events at once, Delete to an established peer."""
        if self.state is State.ESTABLISHED:
            self._abandon_exchanges(now)
            self.move(Input.CLOSE)
            self.timers.clear()
            child_lifecycle.forget_all(self)
            self.owner.emit(SaClosed(self, cause))
            self.initiate(informational.DeleteIke(), now)
        elif self.state in UNFINISHED or self.state is State.REPLACED:
            self.end(Input.CLOSE, cause, now)

    def forget(self, cause: CloseCause, now: float) -> None:
        """End the SA without a word: the peer said that it has lost it (INITIAL_CONTACT)."""
        if self.state is State.ESTABLISHED:
            self.end(Input.GONE, cause, now)

    # --- For the exchanges ----------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Tell the shell."""
        self.owner.emit(event)

    @property
    def esp(self) -> EspPath:
        """Where the packets of the child SAs go."""
        if self.mobility is not None and self.mobility.held is not None:
            return self.mobility.held
        return EspPath(self.path, self.nat_local or self.nat_remote, self.nat_remote)

    @property
    def request_path(self) -> Path:
        """Where the request came from that was begun last."""
        return self.peer.current_path or self.path

    def change_path(self, path: Path) -> None:
        """The peer is somewhere else."""
        if self.channel is not None and self.peer_fragments and path.ip_version != self.path.ip_version:
            self.channel.set_fragment_size(self.config.fragment_size_bytes, path.ip_version)
        self.path = path

    def renew_keepalives(self, now: float) -> None:
        """Whether we are behind a NAT has been found out anew."""
        if not self.nat_local:
            self.timers.cancel(Timer.KEEPALIVE)
        elif self.timers.get(Timer.KEEPALIVE) is None:
            self.timers.set(Timer.KEEPALIVE, now + self.config.keepalive_interval_s)

    def send_again(self, now: float) -> None:
        """Along the path as it is now, the outstanding request has all its tries again.

        A peer can say of any address that it is there, and the request may be much longer than what says so.
        """
        if self.own.message_id is not None and self.stray_answers.take(now):
            self.own.restart(now, self.patience_s)
            self.send_all(self.own.datagrams)

    def move(self, given: Input) -> None:
        """Change the state by the table."""
        self.state = transition(self.state, given)

    def respond(self, exchange: ExchangeType, payloads: OutPayloads, message_id: int | None = None) -> None:
        """Answer the request that was begun last, or the one with this id; its retransmissions get the same bytes."""
        if self.channel is None:
            return
        answered_id = self.peer.current if message_id is None else message_id
        datagrams = self.channel.seal(exchange, answered_id, payloads, response=True)
        path = self.peer.answer(answered_id, datagrams)
        if self.trace is not None:
            self.trace.answer(datagrams)
        self.send_all(datagrams, path)

    def initiate(self, own: OwnExchange, now: float) -> None:
        """Begin an exchange, when its turn has come."""
        self.queue.append(own)
        self.send_next(now)

    def proceed(self, own: OwnExchange, now: float) -> None:
        """The exchange that was just answered goes on with another request, before all that waits."""
        self.queue.appendleft(own)
        self.send_next(now)

    def initiate_at(self, own: OwnExchange, at: float) -> None:
        """Begin an exchange, but not before."""
        self.timers.set(own, at)

    def retry_delay_s(self, failures: int) -> float:
        """How long to wait after so many TEMPORARY_FAILUREs; by chance, for the peer may wait as well."""
        return self.config.retry_delay_s * failures * (0.5 + self.random(1)[0] / 256)

    @property
    def waiting(self) -> tuple[OwnExchange, ...]:
        """Our exchanges that are outstanding or wait for their turn, in order."""
        return (*((self.outstanding,) if self.outstanding is not None else ()), *self.queue)

    def report_failure(self, code: str, reason: str) -> None:
        """One event that an operator understands."""
        self.owner.emit(HandshakeFailed(self, code, reason, evidence_of(self)))

    def peer_deleted(self, now: float) -> None:
        """The peer deleted the IKE SA; the answer is out already."""
        rival = handover.take_rival(self)
        if rival is not None:
            # It rekeyed the SA, and knows nothing of our rekeying, or thinks little of it.
            handover.hand_over(self, rival, now)
        was_sent_away = self.timers.get(Timer.REDIRECTED) is not None
        self.end(Input.DELETED, CloseCause.REDIRECTED if was_sent_away else CloseCause.PEER_DELETE, now)

    def delete_answered(self, now: float) -> None:
        """The peer has answered our Delete."""
        self.end(Input.GONE, CloseCause.ADMIN, now)

    def resume(self, last_received: float, session_until: float | None, now: float) -> None:
        """The SA is established from the start (rekeying, snapshot); its timers run from now."""
        self.state = State.ESTABLISHED
        self.last_received = last_received
        if session_until is not None:
            self.timers.set(Timer.SESSION_END, session_until)
        self.start_established_timers(now)

    # --- Inside ---------------------------------------------------------------------------------------------

    def send_next(self, now: float) -> None:
        """Send the request whose turn has come: when none is outstanding, and what the last one made is in place."""
        while self.queue and self.outstanding is None and not self.pending and self.channel is not None:
            own = self.queue.popleft()
            payloads = own.request(self, now)
            if payloads is None:
                continue
            self.outstanding = own
            datagrams = self.channel.seal(own.exchange, self.own.next_id, payloads, response=False)
            self.own.send(datagrams, now)
            self.send_all(datagrams)
            # The exchange may have been begun by another SA, in whose turn the responder does not look at this one.
            self.owner.touch(self)

    def use_keys(self, keys: IkeKeys) -> Channel:
        """Protect all messages by these keys from now on."""
        self.keys = keys
        self.channel = Channel(
            self.suite, keys, self.spi_i, self.spi_r, is_initiator=self.is_initiator, random=self.random
        )
        if self.peer_fragments:
            self.channel.set_fragment_size(self.config.fragment_size_bytes, self.path.ip_version)
        return self.channel

    def start_established_timers(self, now: float) -> None:
        """Liveness, rekeying and keepalives, from now on."""
        self.timers.set(Timer.LIVENESS, now + self.config.dpd_interval_s)
        self.timers.set(Timer.REKEY, now + jittered(self.config.ike_rekey_s, self.random))
        if self.nat_local:
            self.timers.set(Timer.KEEPALIVE, now + self.config.keepalive_interval_s)

    def _abandon_exchanges(self, now: float) -> None:
        """Nothing of ours is wanted any more; an outstanding request is still retransmitted until it is answered."""
        self.queue.clear()
        self.drop_unfinished()
        rival = handover.take_rival(self)
        if rival is not None:
            handover.be_replaced(rival, now)
            rival.initiate(informational.DeleteIke(), now)
        if self.outstanding is not None and not self.outstanding.abandoned(self, now):
            self.outstanding = informational.Abandoned(self.outstanding.exchange)

    def drop_unfinished(self) -> None:
        """What the peer has not completed will not be."""
        while self.unfinished:
            link, unfinished = self.unfinished.popitem()
            self.timers.cancel((Timer.FOLLOWUP, link))
            unfinished.dropped()

    @property
    def patience_s(self) -> float:
        """How long the peer has in any case to answer; one that moves may be without a network for a while."""
        return self.config.mobike_patience_s if self.mobility and self.state is State.ESTABLISHED else 0.0

    def send_all(self, datagrams: Sequence[bytes], path: Path | None = None) -> None:
        """Send a message; where the peer is, unless another path is given."""
        for datagram in datagrams:
            self.owner.transmit(datagram, path or self.path)

    def end(self, given: Input, cause: CloseCause, now: float) -> None:
        """Into CLOSED; what is secret or large goes, the cached response stays for a while.

        No limit counts closed SAs, and a peer that wants to be refused can be so many times a second: nothing that
        it sent may stay.
        """
        was, predecessor = self.state, self.predecessor
        if predecessor is not None:
            # The peer has deleted it: ours has won. No session was ever its own.
            handover.take_rival(predecessor)
        self._abandon_exchanges(now)
        self.outstanding = None
        self.move(given)
        self.auth = self.intermediate = None
        self.key_pair = self.keys = self.channel = None
        self.resumption = Resumption()
        self.nonce_i = self.peer_public = self.init_request = self.init_response = b""
        self.peer.keep_only_answers()
        self.own.forget()
        child_lifecycle.forget_all(self)
        self.trace = None
        self.timers.clear()
        self.timers.set(Timer.LINGER, now + self.config.linger_s)
        if was in UNFINISHED:
            self.owner.settled(self)
        if was not in (State.CLOSING, State.REPLACED) and predecessor is None:
            self.owner.emit(SaClosed(self, cause))


def jittered(lifetime_s: float, random: Callable[[int], bytes]) -> float:
    """Up to a tenth less, so that not all SAs that began together are rekeyed together."""
    return lifetime_s * (1 - random(1)[0] / 2560)
