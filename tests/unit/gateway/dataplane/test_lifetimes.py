"""The life of a pair of ESP SAs: rekeyed, narrowed, moved, and over."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gateway.dataplane.interface import DataPlaneError, EspLifetime
from gateway.dataplane.lifetime import LAST_SEQUENCE, SOFT_SEQUENCE, bounded
from tests.unit.gateway.dataplane.packets import ACK, Tcp, icmp_echo
from tests.unit.gateway.dataplane.sides import (
    CLIENT_INNER,
    CLIENT_SPI,
    GATEWAY_SPI,
    SERVER,
    Side,
    child_sa,
    joined,
    other_half,
    selectors,
)

PING = icmp_echo(CLIENT_INNER, SERVER)
REPLY = icmp_echo(SERVER, CLIENT_INNER)
OLD_OUT, NEW_OUT = CLIENT_SPI.to_bytes(4, "big"), (CLIENT_SPI + 1).to_bytes(4, "big")
NEWER = child_sa(spis=(GATEWAY_SPI + 1, CLIENT_SPI + 1), lineage=GATEWAY_SPI)
"""What follows the pair of `joined` by rekeying."""


def spis(packets: list[bytes]) -> list[bytes]:
    return [packet[:4] for packet in packets]


# --- Rekeying -----------------------------------------------------------------------------------------------


def test_a_pair_that_waits_receives_and_does_not_send_until_told() -> None:
    gateway, _ = joined()
    gateway.plane.install(NEWER, outbound=False)
    assert spis(gateway.seal(REPLY)) == [OLD_OUT]
    gateway.plane.start_outbound(NEWER.spi_in)
    assert spis(gateway.seal(REPLY)) == [NEW_OUT]
    gateway.plane.start_outbound(NEWER.spi_in)
    assert spis(gateway.seal(REPLY)) == [NEW_OUT]


def test_the_first_authentic_packet_on_the_new_pair_starts_it() -> None:
    gateway, client = joined()
    gateway.plane.install(NEWER, outbound=False)
    gateway.seal(REPLY)
    (old,) = client.seal(PING)
    client.plane.install(other_half(NEWER))
    (new,) = client.seal(PING)
    forged = new[:-1] + bytes([new[-1] ^ 1])
    assert gateway.open(old, forged) == [PING]
    assert spis(gateway.seal(REPLY)) == [OLD_OUT]
    assert gateway.open(new) == [PING]
    assert spis(gateway.seal(REPLY)) == [NEW_OUT]


def test_no_packet_is_lost_in_a_rekeying() -> None:
    gateway, client = joined()
    in_flight = client.seal(PING)
    gateway.plane.install(NEWER, outbound=False)
    client.plane.install(other_half(NEWER))
    assert client.open(*gateway.seal(REPLY)) == [REPLY]
    assert gateway.open(*client.seal(PING), *in_flight) == [PING, PING]
    assert client.open(*gateway.seal(REPLY)) == [REPLY]
    assert gateway.plane.remove(GATEWAY_SPI) is not None
    assert client.open(*gateway.seal(REPLY)) == [REPLY]


def test_only_the_newest_of_a_lineage_sends_even_what_only_an_older_one_would_take() -> None:
    gateway, _ = joined()
    narrower = replace(NEWER, local_selectors=selectors("10.1.0.0/16"))
    gateway.plane.install(narrower)
    assert gateway.seal(icmp_echo("10.2.0.1", CLIENT_INNER)) == []
    assert gateway.plane.statistics()["refused"] == 1
    assert spis(gateway.seal(REPLY)) == [NEW_OUT]


def test_the_one_before_carries_on_when_the_newest_of_a_lineage_goes() -> None:
    gateway, _ = joined()
    gateway.plane.install(NEWER)
    third = child_sa(spis=(GATEWAY_SPI + 2, CLIENT_SPI + 2), lineage=GATEWAY_SPI)
    gateway.plane.install(third)
    gateway.plane.remove(NEWER.spi_in)
    gateway.plane.remove(third.spi_in)
    assert spis(gateway.seal(REPLY)) == [OLD_OUT]


def test_a_pair_that_is_gone_can_not_be_started() -> None:
    gateway, _ = joined()
    with pytest.raises(DataPlaneError, match=r"child SA 00000bad is gone"):
        gateway.plane.start_outbound(0xBAD)


# --- Narrowing ----------------------------------------------------------------------------------------------


def test_a_restriction_holds_at_once_in_both_directions() -> None:
    gateway, client = joined()
    there, elsewhere = icmp_echo(CLIENT_INNER, SERVER), icmp_echo(CLIENT_INNER, "10.2.0.1")
    back, from_elsewhere = icmp_echo(SERVER, CLIENT_INNER), icmp_echo("10.2.0.1", CLIENT_INNER)
    assert gateway.open(*client.seal(there, elsewhere)) == [there, elsewhere]
    assert len(gateway.seal(back, from_elsewhere)) == 2
    gateway.plane.restrict(GATEWAY_SPI, selectors("10.1.0.0/16"))
    assert gateway.open(*client.seal(there, elsewhere)) == [there]
    assert gateway.counters(GATEWAY_SPI).failures == 1
    assert len(gateway.seal(back, from_elsewhere)) == 1
    assert gateway.plane.statistics()["refused"] == 1


def test_a_restriction_to_nothing_stops_everything_and_keeps_the_counters() -> None:
    gateway, client = joined()
    assert gateway.open(*client.seal(PING)) == [PING]
    gateway.plane.restrict(GATEWAY_SPI, ())
    assert gateway.open(*client.seal(PING)) == []
    assert gateway.seal(REPLY) == []
    assert gateway.counters(GATEWAY_SPI).packets_in == 1


def test_a_restriction_catches_a_stream_that_is_under_way() -> None:
    """Segments of a flow that was let in are joined without a look at the selectors."""
    gateway, client = joined()
    stream = [segment.packet() for segment in Tcp(flags=ACK).stream([1000] * 8)]
    sealed = client.seal(*stream)
    for packet in sealed[:4]:
        gateway.plane.receive_segments(memoryview(packet), len(packet), ("198.51.100.2", 40500), True)
    gateway.plane.restrict(GATEWAY_SPI, selectors("10.2.0.0/16"))
    assert gateway.open(*sealed[4:]) == stream[:4]
    assert gateway.counters(GATEWAY_SPI).failures == 4


def test_restricting_what_is_not_there_is_no_error() -> None:
    Side().plane.restrict(GATEWAY_SPI, ())


# --- Moving -------------------------------------------------------------------------------------------------


def test_moves_to_another_address_of_the_gateway_too() -> None:
    gateway, client = joined()
    in_flight = client.seal(PING)
    ends = replace(child_sa().endpoints, local=ip_address("2001:db8::1"), remote=ip_address("2001:db8::2"))
    gateway.plane.move(GATEWAY_SPI, ends)
    gateway.device.to_read.append(REPLY)
    gateway.loop.turn()
    assert [batch.endpoints for batch in gateway.sent] == [ends]
    assert gateway.open(*in_flight, remote=("2001:db8::2", 40500)) == [PING]
    assert gateway.counters(GATEWAY_SPI).packets_out == 1


# --- Lifetimes ----------------------------------------------------------------------------------------------


def test_time_ends_the_soft_and_then_the_hard_lifetime() -> None:
    gateway, client = joined(child_sa(lifetime=EspLifetime(soft_s=10, hard_s=12)))
    gateway.loop.let_pass(10)
    assert gateway.ends == [(GATEWAY_SPI, "soft")]
    assert gateway.open(*client.seal(PING)) == [PING]
    late = client.seal(PING)
    gateway.loop.let_pass(2)
    assert gateway.ends == [(GATEWAY_SPI, "soft"), (GATEWAY_SPI, "hard")]
    assert gateway.open(*late) == []
    assert gateway.seal(REPLY) == []
    assert gateway.counters(GATEWAY_SPI).packets_in == 1
    last = gateway.plane.remove(GATEWAY_SPI)
    assert last is not None
    assert last.packets_in == 1


def test_a_removed_pair_leaves_no_timer() -> None:
    gateway, _ = joined(child_sa(lifetime=EspLifetime(soft_s=10, hard_s=12)))
    assert gateway.loop.pending == [10, 12]
    gateway.plane.remove(GATEWAY_SPI)
    assert gateway.loop.pending == []


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize(
    "lifetime",
    [
        EspLifetime(soft_packets=3, hard_packets=5),
        EspLifetime(soft_bytes=3 * len(PING), hard_bytes=5 * len(PING)),
    ],
    ids=["packets", "bytes"],
)
def test_packets_and_bytes_of_either_direction_end_it(direction: str, lifetime: EspLifetime) -> None:
    gateway, client = joined(child_sa(lifetime=lifetime))
    client.plane.remove(CLIENT_SPI)
    client.plane.install(other_half(child_sa()))
    passed = []
    for _ in range(7):
        passed.append(len(gateway.open(*client.seal(PING))) if direction == "in" else len(gateway.seal(REPLY)))
        if sum(passed) == 2:
            assert gateway.ends == []
    assert passed == [1, 1, 1, 1, 1, 0, 0]
    assert gateway.ends == [(GATEWAY_SPI, "soft"), (GATEWAY_SPI, "hard")]


def test_soft_is_told_once_whatever_came_first() -> None:
    gateway, client = joined(child_sa(lifetime=EspLifetime(soft_s=10, soft_packets=2, soft_bytes=1)))
    for _ in range(4):
        gateway.open(*client.seal(PING))
    gateway.loop.let_pass(20)
    assert gateway.ends == [(GATEWAY_SPI, "soft")]


def test_a_pair_may_be_removed_when_its_end_is_told() -> None:
    gateway, client = joined(child_sa(lifetime=EspLifetime(soft_packets=1)))
    gateway.on_event = gateway.plane.remove
    sealed = client.seal(PING, PING)
    batch = b"".join(sealed)
    gateway.plane.receive_segments(memoryview(batch), len(sealed[0]), ("203.0.113.9", 1), True)
    gateway.plane.flush()
    assert gateway.plane.counters(GATEWAY_SPI) is None
    assert gateway.ends == []
    assert len(gateway.moves) == 1


def test_an_sa_without_extended_sequence_numbers_ends_before_they_do() -> None:
    assert bounded(EspLifetime(), esn=True) == EspLifetime()
    assert bounded(EspLifetime(), esn=False) == EspLifetime(soft_packets=SOFT_SEQUENCE, hard_packets=LAST_SEQUENCE)
    asked = EspLifetime(soft_packets=10, hard_packets=20)
    assert bounded(asked, esn=False) == asked
    assert bounded(EspLifetime(hard_packets=20), esn=False) == EspLifetime(soft_packets=20, hard_packets=20)
    too_long = EspLifetime(soft_packets=1 << 40, hard_packets=1 << 41)
    assert bounded(too_long, esn=False) == EspLifetime(soft_packets=SOFT_SEQUENCE, hard_packets=LAST_SEQUENCE)
