"""CERT and CERTREQ payloads (RFC 7296 sections 3.6 and 3.7)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.constants import CertEncoding
from gateway.ike.errors import InvalidSyntax

KEY_HASH_BYTES = 20
MAX_AUTHORITIES = 1024
"""In one CERTREQ. Windows names some 50."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Encoding 1, data (DER for encoding 4)."""

    encoding: int
    data: bytes

    @classmethod
    def parse(cls, body: bytes) -> Certificate:
        """Decode; raises InvalidSyntax where nothing follows the encoding."""
        if len(body) < 2:
            raise InvalidSyntax("CERT payload too short")
        return cls(body[0], bytes(body[1:]))

    def to_bytes(self) -> bytes:
        """Encode."""
        return bytes((self.encoding,)) + self.data


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """Encoding 1, SHA-1 hashes of the SubjectPublicKeyInfo of trusted CAs, 20 bytes each.

    With encoding 14 the hashes are those of OCSP responders, none of them for any responder (RFC 4806 section 3.1).
    """

    encoding: int
    authorities: tuple[bytes, ...]

    @classmethod
    def parse(cls, body: bytes) -> CertificateRequest:
        """Decode; of an encoding that has no such hashes there are none.

        Raises:
            InvalidSyntax: no encoding, or hashes of another length, or far too many.
        """
        if not body:
            raise InvalidSyntax("CERTREQ payload too short")
        if body[0] not in (CertEncoding.X509_SIGNATURE, CertEncoding.OCSP_CONTENT):
            return cls(body[0], ())
        count, rest = divmod(len(body) - 1, KEY_HASH_BYTES)
        if rest or count > MAX_AUTHORITIES:
            raise InvalidSyntax("CERTREQ payload length")
        offsets = range(1, len(body), KEY_HASH_BYTES)
        return cls(body[0], tuple(bytes(body[offset : offset + KEY_HASH_BYTES]) for offset in offsets))

    def to_bytes(self) -> bytes:
        """Encode."""
        return bytes((self.encoding,)) + b"".join(self.authorities)
