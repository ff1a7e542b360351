"""CREATE_CHILD_SA by which we make a child SA that takes the place of another one (RFC 7296 sections 1.3 and 2.8)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from gateway.ike import child_lifecycle
from gateway.ike.admission import admit
from gateway.ike.channel import OutPayloads
from gateway.ike.child import EVERYTHING, Assignment, Child, ChildState
from gateway.ike.constants import ExchangeType, Group, NotifyType, PayloadType, ProtocolId
from gateway.ike.crypto import key_exchange
from gateway.ike.crypto.key_exchange import KeyPair
from gateway.ike.errors import (
    IkeError,
    InvalidSyntax,
)
from gateway.ike.events import ChildRefused
from gateway.ike.exchanges import informational
from gateway.ike.exchanges.child_sa import (
    NONCE_BYTES,
    Selectors,
    checked_nonce,
    is_choice_from,
    key_exchange_if_any,
    reachable_selectors,
    wished_selectors,
)
from gateway.ike.exchanges.ike_followup_ke import Course
from gateway.ike.exchanges.own import MAX_RETRIES, RETRIED
from gateway.ike.keymat import derive_child_keys
from gateway.ike.message import Payloads
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import Proposal, parse_proposals, proposals_to_bytes
from gateway.ike.proposals import ChildSuite, child_offer, choose_child
from gateway.ike.selectors import narrow, parse_selectors, selectors_to_bytes
from gateway.ike.states import State

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


def expired(sa: IkeSa, spi_in: int, now: float, *, hard: bool) -> None:
    """The lifetime of a child SA is over: replace it in time, or delete what carries nothing any more."""
    child = sa.children.get(spi_in)
    if child is None or sa.state is not State.ESTABLISHED:
        return
    if hard:
        # Even where another one has its place: its peer should have deleted it long before.
        if child.state in (ChildState.ESTABLISHED, ChildState.REKEYING):
            informational.delete_children(sa, [child], now)
    elif child.is_live and _may_be_asked_to_rekey(sa):
        sa.initiate(CreateChild(spi_in, rekeying=True), now)


def _may_be_asked_to_rekey(sa: IkeSa) -> bool:
    """Windows behind a NAT answers a rekeying that it did not begin with an error of its own, and stays."""
    return not (sa.nat_remote and sa.client.startswith("Windows"))


def reassign(sa: IkeSa, assignment: Assignment, now: float) -> None:
    """What the peer may use has changed: each child SA makes room for one with as much of the peer's wish as it may
    have now. One that was asked for with narrow selectors stays narrow.
    """
    if sa.state is not State.ESTABLISHED:
        return
    sa.assignment = assignment
    for child in list(sa.children.values()):
        if child.is_live:
            sa.initiate(CreateChild(child.spi_in, rekeying=False, lineage=child.lineage), now)


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What the peer made of an offer of ours."""

    suite: ChildSuite
    spi_out: int
    nonce_r: bytes
    shared: bytes
    local: Selectors
    remote: Selectors
    secrets: tuple[bytes, ...] = ()
    """Of the additional key exchanges."""


