"""IDi and IDr payloads (RFC 7296 section 3.5)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from gateway.ike.constants import IdType
from gateway.ike.errors import InvalidSyntax

MAX_IDENTITY_BYTES = 1024
_ADDRESS_BYTES: dict[int, int] = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}


@dataclass(frozen=True, slots=True)
class Identification:
    """Type 1, reserved 3, data."""

    id_type: int
    data: bytes

    @classmethod
    def parse(cls, body: bytes) -> Identification:
        """Decode; raises InvalidSyntax on a length that does not fit the type."""
        if len(body) < 5 or len(body) > 4 + MAX_IDENTITY_BYTES:
            raise InvalidSyntax("ID payload length")
        identity = cls(body[0], bytes(body[4:]))
        wanted = _ADDRESS_BYTES.get(identity.id_type)
        if wanted is not None and len(identity.data) != wanted:
            raise InvalidSyntax("ID payload with an address of the wrong length")
        return identity

    @classmethod
    def fqdn(cls, name: str) -> Identification:
        """An ID_FQDN."""
        return cls(IdType.FQDN, name.encode())

    def to_bytes(self) -> bytes:
        """Encode."""
        return bytes((self.id_type, 0, 0, 0)) + self.data

    def __str__(self) -> str:
        """Text for logs and for AAA: `alice@example.org`, an address, `dn:<hex of DER>`, `key-id:<hex>`."""
        match self.id_type:
            case IdType.IPV4_ADDR:
                return str(IPv4Address(self.data))
            case IdType.IPV6_ADDR:
                return str(IPv6Address(self.data))
            case IdType.FQDN | IdType.RFC822_ADDR:
                text = self.data.decode("utf-8", "replace")
                return text if text.isprintable() else "key-id:" + self.data.hex()
            case IdType.DER_ASN1_DN:
                return "dn:" + self.data.hex()
            case _:
                return "key-id:" + self.data.hex()
