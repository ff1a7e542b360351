"""CERT and CERTREQ payloads (RFC 7296 sections 3.6 and 3.7)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.ike.errors import InvalidSyntax

KEY_HASH_BYTES = 20


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
    """Encoding 1, SHA-1 hashes of the SubjectPublicKeyInfo of trusted CAs, 20 bytes each."""

    encoding: int
    authorities: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Encode."""
        return bytes((self.encoding,)) + b"".join(self.authorities)
