"""CREATE_CHILD_SA (RFC 7296 section 1.3): new child SAs and rekeyed ones, asked for by either side.

request:  [N(REKEY_SA)], SA, Ni, [KEi], TSi, TSr  ->  SA, Nr, [KEr], TSi, TSr, [N(ADDITIONAL_KEY_EXCHANGE)]

Where additional key exchanges are agreed on, they follow in IKE_FOLLOWUP_KE, and the child SA is made with the last.
Rekeying the IKE SA itself is the business of `rekey_ike`. Which of two exchanges that cross gives way is told by
sections 2.8 and 2.25.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gateway.ike import child_lifecycle, handover
from gateway.ike.admission import admit
from gateway.ike.channel import OutPayloads
from gateway.ike.child import Assignment, Child, ChildState, Wish
from gateway.ike.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from gateway.ike.crypto import key_exchange
from gateway.ike.errors import (
    ChildSaNotFound,
    IkeError,
    InvalidSyntax,
    NoAdditionalSas,
    TemporaryFailure,
    TsUnacceptable,
)
from gateway.ike.exchanges import rekey_ike
from gateway.ike.exchanges.child_sa import (
    NONCE_BYTES,
    Selectors,
    checked_nonce,
    joined,
    key_exchange_if_any,
    narrow_selectors,
)
from gateway.ike.exchanges.ike_followup_ke import Unfinished, wait_for
from gateway.ike.exchanges.replace_child import CreateChild
from gateway.ike.keymat import derive_child_keys
from gateway.ike.message import Payloads
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import Proposal, parse_proposals, proposals_to_bytes
from gateway.ike.proposals import ChildSuite, choose_child
from gateway.ike.selectors import parse_selectors, selectors_to_bytes
from gateway.ike.states import State

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa


def handle_request(sa: IkeSa, payloads: Payloads, now: float) -> None:
    """Answer a verified request.

    Raises:
        TemporaryFailure: the IKE SA is being closed or rekeyed, or the peer asks too often.
        ChildSaNotFound, NoAdditionalSas, NoProposalChosen, InvalidKePayload, TsUnacceptable: no child SA for it.
        InvalidSyntax: the request is malformed.
    """
    payloads = admit(ExchangeType.CREATE_CHILD_SA, payloads, response=False, encrypted=True)
    proposals = parse_proposals(payloads.require(PayloadType.SA))
    handover.is_used(sa, now)
    if sa.state is not State.ESTABLISHED:
        raise TemporaryFailure("this IKE SA is about to be deleted")
    if not sa.new_keys.take(now):
        raise TemporaryFailure("too many new keys in too short a time")
    if any(proposal.protocol == ProtocolId.IKE for proposal in proposals):
        rekey_ike.handle_request(sa, payloads, proposals, now)
        return
    if isinstance(sa.outstanding, rekey_ike.RekeyIke) or any(u.rekeys_ike for u in sa.unfinished.values()):
        raise TemporaryFailure("the IKE SA is being rekeyed")
    _answer(sa, payloads, proposals, _child_to_rekey(sa, payloads), now)


def _child_to_rekey(sa: IkeSa, payloads: Payloads) -> Child | None:
    """The child SA that REKEY_SA names by the peer's inbound SPI; None where a new one is wanted."""
    for notify in map(Notify.parse, payloads.all(PayloadType.NOTIFY)):
        if notify.type != NotifyType.REKEY_SA:
            continue
        spi_out = int.from_bytes(notify.spi, "big")
        found = [child for child in sa.children.values() if child.spi_out == spi_out]
        if not found and isinstance(sa.outstanding, CreateChild):
            raise TemporaryFailure("this may be the child SA that is being made")
        if notify.protocol != ProtocolId.ESP or not found:
            raise ChildSaNotFound(notify.protocol, notify.spi)
        return found[0]
    return None


