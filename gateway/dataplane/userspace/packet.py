"""What a data plane must know of an inner IP packet, read with every length checked."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.ike.selectors import TrafficSelector

IPV4_HEADER_BYTES = 20
IPV6_HEADER_BYTES = 40

PROTOCOL_ICMP = 1
PROTOCOL_TCP = 6
PROTOCOL_ICMPV6 = 58
_WITH_PORTS = frozenset((PROTOCOL_TCP, 17, 33, 132, 136))
"""TCP, UDP, DCCP, SCTP, UDP-Lite."""
_WITH_TYPE_AND_CODE = frozenset((PROTOCOL_ICMP, PROTOCOL_ICMPV6))

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS = 0, 43, 44, 60
_EXTENSIONS = frozenset((_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS))
_MAX_EXTENSIONS = 8
_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE = 131, 137

_PORTS = struct.Struct("!HH")
_FULL_RANGE = (0, 65535)
_OPAQUE = (65535, 0)
"""A selector for packets that have no port to look at (RFC 7296 section 3.13.1)."""


class MalformedPacket(Exception):
    """Not an IP packet that may pass: lengths that do not fit, or a route that would go round the selectors."""


@dataclass(frozen=True, slots=True)
class InnerPacket:
    """The selectors of a packet (RFC 4301 section 4.4.1.1)."""

    version: int
    length: int
    """Octets by its own header; what follows them is traffic flow confidentiality padding."""
    source: int
    destination: int
    protocol: int | None
    """None where extension headers hide it in a later fragment."""
    source_port: int | None
    """None where there is none, or a fragment does not show it. For ICMP, type and code (RFC 7296 section 3.13.1)."""
    destination_port: int | None


def parse_inner(data: bytes | memoryview) -> InnerPacket:
    """Read one packet; bytes after its end are allowed.

    Raises:
        MalformedPacket: anything that is not a well-formed IPv4 or IPv6 header, and source routes.
    """
    version = data[0] >> 4 if data else 0
    if version == 4:
        return _parse_ipv4(data)
    if version == 6:
        return _parse_ipv6(data)
    raise MalformedPacket("neither IPv4 nor IPv6")


def _parse_ipv4(data: bytes | memoryview) -> InnerPacket:
    if len(data) < IPV4_HEADER_BYTES:
        raise MalformedPacket("IPv4 header too short")
    header_bytes = (data[0] & 0x0F) * 4
    length = data[2] << 8 | data[3]
    if not IPV4_HEADER_BYTES <= header_bytes <= length <= len(data):
        raise MalformedPacket("IPv4 lengths")
    if header_bytes > IPV4_HEADER_BYTES:
        _refuse_source_route(bytes(data[IPV4_HEADER_BYTES:header_bytes]))
    fragment_offset = (data[6] << 8 | data[7]) & 0x1FFF
    source_port = destination_port = None
    if not fragment_offset:
        source_port, destination_port = _ports(data, data[9], header_bytes, length)
    return InnerPacket(
        4,
        length,
        int.from_bytes(data[12:16], "big"),
        int.from_bytes(data[16:20], "big"),
        data[9],
        source_port,
        destination_port,
    )


def _refuse_source_route(options: bytes) -> None:
    """A source-routed packet would go on from the destination that the selectors allow to one that they do not."""
    position = 0
    while position < len(options):
        kind = options[position]
        if kind == 0:
            return
        if kind == 1:
            position += 1
            continue
        if kind in (_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE):
            raise MalformedPacket("IPv4 source route")
        size = options[position + 1] if position + 1 < len(options) else 0
        if size < 2 or position + size > len(options):
            raise MalformedPacket("IPv4 option length")
        position += size


def _parse_ipv6(data: bytes | memoryview) -> InnerPacket:
    if len(data) < IPV6_HEADER_BYTES:
        raise MalformedPacket("IPv6 header too short")
    length = IPV6_HEADER_BYTES + (data[4] << 8 | data[5])
    if length > len(data):
        raise MalformedPacket("IPv6 length")
    protocol: int | None = data[6]
    offset = IPV6_HEADER_BYTES
    first_fragment = True
    for _ in range(_MAX_EXTENSIONS):
        if protocol not in _EXTENSIONS:
            break
        if offset + 8 > length:
            raise MalformedPacket("IPv6 extension header too short")
        if protocol == _FRAGMENT:
            size = 8
            first_fragment = (data[offset + 2] << 8 | data[offset + 3]) & 0xFFF8 == 0
        else:
            size = 8 + 8 * data[offset + 1]
            if protocol == _ROUTING and data[offset + 3]:
                raise MalformedPacket("IPv6 source route")
        protocol = data[offset]
        offset += size
        if offset > length:
            raise MalformedPacket("IPv6 extension header length")
        if not first_fragment:
            # What follows is the middle of something: further extension headers can't be told from data.
            protocol = None if protocol in _EXTENSIONS else protocol
            break
    if protocol in _EXTENSIONS:
        raise MalformedPacket("too many IPv6 extension headers")
    source_port = destination_port = None
    if first_fragment and protocol is not None:
        source_port, destination_port = _ports(data, protocol, offset, length)
    return InnerPacket(
        6,
        length,
        int.from_bytes(data[8:24], "big"),
        int.from_bytes(data[24:40], "big"),
        protocol,
        source_port,
        destination_port,
    )


def _ports(data: bytes | memoryview, protocol: int, offset: int, length: int) -> tuple[int | None, int | None]:
    if offset + 4 > length:
        return None, None
    if protocol in _WITH_PORTS:
        source, destination = _PORTS.unpack_from(data, offset)
        return source, destination
    if protocol in _WITH_TYPE_AND_CODE:
        type_and_code = data[offset] << 8 | data[offset + 1]
        return type_and_code, type_and_code
    return None, None


def looks_at_addresses_only(selectors: Sequence[TrafficSelector]) -> bool:
    """Whether no selector limits protocol or ports, so that source and destination decide alone."""
    return all(s.protocol == 0 and (s.start_port, s.end_port) == _FULL_RANGE for s in selectors)


def matches(
    selectors: Sequence[TrafficSelector], version: int, address: int, protocol: int | None, port: int | None
) -> bool:
    """Whether one of the selectors takes a packet with this end.

    A packet without a port that can be seen (a later fragment, a protocol that has none) is taken only by a
    selector of all ports, or by an OPAQUE one: so a selector limited to ports lets no later fragment through, and
    no one can hide behind fragments (RFC 4301 section 7).
    """
    for selector in selectors:
        if selector.version != version or not selector.start <= address <= selector.end:
            continue
        if selector.protocol and selector.protocol != protocol:
            continue
        ports = (selector.start_port, selector.end_port)
        if ports == _FULL_RANGE or (port is None and ports == _OPAQUE):
            return True
        if port is not None and selector.start_port <= port <= selector.end_port:
            return True
    return False
