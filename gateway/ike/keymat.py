"""The key schedule (RFC 7296 sections 2.14 and 2.17)."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.ike.crypto.prf import PRF_BYTES, prf, prf_plus
from gateway.ike.crypto.protection import INTEG_KEY_BYTES, encryption_key_bytes
from gateway.ike.proposals import ChildSuite, IkeSuite


@dataclass(frozen=True, slots=True)
class IkeKeys:
    """The seven keys of an IKE SA; `i` is of the original initiator, `r` of the responder."""

    d: bytes = field(repr=False)
    ai: bytes = field(repr=False)
    ar: bytes = field(repr=False)
    ei: bytes = field(repr=False)
    er: bytes = field(repr=False)
    pi: bytes = field(repr=False)
    pr: bytes = field(repr=False)


def ike_key_sizes(suite: IkeSuite) -> tuple[int, ...]:
    """Bytes of the seven keys, in their order."""
    prf_bytes, integ_bytes = PRF_BYTES[suite.prf], INTEG_KEY_BYTES[suite.integ]
    encr_bytes = encryption_key_bytes(suite.encr, suite.key_bits)
    return prf_bytes, integ_bytes, integ_bytes, encr_bytes, encr_bytes, prf_bytes, prf_bytes


def derive_ike_keys(
    suite: IkeSuite, shared_secret: bytes, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes
) -> IkeKeys:
    """SKEYSEED = prf(Ni | Nr, g^ir), then prf+ cut into the seven keys."""
    skeyseed = prf(suite.prf, nonce_i + nonce_r, shared_secret)
    sizes = ike_key_sizes(suite)
    return IkeKeys(*_cut(prf_plus(suite.prf, skeyseed, nonce_i + nonce_r + spi_i + spi_r, sum(sizes)), sizes))


@dataclass(frozen=True, slots=True)
class ChildKeys:
    """Keys of a child SA: encryption and integrity, from initiator to responder and back."""

    encr_i: bytes = field(repr=False)
    integ_i: bytes = field(repr=False)
    encr_r: bytes = field(repr=False)
    integ_r: bytes = field(repr=False)


def child_key_sizes(suite: ChildSuite) -> tuple[int, ...]:
    """Bytes of the four keys, in their order."""
    encr_bytes, integ_bytes = encryption_key_bytes(suite.encr, suite.key_bits), INTEG_KEY_BYTES[suite.integ]
    return encr_bytes, integ_bytes, encr_bytes, integ_bytes


def derive_child_keys(
    ike_suite: IkeSuite, child_suite: ChildSuite, sk_d: bytes, nonce_i: bytes, nonce_r: bytes
) -> ChildKeys:
    """KEYMAT = prf+(SK_d, Ni | Nr): initiator's direction first, encryption before integrity."""
    sizes = child_key_sizes(child_suite)
    return ChildKeys(*_cut(prf_plus(ike_suite.prf, sk_d, nonce_i + nonce_r, sum(sizes)), sizes))


def _cut(material: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    pieces, offset = [], 0
    for size in sizes:
        pieces.append(material[offset : offset + size])
        offset += size
    return pieces
