"""Reading inner packets: every length, every header that could hide what the selectors must see."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.userspace.packet import (
    InnerPacket,
    MalformedPacket,
    looks_at_addresses_only,
    matches,
    parse_inner,
)
from gateway.ike.selectors import TS_IPV4_ADDR_RANGE, TrafficSelector
from tests.unit.gateway.dataplane.packets import MORE_FRAGMENTS, Tcp, icmp_echo, ip, udp

V4 = ("10.99.0.2", "10.1.0.10")
V6 = ("fd99::2", "fd01::10")
PORTS = struct.pack("!HH", 4000, 53) + bytes(8)


def selector(network: str, protocol: int = 0, ports: tuple[int, int] = (0, 65535)) -> TrafficSelector:
    whole = TrafficSelector.from_network(ip_network(network))
    return TrafficSelector(whole.ts_type, protocol, *ports, whole.start, whole.end)


@pytest.mark.parametrize(
    ("packet", "protocol", "ports"),
    [
        pytest.param(udp(*V4, (4000, 53)), 17, (4000, 53), id="udp"),
        pytest.param(Tcp(*V4).packet(), 6, (40000, 443), id="tcp"),
        pytest.param(icmp_echo(*V4), 1, (0x0800, 0x0800), id="icmp type and code"),
        pytest.param(ip(*V4, 132, PORTS), 132, (4000, 53), id="sctp"),
        pytest.param(ip(*V4, 47, PORTS), 47, (None, None), id="gre has no ports"),
        pytest.param(ip(*V4, 17, b"\0\1\0"), 17, (None, None), id="too short for ports"),
        pytest.param(ip(*V4, 17, PORTS, fragment=MORE_FRAGMENTS), 17, (4000, 53), id="first fragment"),
        pytest.param(ip(*V4, 17, PORTS, fragment=185), 17, (None, None), id="later fragment"),
        pytest.param(ip(*V4, 17, PORTS, options=b"\1\1\1\0"), 17, (4000, 53), id="ipv4 options"),
        pytest.param(ip(*V4, 17, PORTS, options=b"\x07\x07\x04\0\0\0\0\0"), 17, (4000, 53), id="record route"),
        pytest.param(ip(*V6, 17, PORTS), 17, (4000, 53), id="ipv6"),
        pytest.param(ip(*V6, 58, b"\x80\0" + bytes(6)), 58, (0x8000, 0x8000), id="icmpv6 type and code"),
        pytest.param(ip(*V6, 0, PORTS, extensions=b"\x11\0" + bytes(6)), 17, (4000, 53), id="hop by hop"),
        pytest.param(ip(*V6, 60, PORTS, extensions=b"\x11\1" + bytes(14)), 17, (4000, 53), id="destination options"),
        pytest.param(ip(*V6, 43, PORTS, extensions=b"\x11\0\0\0" + bytes(4)), 17, (4000, 53), id="spent route"),
        pytest.param(
            ip(*V6, 0, PORTS, extensions=b"\x2c\0" + bytes(6) + b"\x11\0\0\1" + bytes(4)),
            17,
            (4000, 53),
            id="ipv6 first fragment",
        ),
        pytest.param(
            ip(*V6, 44, PORTS, extensions=b"\x11\0\5\1" + bytes(4)), 17, (None, None), id="later fragment 6"
        ),
        pytest.param(
            ip(*V6, 44, PORTS, extensions=b"\x3c\0\5\1" + bytes(4)), None, (None, None), id="hidden protocol"
        ),
        pytest.param(ip(*V6, 59, b""), 59, (None, None), id="no next header"),
    ],
)
def test_reads(packet: bytes, protocol: int | None, ports: tuple[int | None, int | None]) -> None:
    version = packet[0] >> 4
    source, destination = V4 if version == 4 else V6
    expected = InnerPacket(
        version, len(packet), int(ip_address(source)), int(ip_address(destination)), protocol, *ports
    )
    assert parse_inner(packet) == expected
    # Octets behind the packet are traffic flow confidentiality padding (RFC 4303 section 2.7).
    assert parse_inner(memoryview(packet + b"padding")) == expected


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x55" + bytes(40), id="version 5"),
        pytest.param(b"\x44" + icmp_echo(*V4)[1:], id="header of 16"),
        pytest.param(b"\x4f" + icmp_echo(*V4)[1:], id="header beyond the packet"),
        pytest.param(icmp_echo(*V4)[:2] + b"\0\x13" + icmp_echo(*V4)[4:], id="length below the header"),
        pytest.param(ip(*V4, 17, PORTS, options=b"\x83\x07\x04\x0a\2\0\1\0"), id="loose source route"),
        pytest.param(ip(*V4, 17, PORTS, options=b"\1\x89\x07\x04\x0a\2\0\1"), id="strict source route"),
        pytest.param(ip(*V4, 17, PORTS, options=b"\x07\0\0\0"), id="option of length 0"),
        pytest.param(ip(*V4, 17, PORTS, options=b"\x07\1\0\0"), id="option of length 1"),
        pytest.param(ip(*V4, 17, PORTS, options=b"\x07\7\4\0"), id="option beyond the header"),
        pytest.param(ip(*V4, 17, PORTS, options=b"\1\1\1\7"), id="option without length"),
        pytest.param(ip(*V6, 43, PORTS, extensions=b"\x11\2\0\1" + bytes(20)), id="routing header"),
        pytest.param(ip(*V6, 43, PORTS, extensions=b"\x11\2\4\1" + bytes(20)), id="segment routing"),
        pytest.param(ip(*V6, 0, b"\x11"), id="extension too short"),
        pytest.param(ip(*V6, 0, b"\x11\5" + bytes(6)), id="extension beyond the packet"),
        pytest.param(ip(*V6, 60, b"", extensions=(b"\x3c\0" + bytes(6)) * 9), id="nine extensions"),
    ],
)
def test_refuses(packet: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse_inner(packet)


@pytest.mark.parametrize("packet", [udp(*V4, (4000, 53)), ip(*V6, 0, PORTS, extensions=b"\x11\0" + bytes(6))])
def test_refuses_every_truncation(packet: bytes) -> None:
    for size in range(len(packet)):
        with pytest.raises(MalformedPacket):
            parse_inner(packet[:size])


@given(st.one_of(st.binary(max_size=120), st.binary(max_size=120).map(lambda data: b"\x60\0\0\0\0\x40" + data)))
def test_reads_anything_or_refuses_it(data: bytes) -> None:
    try:
        packet = parse_inner(data)
    except MalformedPacket:
        return
    assert packet.length <= len(data)
    assert packet.version == data[0] >> 4


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ([selector("10.0.0.0/8")], True),
        ([selector("10.1.0.10/32")], True),
        ([selector("10.1.0.11/32")], False),
        ([selector("fd00::/8")], False),
        ([selector("10.2.0.0/16"), selector("10.1.0.0/16")], True),
        ([selector("10.0.0.0/8", protocol=6)], True),
        ([selector("10.0.0.0/8", protocol=17)], False),
        ([selector("10.0.0.0/8", protocol=6, ports=(443, 443))], True),
        ([selector("10.0.0.0/8", protocol=6, ports=(400, 500))], True),
        ([selector("10.0.0.0/8", protocol=6, ports=(444, 500))], False),
        ([selector("10.0.0.0/8", ports=(0, 442))], False),
        ([selector("10.0.0.0/8", ports=(65535, 0))], False),
        ([], False),
    ],
)
def test_matches_a_tcp_packet_to_port_443(selectors: list[TrafficSelector], expected: bool) -> None:
    assert matches(selectors, 4, int(ip_address("10.1.0.10")), 6, 443) is expected


def test_a_packet_without_visible_port_passes_no_selector_of_ports() -> None:
    address = int(ip_address("10.1.0.10"))
    assert not matches([selector("10.0.0.0/8", ports=(0, 65534))], 4, address, 17, None)
    assert not matches([selector("10.0.0.0/8", ports=(53, 53))], 4, address, 17, None)
    assert matches([selector("10.0.0.0/8", ports=(65535, 0))], 4, address, 17, None)
    assert matches([selector("10.0.0.0/8")], 4, address, 17, None)


def test_a_packet_without_visible_protocol_passes_no_selector_of_a_protocol() -> None:
    address = int(ip_address("fd01::10"))
    assert not matches([selector("fd00::/8", protocol=17)], 6, address, None, None)
    assert matches([selector("fd00::/8")], 6, address, None, None)


def test_an_ipv4_number_is_no_ipv6_address() -> None:
    low = TrafficSelector(TS_IPV4_ADDR_RANGE, 0, 0, 65535, 1, 1)
    assert not matches([low], 6, 1, 6, 443)


def test_tells_selectors_that_look_at_addresses_only() -> None:
    assert looks_at_addresses_only([selector("10.0.0.0/8"), selector("fd00::/8")])
    assert not looks_at_addresses_only([selector("10.0.0.0/8"), selector("fd00::/8", protocol=6)])
    assert not looks_at_addresses_only([selector("10.0.0.0/8", ports=(1, 65535))])
