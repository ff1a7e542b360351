"""Proposals and policies as text, for the operator."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ike.constants import ADDITIONAL_KE_TYPES, Encr, Esn, Group, Integ, Prf, TransformType
from gateway.ike.payloads.security_association import Proposal, Transform
from gateway.ike.policy import ProposalPolicy

TRANSFORM_NAMES: dict[int, type[Encr | Prf | Integ | Group | Esn]] = {
    TransformType.ENCR: Encr,
    TransformType.PRF: Prf,
    TransformType.INTEG: Integ,
    TransformType.KE: Group,
    TransformType.ESN: Esn,
    **dict.fromkeys(ADDITIONAL_KE_TYPES, Group),
}
"""The transforms of each type that we know the names of; a type that is not here is unknown to us."""
MAX_NAMED_TRANSFORMS = 100
"""In the text of a refusal."""


def describe(proposals: Sequence[Proposal]) -> str:
    """What a peer offered, for the operator: `[AES_CBC_256 HMAC_SHA1_96 MODP_1024] [...]`.

    Anyone can have this written into the audit log, so it has an end, beyond what any stock client offers.
    """
    parts, named = [], 0
    for proposal in proposals:
        if named == MAX_NAMED_TRANSFORMS:
            parts.append("...")
            break
        names = [transform_name(transform) for transform in proposal.transforms[: MAX_NAMED_TRANSFORMS - named]]
        named += len(names)
        if len(names) < len(proposal.transforms):
            names.append("...")
        parts.append("[" + " ".join(names) + "]")
    return " ".join(parts)


def policy_text(policy: ProposalPolicy) -> str:
    """What a policy allows, for the operator."""
    names = [encr_name(encr, bits) for encr, bits in policy.encr]
    names += [item.name for items in (policy.integ, policy.prf, policy.groups) for item in items]
    names += [f"ESP:{integ.name}" for integ in policy.esp_integ if integ not in policy.integ]
    names += [f"ADDKE:{group.name}" for group in policy.additional]
    return " ".join(names)


def transform_name(transform: Transform) -> str:
    """`AES_GCM_16_256`, `CURVE25519`, `ADDKE1:ML_KEM_768`, or the numbers of what we do not know."""
    kind = TRANSFORM_NAMES.get(transform.type)
    if kind is None:
        return f"type{transform.type}:{transform.id}"
    try:
        name = kind(transform.id).name
    except ValueError:
        name = f"{TransformType(transform.type).name}:{transform.id}"
    if transform.type in ADDITIONAL_KE_TYPES:
        name = f"{TransformType(transform.type).name}:{name.rpartition(':')[2]}"
    return f"{name}_{transform.key_bits}" if transform.key_bits else name


def encr_name(encr: Encr, key_bits: int) -> str:
    """`AES_GCM_16_256`, `CHACHA20_POLY1305`."""
    return f"{encr.name}_{key_bits}" if key_bits else encr.name
