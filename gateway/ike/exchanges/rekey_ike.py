"""CREATE_CHILD_SA that rekeys the IKE SA (RFC 7296 sections 1.3.2, 2.8.2, 2.18 and 2.25.2), asked for by either side.

request:  SA, Ni, KEi  ->  SA, Nr, KEr

Whoever asks is the original initiator of the new SA. It takes over the child SAs and the session of the old one,
which whoever asked then deletes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.ike.admission import admit
from gateway.ike.channel import OutPayloads
from gateway.ike.constants import ExchangeType, Group, NotifyType, PayloadType
from gateway.ike.crypto import key_exchange
from gateway.ike.crypto.key_exchange import KeyPair
from gateway.ike.errors import InvalidSyntax, TemporaryFailure
from gateway.ike.exchanges.child_sa import NONCE_BYTES, checked_nonce, is_choice_from
from gateway.ike.exchanges.informational import DeleteIke
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

MAX_TEMPORARY_FAILURES = 10


def handle_request(sa: IkeSa, payloads: Payloads, proposals: tuple[Proposal, ...], now: float) -> None:
    """Make the new IKE SA and answer.

    Raises:
        TemporaryFailure: the peer has a rekeying under way already.
        NoProposalChosen, InvalidKePayload: no suite, or the key exchange is of another group than the chosen one.
        InvalidSyntax: the request is malformed.
    """
    own = sa.outstanding
    if sa.rival is not None:
        raise TemporaryFailure("this IKE SA is being rekeyed")
    nonce_i, nonce_r = checked_nonce(payloads.require(PayloadType.NONCE)), sa.random(NONCE_BYTES)
    ke = KeyExchange.parse(payloads.require(PayloadType.KE))
    spi_r = sa.owner.new_ike_spi()
    suite, chosen, spi_i = choose_ike(proposals, sa.config.policy, ke.group, spi=spi_r)
    public, shared = key_exchange.respond(suite.group, ke.public)
    new = _rekeyed(sa, suite, spi_i, spi_r, shared, nonce_i, nonce_r, is_initiator=False)
    answer = [
        (PayloadType.SA, proposals_to_bytes((chosen,))),
        (PayloadType.NONCE, nonce_r),
        (PayloadType.KE, KeyExchange(suite.group, public).to_bytes()),
    ]
    sa.respond(ExchangeType.CREATE_CHILD_SA, answer)
    new.resume(now, None, now)
    sa.owner.adopt(new)
    if isinstance(own, RekeyIke):
        # Both at once: our answer decides, by the nonces.
        sa.rival, new.predecessor, own.rival_nonce = new, sa, min(nonce_i, nonce_r)
        return
    sa.hand_over(new, now)
    # The peer deletes it; should it forget to, we do.
    sa.timers.set(Timer.DELETE, now + sa.config.replaced_delete_s)


def _rekeyed(
    sa: IkeSa,
    suite: IkeSuite,
    spi_i: bytes,
    spi_r: bytes,
    shared: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    *,
    is_initiator: bool,
) -> IkeSa:
    keys = sa.keys
    if keys is None:
        raise InvalidSyntax("no keys")
    new = type(sa)(
        sa.owner,
        sa.config,
        sa.random,
        spi_i=spi_i,
        spi_r=spi_r,
        suite=suite,
        path=sa.path,
        is_initiator=is_initiator,
    )
    new.peer_fragments, new.nat_local = sa.peer_fragments, sa.nat_local
    new.use_keys(derive_rekeyed_ike_keys(sa.suite, suite, keys.d, shared, nonce_i, nonce_r, spi_i, spi_r))
    return new


class RekeyIke:
    """Our own rekeying of an IKE SA, with the suite that it has."""

    exchange = ExchangeType.CREATE_CHILD_SA

    def __init__(self) -> None:
        self.rival_nonce = b""
        """The lower nonce of a rekeying that the peer began at the same time."""
        self._failures = 0
        self._group: Group | None = None
        self._pair: KeyPair | None = None
        self._nonce = self._spi = b""
        self._offer: tuple[Proposal, ...] = ()

    def request(self, sa: IkeSa, now: float) -> OutPayloads:
        """The suite in use, with a fresh key of its group; Windows knows no other group (INVALID_KE_PAYLOAD does)."""
        group = self._group or sa.suite.group
        self._pair = key_exchange.generate(group)
        self._nonce, self._spi = sa.random(NONCE_BYTES), sa.owner.new_ike_spi()
        self._offer = ike_offer(replace(sa.suite, additional=()), self._spi, group)
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
        payloads = admit(ExchangeType.CREATE_CHILD_SA, payloads, response=True, encrypted=True)
        errors = [n for n in map(Notify.parse, payloads.all(PayloadType.NOTIFY)) if n.is_error]
        rival = sa.take_rival()
        if errors:
            if rival is not None:
                sa.hand_over(rival, now)
                sa.timers.set(Timer.DELETE, now + sa.config.replaced_delete_s)
            elif sa.state is State.ESTABLISHED:
                self._refused(sa, errors[0], now)
            return
        new, lower_nonce = self._accept(sa, payloads)
        new.resume(now, None, now)
        sa.owner.adopt(new)
        lost = sa.state is not State.ESTABLISHED
        if rival is not None and lower_nonce < self.rival_nonce:
            sa.hand_over(rival, now)
            sa.timers.set(Timer.DELETE, now + sa.config.replaced_delete_s)
            lost = True
        if lost:
            # Ours is the one too many, so we delete it; the peer deletes the old one.
            new.be_replaced(now)
            new.initiate(DeleteIke(), now)
            return
        if rival is not None:
            rival.be_replaced(now)
        sa.hand_over(new, now)
        sa.initiate(DeleteIke(), now)

    def _accept(self, sa: IkeSa, payloads: Payloads) -> tuple[IkeSa, bytes]:
        nonce_r = checked_nonce(payloads.require(PayloadType.NONCE))
        ke = KeyExchange.parse(payloads.require(PayloadType.KE))
        answer = parse_proposals(payloads.require(PayloadType.SA))
        if self._pair is None or not is_choice_from(answer, self._offer):
            raise InvalidSyntax("the answer is not a choice from the proposal")
        suite, _, spi_r = choose_ike(answer, sa.config.policy, ke.group, spi=self._spi)
        shared = self._pair.shared_secret(ke.public)
        new = _rekeyed(sa, suite, self._spi, spi_r, shared, self._nonce, nonce_r, is_initiator=True)
        return new, min(self._nonce, nonce_r)

    def _refused(self, sa: IkeSa, error: Notify, now: float) -> None:
        """TEMPORARY_FAILURE is for later; whoever can't rekey at all stays until the session's lifetime is over."""
        groups = [group for group in sa.config.policy.groups if error.data == group.to_bytes(2, "big")]
        if error.type == NotifyType.TEMPORARY_FAILURE and self._failures < MAX_TEMPORARY_FAILURES:
            self._failures += 1
            sa.initiate_at(self, now + sa.retry_delay_s(self._failures))
        elif error.type == NotifyType.INVALID_KE_PAYLOAD and groups and self._group is None:
            self._group = groups[0]
            sa.initiate(self, now)
