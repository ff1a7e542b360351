"""Suites, and the choice among what a peer offers (RFC 7296 sections 2.7 and 3.3, RFC 9370 section 2.2.1).

A proposal with additional key exchanges goes before one without, an AEAD before a cipher with HMAC; then the peer's
order of proposals decides, and within a proposal the policy's order of algorithms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Generic, TypeVar

from gateway.ike.constants import ADDITIONAL_KE_TYPES, Encr, Esn, Group, Integ, Prf, ProtocolId, TransformType
from gateway.ike.crypto.protection import AEAD_CIPHERS
from gateway.ike.errors import InvalidKePayload, NoProposalChosen
from gateway.ike.payloads.security_association import (
    Proposal,
    Transform,
    parse_proposals,
    proposals_to_bytes,
)
from gateway.ike.policy import ProposalPolicy
from gateway.ike.proposal_text import TRANSFORM_NAMES, describe, encr_name, policy_text

LAST_RESERVED_SPI = 255
"""ESP SPIs up to here are not to be used (RFC 4303 section 2.1)."""


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """What protects an IKE SA."""

    encr: Encr
    key_bits: int
    """0 for ChaCha20-Poly1305, whose length is fixed."""
    integ: Integ
    prf: Prf
    group: Group
    additional: tuple[Group, ...] = ()
    """Key exchanges that follow the first one, in their order (RFC 9370)."""

    def __str__(self) -> str:
        integrity = "" if self.integ is Integ.NONE else f"/{self.integ.name}"
        groups = "+".join(group.name for group in (self.group, *self.additional))
        return f"{encr_name(self.encr, self.key_bits)}{integrity}/PRF_{self.prf.name}/{groups}"


@dataclass(frozen=True, slots=True)
class ChildSuite:
    """What protects a child SA (ESP), and the key exchange that its keys come from, if any."""

    encr: Encr
    key_bits: int
    integ: Integ
    esn: bool
    group: Group | None = None
    """None where the keys come from the IKE SA alone, without perfect forward secrecy."""
    additional: tuple[Group, ...] = ()
    """Key exchanges that follow that of `group` (RFC 9370)."""

    def __str__(self) -> str:
        integrity = "" if self.integ is Integ.NONE else f"/{self.integ.name}"
        groups = [group.name for group in (self.group, *self.additional) if group is not None]
        exchange = f"/{'+'.join(groups)}" if groups else ""
        return f"{encr_name(self.encr, self.key_bits)}{integrity}{exchange}{'/ESN' if self.esn else ''}"


# --- The choice of an IKE SA's suite ------------------------------------------------------------------------


def choose_ike(
    proposals: Sequence[Proposal],
    policy: ProposalPolicy,
    ke_group: int,
    spi: bytes = b"",
    *,
    additional: bool = False,
) -> tuple[IkeSuite, Proposal, bytes]:
    """Choose the suite of an IKE SA; return it, the proposal that answers, and the peer's SPI.

    Within a proposal, the group that the peer sent a KE payload of is taken where it is acceptable.

    Args:
        spi: ours, for the new SA of a rekeying (8 bytes); empty in IKE_SA_INIT, where proposals have none.
        additional: the peer can do additional key exchanges in what follows.

    Raises:
        NoProposalChosen: nothing acceptable; the message says what was offered.
        InvalidKePayload: the KE payload is of another group than the one chosen.
    """
    suite, answer, peer_spi = _choose_ike(proposals, policy, ke_group, spi, additional)
    if suite.group != ke_group:
        raise InvalidKePayload(suite.group)
    return suite, answer, peer_spi


def answer_ike(
    sa_body: bytes, policy: ProposalPolicy, ke_group: int, *, additional: bool = False
) -> tuple[IkeSuite, bytes]:
    """`choose_ike` in IKE_SA_INIT, from the body of an SA payload to the body of its answer.

    All clients of one kind send the same bytes, since an IKE_SA_INIT has no SPI in its SA payload: so the choice is
    made once for each kind, and long payloads, which only an attacker makes many of, are not kept.

    Raises:
        InvalidSyntax: the payload is malformed.
        NoProposalChosen: nothing acceptable.
        InvalidKePayload: the KE payload is of another group than the one chosen.
    """
    choose = _answer_ike if len(sa_body) > _MAX_CACHED_BYTES else _answer_ike_cached
    suite, answer = choose(sa_body, policy, ke_group, additional)
    if suite.group != ke_group:
        raise InvalidKePayload(suite.group)
    return suite, answer


def _answer_ike(sa_body: bytes, policy: ProposalPolicy, ke_group: int, additional: bool) -> tuple[IkeSuite, bytes]:
    suite, answer, _ = _choose_ike(parse_proposals(sa_body), policy, ke_group, b"", additional)
    return suite, proposals_to_bytes((answer,))


_MAX_CACHED_BYTES = 2048
_answer_ike_cached = lru_cache(maxsize=128)(_answer_ike)


def _choose_ike(
    proposals: Sequence[Proposal], policy: ProposalPolicy, ke_group: int, spi: bytes, additional: bool
) -> tuple[IkeSuite, Proposal, bytes]:
    found: list[tuple[_Chosen[IkeSuite], Proposal]] = []
    for proposal in proposals:
        if proposal.protocol != ProtocolId.IKE or len(proposal.spi) != len(spi) or (spi and not any(proposal.spi)):
            continue
        chosen = _ike_suite(proposal, policy, ke_group, additional)
        if chosen is not None:
            found.append((chosen, proposal))
    if not found:
        raise _nothing_chosen(proposals, policy)
    chosen, proposal = max(found, key=lambda item: item[0].rank)
    return chosen.suite, Proposal(proposal.number, ProtocolId.IKE, spi, chosen.answer), proposal.spi


def _ike_suite(
    proposal: Proposal, policy: ProposalPolicy, ke_group: int, additional: bool
) -> _Chosen[IkeSuite] | None:
    cipher = _choose_cipher(proposal, policy, policy.integ)
    prf = _first(policy.prf, proposal.of_type(TransformType.PRF))
    group = _choose_group(proposal, policy, ke_group)
    if cipher is None or prf is None or group is None or not _is_understood(proposal):
        return None
    more = _choose_additional(proposal, policy, group, additional)
    if more is None or (policy.hybrid_only and not _exchanges(more)):
        return None
    encr, key_bits, integ = cipher
    suite = IkeSuite(encr, key_bits, integ, prf, group, _exchanges(more))
    return _Chosen(suite, (*ike_transforms(replace(suite, additional=())), *more))


# --- The choice of a child SA's suite -----------------------------------------------------------------------


def choose_first_child(
    proposals: Sequence[Proposal], policy: ProposalPolicy, spi_in: int
) -> tuple[ChildSuite, Proposal, int]:
    """Choose the suite of the child SA of IKE_AUTH; return it, the answering proposal with our SPI, the peer's SPI.

    Key exchange transforms are passed over: its keys come from the IKE SA (RFC 7296 section 1.2).

    Raises:
        NoProposalChosen: nothing acceptable; the message says what was offered.
    """
    return _choose_child(proposals, policy, spi_in, None, additional=False, first=True)


def choose_child(
    proposals: Sequence[Proposal],
    policy: ProposalPolicy,
    spi_in: int,
    *,
    ke_group: int | None,
    additional: bool = False,
) -> tuple[ChildSuite, Proposal, int]:
    """Choose the suite of a child SA in CREATE_CHILD_SA; return it, the answering proposal, and the peer's SPI.

    A key exchange is made where the peer offers an acceptable one, and left out where it offers none. Where the peer
    leaves the choice (NONE beside groups), its KE payload decides.

    Args:
        ke_group: of the peer's KE payload, None where it sent none.
        additional: the peer can do additional key exchanges in what follows (IKE_FOLLOWUP_KE).

    Raises:
        NoProposalChosen: nothing acceptable; the message says what was offered.
        InvalidKePayload: the KE payload is missing, or of another group than the one chosen.
    """
    suite, answer, spi_out = _choose_child(proposals, policy, spi_in, ke_group, additional=additional)
    if suite.group is not None and suite.group != ke_group:
        raise InvalidKePayload(suite.group)
    return suite, answer, spi_out


def _choose_child(
    proposals: Sequence[Proposal],
    policy: ProposalPolicy,
    spi_in: int,
    ke_group: int | None,
    *,
    additional: bool,
    first: bool = False,
) -> tuple[ChildSuite, Proposal, int]:
    found: list[tuple[_Chosen[ChildSuite], Proposal]] = []
    for proposal in proposals:
        if proposal.protocol != ProtocolId.ESP or len(proposal.spi) != 4:
            continue
        chosen = _child_suite(proposal.transforms, policy, ke_group, additional, first)
        if chosen is not None and int.from_bytes(proposal.spi, "big") > LAST_RESERVED_SPI:
            found.append((chosen, proposal))
    if not found:
        raise _nothing_chosen(proposals, policy)
    chosen, proposal = max(found, key=lambda item: item[0].rank)
    answer = Proposal(proposal.number, ProtocolId.ESP, spi_in.to_bytes(4, "big"), chosen.answer)
    return chosen.suite, answer, int.from_bytes(proposal.spi, "big")


@lru_cache(maxsize=256)
def _child_suite(
    transforms: tuple[Transform, ...],
    policy: ProposalPolicy,
    ke_group: int | None,
    additional: bool,
    first: bool,
) -> _Chosen[ChildSuite] | None:
    """Chosen once for each kind of client: only the SPIs of their proposals differ."""
    proposal = Proposal(0, ProtocolId.ESP, b"", transforms)
    cipher = _choose_cipher(proposal, policy, policy.esp_integ)
    esn = _first((Esn.ESN, Esn.NO_ESN), proposal.of_type(TransformType.ESN))
    if cipher is None or esn is None or not _is_understood(proposal):
        return None
    suite = ChildSuite(*cipher, esn is Esn.ESN)
    if first:
        return _Chosen(suite, child_transforms(suite))
    group = _choose_optional_group(proposal, policy, ke_group)
    if group is None:
        return None
    exchange = group is not Group.NONE
    more = _choose_additional(proposal, policy, group, additional and exchange)
    if more is None or (policy.hybrid_only and exchange and not _exchanges(more)):
        return None
    suite = replace(suite, group=group if exchange else None)
    return _Chosen(replace(suite, additional=_exchanges(more)), (*child_transforms(suite), *more))


# --- What we offer --------------------------------------------------------------------------------------------


def ike_offer(suite: IkeSuite, spi: bytes, group: Group) -> tuple[Proposal, ...]:
    """The proposals of our request to rekey an IKE SA: the suite in use, which the peer is known to accept.

    Args:
        suite: of the old SA.
        spi: ours for the new SA, 8 bytes.
        group: of the KE payload; the suite's own, unless the peer asked for another one.
    """
    return (Proposal(1, ProtocolId.IKE, spi, ike_transforms(replace(suite, group=group))),)


def child_offer(suite: ChildSuite, spi_in: int, group: Group | None) -> tuple[Proposal, ...]:
    """The proposals of our request to make a child SA: the suite in use, with `group` if any, and without.

    Those without are for clients that take no key exchange for child SAs. Clients that stumble over the mere offer of
    one (Windows) have to be asked with None.

    Args:
        suite: of the child SA that is to be replaced.
        spi_in: ours for the new SA.
        group: of the KE payload.
    """
    spi = spi_in.to_bytes(4, "big")
    without = child_transforms(replace(suite, group=None, additional=()))
    if group is None:
        return (Proposal(1, ProtocolId.ESP, spi, without),)
    return (
        Proposal(1, ProtocolId.ESP, spi, child_transforms(replace(suite, group=group))),
        Proposal(2, ProtocolId.ESP, spi, without),
    )


def ike_transforms(suite: IkeSuite) -> tuple[Transform, ...]:
    """A suite as the transforms of one proposal."""
    transforms = [Transform(TransformType.ENCR, suite.encr, suite.key_bits)]
    if suite.integ is not Integ.NONE:
        transforms.append(Transform(TransformType.INTEG, suite.integ))
    transforms.append(Transform(TransformType.PRF, suite.prf))
    transforms.append(Transform(TransformType.KE, suite.group))
    return (*transforms, *_additional_transforms(suite.additional))


def child_transforms(suite: ChildSuite) -> tuple[Transform, ...]:
    """A suite as the transforms of one proposal."""
    transforms = [Transform(TransformType.ENCR, suite.encr, suite.key_bits)]
    if suite.integ is not Integ.NONE:
        transforms.append(Transform(TransformType.INTEG, suite.integ))
    if suite.group is not None:
        transforms.append(Transform(TransformType.KE, suite.group))
    transforms.append(Transform(TransformType.ESN, Esn.ESN if suite.esn else Esn.NO_ESN))
    return (*transforms, *_additional_transforms(suite.additional))


def _additional_transforms(groups: tuple[Group, ...]) -> tuple[Transform, ...]:
    return tuple(Transform(kind, group) for kind, group in zip(ADDITIONAL_KE_TYPES, groups, strict=False))


# --- The choice within a proposal -----------------------------------------------------------------------------

_Suite = TypeVar("_Suite", IkeSuite, ChildSuite)


@dataclass(frozen=True, slots=True)
class _Chosen(Generic[_Suite]):
    suite: _Suite
    answer: tuple[Transform, ...]

    @property
    def rank(self) -> tuple[bool, bool]:
        """The greatest wins, the first of equals."""
        return bool(self.suite.additional), self.suite.encr in AEAD_CIPHERS


def _is_understood(proposal: Proposal) -> bool:
    """A transform type that we do not know makes the whole proposal unacceptable (section 3.3.6)."""
    return all(transform.type in TRANSFORM_NAMES for transform in proposal.transforms)


def _choose_cipher(
    proposal: Proposal, policy: ProposalPolicy, integrity: tuple[Integ, ...]
) -> tuple[Encr, int, Integ] | None:
    """An AEAD goes without integrity, anything else never does (section 3.3.3).

    Integrity that is offered beside an AEAD does not matter: RFC 5282 section 8 says that it must not be selected
    with one. Windows offers it.
    """
    offered = {(t.id, t.key_bits) for t in proposal.of_type(TransformType.ENCR) if t.understood}
    acceptable = [cipher for cipher in policy.encr if cipher in offered]
    for encr, key_bits in acceptable:
        if encr in AEAD_CIPHERS:
            return encr, key_bits, Integ.NONE
    integ = _first(integrity, proposal.of_type(TransformType.INTEG))
    if not acceptable or integ is None:
        return None
    encr, key_bits = acceptable[0]
    return encr, key_bits, integ


def _choose_group(proposal: Proposal, policy: ProposalPolicy, ke_group: int | None) -> Group | None:
    """The group that the peer sent a KE payload of, where it is acceptable; else our preference."""
    groups = tuple(group for group in policy.groups if group == ke_group) + policy.groups
    return _first(groups, proposal.of_type(TransformType.KE))


def _choose_optional_group(proposal: Proposal, policy: ProposalPolicy, ke_group: int | None) -> Group | None:
    """`_choose_group` where NONE may be the choice; None where there is nothing to choose."""
    offered = proposal.of_type(TransformType.KE)
    group = _choose_group(proposal, policy, ke_group)
    may_be_none = not offered or any(transform.id == Group.NONE for transform in offered)
    if may_be_none and (ke_group is None or group is None):
        return Group.NONE
    return group


def _choose_additional(
    proposal: Proposal, policy: ProposalPolicy, group: Group, allowed: bool
) -> tuple[Transform, ...] | None:
    """One method for each ADDKE type of the proposal; None where that can't be.

    No method may be used twice, the first key exchange included, but for NONE (RFC 9370 section 2.2.1). Where the
    first choice leaves nothing for a later type, the next one is tried; the policy's few methods bound the search.
    """
    wanted = [(kind, transforms) for kind in ADDITIONAL_KE_TYPES if (transforms := proposal.of_type(kind))]
    acceptable = policy.additional if allowed else ()

    def assign(index: int, used: tuple[Group, ...]) -> tuple[Transform, ...] | None:
        if index == len(wanted):
            return ()
        kind, transforms = wanted[index]
        ids = {transform.id for transform in transforms if transform.understood}
        for method in (*acceptable, Group.NONE):
            if method in ids and method not in used:
                rest = assign(index + 1, used if method is Group.NONE else (*used, method))
                if rest is not None:
                    return (Transform(kind, method), *rest)
        return None

    return assign(0, (group,) if group is not Group.NONE else ())


def _exchanges(additional: tuple[Transform, ...]) -> tuple[Group, ...]:
    return tuple(Group(transform.id) for transform in additional if transform.id != Group.NONE)


_T = TypeVar("_T", Prf, Integ, Group, Esn)


def _first(preferred: Iterable[_T], offered: Iterable[Transform]) -> _T | None:
    ids = {transform.id for transform in offered if transform.understood}
    return next((item for item in preferred if item in ids), None)


def _nothing_chosen(proposals: Sequence[Proposal], policy: ProposalPolicy) -> NoProposalChosen:
    return NoProposalChosen(
        f"offered {describe(proposals)}; allowed by policy {policy.name!r}: {policy_text(policy)}"
    )
