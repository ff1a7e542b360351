"""Traffic selectors in the kernel's terms: exactly the same packets, in prefixes and masks."""

from __future__ import annotations

import random
import socket
import struct
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest

from gateway.dataplane.interface import DataPlaneError
from gateway.dataplane.xfrm.selectors import ANY, Selector, policy_selectors
from gateway.dataplane.xfrm.structures import Direction
from gateway.ike.selectors import TS_IPV4_ADDR_RANGE, TS_IPV6_ADDR_RANGE, TrafficSelector

CLIENT, CLIENT_6 = (TrafficSelector.from_network(ip_network(text)) for text in ("10.99.0.2/32", "fd99::2/128"))


def network(text: str, **limits: int) -> TrafficSelector:
    return replace(TrafficSelector.from_network(ip_network(text)), **limits)


def addresses(first: str, last: str) -> TrafficSelector:
    start, end = ip_address(first), ip_address(last)
    kind = TS_IPV4_ADDR_RANGE if start.version == 4 else TS_IPV6_ADDR_RANGE
    return TrafficSelector(kind, 0, 0, 65_535, int(start), int(end))


def outward(local: tuple[TrafficSelector, ...], *remote: TrafficSelector) -> list[Selector]:
    found = policy_selectors("child SA 1", local, remote or (CLIENT,))
    return sorted(selector for direction, selector in found if direction is Direction.OUT)


def prefixes(selectors: list[Selector]) -> list[str]:
    kinds = {4: IPv4Network, 6: IPv6Network}
    return [str(kinds[s.version]((s.source, s.source_prefix))) for s in selectors]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("0.0.0.0", "255.255.255.255", ["0.0.0.0/0"]),
        ("10.0.0.0", "10.0.0.255", ["10.0.0.0/24"]),
        ("10.0.0.1", "10.0.0.1", ["10.0.0.1/32"]),
        ("10.0.0.1", "10.0.0.4", ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]),
        ("255.255.255.254", "255.255.255.255", ["255.255.255.254/31"]),
        ("fd00::", "fd00::ffff:ffff:ffff:ffff", ["fd00::/64"]),
        ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ["::/0"]),
        ("fd00::ffff", "fd00::1:0", ["fd00::ffff/128", "fd00::1:0/128"]),
    ],
)
def test_a_range_becomes_prefixes(first: str, last: str, expected: list[str]) -> None:
    remote = CLIENT if ip_address(first).version == 4 else CLIENT_6
    assert prefixes(outward((addresses(first, last),), remote)) == expected


def test_the_widest_range_takes_62_prefixes() -> None:
    found = outward((addresses("0.0.0.1", "255.255.255.254"),))
    assert len(found) == 62
    assert sum(1 << 32 - selector.source_prefix for selector in found) == (1 << 32) - 2


def test_both_directions_and_forwarding() -> None:
    found = policy_selectors("child SA 1", (network("10.0.0.0/8"), network("fd00::/8")), (CLIENT, CLIENT_6))
    out = Selector(4, int(ip_address("10.0.0.0")), 8, int(ip_address("10.99.0.2")), 32)
    back = Selector(4, int(ip_address("10.99.0.2")), 32, int(ip_address("10.0.0.0")), 8)
    assert {(direction, s) for direction, s in found if s.version == 4} == {
        (Direction.OUT, out),
        (Direction.IN, back),
        (Direction.FWD, back),
    }
    assert len(found) == 6


def test_ports_change_places_with_the_direction() -> None:
    found = policy_selectors(
        "child SA 1",
        (network("10.0.0.0/8", protocol=6, start_port=443, end_port=443),),
        (replace(CLIENT, protocol=6, start_port=1024, end_port=2047),),
    )
    by_direction = dict(found)
    out, back = by_direction[Direction.OUT], by_direction[Direction.IN]
    assert (out.protocol, out.source_port, out.source_port_mask) == (6, 443, 0xFFFF)
    assert (out.destination_port, out.destination_port_mask) == (1024, 0xFC00)
    assert (back.source_port, back.source_port_mask) == (1024, 0xFC00)
    assert (back.destination_port, back.destination_port_mask) == (443, 0xFFFF)


