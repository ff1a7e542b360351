"""Pseudorandom functions and prf+ (RFC 7296 section 2.13)."""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gateway.ike.constants import Prf

PRF_HASH: dict[Prf, hashes.HashAlgorithm] = {
    Prf.HMAC_SHA1: hashes.SHA1(),  # noqa: S303 - only as HMAC, and only where the policy allows it
    Prf.HMAC_SHA2_256: hashes.SHA256(),
    Prf.HMAC_SHA2_384: hashes.SHA384(),
    Prf.HMAC_SHA2_512: hashes.SHA512(),
}
PRF_BYTES: dict[Prf, int] = {
    Prf.HMAC_SHA1: 20,
    Prf.HMAC_SHA2_256: 32,
    Prf.HMAC_SHA2_384: 48,
    Prf.HMAC_SHA2_512: 64,
}


def prf(algorithm: Prf, key: bytes, data: bytes) -> bytes:
    """prf(key, data)."""
    return hmac.digest(key, data, PRF_HASH[algorithm].name)


def prf_plus(algorithm: Prf, key: bytes, seed: bytes, length_bytes: int) -> bytes:
    """prf+(key, seed) to `length_bytes`: what RFC 5869 section 2.3 later called HKDF-Expand.

    Raises:
        ValueError: more than 255 blocks.
    """
    return HKDFExpand(PRF_HASH[algorithm], length_bytes, seed).derive(key)
