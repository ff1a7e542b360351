"""Stateless cookies against floods of IKE_SA_INIT from spoofed addresses (RFC 7296 section 2.6)."""

from __future__ import annotations

import hmac
from collections.abc import Callable

SECRET_BYTES = 32
ROTATION_S = 60.0
_TAG_BYTES = 16


class CookieJar:
    """Cookie = version 1 | HMAC-SHA256(secret, Ni | address | SPIi) cut to 16 bytes.

    The secret changes each minute and two generations are valid, so a cookie lives one to two minutes.
    """

    __slots__ = ("_random", "_rotated_at", "_secrets", "_version")

    def __init__(self, random: Callable[[int], bytes], now: float) -> None:
        self._random = random
        self._rotated_at = now
        self._version = 0
        self._secrets = {0: random(SECRET_BYTES)}

    def make(self, nonce_i: bytes, address: str, spi_i: bytes, now: float) -> bytes:
        """The cookie for a request."""
        self._rotate(now)
        return bytes((self._version,)) + self._tag(self._version, nonce_i, address, spi_i)

    def check(self, cookie: bytes, nonce_i: bytes, address: str, spi_i: bytes, now: float) -> bool:
        """Whether the cookie was made here, lately, for this very request."""
        self._rotate(now)
        if len(cookie) != 1 + _TAG_BYTES or cookie[0] not in self._secrets:
            return False
        return hmac.compare_digest(cookie[1:], self._tag(cookie[0], nonce_i, address, spi_i))

    def _tag(self, version: int, nonce_i: bytes, address: str, spi_i: bytes) -> bytes:
        # Nonce and SPI frame the address: the SPI has 8 bytes and the address no NUL, so no two inputs collide.
        data = nonce_i + b"\0" + address.encode() + b"\0" + spi_i
        return hmac.digest(self._secrets[version], data, "sha256")[:_TAG_BYTES]

    def _rotate(self, now: float) -> None:
        elapsed = now - self._rotated_at
        if elapsed < ROTATION_S:
            return
        previous = self._version
        self._version = (self._version + 1) % 256
        kept = {previous: self._secrets[previous]} if elapsed < 2 * ROTATION_S else {}
        self._secrets = {**kept, self._version: self._random(SECRET_BYTES)}
        self._rotated_at = now
