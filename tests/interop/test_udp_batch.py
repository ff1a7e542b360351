"""The batched sockets on the loopback device, where the kernel joins and takes apart as it does on a network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from gateway.dataplane.interface import Endpoints
from gateway.dataplane.userspace.udp_batch import (
    EspTransmitter,
    NatTraversalReceiver,
    RemoteName,
    local_address,
    prepare,
)

pytestmark = pytest.mark.interop


@dataclass
class Received:
    """Stands where the data plane and IKE stand."""

    batches: list[list[bytes]] = field(default_factory=list)
    ike: list[tuple[bytes, str, RemoteName]] = field(default_factory=list)
    remotes: list[RemoteName] = field(default_factory=list)
    flushes: int = 0

    def receive_segments(
        self, packets: memoryview, segment_bytes: int, remote: RemoteName, udp_encapsulated: bool
    ) -> None:
        assert udp_encapsulated
        self.remotes.append(remote)
        self.batches.append(
            [bytes(packets[start : start + segment_bytes]) for start in range(0, len(packets), segment_bytes)]
        )

    def flush(self) -> None:
        self.flushes += 1

    def receive_ike(self, data: bytes, local: str, remote: RemoteName) -> None:
        self.ike.append((data, local, remote))

    @property
    def esp(self) -> list[bytes]:
        return [packet for batch in self.batches for packet in batch]


@dataclass
class Ends:
    """A sender, a receiver and what it received."""

    transmitter: EspTransmitter
    endpoints: Endpoints
    receiver: NatTraversalReceiver
    received: Received
    sender: socket.socket

    def send(self, *packets: bytes) -> None:
        self.transmitter.send_segments(memoryview(b"".join(packets)), len(packets[0]), self.endpoints)


@pytest.fixture(params=["127.0.0.1", "::1"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A pair of prepared sockets."""
    address: str = request.param
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"
    with socket.socket(family, socket.SOCK_DGRAM) as sender, socket.socket(family, socket.SOCK_DGRAM) as target:
        for sock in (sender, target):
            prepare(sock)
            sock.bind((wildcard, 0))
        endpoints = Endpoints(
            ip_address(address), sender.getsockname()[1], ip_address(address), target.getsockname()[1], True
        )
        received = Received()
        yield Ends(
            EspTransmitter(lambda endpoints: sender),
            endpoints,
            NatTraversalReceiver(target, received, received.receive_ike, budget_packets=100),
            received,
            sender,
        )


def esp(number: int, size: int = 100) -> bytes:
    return bytes([1, number]) * (size // 2)


def test_a_batch_arrives_as_it_was_sent(ends: Ends) -> None:
    packets = [*(esp(number, 1400) for number in range(40)), esp(41, 300)]
    ends.send(*packets)
    ends.receiver.drain()
    assert ends.received.esp == packets
    assert len(ends.received.batches) == 1
    assert ends.received.flushes == 1
    assert not ends.received.ike
    assert ends.received.remotes[0][:2] == (str(ends.endpoints.local), ends.endpoints.local_port)


def test_a_single_packet_arrives_too(ends: Ends) -> None:
    ends.transmitter.send(esp(1), ends.endpoints)
    ends.receiver.drain()
    assert ends.received.batches == [[esp(1)]]


def test_ike_and_keepalives_are_found_between_esp(ends: Ends) -> None:
    ike = bytes(4) + b"IKE message".ljust(96)
    ends.send(esp(1), esp(2), ike, esp(3), ike, ike, esp(4), b"\xff")
    ends.receiver.drain()
    assert ends.received.esp == [esp(1), esp(2), esp(3), esp(4)]
    assert [message for message, _, _ in ends.received.ike] == [ike[4:]] * 3
    assert ends.received.ike[0][1] == str(ends.endpoints.local)


@pytest.mark.parametrize("datagram", [b"", b"\xff", b"\0", b"\0\0\0", bytes(4), b"\1\2\3"])
def test_what_is_neither_is_ignored(ends: Ends, datagram: bytes) -> None:
    ends.sender.sendto(datagram, (str(ends.endpoints.remote), ends.endpoints.remote_port))
    ends.transmitter.send(esp(1), ends.endpoints)
    ends.receiver.drain()
    assert ends.received.esp == [esp(1)]
    assert not ends.received.ike


def test_a_drain_stops_at_its_budget_and_the_next_one_goes_on(ends: Ends) -> None:
    for number in range(150):
        ends.transmitter.send(esp(number), ends.endpoints)
    ends.receiver.drain()
    assert len(ends.received.esp) == 100
    ends.receiver.drain()
    assert ends.received.esp == [esp(number) for number in range(150)]
    assert ends.received.flushes == 2


def test_what_can_not_be_sent_is_counted(ends: Ends) -> None:
    nowhere = Endpoints(ip_address("127.0.0.1"), 1, ip_address("255.255.255.255"), 1, True)
    ends.transmitter.send_segments(memoryview(bytes(250)), 100, nowhere)
    assert ends.transmitter.dropped == 3
    ends.transmitter.forget(nowhere)
    ends.transmitter.send(esp(1), ends.endpoints)
    ends.receiver.drain()
    assert ends.received.esp == [esp(1)]


def test_without_a_socket_packets_are_counted_as_not_sent() -> None:
    transmitter = EspTransmitter(lambda endpoints: None)
    transmitter.send_segments(
        memoryview(bytes(250)), 100, Endpoints(ip_address("::1"), 1, ip_address("::1"), 1, False)
    )
    assert transmitter.dropped == 3


def test_a_socket_that_is_not_prepared_is_told_of() -> None:
    with pytest.raises(ValueError, match="does not tell"):
        local_address([])
