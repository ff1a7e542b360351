"""CREATE_CHILD_SA that rekeys the IKE SA (RFC 7296 sections 1.3.2, 2.8.2, 2.18 and 2.25.2), asked for by either side.

request:  SA, Ni, KEi  ->  SA, Nr, KEr, [N(ADDITIONAL_KEY_EXCHANGE)]

Where additional key exchanges are agreed on, they follow in IKE_FOLLOWUP_KE, and the new SA is made with the last.

Whoever asks is the original initiator of the new SA. It takes over the child SAs and the session of the old one,
which whoever asked then deletes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from gateway.ike import handover
from gateway.ike.admission import admit
from gateway.ike.channel import OutPayloads
from gateway.ike.constants import ExchangeType, Group, NotifyType, PayloadType
from gateway.ike.crypto import key_exchange
from gateway.ike.crypto.key_exchange import KeyPair
from gateway.ike.errors import InvalidSyntax, TemporaryFailure
from gateway.ike.events import CloseCause, RekeyRefused
from gateway.ike.exchanges.child_sa import NONCE_BYTES, checked_nonce, is_choice_from
from gateway.ike.exchanges.ike_followup_ke import Course, Unfinished, wait_for
from gateway.ike.exchanges.informational import DeleteChildren, DeleteIke
from gateway.ike.exchanges.own import MAX_RETRIES, RETRIED
from gateway.ike.keymat import derive_rekeyed_ike_keys
from gateway.ike.message import Payloads
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import Proposal, parse_proposals, proposals_to_bytes
from gateway.ike.proposals import IkeSuite, choose_ike, ike_offer
from gateway.ike.states import State
from gateway.ike.timers import Timer

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

SHORTEST_GRACE_S = 300.0
TRIES = 4
"""An IKE SA that the peer does not let us rekey lives as long again as to its rekeying, or these seconds where that
is longer; in this time we ask so many times.
"""
UNFINISHED_PATIENCE_S = 60.0
"""That our rekeying waits for key exchanges which the peer has to complete; then the peer has to begin them anew."""


def handle_request(sa: IkeSa, payloads: Payloads, proposals: tuple[Proposal, ...], now: float) -> None:
    """Make the new IKE SA and answer, or begin to.

    Raises:
        TemporaryFailure: the peer has a rekeying under way already, or a child SA is being made or deleted.
        NoProposalChosen, InvalidKePayload: no suite, or the key exchange is of another group than the chosen one.
        InvalidSyntax: the request is malformed.
    """
    own = sa.outstanding
    _check_quiet(sa)
    if sa.unfinished:
        raise TemporaryFailure("the peer has a key exchange to complete")
    nonce_i, nonce_r = checked_nonce(payloads.require(PayloadType.NONCE)), sa.random(NONCE_BYTES)
    ke = KeyExchange.parse(payloads.require(PayloadType.KE))
    spi_r = sa.owner.new_ike_spi()
    suite, chosen, spi_i = choose_ike(proposals, sa.config.policy, ke.group, spi=spi_r, additional=True)
    if suite.additional and isinstance(own, RekeyIke):
        # Of two that cross, one would be complete and the other not: too many ways to come apart.
        raise TemporaryFailure("this IKE SA is being rekeyed")
    public, shared = key_exchange.respond(suite.group, ke.public)
    accepted = _Accepted(suite, spi_i, spi_r, nonce_i, nonce_r, shared)
    answer = [
        (PayloadType.SA, proposals_to_bytes((chosen,))),
        (PayloadType.NONCE, nonce_r),
        (PayloadType.KE, KeyExchange(suite.group, public).to_bytes()),
    ]
    if not suite.additional:
        _make(sa, accepted, ExchangeType.CREATE_CHILD_SA, answer, now)
        return

    def complete(secrets: tuple[bytes, ...], last_answer: OutPayloads, now: float) -> None:
        _check_quiet(sa)
        _make(sa, replace(accepted, secrets=secrets), ExchangeType.IKE_FOLLOWUP_KE, last_answer, now)

    unfinished = Unfinished(suite.additional, rekeys_ike=True, complete=complete, dropped=lambda: None)
    sa.respond(ExchangeType.CREATE_CHILD_SA, [*answer, wait_for(sa, unfinished, now)])


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What both sides have agreed on for the new IKE SA."""

    suite: IkeSuite
    spi_i: bytes
    spi_r: bytes
    nonce_i: bytes
    nonce_r: bytes
    shared: bytes
    secrets: tuple[bytes, ...] = ()
    """Of the additional key exchanges."""

    @property
    def lower_nonce(self) -> bytes:
        """By which it is decided between two that were made at the same time."""
        return min(self.nonce_i, self.nonce_r)


