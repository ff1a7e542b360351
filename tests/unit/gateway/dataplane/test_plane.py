"""The whole data plane, from the device of one side to the device of the other."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from structlog.testing import capture_logs

from gateway.dataplane.interface import ChildSa, DataPlaneError, EspKeys, EspSuite
from tests.unit.gateway.dataplane.packets import ACK, PSH, Tcp, icmp_echo, ip, udp
from tests.unit.gateway.dataplane.sides import (
    CLIENT,
    CLIENT_INNER,
    CLIENT_INNER_6,
    CLIENT_SPI,
    GATEWAY_SPI,
    SERVER,
    SERVER_6,
    Side,
    child_sa,
    joined,
    other_half,
    selectors,
)
from tests.unit.gateway.dataplane.test_esp import SUITES

PING = icmp_echo(CLIENT_INNER, SERVER)
PING_6 = ip(CLIENT_INNER_6, SERVER_6, 58, b"\x80\0" + bytes(20))
REPLY = icmp_echo(SERVER, CLIENT_INNER)
UPLOAD = [segment.packet() for segment in Tcp().stream([1348] * 40 + [700])]
DOWNLOAD = [
    segment.packet()
    for segment in Tcp(source=SERVER, destination=CLIENT_INNER, destination_port=1).stream([1348] * 100)
]


def esp(inner: bytes, *, next_header: int = 4, sequence: int = 1, sa: ChildSa | None = None) -> bytes:
    """A packet of the client, made by hand (RFC 4106), so that it may be one that no plane would send."""
    sa = sa or child_sa()
    key, salt = sa.keys_in.encryption[:-4], sa.keys_in.encryption[-4:]
    padding = -(len(inner) + 2) % 4
    plaintext = inner + bytes(range(1, padding + 1)) + bytes((padding, next_header))
    header, iv = struct.pack("!II", sa.spi_in, sequence), sequence.to_bytes(8, "little")
    return header + iv + AESGCM(key).encrypt(salt + iv, plaintext, header)


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_carries_packets_both_ways(suite: EspSuite) -> None:
    gateway, client = joined(child_sa(suite))
    assert gateway.open(*client.seal(PING, PING_6, *UPLOAD)) == [PING, PING_6, *UPLOAD]
    assert client.open(*gateway.seal(REPLY, *DOWNLOAD)) == [REPLY, *DOWNLOAD]
    for side, spi, inward, outward in (
        (gateway, GATEWAY_SPI, [PING, PING_6, *UPLOAD], [REPLY, *DOWNLOAD]),
        (client, CLIENT_SPI, [REPLY, *DOWNLOAD], [PING, PING_6, *UPLOAD]),
    ):
        counters = side.counters(spi)
        assert (counters.packets_in, counters.bytes_in) == (len(inward), sum(map(len, inward)))
        assert (counters.packets_out, counters.bytes_out) == (len(outward), sum(map(len, outward)))
        assert (counters.replays, counters.failures) == (0, 0)
        assert counters.last_in_s == 100.0


def test_a_joined_batch_is_opened_like_single_packets() -> None:
    gateway, client = joined()
    client.device.to_read.extend(UPLOAD[:40])
    client.loop.turn()
    assert [len(batch.split()) for batch in client.sent] == [40]
    for batch in client.sent:
        gateway.plane.receive_segments(memoryview(batch.packets), batch.segment_bytes, CLIENT, True)
    assert not gateway.device.written
    gateway.plane.flush()
    assert len(gateway.device.written) == 1
    assert gateway.device.take() == UPLOAD[:40]


def test_a_joined_batch_may_hold_packets_of_several_child_sas() -> None:
    gateway, client = joined()
    newer = child_sa(spis=(GATEWAY_SPI + 1, CLIENT_SPI + 1))
    gateway.plane.install(newer)
    old = client.seal(*UPLOAD[:6])
    client.plane.install(other_half(newer))
    new = client.seal(*UPLOAD[:6])
    unknown = b"\0\0\x99\x99" + new[0][4:]
    batch = b"".join([old[0], new[0], new[1], unknown, old[1], old[2], new[2], old[3]])
    gateway.plane.receive_segments(memoryview(batch), len(old[0]), CLIENT, True)
    gateway.plane.flush()
    expected = [UPLOAD[number] for number in (0, 0, 1, 1, 2, 2, 3)]
    assert gateway.device.take() == expected
    assert gateway.counters(GATEWAY_SPI).packets_in == 4
    assert gateway.counters(GATEWAY_SPI + 1).packets_in == 3
    assert gateway.counters(GATEWAY_SPI).failures == gateway.counters(GATEWAY_SPI + 1).failures == 0
    assert gateway.plane.statistics()["unknown_spi"] == 1


def test_batches_have_one_size_with_a_shorter_end() -> None:
    _, client = joined()
    sizes = [1000, 1000, 400, 1000, 1200, 1200, 50, 60]
    packets = [udp(CLIENT_INNER, SERVER, (1, 2), bytes(size)) for size in sizes]
    client.device.to_read.extend(packets)
    client.loop.turn()
    assert [[len(packet) for packet in batch.split()] for batch in client.sent] == [
        [1064, 1064, 464],
        [1064],
        [1264, 1264, 112],
        [124],
    ]
    gateway, _ = joined()
    assert gateway.open(*(packet for batch in client.sent for packet in batch.split())) == packets


def test_a_turn_reads_a_limited_number_of_packets() -> None:
    _, client = joined()
    client.device.to_read.extend([PING] * 500)
    client.loop.turn()
    assert 0 < len(client.device.to_read) < 500
    assert max(len(batch.split()) for batch in client.sent) <= 64


def test_no_batch_is_larger_than_a_datagram() -> None:
    _, client = joined()
    packets = [udp(CLIENT_INNER, SERVER, (1, 2), bytes(9000))] * 30
    client.device.to_read.extend(packets)
    client.loop.turn()
    assert max(len(batch.packets) for batch in client.sent) <= 65_507
    gateway, _ = joined()
    assert gateway.open(*(packet for batch in client.sent for packet in batch.split())) == packets


def test_drops_and_counts_an_unknown_spi() -> None:
    gateway, _ = joined()
    assert gateway.open(b"\x12\x34\x56\x78" + bytes(100)) == []
    assert gateway.plane.statistics()["unknown_spi"] == 1


@pytest.mark.parametrize("size", range(34))
def test_drops_and_counts_what_is_too_short(size: int) -> None:
    gateway, _ = joined()
    assert gateway.open((GATEWAY_SPI.to_bytes(4, "big") + bytes(40))[:size]) == []
    assert gateway.plane.statistics()["malformed_esp"] == (1 if size else 0)


def test_drops_and_counts_a_packet_that_is_not_authentic() -> None:
    gateway, client = joined()
    (packet,) = client.seal(PING)
    assert gateway.open(packet[:-1] + bytes([packet[-1] ^ 1])) == []
    assert gateway.counters(GATEWAY_SPI).failures == 1
    assert gateway.counters(GATEWAY_SPI).last_in_s == 0.0
    # It did not use up the sequence number.
    assert gateway.open(packet) == [PING]


def test_drops_and_counts_a_replay() -> None:
    gateway, client = joined()
    packets = client.seal(*[PING] * 100)
    assert gateway.open(*packets) == [PING] * 100
    assert gateway.open(packets[50], packets[99], packets[0]) == []
    assert gateway.counters(GATEWAY_SPI).replays == 3
    assert gateway.counters(GATEWAY_SPI).packets_in == 100


def test_drops_a_dummy_packet_silently_and_takes_it_as_a_sign_of_life() -> None:
    gateway, _ = joined()
    assert gateway.open(esp(b"anything", next_header=59), esp(b"", next_header=59, sequence=2)) == []
    counters = gateway.counters(GATEWAY_SPI)
    assert (counters.failures, counters.packets_in, counters.last_in_s) == (0, 0, 100.0)


def test_cuts_off_traffic_flow_confidentiality_padding() -> None:
    gateway, _ = joined()
    assert gateway.open(esp(PING + bytes(300))) == [PING]
    assert gateway.counters(GATEWAY_SPI).bytes_in == len(PING)


@pytest.mark.parametrize(
    ("inner", "next_header"),
    [
        pytest.param(b"", 4, id="nothing"),
        pytest.param(PING, 41, id="IPv4 said to be IPv6"),
        pytest.param(PING_6, 4, id="IPv6 said to be IPv4"),
        pytest.param(PING[:-1], 4, id="cut off"),
        pytest.param(PING[:12], 4, id="cut off in the header"),
        pytest.param(b"\x45", 4, id="one octet"),
        pytest.param(b"\x60", 41, id="one octet of IPv6"),
        pytest.param(ip(CLIENT_INNER, SERVER, 1, bytes(8), options=b"\x83\3\4\0"), 4, id="source route"),
        pytest.param(icmp_echo("10.99.0.3", SERVER), 4, id="another client's address"),
        pytest.param(icmp_echo(SERVER, CLIENT_INNER), 4, id="the network's address"),
        pytest.param(icmp_echo(CLIENT_INNER, "192.168.1.1"), 4, id="a network that is not open to it"),
        pytest.param(ip("fd99::3", SERVER_6, 58, bytes(8)), 41, id="another client's IPv6 address"),
        pytest.param(ip(CLIENT_INNER_6, "2001:db8::1", 58, bytes(8)), 41, id="an IPv6 network not open to it"),
    ],
)
def test_lets_no_packet_in_that_the_selectors_do_not_name(inner: bytes, next_header: int) -> None:
    gateway, client = joined()
    assert gateway.open(*client.seal(PING)) == [PING]
    assert gateway.open(esp(inner, next_header=next_header, sequence=2)) == []
    assert gateway.counters(GATEWAY_SPI).failures == 1
    assert gateway.counters(GATEWAY_SPI).packets_in == 1


def test_a_client_can_not_slip_into_the_stream_of_another() -> None:
    gateway = Side()
    clients = {}
    for number in (2, 3):
        sa = child_sa(client=selectors(f"10.99.0.{number}"), spis=(GATEWAY_SPI + number, CLIENT_SPI + number))
        gateway.plane.install(sa)
        clients[number] = Side()
        clients[number].plane.install(other_half(sa))
    stream = [segment.packet() for segment in Tcp(source="10.99.0.2").stream([1000] * 6)]
    first = clients[2].seal(*stream[:3], *stream[4:])
    # The other client claims the fourth segment's address; its own plane would not send that.
    sa = child_sa(client=selectors("10.99.0.3"), spis=(GATEWAY_SPI + 3, CLIENT_SPI + 3))
    forged = esp(stream[3], sa=sa)
    assert gateway.open(*first[:3], forged, *first[3:]) == stream[:3] + stream[4:]
    assert gateway.counters(GATEWAY_SPI + 3).failures == 1


@pytest.mark.parametrize(
    ("packet", "counted"),
    [
        pytest.param(icmp_echo(SERVER, "10.99.0.3"), "no_route", id="an address that no client has"),
        pytest.param(ip(SERVER_6, "ff02::2", 58, bytes(8)), "no_route", id="multicast of the kernel's own"),
        pytest.param(icmp_echo("192.168.1.1", CLIENT_INNER), "refused", id="from a network not open to the client"),
        pytest.param(REPLY[:-1], "refused", id="cut off"),
        pytest.param(b"\x45" + bytes(10), "refused", id="cut off in the header"),
        pytest.param(b"", "refused", id="nothing"),
        pytest.param(bytes(60), "refused", id="zeros"),
    ],
)
def test_sends_no_packet_that_the_selectors_do_not_name(packet: bytes, counted: str) -> None:
    gateway, _ = joined()
    assert len(gateway.seal(REPLY, packet)) == 1
    statistics = gateway.plane.statistics()
    assert statistics[counted] == 1
    assert statistics["no_route"] + statistics["refused"] == 1
    assert gateway.counters(GATEWAY_SPI).packets_out == 1


def test_selectors_of_ports_hold_in_both_directions() -> None:
    web = child_sa(inside=selectors("10.0.0.0/8", protocol=6, ports=(443, 443)), client=selectors(CLIENT_INNER))
    gateway, _ = joined(web)
    client = Side()
    client.plane.install(replace(other_half(web), remote_selectors=selectors("10.0.0.0/8")))
    good = Tcp(flags=ACK | PSH, payload=b"x").packet()
    bad = [
        Tcp(destination_port=22, flags=ACK | PSH, payload=b"x").packet(),
        udp(CLIENT_INNER, SERVER, (443, 443)),
        ip(CLIENT_INNER, SERVER, 6, bytes(30), fragment=100),
        PING,
    ]
    assert gateway.open(*client.seal(good, *bad, good)) == [good, good]
    assert gateway.counters(GATEWAY_SPI).failures == 4

    answer = Tcp(SERVER, CLIENT_INNER, 443, 40000, payload=b"y").packet()
    wrong = Tcp(SERVER, CLIENT_INNER, 22, 40000, payload=b"y").packet()
    assert len(gateway.seal(answer, wrong, REPLY, answer)) == 2
    assert gateway.plane.statistics()["refused"] == 2


def test_a_packet_goes_to_the_first_child_sa_that_takes_it() -> None:
    gateway = Side()
    everything = child_sa(spis=(GATEWAY_SPI, CLIENT_SPI))
    web = child_sa(inside=selectors("10.0.0.0/8", protocol=6), spis=(GATEWAY_SPI + 1, CLIENT_SPI + 1))
    gateway.plane.install(everything)
    gateway.plane.install(web)
    answer = Tcp(SERVER, CLIENT_INNER, 443, 40000, payload=b"y").packet()
    spis = [packet[:4] for packet in gateway.seal(REPLY)] + [packet[:4] for packet in gateway.seal(answer)]
    assert spis == [CLIENT_SPI.to_bytes(4, "big"), (CLIENT_SPI + 1).to_bytes(4, "big")]


def test_a_newer_child_sa_takes_over_and_an_older_one_carries_on() -> None:
    gateway, client = joined()
    newer = child_sa(spis=(GATEWAY_SPI + 1, CLIENT_SPI + 1))
    gateway.plane.install(newer)
    assert [packet[:4] for packet in gateway.seal(REPLY)] == [(CLIENT_SPI + 1).to_bytes(4, "big")]
    # The old one still receives, until it is deleted.
    assert gateway.open(*client.seal(PING)) == [PING]
    gateway.plane.remove(GATEWAY_SPI + 1)
    assert [packet[:4] for packet in gateway.seal(REPLY)] == [CLIENT_SPI.to_bytes(4, "big")]
    gateway.plane.remove(GATEWAY_SPI)
    assert gateway.seal(REPLY) == []


def test_a_range_of_addresses_is_routed_too() -> None:
    gateway = Side()
    gateway.plane.install(child_sa(client=selectors("10.99.8.0/24", "fd99:8::/64")))
    packets = gateway.seal(
        icmp_echo(SERVER, "10.99.8.77"),
        ip(SERVER_6, "fd99:8::77", 58, bytes(8)),
        icmp_echo(SERVER, "10.99.9.1"),
    )
    assert len(packets) == 2
    assert gateway.plane.statistics()["no_route"] == 1


def test_removal_stops_both_directions_at_once() -> None:
    gateway, client = joined()
    before, after = client.seal(PING, PING)
    gateway.open(before)
    counters = gateway.plane.remove(GATEWAY_SPI)
    assert counters is not None
    assert counters.packets_in == 1
    assert gateway.open(after) == []
    assert gateway.seal(REPLY) == []
    assert gateway.plane.counters(GATEWAY_SPI) is None
    assert gateway.plane.remove(GATEWAY_SPI) is None


def test_follows_a_peer_whose_nat_gave_it_another_port() -> None:
    gateway, client = joined()
    first, second, third, fourth = client.seal(PING, PING, PING, PING)
    assert gateway.open(first) == [PING]
    assert not gateway.moves
    moved = ("203.0.113.9", 1024)
    assert gateway.open(third, remote=moved) == [PING]
    assert gateway.moves == [(GATEWAY_SPI, ip_address("203.0.113.9"), 1024)]
    gateway.device.to_read.append(REPLY)
    gateway.loop.turn()
    sent_to = gateway.sent[0].endpoints
    assert (str(sent_to.remote), sent_to.remote_port) == moved
    # A packet that was under way longer does not lead back.
    assert gateway.open(second) == [PING]
    assert len(gateway.moves) == 1
    assert gateway.open(fourth) == [PING]
    assert gateway.moves[1:] == [(GATEWAY_SPI, ip_address(CLIENT[0]), CLIENT[1])]


def test_follows_nothing_that_is_not_authentic_or_replayed() -> None:
    gateway, client = joined()
    (packet,) = client.seal(PING)
    gateway.open(packet[:-1] + b"\0", packet[:-1] + b"\1", remote=("203.0.113.9", 1024))
    gateway.open(packet)
    gateway.open(packet, remote=("203.0.113.9", 1024))
    assert not gateway.moves


def test_follows_no_peer_that_has_no_nat_to_move_it() -> None:
    """Where only the gateway is behind one: whoever catches a packet and sends it on would have all that follow."""
    sa = child_sa()
    gateway, client = joined(replace(sa, endpoints=replace(sa.endpoints, peer_behind_nat=False)))
    first, second = client.seal(PING, PING)
    assert gateway.open(first, remote=("203.0.113.9", 4500)) == [PING]
    assert not gateway.moves
    gateway.device.to_read.append(REPLY)
    gateway.loop.turn()
    assert (str(gateway.sent[0].endpoints.remote), gateway.sent[0].endpoints.remote_port) == CLIENT
    assert gateway.open(second) == [PING]


def test_without_udp_encapsulation_nothing_moves() -> None:
    gateway, client = joined(child_sa(udp=False))
    packets = client.seal(PING, PING)
    assert gateway.open(packets[0], remote=("203.0.113.9", 0), udp=False) == [PING]
    assert gateway.open(packets[1], remote=("203.0.113.9", 1024)) == [PING]
    assert not gateway.moves


def test_another_spelling_of_the_same_address_is_no_move() -> None:
    sa = child_sa()
    gateway, client = joined(replace(sa, endpoints=replace(sa.endpoints, remote=ip_address("2001:db8::2"))))
    assert gateway.open(*client.seal(PING, PING), remote=("2001:0DB8:0::2", CLIENT[1])) == [PING, PING]
    assert not gateway.moves


def test_the_gateway_may_remove_a_child_sa_that_moves() -> None:
    gateway, client = joined()
    first, second = b"".join(client.seal(*[PING] * 5)), b"".join(client.seal(*[PING] * 5))
    gateway.on_event = gateway.plane.remove
    for batch in (first, second):
        gateway.plane.receive_segments(memoryview(batch), len(batch) // 5, ("203.0.113.9", 1024), True)
    gateway.plane.flush()
    assert gateway.device.take() == [PING] * 5
    assert gateway.plane.statistics()["unknown_spi"] == 5


def test_stops_sending_when_the_sequence_numbers_are_used_up() -> None:
    gateway, _ = joined()
    child = gateway.plane._children[GATEWAY_SPI]  # the number can't be reached by sending 2**32 packets
    child.sealer.sequence = (1 << 32) - 3
    sealed = gateway.seal(*[REPLY] * 5)
    assert [int.from_bytes(packet[4:8], "big") for packet in sealed] == [0xFFFF_FFFE, 0xFFFF_FFFF]
    assert gateway.ends == [(GATEWAY_SPI, "hard")]
    assert gateway.seal(REPLY) == []
    assert gateway.plane.statistics()["exhausted"] == 3
    assert gateway.counters(GATEWAY_SPI).packets_out == 2


def test_counts_what_the_device_does_not_take() -> None:
    gateway, client = joined()
    gateway.device.refuse = True
    assert gateway.open(*client.seal(PING)) == []
    assert gateway.plane.statistics()["device_refused"] == 1


def test_a_device_that_is_gone_is_watched_no_more() -> None:
    gateway, _ = joined()
    gateway.device.gone = True
    with capture_logs() as logs:
        gateway.loop.turn()
    assert [entry["log_level"] for entry in logs] == ["critical"]
    assert not gateway.loop.readers
    gateway.plane.close()


@pytest.mark.parametrize(
    "change",
    [
        {"spi_in": 255},
        {"spi_in": 1 << 32},
        {"spi_out": 0},
        {"local_selectors": ()},
        {"remote_selectors": ()},
        {"replay_window_packets": 32},
        {"keys_in": EspKeys(bytes(16), b"")},
        {"keys_out": EspKeys(bytes(16), b"")},
    ],
    ids=str,
)
def test_refuses_a_child_sa_that_can_not_work_and_changes_nothing(change: dict[str, object]) -> None:
    gateway = Side()
    with pytest.raises(DataPlaneError):
        gateway.plane.install(replace(child_sa(), **change))  # type: ignore[arg-type]
    assert gateway.seal(REPLY) == []
    gateway.plane.install(child_sa())
    with pytest.raises(DataPlaneError, match="exists already"):
        gateway.plane.install(child_sa())
    assert len(gateway.seal(REPLY)) == 1


def test_move_sends_to_where_ike_says() -> None:
    gateway, _ = joined()
    there = replace(child_sa().endpoints, remote=ip_address("203.0.113.5"), remote_port=999)
    gateway.plane.move(GATEWAY_SPI, there)
    gateway.plane.move(GATEWAY_SPI + 1, there)
    gateway.device.to_read.append(REPLY)
    gateway.loop.turn()
    assert gateway.sent[0].endpoints == there
    assert not gateway.moves


def test_close_removes_everything_and_nothing_works_any_more() -> None:
    gateway, client = joined()
    first, packet = client.seal(UPLOAD[0], UPLOAD[1])
    gateway.plane.receive_segments(memoryview(first), len(first), CLIENT, True)
    gateway.plane.close()
    gateway.plane.close()
    gateway.plane.flush()
    assert not gateway.loop.readers
    assert gateway.transmitter.forgotten == [child_sa().endpoints]
    assert gateway.device.closed
    assert gateway.plane.counters(GATEWAY_SPI) is None
    assert gateway.open(packet) == []


def test_no_packet_raises() -> None:
    """Ten thousand packets: noise, noise with our SPI, damaged ones, and authentic ones with noise inside."""
    source = random.Random(4303)
    gateway, client = joined()
    samples = client.seal(*[PING, PING_6, UPLOAD[0]] * 20)
    sequence = 1000
    for _ in range(2500):
        noise = source.randbytes(source.randrange(1, 200))
        damaged = bytearray(source.choice(samples))
        for _ in range(source.randrange(1, 4)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        sequence += 1
        inner = bytearray(source.choice((PING, PING_6, UPLOAD[0], source.randbytes(70))))
        for _ in range(source.randrange(6)):
            inner[source.randrange(len(inner))] = source.randrange(256)
        gateway.open(
            noise,
            GATEWAY_SPI.to_bytes(4, "big") + noise,
            bytes(damaged[: source.randrange(1, len(damaged) + 1)]),
            esp(bytes(inner), next_header=source.choice((4, 41, 59, 6)), sequence=sequence),
        )
        reply = bytearray(REPLY)
        reply[source.randrange(len(reply))] = source.randrange(256)
        gateway.seal(bytes(inner), noise, bytes(reply))
    counters = gateway.counters(GATEWAY_SPI)
    assert counters.packets_in > 200
    assert counters.packets_out > 200
    assert counters.failures > 1000
    # And it still works.
    assert gateway.open(esp(PING, sequence=sequence + 1)) == [PING]


def test_batches_of_noise_do_not_raise() -> None:
    source = random.Random(3948)
    gateway, client = joined()
    good = b"".join(client.seal(*[PING] * 30))
    for _ in range(300):
        batch = bytearray(good)
        for _ in range(source.randrange(20)):
            batch[source.randrange(len(batch))] = source.randrange(256)
        cut = batch[: source.randrange(1, len(batch) + 1)]
        gateway.plane.receive_segments(memoryview(cut), source.randrange(1, 300), CLIENT, True)
    gateway.plane.receive_segments(memoryview(bytearray(1 << 20)), 1 << 20, CLIENT, True)
    gateway.plane.flush()
    assert gateway.plane.statistics()["malformed_esp"] > 0
    gateway.device.take()
    assert gateway.open(esp(PING, sequence=5000)) == [PING]
