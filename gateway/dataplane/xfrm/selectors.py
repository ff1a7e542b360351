"""Traffic selectors of IKE, which are ranges, as selectors of the kernel, which are prefixes and masks."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from gateway.dataplane.interface import DataPlaneError
from gateway.dataplane.xfrm.structures import SELECTOR, Direction, pack_port
from gateway.ike.selectors import TrafficSelector

MAX_PAIRS = 512
"""Of prefixes of one child SA; each takes three policies. A range may fall apart into 62 prefixes, or 254."""

_ICMP = frozenset((1, 58))
_ALL_PORTS = (0, 65_535)
_PORT_BITS = 16


class Selector(NamedTuple):
    """What one policy looks at (struct xfrm_selector); compares and hashes as the tuple that it is."""

    version: int
    source: int
    source_prefix: int
    destination: int
    destination_prefix: int
    protocol: int = 0
    source_port: int = 0
    """For ICMP the type."""
    source_port_mask: int = 0
    destination_port: int = 0
    """For ICMP the code."""
    destination_port_mask: int = 0

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return socket.AF_INET if self.version == 4 else socket.AF_INET6

    @property
    def specificity(self) -> int:
        """How many bits of a packet it looks at, at most 296: of two that take a packet the higher one decides."""
        return (
            self.source_prefix
            + self.destination_prefix
            + (8 if self.protocol else 0)
            + self.source_port_mask.bit_count()
            + self.destination_port_mask.bit_count()
        )

    def to_bytes(self) -> bytes:
        """struct xfrm_selector."""
        size = 4 if self.version == 4 else 16
        return SELECTOR.pack(
            self.destination.to_bytes(size, "big"),
            self.source.to_bytes(size, "big"),
            pack_port(self.destination_port),
            pack_port(self.destination_port_mask),
            pack_port(self.source_port),
            pack_port(self.source_port_mask),
            self.family,
            self.destination_prefix,
            self.source_prefix,
            self.protocol,
            0,
            0,
        )


ANY = bytes(SELECTOR.size)
"""The selector of a state whose policies do the selecting."""


def policy_selectors(
    name: str, local: Sequence[TrafficSelector], remote: Sequence[TrafficSelector]
) -> frozenset[tuple[Direction, Selector]]:
    """The policies that a child SA needs: inward to the gateway itself, inward to be forwarded, outward.

    Args:
        name: of the child SA, for errors.
        local: inner addresses behind the gateway.
        remote: inner addresses of the client.

    Raises:
        DataPlaneError: the selectors can't be said in the kernel's terms, or take too many policies.
    """
    found: set[tuple[Direction, Selector]] = set()
    for ours, theirs in product(local, remote):
        if ours.version != theirs.version:
            continue
        if ours.protocol and theirs.protocol and ours.protocol != theirs.protocol:
            continue
        protocol = ours.protocol or theirs.protocol
        for outward in _pairs(name, ours, theirs, protocol):
            inward = _reversed(outward)
            found.update(((Direction.OUT, outward), (Direction.IN, inward), (Direction.FWD, inward)))
            if len(found) > 3 * MAX_PAIRS:
                raise DataPlaneError(f"{name}: its traffic selectors take more than {3 * MAX_PAIRS} kernel policies")
    return frozenset(found)


def _pairs(name: str, ours: TrafficSelector, theirs: TrafficSelector, protocol: int) -> Iterator[Selector]:
    bits = 32 if ours.version == 4 else 128
    sources, destinations = _prefixes(ours.start, ours.end, bits), _prefixes(theirs.start, theirs.end, bits)
    if protocol in _ICMP:
        ports = _icmp_masks(name, ours, theirs)
    else:
        ports = list(product(_port_masks(name, ours), _port_masks(name, theirs)))
    if len(sources) * len(destinations) * len(ports) > MAX_PAIRS:
        raise DataPlaneError(f"{name}: its traffic selectors take more than {3 * MAX_PAIRS} kernel policies")
    for (source, source_prefix), (destination, destination_prefix), (ours_port, theirs_port) in product(
        sources, destinations, ports
    ):
        yield Selector(
            ours.version,
            source,
            source_prefix,
            destination,
            destination_prefix,
            protocol,
            *ours_port,
            *theirs_port,
        )


def _reversed(selector: Selector) -> Selector:
    """The packets that answer. ICMP's type and code do not change places."""
    turned = selector._replace(
        source=selector.destination,
        source_prefix=selector.destination_prefix,
        destination=selector.source,
        destination_prefix=selector.source_prefix,
    )
    if selector.protocol in _ICMP:
        return turned
    return turned._replace(
        source_port=selector.destination_port,
        source_port_mask=selector.destination_port_mask,
        destination_port=selector.source_port,
        destination_port_mask=selector.source_port_mask,
    )


def _prefixes(start: int, end: int, bits: int) -> list[tuple[int, int]]:
    """The prefixes that make up a range: first number and length of each."""
    found = []
    while start <= end:
        size = min(start & -start if start else 1 << bits, 1 << (end - start + 1).bit_length() - 1)
        found.append((start, bits + 1 - size.bit_length()))
        start += size
    return found


def _mask(length: int) -> int:
    return 0xFFFF << (_PORT_BITS - length) & 0xFFFF


def _port_masks(name: str, selector: TrafficSelector) -> list[tuple[int, int]]:
    """The values and masks that make up a range of ports."""
    if selector.start_port > selector.end_port:
        raise DataPlaneError(f"{name}: the kernel has no selector for packets without ports (OPAQUE)")
    return [(port, _mask(length)) for port, length in _prefixes(selector.start_port, selector.end_port, _PORT_BITS)]


def _icmp_masks(
    name: str, ours: TrafficSelector, theirs: TrafficSelector
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Type and code of ICMP, which both sides name as a port, type first (RFC 7296 section 3.13.1)."""
    start = max(ours.start_port, theirs.start_port)
    end = min(ours.end_port, theirs.end_port)
    if (start, end) == _ALL_PORTS:
        return [((0, 0), (0, 0))]
    first_type, first_code, last_type, last_code = start >> 8, start & 0xFF, end >> 8, end & 0xFF
    if start <= end and (first_code, last_code) == (0, 0xFF):
        return [((kind, 0xFFFF), (0, 0)) for kind in range(first_type, last_type + 1)]
    if start <= end and first_type == last_type:
        return [((first_type, 0xFFFF), (code, 0xFFFF)) for code in range(first_code, last_code + 1)]
    raise DataPlaneError(f"{name}: the kernel has no selector for ICMP from {start:#06x} to {end:#06x}")
