"""SK payloads: vectors of the AEADs, AES-CBC with HMAC done a second time by hand, and every changed bit refused."""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.constants import Encr, Integ
from gateway.ike.crypto.protection import INTEG_KEY_BYTES, Protection, encryption_key_bytes, make_protection
from gateway.ike.errors import IntegrityError, InvalidSyntax
from gateway.ike.policy import MODERN
from tests.unit.gateway.ike.vectors import named

SUITES = [
    *((encr, bits, Integ.NONE) for encr, bits in MODERN.encr if encr is not Encr.AES_CBC),
    *((Encr.AES_CBC, bits, integ) for bits in (128, 192, 256) for integ in MODERN.integ),
]
AAD = bytes(range(32))


def protection(encr: Encr, bits: int, integ: Integ) -> Protection:
    """One direction under fixed keys."""
    key = bytes(range(encryption_key_bytes(encr, bits)))
    return make_protection(encr, integ, key, bytes(range(100, 100 + INTEG_KEY_BYTES[integ])))


def test_chacha20_poly1305_rfc_7634_appendix_b() -> None:
    v = named("rfc7634.txt")
    made = make_protection(Encr.CHACHA20_POLY1305, Integ.NONE, v["key"], b"")
    # The vector's plaintext ends with the padding length, which `seal` puts there.
    assert made.seal(v["aad"], v["plain"][:-1], v["iv"]) == v["iv"] + v["sealed"]
    assert made.open(v["aad"], v["iv"] + v["sealed"]) == v["plain"][:-1]


@pytest.mark.parametrize("bits", ["128", "256"])
def test_aes_gcm(bits: str) -> None:
    v = named("gcm.txt")
    made = make_protection(Encr.AES_GCM_16, Integ.NONE, v[f"{bits}.key"], b"")
    body = v["iv"] + v[f"{bits}.sealed"]
    assert made.open(v["aad"], body) == v["plain"][: -1 - v["plain"][-1]]
    with pytest.raises(IntegrityError):
        made.open(v["aad"][:-1], body)


def test_aes_cbc_with_hmac_by_hand() -> None:
    encryption_key, integrity_key, iv, plain = b"e" * 32, b"i" * 48, b"v" * 16, b"inner payloads"
    made = make_protection(Encr.AES_CBC, Integ.HMAC_SHA2_384_192, encryption_key, integrity_key)
    # 14 bytes, one of padding, one for its length: one block.
    encryptor = Cipher(AES(encryption_key), CBC(iv)).encryptor()
    body = iv + encryptor.update(plain + b"\0\x01") + encryptor.finalize()
    sealed = body + hmac.digest(integrity_key, AAD + body, "sha384")[:24]
    assert made.seal(AAD, plain, iv) == sealed
    assert made.open(AAD, sealed) == plain


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: "-".join(str(part) for part in suite))
class TestEachSuite:
    @given(plain=st.binary(max_size=200))
    def test_round_trip(self, suite: tuple[Encr, int, Integ], plain: bytes) -> None:
        made = protection(*suite)
        sealed = made.seal(AAD, plain, b"v" * made.iv_bytes)
        assert len(sealed) == made.sealed_bytes(len(plain))
        assert made.open(AAD, sealed) == plain

    def test_every_changed_byte_is_noticed(self, suite: tuple[Encr, int, Integ]) -> None:
        made = protection(*suite)
        sealed = made.seal(AAD, b"inner payloads", b"v" * made.iv_bytes)
        for index in range(len(sealed)):
            changed = bytearray(sealed)
            changed[index] ^= 1 << index % 8
            with pytest.raises(IntegrityError):
                made.open(AAD, bytes(changed))
        for index in range(len(AAD)):
            aad = bytearray(AAD)
            aad[index] ^= 0x80
            with pytest.raises(IntegrityError):
                made.open(bytes(aad), sealed)

    def test_every_other_length_is_noticed(self, suite: tuple[Encr, int, Integ]) -> None:
        made = protection(*suite)
        sealed = made.seal(AAD, b"inner payloads", b"v" * made.iv_bytes)
        for size in range(len(sealed)):
            with pytest.raises(IntegrityError):
                made.open(AAD, sealed[:size])
        for more in (b"\0", bytes(16), sealed):
            with pytest.raises(IntegrityError):
                made.open(AAD, sealed + more)

    def test_the_keys_of_the_other_direction_do_not_fit(self, suite: tuple[Encr, int, Integ]) -> None:
        encr, bits, integ = suite
        made = protection(encr, bits, integ)
        size = encryption_key_bytes(encr, bits)
        other = make_protection(encr, integ, bytes(range(1, size + 1)), bytes(INTEG_KEY_BYTES[integ]))
        with pytest.raises(IntegrityError):
            other.open(AAD, made.seal(AAD, b"x", b"v" * made.iv_bytes))


def test_a_pad_length_beyond_the_message() -> None:
    """Authentic, and still malformed: that is another error than a wrong ICV."""
    made = make_protection(Encr.AES_CBC, Integ.HMAC_SHA2_256_128, b"e" * 16, b"i" * 32)
    encryptor = Cipher(AES(b"e" * 16), CBC(b"v" * 16)).encryptor()
    body = b"v" * 16 + encryptor.update(bytes(15) + b"\x10") + encryptor.finalize()
    with pytest.raises(InvalidSyntax, match="pad length"):
        made.open(AAD, body + hmac.digest(b"i" * 32, AAD + body, "sha256")[:16])