def test_a_range_of_ports_becomes_masks() -> None:
    found = outward((network("10.0.0.0/8", protocol=17, start_port=1000, end_port=1003),))
    assert [(s.source_port, s.source_port_mask) for s in found] == [(1000, 0xFFFC)]
    found = outward((network("10.0.0.0/8", protocol=17, start_port=1, end_port=3),))
    assert [(s.source_port, s.source_port_mask) for s in found] == [(1, 0xFFFF), (2, 0xFFFE)]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ((0, 65_535), [(0, 0, 0, 0)]),
        ((0x0800, 0x08FF), [(8, 0xFFFF, 0, 0)]),
        ((0x0000, 0x01FF), [(0, 0xFFFF, 0, 0), (1, 0xFFFF, 0, 0)]),
        ((0x0304, 0x0304), [(3, 0xFFFF, 4, 0xFFFF)]),
        ((0x0303, 0x0304), [(3, 0xFFFF, 3, 0xFFFF), (3, 0xFFFF, 4, 0xFFFF)]),
    ],
)
def test_icmp_by_type_and_code(ports: tuple[int, int], expected: list[tuple[int, ...]]) -> None:
    found = policy_selectors(
        "child SA 1", (network("10.0.0.0/8", protocol=1, start_port=ports[0], end_port=ports[1]),), (CLIENT,)
    )
    for wanted in (Direction.OUT, Direction.IN, Direction.FWD):
        assert sorted(s[6:] for direction, s in found if direction is wanted) == expected


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"protocol": 17, "start_port": 65_535, "end_port": 0}, "OPAQUE"),
        ({"protocol": 1, "start_port": 0x0301, "end_port": 0x0400}, "no selector for ICMP"),
        ({"protocol": 58, "start_port": 65_535, "end_port": 0}, "no selector for ICMP"),
    ],
)
def test_what_the_kernel_can_not_say_is_refused(limits: dict[str, int], reason: str) -> None:
    with pytest.raises(DataPlaneError, match=f"child SA 1: .*{reason}"):
        outward((network("10.0.0.0/8", **limits),))


def test_too_many_policies_are_refused() -> None:
    ports = {"protocol": 6, "start_port": 1, "end_port": 65_534}
    with pytest.raises(DataPlaneError, match="more than 1536 kernel policies"):
        outward((replace(addresses("10.0.0.1", "10.0.255.254"), **ports),))
    many = tuple(addresses(f"{net}.0.0.1", f"{net}.255.255.254") for net in range(1, 13))
    with pytest.raises(DataPlaneError, match="more than 1536 kernel policies"):
        outward(many)


def test_what_can_not_meet_makes_no_policy() -> None:
    assert outward((network("fd00::/8"),)) == []
    assert outward((network("10.0.0.0/8", protocol=6),), replace(CLIENT, protocol=17)) == []
    assert outward(()) == []


def test_the_one_that_looks_at_more_is_more_specific() -> None:
    wide, narrow = outward((network("0.0.0.0/0"),))[0], outward((network("10.0.0.0/8"),))[0]
    protocol = outward((network("10.0.0.0/8", protocol=6),))[0]
    port = outward((network("10.0.0.0/8", protocol=6, start_port=443, end_port=443),))[0]
    assert wide.specificity < narrow.specificity < protocol.specificity < port.specificity
    most = Selector(6, 0, 128, 0, 128, 6, 1, 0xFFFF, 1, 0xFFFF)
    assert most.specificity == 296


def test_a_selector_is_laid_out_as_the_header_says() -> None:
    selector = Selector(4, 0x0A630002, 32, 0x0A000000, 8, 17, 0x1234, 0xFFFF, 0x5678, 0xFF00)
    body = selector.to_bytes()
    assert body[0:16] == bytes.fromhex("0a000000") + bytes(12)
    assert body[16:32] == bytes.fromhex("0a630002") + bytes(12)
    assert body[32:40] == bytes.fromhex("5678ff001234ffff")
    assert struct.unpack_from("=HBBB", body, 40) == (socket.AF_INET, 8, 32, 17)
    assert body[45:] == bytes(11)
    assert Selector(6, 1, 128, 2, 128).to_bytes()[15] == 2
    assert bytes(56) == ANY


def test_the_same_packets_whatever_the_range() -> None:
    """Two hundred random ranges: every address near a border is in a prefix just when it is in the range."""
    source = random.Random(3)
    for _ in range(200):
        start, end = sorted(source.randrange(1 << 32) >> source.randrange(32) for _ in range(2))
        found = outward((TrafficSelector(TS_IPV4_ADDR_RANGE, 0, 0, 65_535, start, end),))
        for address in {start - 1, start, start + 1, (start + end) // 2, end - 1, end, end + 1} - {-1, 1 << 32}:
            covered = [s for s in found if address >> 32 - s.source_prefix == s.source >> 32 - s.source_prefix]
            assert len(covered) == (1 if start <= address <= end else 0)
