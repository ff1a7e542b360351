"""The key schedule (RFC 7296 sections 2.14, 2.17 and 2.18), with what other RFCs mix in.

Additional key exchanges: RFC 9370 section 2.2. Post-quantum pre-shared keys: RFC 8784 section 3. Resumption: RFC 5723
section 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
    """The keys after IKE_SA_INIT: SKEYSEED = prf(Ni | Nr, g^ir), then prf+ cut into the seven keys."""
    skeyseed = prf(suite.prf, nonce_i + nonce_r, shared_secret)
    return _expand(suite, skeyseed, nonce_i, nonce_r, spi_i, spi_r)


def derive_rekeyed_ike_keys(
    old_suite: IkeSuite,
    new_suite: IkeSuite,
    old_sk_d: bytes,
    shared_secret: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    spi_i: bytes,
    spi_r: bytes,
    additional_secrets: Sequence[bytes] = (),
) -> IkeKeys:
    """The keys of the SA that rekeying makes: SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr | SK(1) | ... SK(n)).

    Nonces and SPIs are those of the exchange that rekeys; the old SA's PRF makes SKEYSEED, the new one's the keys
    (RFC 7296 section 2.18).

    Args:
        additional_secrets: of the IKE_FOLLOWUP_KE exchanges, in their order (RFC 9370 section 2.2.4).
    """
    skeyseed = prf(old_suite.prf, old_sk_d, shared_secret + nonce_i + nonce_r + b"".join(additional_secrets))
    return _expand(new_suite, skeyseed, nonce_i, nonce_r, spi_i, spi_r)


def derive_intermediate_ike_keys(
    suite: IkeSuite,
    old_sk_d: bytes,
    shared_secret: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    spi_i: bytes,
    spi_r: bytes,
) -> IkeKeys:
    """The keys after an IKE_INTERMEDIATE with a key exchange: SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr).

    Nonces and SPIs are those of IKE_SA_INIT (RFC 9370 section 2.2.2).
    """
    skeyseed = prf(suite.prf, old_sk_d, shared_secret + nonce_i + nonce_r)
    return _expand(suite, skeyseed, nonce_i, nonce_r, spi_i, spi_r)


def derive_resumed_ike_keys(
    suite: IkeSuite, old_sk_d: bytes, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes
) -> IkeKeys:
    """The keys of a resumed SA: SKEYSEED = prf(SK_d (old), "Resumption" | Ni | Nr) (RFC 5723 section 5.1)."""
    skeyseed = prf(suite.prf, old_sk_d, b"Resumption" + nonce_i + nonce_r)
    return _expand(suite, skeyseed, nonce_i, nonce_r, spi_i, spi_r)


def mix_ppk(suite: IkeSuite, keys: IkeKeys, ppk: bytes) -> IkeKeys:
    """SK_d, SK_pi and SK_pr with a post-quantum pre-shared key in them: prf+(PPK, SK') (RFC 8784 section 3)."""
    size = PRF_BYTES[suite.prf]
    d, pi, pr = (prf_plus(suite.prf, ppk, key, size) for key in (keys.d, keys.pi, keys.pr))
    return replace(keys, d=d, pi=pi, pr=pr)


def _expand(suite: IkeSuite, skeyseed: bytes, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes) -> IkeKeys:
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
    ike_suite: IkeSuite,
    child_suite: ChildSuite,
    sk_d: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    shared_secret: bytes = b"",
    additional_secrets: Sequence[bytes] = (),
) -> ChildKeys:
    """KEYMAT = prf+(SK_d, g^ir (new) | Ni | Nr | SK(1) | ... SK(n)): initiator's direction first, encryption first.

    Args:
        shared_secret: of the key exchange in CREATE_CHILD_SA; empty without one (RFC 7296 section 2.17).
        additional_secrets: of the IKE_FOLLOWUP_KE exchanges, in their order (RFC 9370 section 2.2.4).
    """
    sizes = child_key_sizes(child_suite)
    seed = shared_secret + nonce_i + nonce_r + b"".join(additional_secrets)
    return ChildKeys(*_cut(prf_plus(ike_suite.prf, sk_d, seed, sum(sizes)), sizes))


def _cut(material: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    pieces, offset = [], 0
    for size in sizes:
        pieces.append(material[offset : offset + size])
        offset += size
    return pieces
