"""Key exchange methods: RFC 3526 (MODP), RFC 5903 (ECP), RFC 8031 (Curve25519), FIPS 203 (ML-KEM)."""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from gateway.ike.constants import Group
from gateway.ike.crypto import ml_kem, modp
from gateway.ike.errors import InvalidSyntax

_CURVES: dict[Group, ec.EllipticCurve] = {
    Group.ECP_256: ec.SECP256R1(),
    Group.ECP_384: ec.SECP384R1(),
    Group.ECP_521: ec.SECP521R1(),
}
_ECP_BYTES: dict[Group, int] = {Group.ECP_256: 32, Group.ECP_384: 48, Group.ECP_521: 66}
_X25519_BYTES = 32


class KeyPair(Protocol):
    """One side's ephemeral key of a method; with ML-KEM the initiator's, for the responder has none."""

    public: bytes
    """As it goes into the KE payload."""

    def shared_secret(self, peer_public: bytes) -> bytes:
        """The secret from the peer's KE payload.

        Raises:
            InvalidSyntax: the peer's value is of the wrong length or not a proper one.
        """


class _Curve25519:
    __slots__ = ("_private", "public")

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def shared_secret(self, peer_public: bytes) -> bytes:
        if len(peer_public) != _X25519_BYTES:
            raise InvalidSyntax("length of a Curve25519 value")
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError:
            raise InvalidSyntax("Curve25519 value of low order") from None


class _Ecp:
    __slots__ = ("_curve", "_private", "_size", "public")

    def __init__(self, group: Group) -> None:
        self._curve, self._size = _CURVES[group], _ECP_BYTES[group]
        self._private = ec.generate_private_key(self._curve)
        numbers = self._private.public_key().public_numbers()
        self.public = numbers.x.to_bytes(self._size, "big") + numbers.y.to_bytes(self._size, "big")

    def shared_secret(self, peer_public: bytes) -> bytes:
        if len(peer_public) != 2 * self._size:
            raise InvalidSyntax("length of an ECP value")
        try:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, b"\x04" + peer_public)
            return self._private.exchange(ec.ECDH(), peer)
        except ValueError:
            raise InvalidSyntax("ECP value that is not on the curve") from None


class _Modp:
    __slots__ = ("_group", "_private", "public")

    def __init__(self, group: Group) -> None:
        self._group = group
        self._private = modp.generate(group)
        self.public = self._private.public_key().public_numbers().y.to_bytes(modp.public_bytes(group), "big")

    def shared_secret(self, peer_public: bytes) -> bytes:
        size, prime = modp.public_bytes(self._group), modp.prime(self._group)
        y = int.from_bytes(peer_public, "big")
        if len(peer_public) != size or not 2 <= y <= prime - 2:
            raise InvalidSyntax("MODP value of the wrong length or out of range")
        try:
            return modp.exchange(self._group, self._private, y)
        except ValueError:
            raise InvalidSyntax("MODP value that is not acceptable") from None


def generate(group: Group) -> KeyPair:
    """A fresh ephemeral key; with ML-KEM, for an initiator only.

    Raises:
        KeyError: a method that is not implemented.
    """
    if group is Group.CURVE25519:
        return _Curve25519()
    if group in _CURVES:
        return _Ecp(group)
    if group in ml_kem.ENCAPSULATION_KEY_BYTES:
        return ml_kem.MlKemKeyPair(group)
    return _Modp(group)


def respond(group: Group, peer_public: bytes) -> tuple[bytes, bytes]:
    """The responder's side in one step: what answers the initiator's public value, and the shared secret.

    Raises:
        InvalidSyntax: the initiator's value is of the wrong length or not a proper one.
        KeyError: a method that is not implemented.
    """
    if group in ml_kem.ENCAPSULATION_KEY_BYTES:
        return ml_kem.encapsulate(group, peer_public)
    pair = generate(group)
    return pair.public, pair.shared_secret(peer_public)


def public_value_bytes(group: Group) -> int:
    """Length of an initiator's public value.

    Raises:
        KeyError: a method that is not implemented.
    """
    if group is Group.CURVE25519:
        return _X25519_BYTES
    if group in _ECP_BYTES:
        return 2 * _ECP_BYTES[group]
    if group in ml_kem.ENCAPSULATION_KEY_BYTES:
        return ml_kem.ENCAPSULATION_KEY_BYTES[group]
    return modp.public_bytes(group)
