"""Suites by the kernel's names."""

from __future__ import annotations

import struct

import pytest

from gateway.dataplane.interface import DataPlaneError, EspCipher, EspIntegrity, EspKeys, EspSuite
from gateway.dataplane.xfrm.algorithms import algorithm_attributes, algorithm_names
from gateway.dataplane.xfrm.netlink import parse_attributes
from gateway.dataplane.xfrm.structures import Attribute


def key(size: int) -> bytes:
    return bytes(range(size))


@pytest.mark.parametrize(
    ("cipher", "bits", "name"),
    [
        (EspCipher.AES_GCM_16, 128, b"rfc4106(gcm(aes))"),
        (EspCipher.AES_GCM_16, 192, b"rfc4106(gcm(aes))"),
        (EspCipher.AES_GCM_16, 256, b"rfc4106(gcm(aes))"),
        (EspCipher.CHACHA20_POLY1305, 256, b"rfc7539esp(chacha20,poly1305)"),
    ],
)
def test_aead(cipher: EspCipher, bits: int, name: bytes) -> None:
    suite = EspSuite(cipher, bits, EspIntegrity.NONE, False)
    octets = bits // 8 + 4
    (found,) = parse_attributes(algorithm_attributes(suite, EspKeys(key(octets), b""))).items()
    assert found == (
        Attribute.ALG_AEAD,
        name.ljust(64, b"\0") + struct.pack("=II", 8 * octets, 128) + key(octets),
    )
    assert algorithm_names(suite) == name.decode()


@pytest.mark.parametrize(
    ("integrity", "name", "octets", "icv_bits"),
    [
        (EspIntegrity.HMAC_SHA1_96, b"hmac(sha1)", 20, 96),
        (EspIntegrity.HMAC_SHA2_256_128, b"hmac(sha256)", 32, 128),
        (EspIntegrity.HMAC_SHA2_384_192, b"hmac(sha384)", 48, 192),
        (EspIntegrity.HMAC_SHA2_512_256, b"hmac(sha512)", 64, 256),
    ],
)
@pytest.mark.parametrize("bits", [128, 192, 256])
def test_cbc_with_hmac(integrity: EspIntegrity, name: bytes, octets: int, icv_bits: int, bits: int) -> None:
    suite = EspSuite(EspCipher.AES_CBC, bits, integrity, True)
    keys = EspKeys(key(bits // 8), key(octets))
    assert parse_attributes(algorithm_attributes(suite, keys)) == {
        Attribute.ALG_CRYPT: b"cbc(aes)".ljust(64, b"\0") + struct.pack("=I", bits) + keys.encryption,
        Attribute.ALG_AUTH_TRUNC: name.ljust(64, b"\0") + struct.pack("=II", 8 * octets, icv_bits) + keys.integrity,
    }
    assert algorithm_names(suite) == f"cbc(aes) and {name.decode()}"


@pytest.mark.parametrize(
    ("suite", "keys", "reason"),
    [
        ((EspCipher.AES_CBC, 128, EspIntegrity.NONE), EspKeys(key(16), b""), "is not authenticated"),
        ((EspCipher.AES_CBC, 64, EspIntegrity.HMAC_SHA2_256_128), EspKeys(key(8), key(32)), "is not one"),
        ((EspCipher.CHACHA20_POLY1305, 128, EspIntegrity.NONE), EspKeys(key(20), b""), "is not one"),
        ((EspCipher.AES_GCM_16, 128, EspIntegrity.NONE), EspKeys(key(16), b""), "a key of 16 octets"),
        ((EspCipher.AES_GCM_16, 128, EspIntegrity.NONE), EspKeys(key(20), key(1)), "takes no integrity key"),
        ((EspCipher.AES_GCM_16, 128, EspIntegrity.HMAC_SHA2_256_128), EspKeys(key(20), b""), "takes no integrity"),
        ((EspCipher.AES_CBC, 128, EspIntegrity.HMAC_SHA2_256_128), EspKeys(key(17), key(32)), "a key of 17 octets"),
        ((EspCipher.AES_CBC, 128, EspIntegrity.HMAC_SHA2_256_128), EspKeys(key(16), key(20)), "key of 20 octets"),
    ],
)
def test_what_does_not_fit_is_refused(suite: tuple[EspCipher, int, EspIntegrity], keys: EspKeys, reason: str) -> None:
    with pytest.raises(DataPlaneError, match=reason):
        algorithm_attributes(EspSuite(*suite, False), keys)