def _check_quiet(sa: IkeSa) -> None:
    """Nothing that the new IKE SA would have to take over is changing; raises TemporaryFailure."""
    own = sa.outstanding
    if sa.rival is not None:
        raise TemporaryFailure("this IKE SA is being rekeyed")
    changing = own is not None and own.exchange in (ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_FOLLOWUP_KE)
    if isinstance(own, DeleteChildren) or (changing and not isinstance(own, RekeyIke)):
        raise TemporaryFailure("a child SA is being made or deleted")


def _make(sa: IkeSa, accepted: _Accepted, exchange: ExchangeType, answer: OutPayloads, now: float) -> None:
    """As the peer asked: the new IKE SA, in the place of the old one or as the rival of ours."""
    own = sa.outstanding
    new = _rekeyed(sa, accepted, is_initiator=False)
    sa.respond(exchange, answer)
    new.resume(now, None, now)
    sa.owner.adopt(new)
    if isinstance(own, RekeyIke):
        # Both at once: our answer decides, by the nonces.
        sa.rival, new.predecessor, own.rival_nonce = new, sa, accepted.lower_nonce
        return
    handover.hand_over(sa, new, now)
    # The peer deletes it; should it forget to, we do.
    sa.timers.set(Timer.DELETE, now + sa.config.replaced_delete_s)


def _rekeyed(sa: IkeSa, accepted: _Accepted, *, is_initiator: bool) -> IkeSa:
    keys = sa.keys
    if keys is None:
        raise InvalidSyntax("no keys")
    new = type(sa)(
        sa.owner,
        sa.config,
        sa.random,
        spi_i=accepted.spi_i,
        spi_r=accepted.spi_r,
        suite=accepted.suite,
        path=sa.path,
        is_initiator=is_initiator,
    )
    new.peer_fragments, new.nat_local = sa.peer_fragments, sa.nat_local
    new.use_keys(
        derive_rekeyed_ike_keys(
            sa.suite,
            accepted.suite,
            keys.d,
            accepted.shared,
            accepted.nonce_i,
            accepted.nonce_r,
            accepted.spi_i,
            accepted.spi_r,
            accepted.secrets,
        )
    )
    return new


