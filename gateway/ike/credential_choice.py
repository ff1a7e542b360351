"""Which of the gateway's credentials a client gets to see, where there are several.

What a client says decides: the CAs of its CERTREQ, the methods that it announced (RFC 9593), the hashes that it can
verify (RFC 7427). What is known of stock clients, which say little, comes after that; and then the order in which the
gateway was given them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.ike.authentication import PrivateKey, choose_scheme, is_announced
from gateway.ike.config import Credential
from gateway.ike.errors import AuthenticationFailed
from gateway.ike.payloads.auth_methods import Announcement

_RSA_ONLY = ("Android", "iOS")
"""Android's own client verifies nothing else; nor does an iPhone that was set up by hand."""
_NO_LARGE_CURVES = ("Windows",)


@dataclass(frozen=True, slots=True)
class ProofWish:
    """What a client's messages say about the proof that it wants of the gateway."""

    client: str
    """What it looks like; a guess decides nothing but which of our proofs it gets."""
    hashes: frozenset[int] = frozenset()
    """SIGNATURE_HASH_ALGORITHMS; empty where it sent none."""
    announcements: tuple[Announcement, ...] = ()
    """SUPPORTED_AUTH_METHODS; empty where it sent none."""
    authorities: tuple[bytes, ...] = ()
    """Of its CERTREQ payloads, in their order; empty where it sent none."""
    ocsp: bool = False
    """It asks for an OCSP response with the certificate (RFC 4806)."""

    def announcements_for(self, credential: Credential) -> tuple[Announcement, ...]:
        """Those that count for certificates of this credential's CAs."""
        return tuple(
            announcement
            for announcement in self.announcements
            if not announcement.cert_link or self._authority(announcement.cert_link) in credential.issuers
        )

    def _authority(self, number: int) -> bytes:
        return self.authorities[number - 1] if number <= len(self.authorities) else b""


def choose_credential(credentials: Sequence[Credential], wish: ProofWish, *, pss: bool = False) -> Credential:
    """The best one for a client; of equally good ones the first.

    Args:
        credentials: at least one.
        wish: of the client.
        pss: as for `sign`.

    Raises:
        AuthenticationFailed: the client can verify none of them.
    """
    if len(credentials) == 1:
        return credentials[0]
    ranked = [(rank, credential) for credential in credentials if (rank := _rank(credential, wish, pss)) is not None]
    if not ranked:
        raise AuthenticationFailed("the client can verify signatures of none of the gateway's keys")
    best = max(rank for rank, _ in ranked)
    return next(credential for rank, credential in ranked if rank == best)


def _rank(credential: Credential, wish: ProofWish, pss: bool) -> tuple[bool, bool, bool] | None:
    announcements = wish.announcements_for(credential)
    scheme = choose_scheme(credential.private_key, wish.hashes, announcements, pss=pss)
    if scheme is None:
        return None
    return (
        not wish.announcements or is_announced(scheme, announcements),
        _takes(wish.client, credential.private_key),
        not wish.authorities or not set(wish.authorities).isdisjoint(credential.issuers),
    )


def _takes(client: str, key: PrivateKey) -> bool:
    """What is known of clients that look so."""
    if client.startswith(_RSA_ONLY):
        return isinstance(key, rsa.RSAPrivateKey)
    if client.startswith(_NO_LARGE_CURVES):
        return not (isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 384)
    return True
