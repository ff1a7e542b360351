"""Traffic selectors (RFC 7296 section 3.13) and their narrowing (section 2.9)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.ike.errors import InvalidSyntax

TS_IPV4_ADDR_RANGE = 7
TS_IPV6_ADDR_RANGE = 8
_HEADER = struct.Struct("!BBHHH")
_ADDRESS_BYTES = {TS_IPV4_ADDR_RANGE: 4, TS_IPV6_ADDR_RANGE: 16}


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """A range of addresses, ports and an IP protocol (0: any).

    Layout: type 1, protocol 1, length 2, start port 2, end port 2, start address 4/16, end address 4/16.
    """

    ts_type: int
    protocol: int
    start_port: int
    end_port: int
    start: int
    """First address as a number."""
    end: int

    @classmethod
    @lru_cache(maxsize=1024)
    def from_network(cls, network: IPv4Network | IPv6Network) -> TrafficSelector:
        """All protocols and ports of a subnet."""
        ts_type = TS_IPV4_ADDR_RANGE if network.version == 4 else TS_IPV6_ADDR_RANGE
        return cls(ts_type, 0, 0, 65535, int(network.network_address), int(network.broadcast_address))

    @classmethod
    def from_address(cls, address: IPv4Address | IPv6Address) -> TrafficSelector:
        """All protocols and ports of one address."""
        ts_type = TS_IPV4_ADDR_RANGE if address.version == 4 else TS_IPV6_ADDR_RANGE
        return cls(ts_type, 0, 0, 65535, int(address), int(address))

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if self.ts_type == TS_IPV4_ADDR_RANGE else 6

    def intersect(self, other: TrafficSelector) -> TrafficSelector | None:
        """What both cover, or None."""
        if self.ts_type != other.ts_type:
            return None
        if self.protocol and other.protocol and self.protocol != other.protocol:
            return None
        start, end = max(self.start, other.start), min(self.end, other.end)
        start_port, end_port = max(self.start_port, other.start_port), min(self.end_port, other.end_port)
        if start > end or start_port > end_port:
            return None
        return TrafficSelector(self.ts_type, self.protocol or other.protocol, start_port, end_port, start, end)

    def __str__(self) -> str:
        kind = IPv4Address if self.version == 4 else IPv6Address
        text = f"{kind(self.start)}-{kind(self.end)}"
        if self.protocol:
            text += f" protocol {self.protocol}"
        if (self.start_port, self.end_port) != (0, 65535):
            text += f" port {self.start_port}-{self.end_port}"
        return text

    def to_bytes(self) -> bytes:
        """Encode."""
        size = _ADDRESS_BYTES[self.ts_type]
        return (
            _HEADER.pack(self.ts_type, self.protocol, 8 + 2 * size, self.start_port, self.end_port)
            + self.start.to_bytes(size, "big")
            + self.end.to_bytes(size, "big")
        )


MAX_SELECTORS = 32
ANYTHING = (
    TrafficSelector(TS_IPV4_ADDR_RANGE, 0, 0, 65535, 0, 2**32 - 1),
    TrafficSelector(TS_IPV6_ADDR_RANGE, 0, 0, 65535, 0, 2**128 - 1),
)


def parse_selectors(data: bytes) -> tuple[TrafficSelector, ...]:
    """The body of a TSi or TSr payload: count 1, reserved 3, selectors. Unknown types are left out.

    Raises:
        InvalidSyntax: a length or count that does not fit.
    """
    if len(data) < 4:
        raise InvalidSyntax("TS payload too short")
    count, offset, selectors = data[0], 4, []
    if not 1 <= count <= MAX_SELECTORS:
        raise InvalidSyntax("TS payload with none or too many selectors")
    for _ in range(count):
        if len(data) - offset < 8:
            raise InvalidSyntax("traffic selector too short")
        ts_type, protocol, length, start_port, end_port = _HEADER.unpack_from(data, offset)
        if length < 8 or length > len(data) - offset:
            raise InvalidSyntax("traffic selector length")
        size = _ADDRESS_BYTES.get(ts_type)
        if size is not None:
            if length != 8 + 2 * size:
                raise InvalidSyntax("traffic selector length")
            start = int.from_bytes(data[offset + 8 : offset + 8 + size], "big")
            end = int.from_bytes(data[offset + 8 + size : offset + 8 + 2 * size], "big")
            selectors.append(TrafficSelector(ts_type, protocol, start_port, end_port, start, end))
        offset += length
    if offset != len(data):
        raise InvalidSyntax("bytes after the last traffic selector")
    return tuple(selectors)


def selectors_to_bytes(selectors: tuple[TrafficSelector, ...]) -> bytes:
    """The body of a TSi or TSr payload."""
    return bytes((len(selectors), 0, 0, 0)) + b"".join(selector.to_bytes() for selector in selectors)


def narrow(
    proposed: tuple[TrafficSelector, ...], allowed: tuple[TrafficSelector, ...]
) -> tuple[TrafficSelector, ...]:
    """The non-empty intersections, without those that another one covers (RFC 7296 section 2.9), at most 32.

    Once there are so many, the rest is not even looked at: the peer chooses one side of the product.
    """
    found: list[TrafficSelector] = []
    for offer in proposed:
        for limit in allowed:
            common = offer.intersect(limit)
            if common is None or any(other.intersect(common) == common for other in found):
                continue
            found = [other for other in found if common.intersect(other) != other]
            found.append(common)
            if len(found) == MAX_SELECTORS:
                return tuple(found)
    return tuple(found)