def _check_place(sa: IkeSa, old: Child | None) -> None:
    """Whether there is still room for a new child SA, or one that is to make room for it.

    Raises:
        ChildSaNotFound, TemporaryFailure, NoAdditionalSas: there is not.
    """
    limit = sa.config.children_limit
    if old is None:
        if sum(child.is_live for child in sa.children.values()) >= limit:
            raise NoAdditionalSas(f"no more than {limit} child SAs at a time")
    elif old.state is ChildState.DELETED or old.spi_in not in sa.children:
        raise ChildSaNotFound(ProtocolId.ESP, old.spi_out.to_bytes(4, "big"))
    elif old.state is ChildState.DELETING:
        raise TemporaryFailure("this child SA is being deleted")
    elif old.replaced_by is not None:
        raise TemporaryFailure("this child SA has been replaced, and is to be deleted")
    elif sum(child.state is not ChildState.DELETED for child in sa.children.values()) >= 2 * limit:
        # For each one that is live, one that was replaced: whoever has more does not delete them.
        raise TemporaryFailure(f"{limit} child SAs that were replaced are to be deleted first")


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What both sides have agreed on for the new child SA."""

    old: Child | None
    """The one whose place it takes."""
    assignment: Assignment
    """By which the selectors were narrowed."""
    suite: ChildSuite
    spi_in: int
    spi_out: int
    wish: Wish
    remote: Selectors
    local: Selectors
    nonce_i: bytes
    nonce_r: bytes
    shared: bytes = field(repr=False)
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    """Of the additional key exchanges."""


def _answer(sa: IkeSa, payloads: Payloads, proposals: tuple[Proposal, ...], old: Child | None, now: float) -> None:
    """Make the new child SA and answer, or begin to."""
    _check_place(sa, old)
    accepted, answer = _agree(sa, payloads, proposals, old)
    if not accepted.suite.additional:
        _make(sa, accepted, ExchangeType.CREATE_CHILD_SA, answer)
        return

    def dropped() -> None:
        sa.owner.free_child_spi(accepted.spi_in)

    def complete(secrets: tuple[bytes, ...], last_answer: OutPayloads, now: float) -> None:
        try:
            _check_place(sa, old)
            if sa.assignment is not accepted.assignment:
                raise TemporaryFailure("what may be reached has changed meanwhile")
        except IkeError:
            dropped()
            raise
        _make(sa, replace(accepted, secrets=secrets), ExchangeType.IKE_FOLLOWUP_KE, last_answer)

    unfinished = Unfinished(accepted.suite.additional, rekeys_ike=False, complete=complete, dropped=dropped)
    sa.respond(ExchangeType.CREATE_CHILD_SA, [*answer, wait_for(sa, unfinished, now)])


def _agree(
    sa: IkeSa, payloads: Payloads, proposals: tuple[Proposal, ...], old: Child | None
) -> tuple[_Accepted, list[tuple[PayloadType, bytes]]]:
    """Suite, selectors and keys, and the answer that says so; raises as `handle_request` does."""
    assignment = sa.assignment
    if assignment is None:
        raise TsUnacceptable("the session has no addresses")
    nonce_i, nonce_r = checked_nonce(payloads.require(PayloadType.NONCE)), sa.random(NONCE_BYTES)
    ke = key_exchange_if_any(payloads)
    wish = Wish(*(parse_selectors(payloads.require(kind)) for kind in (PayloadType.TSI, PayloadType.TSR)))
    remote, local = narrow_selectors(assignment, *wish)
    spi_in = sa.owner.new_child_spi()
    answer: list[tuple[PayloadType, bytes]] = []
    shared = b""
    try:
        suite, chosen, spi_out = choose_child(
            proposals, sa.config.policy, spi_in, ke_group=ke.group if ke is not None else None, additional=True
        )
        if suite.additional and old is not None and _own_rekeying_of(sa, old) is not None:
            # Of two that cross, one would be complete and the other not: too many ways to come apart.
            raise TemporaryFailure("this child SA is being rekeyed")
        answer += [(PayloadType.SA, proposals_to_bytes((chosen,))), (PayloadType.NONCE, nonce_r)]
        if suite.group is not None and ke is not None:
            public, shared = key_exchange.respond(suite.group, ke.public)
            answer.append((PayloadType.KE, KeyExchange(suite.group, public).to_bytes()))
    except IkeError:
        sa.owner.free_child_spi(spi_in)
        raise
    answer += [
        (PayloadType.TSI, selectors_to_bytes(remote)),
        (PayloadType.TSR, selectors_to_bytes(local)),
    ]
    accepted = _Accepted(old, assignment, suite, spi_in, spi_out, wish, remote, local, nonce_i, nonce_r, shared)
    return accepted, answer


def _make(sa: IkeSa, accepted: _Accepted, exchange: ExchangeType, answer: OutPayloads) -> None:
    """The new child SA; the answer goes out once the data plane carries it."""
    old, keys = accepted.old, sa.keys
    if keys is None:
        raise InvalidSyntax("no keys")
    child = Child(
        spi_in=accepted.spi_in,
        spi_out=accepted.spi_out,
        suite=accepted.suite,
        keys=derive_child_keys(
            sa.suite,
            accepted.suite,
            keys.d,
            accepted.nonce_i,
            accepted.nonce_r,
            accepted.shared,
            accepted.secrets,
        ),
        local_selectors=accepted.local,
        remote_selectors=accepted.remote,
        lineage=old.lineage if old is not None else _new_lineage(sa, accepted.assignment),
        wish=joined(old.wish, accepted.wish) if old is not None else accepted.wish,
        confirmed=old is None,
    )
    message_id = sa.peer.current

    def installed(now: float) -> None:
        if old is not None:
            old.replaced_by = child.spi_in
            rival = _own_rekeying_of(sa, old)
            if rival is not None:
                rival.crossed_by = min(accepted.nonce_i, accepted.nonce_r), child
        sa.respond(exchange, answer, message_id)

    def failed(error: IkeError, now: float) -> None:
        notify = Notify(error.notify or NotifyType.TEMPORARY_FAILURE, error.data)
        sa.respond(exchange, [(PayloadType.NOTIFY, notify.to_bytes())], message_id)

    child_lifecycle.install(
        sa,
        child,
        # What follows another pair is not sent on before the peer is known to have it.
        outbound=old is None and child.lineage != accepted.assignment.lineage,
        installed=installed,
        failed=failed,
    )


def _new_lineage(sa: IkeSa, assignment: Assignment) -> int:
    """Of a child SA that is not rekeyed: that of the SA which the peer has signed in anew for, once, where it has."""
    taken = any(child.lineage == assignment.lineage for child in sa.children.values())
    return sa.owner.new_lineage() if taken or not assignment.lineage else assignment.lineage


def _own_rekeying_of(sa: IkeSa, child: Child) -> CreateChild | None:
    own = sa.outstanding
    return own if isinstance(own, CreateChild) and own.old_spi_in == child.spi_in else None
