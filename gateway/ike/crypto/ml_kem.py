"""ML-KEM (FIPS 203) as a key exchange method of IKEv2: the initiator's key one way, the responder's ciphertext back.

`cryptography` has no ML-KEM-512. It is of NIST's lowest category, and nobody needs it who can do the other two.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
    MLKEM1024PrivateKey,
    MLKEM1024PublicKey,
)

from gateway.ike.constants import Group
from gateway.ike.errors import InvalidSyntax

_PRIVATE: dict[Group, type[MLKEM768PrivateKey | MLKEM1024PrivateKey]] = {
    Group.ML_KEM_768: MLKEM768PrivateKey,
    Group.ML_KEM_1024: MLKEM1024PrivateKey,
}
_PUBLIC: dict[Group, type[MLKEM768PublicKey | MLKEM1024PublicKey]] = {
    Group.ML_KEM_768: MLKEM768PublicKey,
    Group.ML_KEM_1024: MLKEM1024PublicKey,
}
ENCAPSULATION_KEY_BYTES = {Group.ML_KEM_768: 1184, Group.ML_KEM_1024: 1568}
"""Of the initiator's KE payload, for each implemented method."""
CIPHERTEXT_BYTES = {Group.ML_KEM_768: 1088, Group.ML_KEM_1024: 1568}
"""Of the responder's."""


class MlKemKeyPair:
    """The initiator's side."""

    __slots__ = ("_ciphertext_bytes", "_private", "public")

    def __init__(self, group: Group) -> None:
        self._private = _PRIVATE[group].generate()
        self._ciphertext_bytes = CIPHERTEXT_BYTES[group]
        self.public = self._private.public_key().public_bytes_raw()

    def shared_secret(self, peer_public: bytes) -> bytes:
        """The secret in the responder's ciphertext.

        A ciphertext that was tampered with gives another secret, not an error (FIPS 203 section 6.3): the next
        message does not verify then.

        Raises:
            InvalidSyntax: a ciphertext of the wrong length.
        """
        if len(peer_public) != self._ciphertext_bytes:
            raise InvalidSyntax("length of an ML-KEM ciphertext")
        return self._private.decapsulate(peer_public)


def encapsulate(group: Group, encapsulation_key: bytes) -> tuple[bytes, bytes]:
    """The responder's side: a ciphertext for the initiator's key, and the secret in it.

    Raises:
        InvalidSyntax: a key of the wrong length, or with coefficients that are not reduced (FIPS 203 section 7.2).
        KeyError: a method that is not implemented.
    """
    kind = _PUBLIC[group]
    try:
        secret, ciphertext = kind.from_public_bytes(encapsulation_key).encapsulate()
    except ValueError:
        raise InvalidSyntax("ML-KEM encapsulation key that is none") from None
    return ciphertext, secret
