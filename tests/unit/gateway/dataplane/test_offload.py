"""Joining TCP segments: taking the result apart, as the kernel does, must give back what came in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane.userspace.offload import MAX_SEGMENTS, Parts, TcpCoalescer, ones_complement_sum
from tests.unit.gateway.dataplane.packets import ACK, PSH, Tcp, as_the_kernel_would, checksum, icmp_echo, udp

TCP6 = Tcp(source="fd99::2", destination="fd01::10")


def join(packets: list[bytes], *, same_peer: bool = True) -> list[bytes]:
    """What is written to the device for packets that arrive in one batch."""
    written: list[bytes] = []

    def write(parts: Parts) -> None:
        written.append(b"".join(parts))

    coalescer = TcpCoalescer(write)
    arena = memoryview(bytearray(b"".join(packets)))
    start = 0
    for packet in packets:
        end = start + len(packet)
        if not same_peer:
            coalescer.forget_latest()
        if not coalescer.continues(arena, start, end):
            coalescer.add(arena, start, end)
        start = end
    coalescer.flush()
    coalescer.flush()
    return written


def apart(written: list[bytes]) -> list[bytes]:
    return [packet for one in written for packet in as_the_kernel_would(one)]


def octets(segments: list[Tcp]) -> list[bytes]:
    return [segment.packet() for segment in segments]


@pytest.mark.parametrize("same_peer", [True, False])
@pytest.mark.parametrize("base", [Tcp(), Tcp(options=b""), TCP6, Tcp(fragment=0), Tcp(tos=0xB8)])
def test_joins_a_stream(base: Tcp, same_peer: bool) -> None:
    packets = octets(base.stream([1348] * 40))
    written = join(packets, same_peer=same_peer)
    assert len(written) == 1
    assert apart(written) == packets


def test_a_shorter_segment_ends_the_packet() -> None:
    packets = octets(Tcp().stream([1000] * 5 + [400] + [1000] * 3))
    written = join(packets)
    assert [len(as_the_kernel_would(one)) for one in written] == [6, 3]
    assert apart(written) == packets


def test_a_pushed_segment_ends_the_packet_and_stays_pushed() -> None:
    stream = Tcp().stream([1000] * 8)
    stream[4] = replace(stream[4], flags=ACK | PSH)
    packets = octets(stream)
    written = join(packets)
    assert [len(as_the_kernel_would(one)) for one in written] == [5, 3]
    assert apart(written) == packets


def test_a_longer_segment_begins_another_packet() -> None:
    packets = octets(Tcp().stream([1000] * 3 + [1200] * 3))
    written = join(packets)
    assert [len(as_the_kernel_would(one)) for one in written] == [3, 3]
    assert apart(written) == packets


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 5_000_000},
        {"acknowledgement": 5001},
        {"window": 511},
        {"tos": 1},
        {"ttl": 63},
        {"options": b"\1\1\x08\x0a\0\0\0\2\0\0\0\2"},
        {"options": b""},
        {"flags": ACK | 0x01},
        {"flags": ACK | 0x02},
        {"flags": ACK | 0x04},
        {"flags": ACK | 0x20},
        {"flags": ACK | 0x40},
        {"flags": ACK | 0x80},
        {"flags": 0},
        {"fragment": 0x4001},
        {"fragment": 0x2000},
        {"fragment": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("at", [1, 3])
def test_a_segment_that_differs_is_not_joined(change: dict[str, Any], at: int) -> None:
    stream = Tcp().stream([1000] * 6)
    stream[at] = replace(stream[at], **change)
    packets = octets(stream)
    written = join(packets)
    assert apart(written) == packets
    assert packets[at] in {one[10:] for one in written}


def test_without_dont_fragment_the_identification_must_count_up() -> None:
    stream = Tcp(fragment=0).stream([1000] * 4)
    stream[2] = replace(stream[2], identification=9999)
    packets = octets(stream)
    assert apart(join(packets)) == packets


def test_with_dont_fragment_the_identification_means_nothing() -> None:
    stream = [replace(segment, identification=0) for segment in Tcp().stream([1000] * 4)]
    written = join(octets(stream))
    assert len(written) == 1
    # Equal but for identification and the header checksum that covers it (RFC 6864).
    for received, sent in zip(apart(written), octets(stream), strict=True):
        assert received[:4] + received[6:10] + received[12:] == sent[:4] + sent[6:10] + sent[12:]


@pytest.mark.parametrize("start", [(1 << 32) - 2500, (1 << 32) - 1000])
@pytest.mark.parametrize("base", [Tcp(), Tcp(fragment=0, identification=65534), TCP6])
def test_numbers_may_wrap(base: Tcp, start: int) -> None:
    packets = octets(replace(base, sequence=start).stream([1000] * 6))
    assert apart(join(packets)) == packets


def test_no_packet_grows_beyond_64_kilobytes() -> None:
    for base in (Tcp(), TCP6):
        packets = octets(base.stream([1300] * 120))
        written = join(packets)
        assert len(written) == 3
        assert max(map(len, written)) <= 10 + 65535
        assert apart(written) == packets


def test_no_packet_has_too_many_segments() -> None:
    packets = octets(Tcp().stream([1] * (2 * MAX_SEGMENTS + 10)))
    written = join(packets)
    assert [len(as_the_kernel_would(one)) for one in written] == [MAX_SEGMENTS, MAX_SEGMENTS, 10]
    assert apart(written) == packets


@pytest.mark.parametrize("base", [Tcp(bad_checksum=True), replace(TCP6, bad_checksum=True)])
def test_a_stream_with_wrong_checksums_is_handed_over_as_it_is(base: Tcp) -> None:
    packets = octets(base.stream([1000] * 5))
    assert join(packets) == [bytes(10) + packet for packet in packets]


def test_a_wrong_header_checksum_is_handed_over_as_it_is() -> None:
    packets = [bytearray(packet) for packet in octets(Tcp().stream([1000] * 3))]
    for packet in packets:
        packet[10] ^= 1
    assert join([bytes(packet) for packet in packets]) == [bytes(10) + packet for packet in packets]


@pytest.mark.parametrize(
    "packet",
    [
        icmp_echo("10.99.0.2", "10.1.0.10"),
        udp("10.99.0.2", "10.1.0.10", (1, 2)),
        udp("fd99::2", "fd01::10", (1, 2)),
        Tcp().packet(),
        Tcp(payload=b"data", flags=ACK | PSH).packet(),
        Tcp().packet()[:20],
        TCP6.packet()[:40],
        Tcp(payload=b"data").packet()[:32] + b"\x10" + Tcp(payload=b"data").packet()[33:],
        Tcp(payload=b"data").packet()[:32] + b"\xf0" + Tcp(payload=b"data").packet()[33:],
    ],
    ids=lambda packet: packet[:40].hex(),
)
def test_everything_else_goes_on_at_once(packet: bytes) -> None:
    written: list[bytes] = []

    def write(parts: Parts) -> None:
        written.append(b"".join(parts))

    coalescer = TcpCoalescer(write)
    coalescer.add(memoryview(bytearray(packet)), 0, len(packet))
    assert written == [bytes(10) + packet]


def test_an_acknowledgement_does_not_overtake_the_data_before_it() -> None:
    stream = Tcp().stream([1000] * 3)
    finish = replace(stream[2], sequence=stream[2].sequence + 1000, payload=b"", flags=ACK | 0x01)
    packets = octets([*stream, finish])
    assert apart(join(packets)) == packets


def test_flows_are_joined_side_by_side() -> None:
    one, two = Tcp().stream([1000] * 10), Tcp(source_port=40001, sequence=77).stream([900] * 10)
    mixed = [packet for both in zip(octets(one), octets(two), strict=True) for packet in both]
    written = join(mixed)
    assert len(written) == 2
    assert apart(written) == octets(one) + octets(two)


def test_what_another_peer_sent_does_not_continue_a_run_unchecked() -> None:
    packets = octets(Tcp().stream([1000] * 4))
    arena = memoryview(bytearray(b"".join(packets)))
    size = len(packets[0])
    coalescer = TcpCoalescer(lambda _: None)
    for number in range(3):
        coalescer.add(arena, number * size, (number + 1) * size)
    coalescer.forget_latest()
    assert not coalescer.continues(arena, 3 * size, 4 * size)


flow = st.builds(
    Tcp,
    source_port=st.sampled_from((40000, 40001)),
    fragment=st.sampled_from((0, 0x4000)),
    options=st.sampled_from((b"", b"\1\1\x08\x0a\0\0\0\1\0\0\0\2")),
    sequence=st.sampled_from((1000, (1 << 32) - 900)),
)
sizes = st.lists(st.sampled_from((0, 1, 100, 100, 100, 100, 200)), max_size=12)
change = st.tuples(
    st.integers(0, 11),
    st.sampled_from(
        (
            {"flags": ACK | PSH},
            {"flags": ACK | 1},
            {"window": 3},
            {"ttl": 1},
            {"identification": 5},
            {"sequence": 1},
        )
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    streams=st.lists(st.tuples(flow, sizes, st.booleans(), st.lists(change, max_size=2)), min_size=1, max_size=3),
    order=st.randoms(use_true_random=False),
)
def test_any_mixture_comes_out_as_it_went_in(
    streams: list[tuple[Tcp, list[int], bool, list[tuple[int, dict[str, Any]]]]], order: Any
) -> None:
    queues: list[list[Tcp]] = []
    for base, lengths, ipv6, changes in streams:
        segments = (replace(base, source=TCP6.source, destination=TCP6.destination) if ipv6 else base).stream(lengths)
        for at, what in changes:
            if at < len(segments):
                segments[at] = replace(segments[at], **what)
        queues.append(segments)
    mixed: list[bytes] = []
    while any(queues):
        queue = order.choice([queue for queue in queues if queue])
        mixed.append(queue.pop(0).packet())

    received = apart(join(mixed))
    # Flow by flow; of a packet that can't be fragmented, the identification may differ.
    assert by_flow(received) == by_flow(mixed)


def by_flow(packets: list[bytes]) -> dict[bytes, list[bytes]]:
    flows: dict[bytes, list[bytes]] = {}
    for packet in packets:
        ipv4 = packet[0] >> 4 == 4
        comparable = packet
        if ipv4 and packet[6] & 0x40:
            comparable = packet[:4] + packet[6:10] + packet[12:]
        flows.setdefault(packet[12:24] if ipv4 else packet[8:44], []).append(comparable)
    return flows


@given(st.binary(max_size=100))
def test_the_sum_is_that_of_rfc_1071(data: bytes) -> None:
    assert ones_complement_sum(data) % 0xFFFF == (checksum(data) ^ 0xFFFF) % 0xFFFF
