"""What is missing in a client's offer: the kinds of algorithms of which nothing that it offers is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.ike.constants import ADDITIONAL_KE_TYPES, ProtocolId, TransformType
from gateway.ike.crypto.protection import AEAD_CIPHERS
from gateway.ike.payloads.security_association import Proposal, Transform
from gateway.ike.policy import ProposalPolicy
from gateway.ike.proposal_text import transform_name

_MOST_NAMED = 16
_KINDS = {
    TransformType.ENCR: "cipher",
    TransformType.PRF: "pseudorandom function",
    TransformType.INTEG: "integrity algorithm",
    TransformType.KE: "key exchange group",
    TransformType.ADDKE1: "post-quantum key exchange",
}


@dataclass(frozen=True, slots=True)
class Lack:
    """A kind of algorithm of which the client offers none that is allowed."""

    kind: TransformType
    offered: tuple[str, ...]
    allowed: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """`no key exchange group that is allowed (it offers MODP_1024; allowed are ...)`."""
        offers = f"it offers {_listed(self.offered)}" if self.offered else "it offers none"
        return f"no {_KINDS[self.kind]} that is allowed ({offers}; allowed are {_listed(self.allowed)})"


def lacks(proposals: Sequence[Proposal], policy: ProposalPolicy, protocol: ProtocolId) -> tuple[Lack, ...]:
    """The kinds of which no proposal has an algorithm that the policy allows.

    Empty where each kind would do by itself and only no proposal has all of them together.

    Args:
        proposals: of the client.
        policy: what is allowed.
        protocol: IKE or ESP, of which each has other kinds.
    """
    offered = [
        transform for proposal in proposals if proposal.protocol == protocol for transform in proposal.transforms
    ]
    ciphers = [Transform(TransformType.ENCR, encr, bits) for encr, bits in policy.encr]
    integrity = policy.integ if protocol is ProtocolId.IKE else policy.esp_integ
    wanted = {
        TransformType.ENCR: ciphers,
        TransformType.INTEG: [Transform(TransformType.INTEG, integ) for integ in integrity],
    }
    if protocol is ProtocolId.IKE:
        wanted[TransformType.PRF] = [Transform(TransformType.PRF, prf) for prf in policy.prf]
        wanted[TransformType.KE] = [Transform(TransformType.KE, group) for group in policy.groups]
        if policy.hybrid_only:
            wanted[TransformType.ADDKE1] = [Transform(TransformType.ADDKE1, group) for group in policy.additional]
    found = []
    for kind, allowed in wanted.items():
        own = [transform for transform in offered if _is_of(transform, kind)]
        fits = {(transform.id, transform.key_bits) for transform in own if transform.understood}
        if fits & {(transform.id, transform.key_bits) for transform in allowed}:
            continue
        if kind is TransformType.INTEG and _an_aead_fits(offered, policy):
            continue
        found.append(Lack(kind, _names(own), _names(allowed)))
    return tuple(found)


def _is_of(transform: Transform, kind: TransformType) -> bool:
    if kind is TransformType.ADDKE1:
        return transform.type in ADDITIONAL_KE_TYPES
    return transform.type == kind


def _an_aead_fits(offered: Iterable[Transform], policy: ProposalPolicy) -> bool:
    """Then no integrity algorithm is needed."""
    aeads = {(encr, bits) for encr, bits in policy.encr if encr in AEAD_CIPHERS}
    return any(
        transform.type == TransformType.ENCR and (transform.id, transform.key_bits) in aeads for transform in offered
    )


def _names(transforms: Iterable[Transform]) -> tuple[str, ...]:
    """Each once, in order; those of additional key exchanges (`ADDKE2:ML_KEM_768`) without their place."""
    return tuple(dict.fromkeys(re.sub(r"^ADDKE\d:", "", transform_name(transform)) for transform in transforms))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
