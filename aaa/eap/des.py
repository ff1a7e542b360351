"""One block of single DES, which the NT response (RFC 2759 section 8.6) is made of.

DES is broken as a cipher. It is here for that one protocol, and for nothing else.
"""

from __future__ import annotations

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

_ECB = modes.ECB()  # noqa: S305  one block is no more than the block cipher itself


def expand_key(key: bytes) -> bytes:
    """The 8-byte DES key of 7 bytes: 7 bits in each, the lowest for parity, which DES ignores, zero."""
    n = int.from_bytes(key, "big")
    return bytes(
        (
            n >> 48 & 0xFE,
            n >> 41 & 0xFE,
            n >> 34 & 0xFE,
            n >> 27 & 0xFE,
            n >> 20 & 0xFE,
            n >> 13 & 0xFE,
            n >> 6 & 0xFE,
            n << 1 & 0xFE,
        )
    )


def des_encrypt(key: bytes, block: bytes) -> bytes:
    """Encrypt 8 bytes under 7 bytes of key (RFC 2759 DesEncrypt)."""
    # Three times the same key makes single DES of triple DES: the second pass undoes the first.
    encryptor = Cipher(TripleDES(expand_key(key) * 3), _ECB).encryptor()
    return encryptor.update(block)
