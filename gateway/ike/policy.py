"""Which algorithms are acceptable: the proposal policies that configuration names.

No policy has MODP-1024, MD5, DES, 3DES or an AEAD with a short ICV, and none is meant to get them: a client that has
nothing better gets its suite from the profile that we hand to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.ike.constants import Encr, Group, Integ, Prf


@dataclass(frozen=True, slots=True, eq=False)
class ProposalPolicy:
    """The acceptable algorithms, best first. What is not here is refused, and said so."""

    name: str
    encr: tuple[tuple[Encr, int], ...]
    """With the key length in bits, 0 where the cipher has but one."""
    prf: tuple[Prf, ...]
    integ: tuple[Integ, ...]
    """Of an IKE SA, beside a cipher that is no AEAD."""
    esp_integ: tuple[Integ, ...]
    """Of a child SA, likewise."""
    groups: tuple[Group, ...]
    """For the first key exchange of an IKE SA, and that of a child SA, if it has one."""
    additional: tuple[Group, ...]
    """For the key exchanges that follow the first one (RFC 9370)."""
    hybrid_only: bool = False
    """No key exchange without an additional one."""
    weaknesses: tuple[str, ...] = ()
    """What whoever chooses this policy should know, a sentence each; shown wherever the gateway starts."""


_SHA2_INTEG = (Integ.HMAC_SHA2_256_128, Integ.HMAC_SHA2_384_192, Integ.HMAC_SHA2_512_256)

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
    integ=_SHA2_INTEG,
    esp_integ=_SHA2_INTEG,
    groups=(
        Group.CURVE25519,
        Group.ECP_256,
        Group.ECP_384,
        Group.ECP_521,
        Group.MODP_3072,
        Group.MODP_4096,
        Group.MODP_2048,
    ),
    additional=(Group.ML_KEM_768, Group.ML_KEM_1024),
)

COMPATIBLE = replace(
    MODERN,
    name="compatible",
    prf=(*MODERN.prf, Prf.HMAC_SHA1),
    esp_integ=(*MODERN.esp_integ, Integ.HMAC_SHA1_96),
    weaknesses=(
        "PRF_HMAC_SHA1 derives the keys of clients that know no SHA-2 there (Android 11)",
        "HMAC_SHA1_96 protects the packets of clients that know no SHA-2 for ESP (Windows without our profile)",
    ),
)

CNSA2 = ProposalPolicy(
    name="cnsa2",
    encr=((Encr.AES_GCM_16, 256),),
    prf=(Prf.HMAC_SHA2_384, Prf.HMAC_SHA2_512),
    integ=(),
    esp_integ=(),
    groups=(Group.ECP_384,),
    additional=(Group.ML_KEM_1024,),
    hybrid_only=True,
)
"""The United States' Commercial National Security Algorithm Suite 2.0, as far as key exchange and encryption go.

Its signatures (ML-DSA-87) are out of reach of today's clients and of X.509 in IKEv2, so certificates stay classical.
"""

POLICIES = {policy.name: policy for policy in (MODERN, COMPATIBLE, CNSA2)}
"""By the name that `gateway.proposal_policy` has for it."""
