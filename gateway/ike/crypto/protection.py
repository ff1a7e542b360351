"""Protection of SK and SKF payloads: AEAD (RFC 5282, RFC 7634) or AES-CBC with HMAC (RFC 7296 section 3.14)."""

from __future__ import annotations

import hmac
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from gateway.ike.constants import Encr, Integ
from gateway.ike.errors import IntegrityError, InvalidSyntax

SALT_BYTES = 4
INTEG_KEY_BYTES: dict[Integ, int] = {
    Integ.NONE: 0,
    Integ.HMAC_SHA1_96: 20,
    Integ.HMAC_SHA2_256_128: 32,
    Integ.HMAC_SHA2_384_192: 48,
    Integ.HMAC_SHA2_512_256: 64,
}
_INTEG_HASH = {
    Integ.HMAC_SHA2_256_128: ("sha256", 16),
    Integ.HMAC_SHA2_384_192: ("sha384", 24),
    Integ.HMAC_SHA2_512_256: ("sha512", 32),
}
AEAD_CIPHERS = frozenset((Encr.AES_GCM_16, Encr.CHACHA20_POLY1305))
_BLOCK_BYTES = 16


class Protection(Protocol):
    """One direction. `aad` is all that precedes the IV: header, SK header, for SKF the fragment numbers."""

    iv_bytes: int

    def sealed_bytes(self, plain_bytes: int) -> int:
        """Size of IV, ciphertext, padding and ICV for so many bytes of inner payloads."""

    def seal(self, aad: bytes, plain: bytes, iv: bytes) -> bytes:
        """IV, ciphertext with padding, ICV. The IV is fresh and random for each message."""

    def open(self, aad: bytes, body: bytes) -> bytes:
        """The inner payloads; raises IntegrityError where the body is not authentic."""


class _Aead:
    __slots__ = ("_aead", "_salt", "iv_bytes")
    _ICV_BYTES = 16

    def __init__(self, encr: Encr, key: bytes) -> None:
        self._salt = key[-SALT_BYTES:]
        secret = key[:-SALT_BYTES]
        self._aead: AESGCM | ChaCha20Poly1305 = (
            AESGCM(secret) if encr is Encr.AES_GCM_16 else ChaCha20Poly1305(secret)
        )
        self.iv_bytes = 8

    def sealed_bytes(self, plain_bytes: int) -> int:
        return self.iv_bytes + plain_bytes + 1 + self._ICV_BYTES

    def seal(self, aad: bytes, plain: bytes, iv: bytes) -> bytes:
        return iv + self._aead.encrypt(self._salt + iv, plain + b"\0", aad)

    def open(self, aad: bytes, body: bytes) -> bytes:
        if len(body) < self.iv_bytes + 1 + self._ICV_BYTES:
            raise IntegrityError("SK payload too short")
        try:
            plain = self._aead.decrypt(self._salt + body[:8], body[8:], aad)
        except InvalidTag:
            raise IntegrityError("ICV") from None
        return _without_padding(plain)


class _CbcHmac:
    __slots__ = ("_algorithm", "_hash", "_icv_bytes", "_key", "iv_bytes")

    def __init__(self, encryption_key: bytes, integ: Integ, integrity_key: bytes) -> None:
        self._algorithm = AES(encryption_key)
        self._hash, self._icv_bytes = _INTEG_HASH[integ]
        self._key = integrity_key
        self.iv_bytes = _BLOCK_BYTES

    def sealed_bytes(self, plain_bytes: int) -> int:
        padded = -(-(plain_bytes + 1) // _BLOCK_BYTES) * _BLOCK_BYTES
        return self.iv_bytes + padded + self._icv_bytes

    def seal(self, aad: bytes, plain: bytes, iv: bytes) -> bytes:
        padding = -(len(plain) + 1) % _BLOCK_BYTES
        encryptor = Cipher(self._algorithm, CBC(iv)).encryptor()
        body = iv + encryptor.update(plain + bytes(padding) + bytes((padding,))) + encryptor.finalize()
        return body + hmac.digest(self._key, aad + body, self._hash)[: self._icv_bytes]

    def open(self, aad: bytes, body: bytes) -> bytes:
        encrypted = len(body) - self.iv_bytes - self._icv_bytes
        if encrypted < _BLOCK_BYTES or encrypted % _BLOCK_BYTES:
            raise IntegrityError("SK payload of the wrong size")
        covered, icv = body[: -self._icv_bytes], body[-self._icv_bytes :]
        expected = hmac.digest(self._key, aad + covered, self._hash)[: self._icv_bytes]
        if not hmac.compare_digest(expected, icv):
            raise IntegrityError("ICV")
        decryptor = Cipher(self._algorithm, CBC(covered[:_BLOCK_BYTES])).decryptor()
        return _without_padding(decryptor.update(covered[_BLOCK_BYTES:]) + decryptor.finalize())


def _without_padding(plain: bytes) -> bytes:
    padding = plain[-1]
    if padding + 1 > len(plain):
        raise InvalidSyntax("pad length of an SK payload")
    return plain[: len(plain) - 1 - padding]


def encryption_key_bytes(encr: Encr, key_bits: int) -> int:
    """Length of SK_e, with an AEAD's salt."""
    if encr is Encr.CHACHA20_POLY1305:
        return 32 + SALT_BYTES
    return key_bits // 8 + (SALT_BYTES if encr in AEAD_CIPHERS else 0)


def make_protection(encr: Encr, integ: Integ, encryption_key: bytes, integrity_key: bytes) -> Protection:
    """The protection of one direction under its keys."""
    if encr in AEAD_CIPHERS:
        return _Aead(encr, encryption_key)
    return _CbcHmac(encryption_key, integ, integrity_key)
