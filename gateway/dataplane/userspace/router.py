"""Which child SA an inner packet belongs to, and whether its traffic selectors let it pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.dataplane.userspace.packet import (
    IPV4_HEADER_BYTES,
    IPV6_HEADER_BYTES,
    MalformedPacket,
    looks_at_addresses_only,
    matches,
    parse_inner,
)
from gateway.ike.selectors import TrafficSelector

if TYPE_CHECKING:  # a child holds its guards, so importing it here would be a circle
    from gateway.dataplane.userspace.child import Child

_MAX_ADMITTED = 1024
_MAX_FLOWS = 8192
"""Entries after which a cache starts anew: a peer that varies addresses costs time, and no memory."""

_IPV4_WITHOUT_OPTIONS = 0x45
_IPV6_WITHOUT_EXTENSIONS = frozenset((6, 17, 58))


class OutsideSelectors(Exception):
    """The packet is well formed, and not one that its child SA may carry."""


class SelectorGuard:
    """Lets the packets of one direction of a child SA pass that its selectors name (RFC 4301 section 5).

    Where the selectors look at nothing but addresses, a pair of addresses that passed once passes again by one
    look-up. Packets with options or extension headers are read in full each time.
    """

    __slots__ = ("_admitted", "_destinations", "_sources", "addresses_only")

    def __init__(self, sources: Sequence[TrafficSelector], destinations: Sequence[TrafficSelector]) -> None:
        self._sources = tuple(sources)
        self._destinations = tuple(destinations)
        self.addresses_only = looks_at_addresses_only(self._sources) and looks_at_addresses_only(self._destinations)
        self._admitted: set[bytes] = set()

    def admit(self, data: memoryview, start: int, end: int) -> int:
        """Check the packet in `data[start:end]`; return where it ends by its own header.

        Raises:
            MalformedPacket: not a packet.
            OutsideSelectors: a packet that the selectors do not name.
        """
        key = b""
        if end - start >= IPV4_HEADER_BYTES and data[start] == _IPV4_WITHOUT_OPTIONS:
            key = bytes(data[start + 12 : start + 20])
            packet_end = start + (data[start + 2] << 8 | data[start + 3])
            if key in self._admitted and start + IPV4_HEADER_BYTES <= packet_end <= end:
                return packet_end
        elif (
            end - start >= IPV6_HEADER_BYTES and data[start] >> 4 == 6 and data[start + 6] in _IPV6_WITHOUT_EXTENSIONS
        ):
            key = bytes(data[start + 8 : start + 40])
            packet_end = start + IPV6_HEADER_BYTES + (data[start + 4] << 8 | data[start + 5])
            if key in self._admitted and packet_end <= end:
                return packet_end
        return self._admit_slowly(data, start, end, key)

    def _admit_slowly(self, data: memoryview, start: int, end: int, key: bytes) -> int:
        packet = parse_inner(data[start:end])
        if not (
            matches(self._sources, packet.version, packet.source, packet.protocol, packet.source_port)
            and matches(
                self._destinations, packet.version, packet.destination, packet.protocol, packet.destination_port
            )
        ):
            raise OutsideSelectors
        if key and self.addresses_only:
            if len(self._admitted) >= _MAX_ADMITTED:
                self._admitted.clear()
            self._admitted.add(key)
        return start + packet.length


class Router:
    """Finds the child SA of a packet that leaves for a client: exact addresses first, then ranges, newest first.

    Of a lineage only the newest child SA sends; when it goes, the one before it that is still there carries on.
    """

    def __init__(self) -> None:
        self._lineages: dict[int, list[Child]] = {}
        """Oldest first; the last one of each sends."""
        self._exact: dict[bytes, list[Child]] = {}
        self._ranges: list[tuple[TrafficSelector, Child]] = []
        self._flows: dict[bytes, Child] = {}
        self.no_route = 0
        """Packets to an address that no child SA has."""
        self.refused = 0
        """Packets that were malformed, or outside the selectors of the child SA that has the destination."""

    def add(self, child: Child) -> None:
        """Route to this child SA what its remote selectors name, and nothing to those before it of its lineage."""
        lineage = self._lineages.setdefault(child.sa.lineage, [])
        if lineage:
            self._unroute(lineage[-1])
        lineage.append(child)
        self._route(child)

    def _route(self, child: Child) -> None:
        for selector in child.sa.remote_selectors:
            if selector.start == selector.end:
                children = self._exact.setdefault(_address_key(selector), [])
                if child not in children:
                    children.insert(0, child)
            else:
                self._ranges.insert(0, (selector, child))
        self._flows.clear()

    def remove(self, child: Child) -> None:
        """Route nothing to it any more."""
        lineage = self._lineages.get(child.sa.lineage, [])
        if child not in lineage:
            return
        sent = lineage[-1] is child
        lineage.remove(child)
        if not lineage:
            del self._lineages[child.sa.lineage]
        if sent:
            self._unroute(child)
            if lineage:
                self._route(lineage[-1])

    def forget_flows(self) -> None:
        """What selectors allow has changed: look at them again."""
        self._flows.clear()

    def _unroute(self, child: Child) -> None:
        for selector in child.sa.remote_selectors:
            children = self._exact.get(_address_key(selector), [])
            if child in children:
                children.remove(child)
                if not children:
                    del self._exact[_address_key(selector)]
        self._ranges = [(selector, other) for selector, other in self._ranges if other is not child]
        self._flows = {key: other for key, other in self._flows.items() if other is not child}

    def route(self, packet: bytes) -> Child | None:
        """The child SA that carries this packet; None, counted, where there is none."""
        size = len(packet)
        if size >= IPV4_HEADER_BYTES and packet[0] == _IPV4_WITHOUT_OPTIONS:
            key = packet[12:20]
            whole = packet[2] << 8 | packet[3] == size
        elif size >= IPV6_HEADER_BYTES and packet[0] >> 4 == 6:
            key = packet[8:40]
            whole = (packet[4] << 8 | packet[5]) + IPV6_HEADER_BYTES == size
        elif size >= IPV4_HEADER_BYTES and packet[0] >> 4 == 4:
            key, whole = packet[12:20], False
        else:
            self.refused += 1
            return None
        child = self._flows.get(key)
        if child is not None and whole:
            return child
        return self._route_slowly(packet, key)

    def _route_slowly(self, packet: bytes, key: bytes) -> Child | None:
        address = key[len(key) // 2 :]
        candidates = list(self._exact.get(address, ()))
        if self._ranges:
            version, number = (4 if len(address) == 4 else 6), int.from_bytes(address, "big")
            candidates += [
                child
                for selector, child in self._ranges
                if selector.version == version and selector.start <= number <= selector.end
            ]
        if not candidates:
            self.no_route += 1
            return None
        view = memoryview(packet)
        for child in candidates:
            try:
                end = child.outbound.admit(view, 0, len(packet))
            except MalformedPacket:
                break
            except OutsideSelectors:
                continue
            if end != len(packet):
                break
            # Behind a child SA that is choosier than addresses, the next packet may belong to that one.
            if child.outbound.addresses_only and child is candidates[0]:
                if len(self._flows) >= _MAX_FLOWS:
                    self._flows.clear()
                self._flows[key] = child
            return child
        self.refused += 1
        return None


def _address_key(selector: TrafficSelector) -> bytes:
    return selector.start.to_bytes(4 if selector.version == 4 else 16, "big")