class RekeyIke:
    """Our own rekeying of an IKE SA, with the suite that it has."""

    moves_along = False

    def __init__(self) -> None:
        self._course: Course[_Accepted] = Course()
        self._wanted_since: float | None = None
        """When its turn came first, monotonic seconds."""
        self.rival_nonce = b""
        """The lower nonce of a rekeying that the peer began at the same time."""
        self._failures = 0
        self._group: Group | None = None
        self._pair: KeyPair | None = None
        self._nonce = self._spi = b""
        self._offer: tuple[Proposal, ...] = ()

    @property
    def exchange(self) -> ExchangeType:
        """CREATE_CHILD_SA, or what follows it."""
        return self._course.exchange

    def request(self, sa: IkeSa, now: float) -> OutPayloads | None:
        """The suite in use, with a fresh key of its group; Windows knows no other group (INVALID_KE_PAYLOAD does)."""
        followup = self._course.request()
        if followup is not None:
            return followup
        self._wanted_since = now if self._wanted_since is None else self._wanted_since
        waited_s = now - self._wanted_since
        if waited_s >= max(sa.config.ike_rekey_s, SHORTEST_GRACE_S):
            sa.close(CloseCause.NOT_REKEYED, now)
            return None
        if sa.unfinished and waited_s < UNFINISHED_PATIENCE_S:
            # The peer is about to make a child SA, or to rekey this one.
            sa.initiate_at(self, now + sa.retry_delay_s(1))
            return None
        sa.drop_unfinished()
        group = self._group or sa.suite.group
        self._pair = key_exchange.generate(group)
        self._nonce, self._spi = sa.random(NONCE_BYTES), sa.owner.new_ike_spi()
        self._offer = ike_offer(sa.suite, self._spi, group)
        return [
            (PayloadType.SA, proposals_to_bytes(self._offer)),
            (PayloadType.NONCE, self._nonce),
            (PayloadType.KE, KeyExchange(group, self._pair.public).to_bytes()),
        ]

    def abandoned(self, sa: IkeSa, now: float) -> bool:
        """The peer may make a new IKE SA all the same, and has to be told to delete it."""
        return True

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """Hand over to the new IKE SA, or to the peer's, or see why there is none."""
        payloads = admit(self.exchange, payloads, response=True, encrypted=True)
        errors = [n for n in map(Notify.parse, payloads.all(PayloadType.NOTIFY)) if n.is_error]
        if errors:
            self._course.start_over()
            self._give_way(sa, errors[0], now)
            return
        complete = self._course.answered(payloads, partial(self._accept, sa))
        if complete is None:
            sa.proceed(self, now)
            return
        agreed, secrets = complete
        self._take_over(sa, replace(agreed, secrets=secrets), now)

    def _give_way(self, sa: IkeSa, error: Notify, now: float) -> None:
        """To the peer's rekeying, if there is one; else to a peer that wants none now."""
        rival = handover.take_rival(sa)
        if rival is not None:
            handover.hand_over(sa, rival, now)
            sa.timers.set(Timer.DELETE, now + sa.config.replaced_delete_s)
        elif sa.state is State.ESTABLISHED:
            self._refused(sa, error, now)

    def _take_over(self, sa: IkeSa, accepted: _Accepted, now: float) -> None:
        """The new IKE SA is made; whether it takes the place of the old one, section 2.8.2 says."""
        rival = handover.take_rival(sa)
        new = _rekeyed(sa, accepted, is_initiator=True)
        new.resume(now, None, now)
        sa.owner.adopt(new)
        lost = sa.state is not State.ESTABLISHED
        if rival is not None and accepted.lower_nonce < self.rival_nonce:
            handover.hand_over(sa, rival, now)
            sa.timers.set(Timer.DELETE, now + sa.config.replaced_delete_s)
            lost = True
        if lost:
            # Ours is the one too many, so we delete it; the peer deletes the old one.
            handover.be_replaced(new, now)
            new.initiate(DeleteIke(), now)
            return
        if rival is not None:
            handover.be_replaced(rival, now)
        handover.hand_over(sa, new, now)
        sa.initiate(DeleteIke(), now)

    def _accept(self, sa: IkeSa, payloads: Payloads) -> _Accepted:
        """What the answer makes of our offer; raises InvalidSyntax where that is none of it."""
        nonce_r = checked_nonce(payloads.require(PayloadType.NONCE))
        ke = KeyExchange.parse(payloads.require(PayloadType.KE))
        answer = parse_proposals(payloads.require(PayloadType.SA))
        if self._pair is None or not is_choice_from(answer, self._offer):
            raise InvalidSyntax("the answer is not a choice from the proposal")
        suite, _, spi_r = choose_ike(answer, sa.config.policy, ke.group, spi=self._spi, additional=True)
        return _Accepted(suite, self._spi, spi_r, self._nonce, nonce_r, self._pair.shared_secret(ke.public))

    def _refused(self, sa: IkeSa, error: Notify, now: float) -> None:
        """TEMPORARY_FAILURE is for a little later, all else for much later; until the time for it is over."""
        groups = [group for group in sa.config.policy.groups if error.data == group.to_bytes(2, "big")]
        if error.type in RETRIED and self._failures < MAX_RETRIES:
            self._failures += 1
            sa.initiate_at(self, now + sa.retry_delay_s(self._failures))
        elif error.type == NotifyType.INVALID_KE_PAYLOAD and groups and self._group is None:
            self._group = groups[0]
            sa.initiate(self, now)
        else:
            self._failures, self._group = 0, None
            sa.emit(RekeyRefused(sa, f"the client answered {error}"))
            sa.initiate_at(self, now + max(sa.config.ike_rekey_s, SHORTEST_GRACE_S) / TRIES)
