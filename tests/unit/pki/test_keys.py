from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from core.secrets import Secret, SecretBox, SecretError
from pki.errors import PkiError, WeakKeyError
from pki.keys import (
    GatewayKeyType,
    KeyKind,
    decrypt_private_key,
    decrypt_system_key,
    encrypt_private_key,
    generate_private_key,
    key_type_matches,
    kind_of,
)

BOX = SecretBox([Fernet.generate_key()])


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ec.generate_private_key(ec.SECP256R1()), KeyKind.P256),
        (ec.generate_private_key(ec.SECP384R1()), KeyKind.P384),
        (ed25519.Ed25519PrivateKey.generate(), KeyKind.ED25519),
        (rsa.generate_private_key(65537, 2048), KeyKind.RSA),
    ],
)
def test_knows_the_good_kinds(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey, kind: KeyKind
) -> None:
    assert kind_of(key.public_key()) is kind


@pytest.mark.parametrize(
    "numbers",
    [
        rsa.RSAPublicNumbers(65537, 2**2046 + 1),
        rsa.RSAPublicNumbers(65537, 2**8192 + 1),
        rsa.RSAPublicNumbers(17, 2**2047 + 981),
        rsa.RSAPublicNumbers(2**64 + 1, 2**2047 + 981),
        rsa.RSAPublicNumbers(65537, 997 * (2**2047 + 981)),
    ],
    ids=["2047-bits", "8193-bits", "e17", "e-huge", "divisible"],
)
def test_refuses_bad_rsa(numbers: rsa.RSAPublicNumbers) -> None:
    with pytest.raises(WeakKeyError):
        kind_of(numbers.public_key())


@pytest.mark.parametrize("key", [x25519.X25519PrivateKey.generate().public_key(), b"key", None])
def test_refuses_other_things(key: object) -> None:
    with pytest.raises(WeakKeyError):
        kind_of(key)


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "rsa-3072", "ed25519"])
def test_makes_keys_and_keeps_them_encrypted(key_type: GatewayKeyType) -> None:
    key = generate_private_key(key_type)
    assert key_type_matches(key.public_key(), key_type)
    token = encrypt_private_key(BOX, key)
    assert key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()) not in token
    again = decrypt_system_key(BOX, token).public_key()
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert again.public_bytes(*spki) == key.public_key().public_bytes(*spki)


def test_a_key_of_another_type_does_not_match() -> None:
    assert not key_type_matches(generate_private_key("ecdsa-p256").public_key(), "rsa-3072")
    assert not key_type_matches(rsa.generate_private_key(65537, 2048).public_key(), "rsa-3072")
    assert not key_type_matches(ed25519.Ed25519PrivateKey.generate().public_key(), "ecdsa-p256")


def test_another_box_can_not_read_a_key() -> None:
    token = encrypt_private_key(BOX, generate_private_key())
    with pytest.raises(SecretError):
        decrypt_private_key(SecretBox([Fernet.generate_key()]), token)


def test_refuses_a_key_that_no_ca_of_ours_has() -> None:
    foreign = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(PkiError):
        decrypt_private_key(BOX, BOX.encrypt(Secret(foreign)))


def test_refuses_what_is_no_kind_of_key_of_ours() -> None:
    foreign = x25519.X25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for decrypt in (decrypt_private_key, decrypt_system_key):
        with pytest.raises(PkiError):
            decrypt(BOX, BOX.encrypt(Secret(foreign)))
