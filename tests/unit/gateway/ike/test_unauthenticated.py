"""The invariant: no packet without the keys changes an SA that is up, or makes the gateway say anything about it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from gateway.ike.events import Event
from gateway.ike.message import Header
from gateway.ike.path import Path
from gateway.ike.snapshot import snapshot
from tests.fuzz.mutations import forge, mutate, rubbish
from tests.peers.initiator import InitiatorConfig
from tests.unit.gateway.ike.test_sign_in import by_certificate
from tests.unit.gateway.ike.wire import Client, Wire, mschapv2, responder_config

PACKETS = 4000
"""Of each kind and each sort of SA."""
ELSEWHERE = Path("192.0.2.1", 500, "203.0.113.66", 666)


def fragmented() -> InitiatorConfig:
    """A client with a long first request."""
    config = by_certificate("rsa")
    config.fragment_size_bytes = 576
    return config


def established(kind: str) -> tuple[Wire, Client]:
    """An SA that is up and has been used by both sides."""
    wire = Wire(responder_config(fragment_size_bytes=576 if kind == "fragmented" else 1280))
    client = wire.connect(fragmented() if kind == "fragmented" else mschapv2())
    wire.advance(wire.config.dpd_interval_s + 1)
    return wire, client


class Watch:
    """What must not change."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._sa = wire.sa
        self._before = self._state()

    def _state(self) -> tuple[object, ...]:
        sa, now = self._sa, self._wire.now
        return snapshot(sa, now), sa.get_timer(), sa.peer.answered, sa.path, len(self._wire.children)

    def check(self, packet: bytes) -> None:
        """After a packet, with whatever came of it already served."""
        about_it: list[Event] = [event for event in self._wire.events if getattr(event, "sa", None) is self._sa]
        assert about_it == [], packet.hex()
        assert self._state() == self._before, packet.hex()

    def send(self, packets: Iterator[bytes], paths: tuple[Path, ...]) -> None:
        """Send all, from each place, and check after each."""
        wire = self._wire
        wire.events.clear()
        genuine = {data for data, _ in wire.to_gateway}
        for packet in packets:
            if packet in genuine:
                continue
            for path in paths:
                sent = len(wire.from_gateway)
                wire.responder.receive_datagram(packet, path, wire.now)
                wire.run()
                # Nothing is said under the SA's SPI. (A mutated first request may begin an SA of its own.)
                for data, _ in wire.from_gateway[sent:]:
                    assert Header.parse(data).spi_r != self._sa.spi_r, packet.hex()
            self.check(packet)


@pytest.mark.parametrize("kind", ["whole", "fragmented"])
class TestAnSaThatIsUp:
    def test_mutated_packets_of_its_own(self, kind: str) -> None:
        wire, client = established(kind)
        random, recorded = Random(7), [data for data, _ in wire.to_gateway]
        packets = (mutate(random, random.choice(recorded), recorded) for _ in range(PACKETS))
        Watch(wire).send(packets, (client.outer, ELSEWHERE))

    def test_what_the_gateway_sent_sent_back(self, kind: str) -> None:
        wire, client = established(kind)
        Watch(wire).send(iter([data for data, _ in wire.from_gateway]), (client.outer, ELSEWHERE))

    def test_forged_packets_with_its_spis(self, kind: str) -> None:
        wire, client = established(kind)
        sa, random = wire.sa, Random(8)
        ids = (0, 1, sa.peer.next_id - 1, sa.peer.next_id, sa.peer.next_id + 1, sa.own.next_id, 2**32 - 1)
        packets = (forge(random, sa.spi_i, sa.spi_r, ids) for _ in range(PACKETS))
        Watch(wire).send(packets, (client.outer, ELSEWHERE))

    def test_rubbish(self, kind: str) -> None:
        wire, client = established(kind)
        random = Random(9)
        Watch(wire).send((rubbish(random) for _ in range(PACKETS // 3)), (client.outer, ELSEWHERE))

    def test_and_afterwards_it_still_works(self, kind: str) -> None:
        wire, client = established(kind)
        sa, random = wire.sa, Random(10)
        recorded = [data for data, _ in wire.to_gateway]
        for _ in range(300):
            wire.responder.receive_datagram(mutate(random, random.choice(recorded), recorded), client.outer, wire.now)
            wire.responder.receive_datagram(forge(random, sa.spi_i, sa.spi_r, (5, 6, 7)), client.outer, wire.now)
        wire.run()
        asked = client.initiator.requests_seen
        wire.advance(wire.config.dpd_interval_s + 1)
        assert client.initiator.requests_seen == asked + 1
        client.initiator.delete()
        wire.run()
        assert [other for other in wire.established if other is sa] == []


def test_while_a_request_of_the_gateway_is_on_its_way() -> None:
    """A forged answer must not end our liveness check: neither the wait nor the SA."""
    wire, client = established("whole")
    wire.filter = lambda to_gateway, batch: []
    wire.advance(wire.config.dpd_interval_s)
    sa, random = wire.sa, Random(11)
    assert sa.own.message_id is not None
    before = (sa.own.message_id, sa.own.deadline, sa.last_received, sa.peer.next_id)
    for _ in range(PACKETS):
        packet = forge(random, sa.spi_i, sa.spi_r, (sa.own.message_id,))
        wire.responder.receive_datagram(packet, client.outer, wire.now)
        assert (sa.own.message_id, sa.own.deadline, sa.last_received, sa.peer.next_id) == before, packet.hex()
    assert wire.responder.next_event() is None


def test_while_a_sign_in_is_on_its_way() -> None:
    """Between any two messages of a client, an attacker may say what he likes: the sign-in goes on."""
    random = Random(12)
    wire = Wire()
    seen: list[bytes] = []

    def attacked(to_gateway: bool, batch: list[bytes]) -> list[bytes]:
        if not to_gateway:
            return batch
        seen.extend(batch)
        (sa,) = wire.responder.sas() or (None,)
        if sa is None:
            return batch
        hostile = [mutate(random, random.choice(batch), seen) for _ in range(200)]
        hostile += [forge(random, sa.spi_i, sa.spi_r, (0, 1, 2, 3, 4, 5)) for _ in range(200)]
        return [*(packet for packet in hostile if packet not in seen), *batch]

    wire.filter = attacked
    client = wire.connect()
    assert client.initiator.error == ""
    assert len(wire.established) == 1
    assert wire.failures == []
