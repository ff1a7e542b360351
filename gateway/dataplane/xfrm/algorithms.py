"""ESP suites by the names that the kernel's crypto layer knows them by."""

from __future__ import annotations

from gateway.dataplane.interface import DataPlaneError, EspCipher, EspIntegrity, EspKeys, EspSuite
from gateway.dataplane.xfrm.netlink import attribute
from gateway.dataplane.xfrm.structures import ALGORITHM, ALGORITHM_ICV, Attribute

_SALT_BITS = 32
_AEAD_ICV_BITS = 128

_AEAD = {
    EspCipher.AES_GCM_16: "rfc4106(gcm(aes))",
    EspCipher.CHACHA20_POLY1305: "rfc7539esp(chacha20,poly1305)",
}
_INTEGRITY = {
    EspIntegrity.HMAC_SHA1_96: ("hmac(sha1)", 160, 96),
    EspIntegrity.HMAC_SHA2_256_128: ("hmac(sha256)", 256, 128),
    EspIntegrity.HMAC_SHA2_384_192: ("hmac(sha384)", 384, 192),
    EspIntegrity.HMAC_SHA2_512_256: ("hmac(sha512)", 512, 256),
}
"""Name, bits of key, bits of ICV, which is always given: of itself the kernel cuts SHA2-256 to 96 bits."""
_KEY_BITS = {
    EspCipher.AES_CBC: (128, 192, 256),
    EspCipher.AES_GCM_16: (128, 192, 256),
    EspCipher.CHACHA20_POLY1305: (256,),
}


def algorithm_attributes(suite: EspSuite, keys: EspKeys) -> bytes:
    """The attributes of a state that say how it encrypts and authenticates.

    Raises:
        DataPlaneError: keys that do not fit the suite, or a suite that is not authenticated.
    """
    if suite.key_bits not in _KEY_BITS[suite.cipher]:
        raise DataPlaneError(f"{suite} is not one that this data plane has")
    aead = _AEAD.get(suite.cipher)
    if aead is not None:
        if suite.integrity is not EspIntegrity.NONE or keys.integrity:
            raise DataPlaneError(f"{suite} authenticates by itself and takes no integrity key")
        bits = suite.key_bits + _SALT_BITS
        _check(suite, "a key", keys.encryption, bits)
        head = ALGORITHM_ICV.pack(aead.encode(), bits, _AEAD_ICV_BITS)
        return attribute(Attribute.ALG_AEAD, head + keys.encryption)
    if suite.integrity not in _INTEGRITY:
        raise DataPlaneError(f"{suite} is not authenticated")
    name, key_bits, icv_bits = _INTEGRITY[suite.integrity]
    _check(suite, "a key", keys.encryption, suite.key_bits)
    _check(suite, "an integrity key", keys.integrity, key_bits)
    encryption = ALGORITHM.pack(b"cbc(aes)", suite.key_bits) + keys.encryption
    integrity = ALGORITHM_ICV.pack(name.encode(), key_bits, icv_bits) + keys.integrity
    return attribute(Attribute.ALG_CRYPT, encryption) + attribute(Attribute.ALG_AUTH_TRUNC, integrity)


def algorithm_names(suite: EspSuite) -> str:
    """What the kernel needs for the suite, for errors: `cbc(aes) and hmac(sha256)`."""
    aead = _AEAD.get(suite.cipher)
    if aead is not None:
        return aead
    return f"cbc(aes) and {_INTEGRITY[suite.integrity][0]}"


def _check(suite: EspSuite, what: str, key: bytes, bits: int) -> None:
    if len(key) * 8 != bits:
        raise DataPlaneError(f"{suite} with {what} of {len(key)} octets")
