"""The data of the notifies REDIRECT and REDIRECTED_FROM (RFC 5685 sections 8.2 and 8.3): another gateway's name.

type 1, length 1, identity, and in IKE_SA_INIT the client's nonce behind it
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address

from gateway.ike.errors import InvalidSyntax

MAX_NAME_BYTES = 253


class GatewayIdType(IntEnum):
    """RFC 5685 section 8.2."""

    IPV4_ADDR = 1
    IPV6_ADDR = 2
    FQDN = 3


_ADDRESS_BYTES = {GatewayIdType.IPV4_ADDR: 4, GatewayIdType.IPV6_ADDR: 16}


@dataclass(frozen=True, slots=True)
class GatewayId:
    """A gateway, by address or by name."""

    type: GatewayIdType
    value: bytes

    @classmethod
    def of(cls, text: str) -> GatewayId:
        """From an address or a host name; names are compared in lower case."""
        try:
            address = ip_address(text)
        except ValueError:
            return cls(GatewayIdType.FQDN, text.lower().encode("ascii"))
        return cls(GatewayIdType.IPV4_ADDR if address.version == 4 else GatewayIdType.IPV6_ADDR, address.packed)

    @classmethod
    def parse(cls, data: bytes) -> tuple[GatewayId, bytes]:
        """Decode; returns what is behind it as well, which is the nonce.

        Raises:
            InvalidSyntax: an unknown type, or a length that does not fit.
        """
        if len(data) < 2 or data[0] not in tuple(GatewayIdType):
            raise InvalidSyntax("identity of a gateway")
        kind, size = GatewayIdType(data[0]), data[1]
        value = data[2 : 2 + size]
        if len(value) != size or not 0 < size <= MAX_NAME_BYTES or size != _ADDRESS_BYTES.get(kind, size):
            raise InvalidSyntax("length of a gateway's identity")
        return cls(kind, value.lower() if kind is GatewayIdType.FQDN else value), data[2 + size :]

    def to_bytes(self) -> bytes:
        """Encode."""
        return bytes((self.type, len(self.value))) + self.value

    @property
    def ip_version(self) -> int | None:
        """Of an address; None for a name, which may have both."""
        return {GatewayIdType.IPV4_ADDR: 4, GatewayIdType.IPV6_ADDR: 6}.get(self.type)

    def __str__(self) -> str:
        if self.type is GatewayIdType.FQDN:
            return self.value.decode("ascii", "backslashreplace")
        return str(ip_address(self.value))
