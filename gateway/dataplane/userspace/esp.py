"""ESP packets (RFC 4303), sealed and opened: bytes in, bytes out.

Layout: SPI 4, sequence number 4, IV 8 or 16, then encrypted: payload, padding 1 2 3 ..., pad length 1, next
header 1; then ICV. An object serves one direction of one SA for as long as its key lives, and holds its cipher
contexts ready, because a new one costs more than the packet. Buffers are the caller's, so that many packets lie
side by side and leave in one system call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hmac import compare_digest
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC

from gateway.dataplane.interface import DataPlaneError, EspCipher, EspIntegrity, EspKeys, EspSuite

NEXT_HEADER_IPV4 = 4
NEXT_HEADER_IPV6 = 41
NEXT_HEADER_NONE = 59
"""A dummy packet (RFC 4303 section 2.6): authentic, and of no meaning."""

ESP_HEADER_BYTES = 8
WRITE_SLACK_BYTES = 32
"""What `open_into` may write behind the packet it opens."""
MAX_OVERHEAD_BYTES = 8 + 16 + 17 + 32
"""Header, IV, padding with its two octets, ICV: the most that any suite adds to a payload."""

_SALT_BYTES = 4
_AEAD_IV_BYTES = 8
_AEAD_ICV_BYTES = 16
_AEAD_PREFIX_BYTES = ESP_HEADER_BYTES + _AEAD_IV_BYTES
_AEAD_HEADER = struct.Struct(">IIQ")
_HEADER = struct.Struct(">II")
_HEADER_ESN = struct.Struct(">IQ")
"""SPI and all 64 bits of the sequence number: what an AEAD authenticates with ESN (RFC 4106 section 5)."""
_HIGH_HALF = struct.Struct(">I")
_BLOCK_BYTES = 16

_PADDING = bytes(range(1, 256))
_TRAILERS_4 = {
    header: tuple(_PADDING[:size] + bytes((size, header)) for size in range(4))
    for header in (NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, NEXT_HEADER_NONE)
}
_TRAILERS_16 = {
    header: tuple(_PADDING[:size] + bytes((size, header)) for size in range(16))
    for header in (NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, NEXT_HEADER_NONE)
}

_ICV: dict[EspIntegrity, tuple[hashes.HashAlgorithm, int]] = {
    EspIntegrity.HMAC_SHA1_96: (hashes.SHA1(), 12),  # noqa: S303 - where the proposal policy allows it
    EspIntegrity.HMAC_SHA2_256_128: (hashes.SHA256(), 16),
    EspIntegrity.HMAC_SHA2_384_192: (hashes.SHA384(), 24),
    EspIntegrity.HMAC_SHA2_512_256: (hashes.SHA512(), 32),
}
"""Hash and octets of ICV; the key is as long as the hash (RFC 4868 section 2.1.1, RFC 2404 section 3)."""


class EspRefused(Exception):
    """The packet is not authentic, or not formed as its suite demands. Nothing of it may be used."""


class SequenceExhausted(Exception):
    """The last sequence number was used; this SA sends no more (RFC 4303 section 3.3.3)."""


class Sealer(Protocol):
    """Makes the packets of an outbound SA."""

    sequence: int
    """Of the last packet."""

    def seal_into(self, payload: bytes, next_header: int, out: memoryview, offset: int) -> int:
        """Write the packet with the next sequence number at `offset`; return where it ends.

        Raises:
            SequenceExhausted: every number was used; nothing was written.
        """


class Opener(Protocol):
    """Opens the packets of an inbound SA."""

    def open_into(
        self, packet: memoryview, start: int, end: int, sequence: int, out: memoryview, offset: int
    ) -> tuple[int, int, int]:
        """Verify and decrypt `packet[start:end]`, whose whole sequence number is `sequence`, into `out`.

        Uses `end - start` octets of `out` from `offset`, and at most WRITE_SLACK_BYTES after them.

        Returns:
            Where in `out` the payload starts and ends, and the next header.

        Raises:
            EspRefused: not authentic, or malformed.
        """


class _Aead(Protocol):
    def encrypt_into(self, nonce: bytes, data: bytes, associated_data: bytes, buf: memoryview, /) -> int: ...

    def decrypt_into(self, nonce: bytes, data: memoryview, associated_data: bytes, buf: memoryview, /) -> int: ...


def _trailer_start(out: memoryview, start: int, end: int) -> tuple[int, int]:
    """Check the padding of a decrypted packet (RFC 4303 section 2.4); where the payload ends, and next header."""
    size = out[end - 2]
    payload_end = end - 2 - size
    if payload_end < start:
        raise EspRefused("pad length beyond the payload")
    if size and out[payload_end : end - 2] != _PADDING[:size]:
        raise EspRefused("padding octets")
    return payload_end, out[end - 1]


class AeadSealer:
    """AES-GCM-16 (RFC 4106) or ChaCha20-Poly1305 (RFC 7634).

    The IV is the 64-bit sequence number, so a nonce can't occur twice: the number only grows, lives nowhere else,
    and is spent before the cipher runs.
    """

    __slots__ = ("_associated", "_encrypt_into", "_last", "_nonce_base", "_spi", "sequence")

    def __init__(self, aead: _Aead, salt: bytes, spi: int, esn: bool, sequence: int = 0) -> None:
        self._encrypt_into = aead.encrypt_into
        self._nonce_base = int.from_bytes(salt, "big") << 64
        self._spi = spi
        self._associated = _HEADER_ESN.pack if esn else _HEADER.pack
        self._last = (1 << 64) - 1 if esn else (1 << 32) - 1
        self.sequence = sequence

    def seal_into(self, payload: bytes, next_header: int, out: memoryview, offset: int) -> int:
        """See `Sealer`."""
        sequence = self.sequence + 1
        if sequence > self._last:
            raise SequenceExhausted
        self.sequence = sequence
        plaintext = payload + _TRAILERS_4[next_header][-(len(payload) + 2) & 3]
        end = offset + _AEAD_PREFIX_BYTES + len(plaintext) + _AEAD_ICV_BYTES
        spi = self._spi
        _AEAD_HEADER.pack_into(out, offset, spi, sequence & 0xFFFFFFFF, sequence)
        self._encrypt_into(
            (self._nonce_base + sequence).to_bytes(12, "big"),
            plaintext,
            self._associated(spi, sequence),
            out[offset + _AEAD_PREFIX_BYTES : end],
        )
        return end


class AeadOpener:
    """The receiving side of `AeadSealer`; the IV is whatever the peer chose."""

    __slots__ = ("_associated", "_decrypt_into", "_salt", "_spi")

    def __init__(self, aead: _Aead, salt: bytes, spi: int, esn: bool) -> None:
        self._decrypt_into = aead.decrypt_into
        self._salt = salt
        self._spi = spi
        self._associated = _HEADER_ESN.pack if esn else _HEADER.pack

    def open_into(
        self, packet: memoryview, start: int, end: int, sequence: int, out: memoryview, offset: int
    ) -> tuple[int, int, int]:
        """See `Opener`."""
        ciphertext_start = start + _AEAD_PREFIX_BYTES
        plaintext_end = offset + end - ciphertext_start - _AEAD_ICV_BYTES
        if plaintext_end - offset < 2:
            raise EspRefused("too short")
        try:
            self._decrypt_into(
                self._salt + packet[start + ESP_HEADER_BYTES : ciphertext_start],
                packet[ciphertext_start:end],
                self._associated(self._spi, sequence),
                out[offset:plaintext_end],
            )
        except InvalidTag:
            raise EspRefused("integrity check value") from None
        if out[plaintext_end - 2] == 0:
            return offset, plaintext_end - 2, out[plaintext_end - 1]
        payload_end, next_header = _trailer_start(out, offset, plaintext_end)
        return offset, payload_end, next_header


class CbcSealer:
    """AES-CBC (RFC 3602) with HMAC (RFC 4868, RFC 2404) over header, IV and ciphertext.

    One cipher context serves all packets: a random block goes in ahead of each payload, and what it encrypts to
    is the packet's IV, which no one can know beforehand (RFC 3602 section 3).
    """

    __slots__ = ("_esn", "_icv_bytes", "_last", "_mac", "_random", "_spi", "_update", "sequence")

    def __init__(
        self,
        key: bytes,
        mac: HMAC,
        icv_bytes: int,
        spi: int,
        esn: bool,
        random: Callable[[int], bytes],
        sequence: int = 0,
    ) -> None:
        self._update = Cipher(algorithms.AES(key), modes.CBC(random(_BLOCK_BYTES))).encryptor().update
        self._mac = mac
        self._icv_bytes = icv_bytes
        self._spi = spi
        self._esn = esn
        self._last = (1 << 64) - 1 if esn else (1 << 32) - 1
        self._random = random
        self.sequence = sequence

    def seal_into(self, payload: bytes, next_header: int, out: memoryview, offset: int) -> int:
        """See `Sealer`."""
        sequence = self.sequence + 1
        if sequence > self._last:
            raise SequenceExhausted
        self.sequence = sequence
        trailer = _TRAILERS_16[next_header][-(len(payload) + 2) & 15]
        iv_and_ciphertext = self._update(self._random(_BLOCK_BYTES) + payload + trailer)
        _HEADER.pack_into(out, offset, self._spi, sequence & 0xFFFFFFFF)
        icv_start = offset + ESP_HEADER_BYTES + len(iv_and_ciphertext)
        out[offset + ESP_HEADER_BYTES : icv_start] = iv_and_ciphertext
        mac = self._mac.copy()
        mac.update(out[offset:icv_start])
        if self._esn:
            mac.update(_HIGH_HALF.pack(sequence >> 32))
        end = icv_start + self._icv_bytes
        out[icv_start:end] = mac.finalize()[: self._icv_bytes]
        return end


class CbcOpener:
    """The receiving side of `CbcSealer`; the ICV is verified before anything is decrypted.

    One cipher context serves here too: the IV goes in as if it were ciphertext. The block that comes out for it is
    noise, and the blocks after it are right, since CBC needs nothing but the ciphertext block before.
    """

    __slots__ = ("_esn", "_icv_bytes", "_mac", "_update_into")

    def __init__(self, key: bytes, mac: HMAC, icv_bytes: int, esn: bool) -> None:
        self._update_into = Cipher(algorithms.AES(key), modes.CBC(bytes(_BLOCK_BYTES))).decryptor().update_into
        self._mac = mac
        self._icv_bytes = icv_bytes
        self._esn = esn

    def open_into(
        self, packet: memoryview, start: int, end: int, sequence: int, out: memoryview, offset: int
    ) -> tuple[int, int, int]:
        """See `Opener`."""
        icv_start = end - self._icv_bytes
        iv_start = start + ESP_HEADER_BYTES
        size = icv_start - iv_start
        if size < 2 * _BLOCK_BYTES or size % _BLOCK_BYTES:
            raise EspRefused("not whole blocks")
        mac = self._mac.copy()
        mac.update(packet[start:icv_start])
        if self._esn:
            mac.update(_HIGH_HALF.pack(sequence >> 32))
        if not compare_digest(mac.finalize()[: self._icv_bytes], packet[icv_start:end]):
            raise EspRefused("integrity check value")
        self._update_into(packet[iv_start:icv_start], out[offset : offset + size + _BLOCK_BYTES])
        payload_start = offset + _BLOCK_BYTES
        payload_end, next_header = _trailer_start(out, payload_start, offset + size)
        return payload_start, payload_end, next_header


def _aead(suite: EspSuite, keys: EspKeys) -> tuple[_Aead, bytes]:
    key, salt = keys.encryption[:-_SALT_BYTES], keys.encryption[-_SALT_BYTES:]
    if keys.integrity or suite.integrity is not EspIntegrity.NONE:
        raise DataPlaneError(f"{suite} authenticates by itself and takes no integrity key")
    if len(key) * 8 != suite.key_bits:
        raise DataPlaneError(f"{suite} with a key of {len(keys.encryption)} octets")
    if suite.cipher is EspCipher.AES_GCM_16 and suite.key_bits in (128, 192, 256):
        return AESGCM(key), salt
    if suite.cipher is EspCipher.CHACHA20_POLY1305 and suite.key_bits == 256:
        return ChaCha20Poly1305(key), salt
    raise DataPlaneError(f"{suite} is not one that this data plane has")


def _cbc(suite: EspSuite, keys: EspKeys) -> tuple[HMAC, int]:
    if suite.integrity not in _ICV:
        raise DataPlaneError(f"{suite} is not authenticated")
    algorithm, icv_bytes = _ICV[suite.integrity]
    if suite.key_bits not in (128, 192, 256) or len(keys.encryption) * 8 != suite.key_bits:
        raise DataPlaneError(f"{suite} with a key of {len(keys.encryption)} octets")
    if len(keys.integrity) != algorithm.digest_size:
        raise DataPlaneError(f"{suite} with an integrity key of {len(keys.integrity)} octets")
    return HMAC(keys.integrity, algorithm), icv_bytes


def make_sealer(
    suite: EspSuite, keys: EspKeys, spi: int, random: Callable[[int], bytes], sequence: int = 0
) -> Sealer:
    """The sealer of an outbound SA that has used the numbers up to `sequence`.

    Raises:
        DataPlaneError: keys that do not fit the suite, or a suite that is not authenticated.
    """
    if suite.cipher is EspCipher.AES_CBC:
        mac, icv_bytes = _cbc(suite, keys)
        return CbcSealer(keys.encryption, mac, icv_bytes, spi, suite.esn, random, sequence)
    aead, salt = _aead(suite, keys)
    return AeadSealer(aead, salt, spi, suite.esn, sequence)


def make_opener(suite: EspSuite, keys: EspKeys, spi: int) -> Opener:
    """The opener of an inbound SA.

    Raises:
        DataPlaneError: keys that do not fit the suite, or a suite that is not authenticated.
    """
    if suite.cipher is EspCipher.AES_CBC:
        mac, icv_bytes = _cbc(suite, keys)
        return CbcOpener(keys.encryption, mac, icv_bytes, suite.esn)
    aead, salt = _aead(suite, keys)
    return AeadOpener(aead, salt, spi, suite.esn)
