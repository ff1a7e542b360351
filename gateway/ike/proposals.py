"""Which suites are acceptable, and the choice among what a peer offers (RFC 7296 sections 2.7 and 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from gateway.ike.constants import Encr, Esn, Group, Integ, Prf, ProtocolId, TransformType
from gateway.ike.crypto.protection import AEAD_CIPHERS
from gateway.ike.errors import NoProposalChosen
from gateway.ike.payloads.security_association import (
    Proposal,
    Transform,
    parse_proposals,
    proposals_to_bytes,
)

LAST_RESERVED_SPI = 255
"""ESP SPIs up to here are not to be used (RFC 4303 section 2.1)."""
MAX_NAMED_TRANSFORMS = 100
"""In the text of a refusal."""


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """What protects an IKE SA."""

    encr: Encr
    key_bits: int
    """0 for ChaCha20-Poly1305, whose length is fixed."""
    integ: Integ
    prf: Prf
    group: Group

    def __str__(self) -> str:
        integrity = "" if self.integ is Integ.NONE else f"/{self.integ.name}"
        return f"{_encr_name(self.encr, self.key_bits)}{integrity}/PRF_{self.prf.name}/{self.group.name}"


@dataclass(frozen=True, slots=True)
class ChildSuite:
    """What protects a child SA (ESP)."""

    encr: Encr
    key_bits: int
    integ: Integ
    esn: bool

    def __str__(self) -> str:
        integrity = "" if self.integ is Integ.NONE else f"/{self.integ.name}"
        return f"{_encr_name(self.encr, self.key_bits)}{integrity}{'/ESN' if self.esn else ''}"


@dataclass(frozen=True, slots=True, eq=False)
class ProposalPolicy:
    """The acceptable algorithms, best first. What is not here is refused, and said so."""

    name: str
    encr: tuple[tuple[Encr, int], ...]
    prf: tuple[Prf, ...]
    integ: tuple[Integ, ...]
    groups: tuple[Group, ...]


MODERN = ProposalPolicy(
    name="modern",
    encr=(
        (Encr.AES_GCM_16, 256),
        (Encr.AES_GCM_16, 128),
        (Encr.CHACHA20_POLY1305, 0),
        (Encr.AES_CBC, 256),
        (Encr.AES_CBC, 128),
        (Encr.AES_CBC, 192),
        (Encr.AES_GCM_16, 192),
    ),
    prf=(Prf.HMAC_SHA2_256, Prf.HMAC_SHA2_384, Prf.HMAC_SHA2_512),
    integ=(Integ.HMAC_SHA2_256_128, Integ.HMAC_SHA2_384_192, Integ.HMAC_SHA2_512_256),
    groups=(
        Group.CURVE25519,
        Group.ECP_256,
        Group.ECP_384,
        Group.ECP_521,
        Group.MODP_3072,
        Group.MODP_4096,
        Group.MODP_2048,
    ),
)


def choose_ike(proposals: Sequence[Proposal], policy: ProposalPolicy, ke_group: int) -> tuple[IkeSuite, Proposal]:
    """Choose the suite of an IKE SA, and the proposal that answers it.

    The peer's order of proposals decides, then our order of algorithms; but the group that the peer sent a KE
    payload of is taken where it is acceptable, which saves a round trip.

    Raises:
        NoProposalChosen: nothing acceptable; the message says what was offered.
    """
    for proposal in proposals:
        if proposal.protocol != ProtocolId.IKE or proposal.spi or not _is_understood(proposal):
            continue
        cipher = _choose_cipher(proposal, policy)
        prf = _first(policy.prf, proposal.of_type(TransformType.PRF))
        groups = tuple(g for g in policy.groups if g == ke_group) + policy.groups
        group = _first(groups, proposal.of_type(TransformType.KE))
        if cipher is None or prf is None or group is None:
            continue
        encr, key_bits, integ = cipher
        suite = IkeSuite(encr, key_bits, integ, prf, group)
        return suite, Proposal(proposal.number, ProtocolId.IKE, b"", ike_transforms(suite))
    raise NoProposalChosen(f"offered {describe(proposals)}; allowed by policy {policy.name!r}: {policy_text(policy)}")


def answer_ike(sa_body: bytes, policy: ProposalPolicy, ke_group: int) -> tuple[IkeSuite, bytes]:
    """`choose_ike` from the body of an SA payload to the body of its answer.

    All clients of one kind send the same bytes, since an IKE_SA_INIT has no SPI in its SA payload: so the choice is
    made once for each kind, and long payloads, which only an attacker makes many of, are not kept.

    Raises:
        InvalidSyntax: the payload is malformed.
        NoProposalChosen: nothing acceptable.
    """
    if len(sa_body) > _MAX_CACHED_BYTES:
        return _answer_ike(sa_body, policy, ke_group)
    return _answer_ike_cached(sa_body, policy, ke_group)


def _answer_ike(sa_body: bytes, policy: ProposalPolicy, ke_group: int) -> tuple[IkeSuite, bytes]:
    suite, answer = choose_ike(parse_proposals(sa_body), policy, ke_group)
    return suite, proposals_to_bytes((answer,))


_MAX_CACHED_BYTES = 2048
_answer_ike_cached = lru_cache(maxsize=128)(_answer_ike)


def choose_child(
    proposals: Sequence[Proposal], policy: ProposalPolicy, spi_in: int
) -> tuple[ChildSuite, Proposal, int]:
    """Choose the suite of a child SA; return it, the answering proposal with our SPI, and the peer's SPI.

    Key exchange transforms are passed over: the first child SA's keys come from the IKE SA (section 1.2).

    Raises:
        NoProposalChosen: nothing acceptable; the message says what was offered.
    """
    for proposal in proposals:
        spi_out = int.from_bytes(proposal.spi, "big")
        if proposal.protocol != ProtocolId.ESP or len(proposal.spi) != 4 or spi_out <= LAST_RESERVED_SPI:
            continue
        suite = _child_suite(proposal.transforms, policy)
        if suite is not None:
            answer = Proposal(proposal.number, ProtocolId.ESP, spi_in.to_bytes(4, "big"), child_transforms(suite))
            return suite, answer, spi_out
    raise NoProposalChosen(f"offered {describe(proposals)}; allowed by policy {policy.name!r}: {policy_text(policy)}")


@lru_cache(maxsize=256)
def _child_suite(transforms: tuple[Transform, ...], policy: ProposalPolicy) -> ChildSuite | None:
    """Chosen once for each kind of client: only the SPIs of their proposals differ."""
    proposal = Proposal(0, ProtocolId.ESP, b"", transforms)
    cipher = _choose_cipher(proposal, policy)
    esn = _first((Esn.ESN, Esn.NO_ESN), proposal.of_type(TransformType.ESN))
    if cipher is None or esn is None or not _is_understood(proposal):
        return None
    return ChildSuite(*cipher, esn is Esn.ESN)


def ike_transforms(suite: IkeSuite) -> tuple[Transform, ...]:
    """A suite as the transforms of one proposal."""
    transforms = [Transform(TransformType.ENCR, suite.encr, suite.key_bits)]
    if suite.integ is not Integ.NONE:
        transforms.append(Transform(TransformType.INTEG, suite.integ))
    transforms.append(Transform(TransformType.PRF, suite.prf))
    transforms.append(Transform(TransformType.KE, suite.group))
    return tuple(transforms)


def child_transforms(suite: ChildSuite) -> tuple[Transform, ...]:
    """A suite as the transforms of one proposal."""
    transforms = [Transform(TransformType.ENCR, suite.encr, suite.key_bits)]
    if suite.integ is not Integ.NONE:
        transforms.append(Transform(TransformType.INTEG, suite.integ))
    transforms.append(Transform(TransformType.ESN, Esn.ESN if suite.esn else Esn.NO_ESN))
    return tuple(transforms)


def _is_understood(proposal: Proposal) -> bool:
    """A transform type that we do not know makes the whole proposal unacceptable (section 3.3.6)."""
    return all(transform.type in _NAMES for transform in proposal.transforms)


def _choose_cipher(proposal: Proposal, policy: ProposalPolicy) -> tuple[Encr, int, Integ] | None:
    """An AEAD goes without integrity, anything else never does (section 3.3.3)."""
    offered = {(t.id, t.key_bits) for t in proposal.of_type(TransformType.ENCR) if t.understood}
    integrity = proposal.of_type(TransformType.INTEG)
    for encr, key_bits in policy.encr:
        if (encr, key_bits) not in offered:
            continue
        if encr in AEAD_CIPHERS:
            if not integrity or any(t.id == Integ.NONE for t in integrity):
                return encr, key_bits, Integ.NONE
        else:
            integ = _first(policy.integ, integrity)
            if integ is not None:
                return encr, key_bits, integ
    return None


_T = TypeVar("_T", Prf, Integ, Group, Esn)


def _first(preferred: Iterable[_T], offered: Iterable[Transform]) -> _T | None:
    ids = {transform.id for transform in offered if transform.understood}
    return next((item for item in preferred if item in ids), None)


_NAMES: dict[int, type[Encr | Prf | Integ | Group | Esn]] = {
    TransformType.ENCR: Encr,
    TransformType.PRF: Prf,
    TransformType.INTEG: Integ,
    TransformType.KE: Group,
    TransformType.ESN: Esn,
}


def describe(proposals: Sequence[Proposal]) -> str:
    """What a peer offered, for the operator: `[AES_CBC_256 HMAC_SHA1_96 MODP_1024] [...]`.

    Anyone can have this written into the audit log, so it has an end, beyond what any stock client offers.
    """
    parts, named = [], 0
    for proposal in proposals:
        if named == MAX_NAMED_TRANSFORMS:
            parts.append("...")
            break
        names = [_transform_name(transform) for transform in proposal.transforms[: MAX_NAMED_TRANSFORMS - named]]
        named += len(names)
        if len(names) < len(proposal.transforms):
            names.append("...")
        parts.append("[" + " ".join(names) + "]")
    return " ".join(parts)


def policy_text(policy: ProposalPolicy) -> str:
    """What a policy allows, for the operator."""
    names = [_encr_name(encr, bits) for encr, bits in policy.encr]
    names += [item.name for items in (policy.integ, policy.prf, policy.groups) for item in items]
    return " ".join(names)


def _transform_name(transform: Transform) -> str:
    kind = _NAMES.get(transform.type)
    if kind is None:
        return f"type{transform.type}:{transform.id}"
    try:
        name = kind(transform.id).name
    except ValueError:
        name = f"{TransformType(transform.type).name}:{transform.id}"
    return f"{name}_{transform.key_bits}" if transform.key_bits else name


def _encr_name(encr: Encr, key_bits: int) -> str:
    return f"{encr.name}_{key_bits}" if key_bits else encr.name