class CreateChild:
    """A child SA of ours that takes the place of another one, by rekeying or with other selectors.

    Args:
        old_spi_in: the one to be replaced.
        rekeying: with REKEY_SA, and the same selectors, where they may still be reached. Else with those that the
            assignment now gives of the peer's wish, and without: the selectors of a rekeying should not be narrower
            than before (section 2.9.2).
        lineage: without REKEY_SA, that of the old one: whichever is the newest of it when the turn has come, for the
            change has to hold whatever was rekeyed meanwhile.
    """

    moves_along = True

    def __init__(self, old_spi_in: int, *, rekeying: bool, lineage: int = 0) -> None:
        self._course: Course[_Accepted] = Course()
        self.old_spi_in = old_spi_in
        self.rekeying = rekeying
        self._lineage = lineage
        self.crossed_by: tuple[bytes, Child] | None = None
        """The peer has rekeyed the same child SA meanwhile: the lower nonce of that exchange, and what it made."""
        self._failures = 0
        self._group: Group | None = None
        """To be tried instead of the suite's own."""
        self._pair: KeyPair | None = None
        self._nonce = b""
        self._spi_in = 0
        self._offer: tuple[Proposal, ...] = ()
        self._local: Selectors = ()
        self._remote: Selectors = ()
        self._wish = EVERYTHING
        """The peer's, which the old child SA answered."""

    @property
    def exchange(self) -> ExchangeType:
        """CREATE_CHILD_SA, or what follows it."""
        return self._course.exchange

    def request(self, sa: IkeSa, now: float) -> OutPayloads | None:
        """None where the old child SA is gone, replaced or going, or nothing is left to be reached."""
        followup = self._course.request()
        if followup is not None:
            return followup
        old, assignment = self._child_to_replace(sa), sa.assignment
        if old is not None and (not old.confirmed or sa.unfinished):
            # Its peer may still wait for the answer that tells of it, or have begun to rekey it.
            sa.initiate_at(self, now + sa.retry_delay_s(1))
            return None
        if old is None or not old.is_live or old.state is ChildState.REKEYING or assignment is None:
            return None
        self.old_spi_in, self._lineage, self.crossed_by = old.spi_in, old.lineage, None
        self._wish = old.wish
        if set(_allowed(assignment, old.local_selectors)) != set(old.local_selectors):
            self.rekeying = False
        self._remote, self._local = old.remote_selectors, old.local_selectors
        if not self.rekeying:
            self._remote, self._local = wished_selectors(assignment, old.wish)
            if not self._local:
                informational.delete_children(sa, [old], now)
            if not self._local or set(self._local) == set(old.local_selectors):
                return None
        suite, group = old.suite, self._group or old.suite.group
        if self._group is not None and sa.config.policy.hybrid_only:
            suite = replace(suite, additional=sa.suite.additional)
        self._spi_in, self._nonce = sa.owner.new_child_spi(), sa.random(NONCE_BYTES)
        self._offer = child_offer(suite, self._spi_in, group)
        payloads = [
            (PayloadType.SA, proposals_to_bytes(self._offer)),
            (PayloadType.NONCE, self._nonce),
        ]
        if group is not None:
            self._pair = key_exchange.generate(group)
            payloads.append((PayloadType.KE, KeyExchange(group, self._pair.public).to_bytes()))
        payloads += [
            (PayloadType.TSI, selectors_to_bytes(self._local)),
            (PayloadType.TSR, selectors_to_bytes(self._remote)),
        ]
        old.state = ChildState.REKEYING
        if self.rekeying:
            rekey = Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, old.spi_in.to_bytes(4, "big"))
            payloads.insert(0, (PayloadType.NOTIFY, rekey.to_bytes()))
        return payloads

    def _child_to_replace(self, sa: IkeSa) -> Child | None:
        old = sa.children.get(self.old_spi_in)
        if self.rekeying or (old is not None and old.is_live):
            return old
        newest = (child for child in sa.children.values() if child.lineage == self._lineage and child.is_live)
        return next(newest, None)

    def abandoned(self, sa: IkeSa, now: float) -> bool:
        """The child SA will not come; on the peer's side it goes with the IKE SA."""
        sa.owner.free_child_spi(self._spi_in)
        return False

    def answered(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """Install the new child SA once all key exchanges are made, or see why there is none."""
        payloads = admit(self.exchange, payloads, response=True, encrypted=True)
        old = sa.children.get(self.old_spi_in)
        errors = [n for n in map(Notify.parse, payloads.all(PayloadType.NOTIFY)) if n.is_error]
        if errors:
            sa.owner.free_child_spi(self._spi_in)
            self._course.start_over()
            self._leave(old)
            self._refused(sa, errors[0], old, now)
            return
        complete = self._course.answered(payloads, partial(self._accept, sa))
        if complete is None:
            sa.proceed(self, now)
            return
        agreed, secrets = complete
        self._install(sa, replace(agreed, secrets=secrets), old, now)

    def _install(self, sa: IkeSa, accepted: _Accepted, old: Child | None, now: float) -> None:
        keys = sa.keys
        if keys is None or accepted.spi_out.to_bytes(4, "big") in sa.deleted_unknown:
            sa.owner.free_child_spi(self._spi_in)
            self._leave(old)
            return
        child = Child(
            spi_in=self._spi_in,
            spi_out=accepted.spi_out,
            suite=accepted.suite,
            keys=derive_child_keys(
                sa.suite, accepted.suite, keys.d, self._nonce, accepted.nonce_r, accepted.shared, accepted.secrets
            ),
            local_selectors=accepted.local,
            remote_selectors=accepted.remote,
            lineage=self._lineage,
            wish=self._wish,
            initiated=True,
        )
        if sa.assignment is None or set(_allowed(sa.assignment, child.local_selectors)) != set(child.local_selectors):
            # It may reach less by now than when we asked. The change that says so waits for its turn.
            self._give_up(sa, child, now)
            return

        rival = self._rival(sa, child)
        stays = rival is None or self._wins(rival, min(self._nonce, accepted.nonce_r))

        def installed(now: float) -> None:
            if rival is not None and not stays:
                self._make_way(sa, child, rival, now)
            else:
                self._finish(sa, child, rival, now)

        def failed(error: IkeError, now: float) -> None:
            self._give_up(sa, child, now)
            sa.emit(ChildRefused(sa, self.old_spi_in, str(error), self.rekeying))

        # Of two that are one too many, ours is there for what the peer may send on it, until that has been told.
        child_lifecycle.install(sa, child, outbound=stays, installed=installed, failed=failed)

    def _give_up(self, sa: IkeSa, child: Child, now: float) -> None:
        """The new child SA, which the peer has already, is not to be."""
        self._leave(sa.children.get(self.old_spi_in))
        sa.children[child.spi_in] = child
        informational.delete_children(sa, [child], now)

    @staticmethod
    def _leave(old: Child | None) -> None:
        """The old child SA stays what it was."""
        if old is not None and old.state is ChildState.REKEYING:
            old.state = ChildState.ESTABLISHED

    def _accept(self, sa: IkeSa, payloads: Payloads) -> _Accepted:
        """What the answer makes of our offer.

        Raises:
            InvalidSyntax: it chose what was not offered.
        """
        nonce_r = checked_nonce(payloads.require(PayloadType.NONCE))
        remote = parse_selectors(payloads.require(PayloadType.TSR))
        local = parse_selectors(payloads.require(PayloadType.TSI))
        answer = parse_proposals(payloads.require(PayloadType.SA))
        ke = key_exchange_if_any(payloads)
        if not is_choice_from(answer, self._offer):
            raise InvalidSyntax("the answer is none of the proposals")
        suite, _, spi_out = choose_child(
            answer, sa.config.policy, self._spi_in, ke_group=ke.group if ke is not None else None, additional=True
        )
        if not (remote and local):
            raise InvalidSyntax("the answer has no selectors that we know")
        if narrow(remote, self._remote) != remote or narrow(local, self._local) != local:
            raise InvalidSyntax("the answer's selectors are wider than those offered")
        shared = b""
        if suite.group is not None and ke is not None and self._pair is not None:
            shared = self._pair.shared_secret(ke.public)
        return _Accepted(suite, spi_out, nonce_r, shared, local, remote)

    def _rival(self, sa: IkeSa, child: Child) -> Child | None:
        """What the peer has made in the place of the same child SA."""
        others = (other for other in sa.children.values() if other.lineage == child.lineage and other.is_live)
        return next((other for other in others if other.spi_in not in (child.spi_in, self.old_spi_in)), None)

    def _finish(self, sa: IkeSa, child: Child, rival: Child | None, now: float) -> None:
        """The new child SA is in use; which one goes, and who deletes it, section 2.8.1 says."""
        old = sa.children.get(self.old_spi_in)
        self._leave(old)
        if rival is not None:
            rival.replaced_by = child.spi_in
            # Until it has deleted that, the peer may not know yet which one goes: ours must still be there then.
            child.confirmed = False
        if old is None or old.state in (ChildState.DELETING, ChildState.DELETED):
            return
        old.replaced_by = child.spi_in
        informational.delete_children(sa, [old], now)

    def _wins(self, rival: Child, lower_nonce: bytes) -> bool:
        """Whether ours stays, and not what the peer's rekeying of the same child SA made.

        A peer that has gone on from that to another one has decided. One that was asked without REKEY_SA saw no other
        rekeying than its own.
        """
        if not self.rekeying or self.crossed_by is None:
            return False
        their_nonce, theirs = self.crossed_by
        return rival is theirs and lower_nonce >= their_nonce

    def _make_way(self, sa: IkeSa, child: Child, rival: Child, now: float) -> None:
        """Ours is the one too many, so we delete it; the peer deletes the old one.

        It may not have the other one yet, for the answer that tells it of that can be lost: what we send goes on the
        old one until it does.
        """
        self._leave(sa.children.get(self.old_spi_in))
        informational.delete_children(sa, [child], now)
        if not self.rekeying:
            sa.initiate(CreateChild(rival.spi_in, rekeying=False, lineage=rival.lineage), now)

    def _refused(self, sa: IkeSa, error: Notify, old: Child | None, now: float) -> None:
        if old is None or not old.is_live:
            return
        if error.type == NotifyType.CHILD_SA_NOT_FOUND:
            # The peer has deleted it, and the Delete was lost with some earlier state of it.
            child_lifecycle.gone(sa, old, now)
        elif error.type in RETRIED and self._failures < MAX_RETRIES:
            self._failures += 1
            sa.initiate_at(self, now + sa.retry_delay_s(self._failures))
        elif self._try_group(sa, error):
            sa.initiate(self, now)
        else:
            sa.emit(ChildRefused(sa, old.spi_in, f"the client answered {error}", self.rekeying))

    def _try_group(self, sa: IkeSa, error: Notify) -> bool:
        """Once more, with the group that the peer asks for; or that of the IKE SA, for it may want any at all."""
        if error.type == NotifyType.NO_PROPOSAL_CHOSEN:
            number = int(sa.suite.group)
        elif error.type == NotifyType.INVALID_KE_PAYLOAD and len(error.data) == 2:
            number = int.from_bytes(error.data, "big")
        else:
            return False
        if self._group is not None or number not in sa.config.policy.groups:
            return False
        self._group = Group(number)
        return True


def _allowed(assignment: Assignment, local: Selectors) -> Selectors:
    """What of these selectors may be reached."""
    return narrow(local, reachable_selectors(assignment, (4, 6)))
