"""Pseudorandom functions and prf+ (RFC 7296 section 2.13)."""

from __future__ import annotations

import hmac

from gateway.ike.constants import Prf

PRF_HASH: dict[Prf, str] = {
    Prf.HMAC_SHA2_256: "sha256",
    Prf.HMAC_SHA2_384: "sha384",
    Prf.HMAC_SHA2_512: "sha512",
}
PRF_BYTES: dict[Prf, int] = {Prf.HMAC_SHA2_256: 32, Prf.HMAC_SHA2_384: 48, Prf.HMAC_SHA2_512: 64}
MAX_BLOCKS = 255


def prf(algorithm: Prf, key: bytes, data: bytes) -> bytes:
    """prf(key, data)."""
    return hmac.digest(key, data, PRF_HASH[algorithm])


def prf_plus(algorithm: Prf, key: bytes, seed: bytes, length_bytes: int) -> bytes:
    """prf+(key, seed) to `length_bytes`.

    Raises:
        ValueError: more than 255 blocks.
    """
    name = PRF_HASH[algorithm]
    blocks = -(-length_bytes // PRF_BYTES[algorithm])
    if blocks > MAX_BLOCKS:
        raise ValueError("prf+ of more than 255 blocks")
    output, block = [], b""
    for counter in range(1, blocks + 1):
        block = hmac.digest(key, block + seed + bytes((counter,)), name)
        output.append(block)
    return b"".join(output)[:length_bytes]
