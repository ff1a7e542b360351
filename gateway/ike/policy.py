"""Which algorithms are acceptable: the proposal policies that configuration names."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.constants import Encr, Group, Integ, Prf


@dataclass(frozen=True, slots=True, eq=False)
class ProposalPolicy:
    """The acceptable algorithms, best first. What is not here is refused, and said so."""

    name: str
    encr: tuple[tuple[Encr, int], ...]
    prf: tuple[Prf, ...]
    integ: tuple[Integ, ...]
    groups: tuple[Group, ...]
    additional: tuple[Group, ...] = ()
    """For the key exchanges that follow the first one (RFC 9370)."""


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
    additional=(Group.ML_KEM_768, Group.ML_KEM_1024),
)
