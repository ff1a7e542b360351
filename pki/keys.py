"""Key pairs: which are strong enough, how ours are made, and how they rest in the database."""

from __future__ import annotations

import math
from enum import StrEnum
from functools import lru_cache
from typing import Literal, overload

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from core.secrets import Secret, SecretBox
from pki.errors import PkiError, WeakKeyError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
"""What CAs sign with."""
DevicePrivateKey = PrivateKey | ed25519.Ed25519PrivateKey
KeyType = Literal["ecdsa-p256", "rsa-3072"]
"""What the settings offer for keys of CAs."""
GatewayKeyType = Literal["ecdsa-p256", "rsa-3072", "ed25519"]
"""What they offer for the gateway's."""

MINIMUM_RSA_BITS = 2048
MAXIMUM_RSA_BITS = 8192
"""Above this a signature check costs an attacker's victim too much time."""
MINIMUM_RSA_EXPONENT = 65537
MAXIMUM_RSA_EXPONENT = 2**64 - 1


class KeyKind(StrEnum):
    """Kinds of public keys that a certificate of ours may carry."""

    RSA = "rsa"
    P256 = "ecdsa-p256"
    P384 = "ecdsa-p384"
    ED25519 = "ed25519"


def kind_of(public_key: object) -> KeyKind:
    """The kind of a public key that is strong enough.

    Raises:
        WeakKeyError: too small, a bad RSA exponent or modulus, a curve or algorithm that is not allowed.
    """
    match public_key:
        case rsa.RSAPublicKey():
            _check_rsa(public_key)
            return KeyKind.RSA
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return KeyKind.P256
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return KeyKind.P384
        case ec.EllipticCurvePublicKey():
            raise WeakKeyError(f"the curve {public_key.curve.name} is not allowed", fix="use P-256 or P-384")
        case ed25519.Ed25519PublicKey():
            return KeyKind.ED25519
    raise WeakKeyError(
        "this kind of key is not allowed", fix="use P-256, P-384, Ed25519 or RSA of 2048 bits and more"
    )


def _check_rsa(public_key: rsa.RSAPublicKey) -> None:
    if not MINIMUM_RSA_BITS <= public_key.key_size <= MAXIMUM_RSA_BITS:
        raise WeakKeyError(
            f"an RSA key of {public_key.key_size} bits is not allowed",
            fix=f"use {MINIMUM_RSA_BITS} to {MAXIMUM_RSA_BITS} bits",
        )
    numbers = public_key.public_numbers()
    if not MINIMUM_RSA_EXPONENT <= numbers.e <= MAXIMUM_RSA_EXPONENT or numbers.e % 2 == 0:
        raise WeakKeyError("the RSA exponent is not allowed", fix=f"use {MINIMUM_RSA_EXPONENT}")
    if math.gcd(numbers.n, _product_of_small_primes()) != 1:
        raise WeakKeyError("the RSA modulus has a small factor", fix="make a new key with a sound random source")


@lru_cache(maxsize=1)
def _product_of_small_primes() -> int:
    """Of all primes below 1000; a modulus that shares a factor with it is broken (or was never one)."""
    return math.prod(n for n in range(2, 1000) if all(n % d for d in range(2, math.isqrt(n) + 1)))


@overload
def generate_private_key(key_type: KeyType = "ecdsa-p256") -> PrivateKey: ...


@overload
def generate_private_key(key_type: GatewayKeyType) -> DevicePrivateKey: ...


def generate_private_key(key_type: GatewayKeyType = "ecdsa-p256") -> DevicePrivateKey:
    """A new key pair. RSA takes some tenths of a second: do it outside a database transaction."""
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if key_type == "rsa-3072":
        return rsa.generate_private_key(public_exponent=65537, key_size=3072)
    return ec.generate_private_key(ec.SECP256R1())


def key_type_matches(public_key: object, key_type: GatewayKeyType) -> bool:
    """Whether a key is of the kind that the settings ask for now."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return key_type == f"rsa-{public_key.key_size}"
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return key_type == "ed25519"
    return isinstance(public_key, ec.EllipticCurvePublicKey) and key_type == "ecdsa-p256"


def encrypt_private_key(box: SecretBox, private_key: DevicePrivateKey) -> bytes:
    """The key as PKCS#8, encrypted for the database."""
    return box.encrypt(Secret(private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())))


def decrypt_private_key(box: SecretBox, token: bytes) -> PrivateKey:
    """The reverse of `encrypt_private_key`, for keys that sign certificates.

    Raises:
        SecretError: the key for secrets at rest is not the one it was encrypted under.
        PkiError: what was encrypted is not a key of ours.
    """
    private_key = decrypt_system_key(box, token)
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        raise PkiError("a private key in the database is of an unknown kind")
    return private_key


def decrypt_system_key(box: SecretBox, token: bytes) -> DevicePrivateKey:
    """The same for keys that only prove who holds them, which may be Ed25519 as well."""
    private_key = load_der_private_key(box.decrypt(token).reveal(), password=None)
    if not isinstance(private_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise PkiError("a private key in the database is of an unknown kind")
    return private_key
