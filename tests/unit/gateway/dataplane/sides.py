"""Two data planes joined in memory: no device, no socket, the same code as in the gateway."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

from gateway.dataplane.interface import (
    Address,
    ChildSa,
    Counters,
    Endpoints,
    EspCipher,
    EspIntegrity,
    EspKeys,
    EspLifetime,
    EspSuite,
)
from gateway.dataplane.userspace.offload import Parts
from gateway.dataplane.userspace.plane import UserspacePlane
from gateway.dataplane.userspace.tun import DeviceGone
from gateway.ike.selectors import TrafficSelector
from tests.unit.gateway.dataplane.packets import as_the_kernel_would

GCM = EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.NONE, False)
UNLIMITED = EspLifetime()
CLIENT_SPI, GATEWAY_SPI = 0x0C110001, 0x6A7E0001
CLIENT = ("198.51.100.2", 40500)
GATEWAY = ("192.0.2.1", 4500)
CLIENT_INNER, CLIENT_INNER_6 = "10.99.0.2", "fd99::2"
SERVER, SERVER_6 = "10.1.0.10", "fd01::10"


class Timer:
    """A call that is to come."""

    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due, self.callback, self.cancelled = due, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """What a data plane needs of an event loop; `turn` is when the device is readable."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], object]] = {}
        self.elapsed_s = 0.0
        self._timers: list[Timer] = []

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        timer = Timer(self.elapsed_s + delay, callback)
        self._timers.append(timer)
        return timer

    @property
    def pending(self) -> list[float]:
        """When calls are to come."""
        return sorted(timer.due for timer in self._timers if not timer.cancelled)

    def let_pass(self, seconds: float) -> None:
        """Make the calls that are due by then, in order."""
        self.elapsed_s += seconds
        for timer in sorted(self._timers, key=lambda timer: timer.due):
            if timer.due <= self.elapsed_s and not timer.cancelled:
                timer.cancel()
                timer.callback()

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int, /) -> bool:
        return self.readers.pop(fd, None) is not None

    def turn(self) -> None:
        """Call every reader once."""
        for callback in list(self.readers.values()):
            callback()


class MemoryDevice:
    """A TUN device whose other side is two lists."""

    def __init__(self) -> None:
        self.to_read: deque[bytes] = deque()
        self.written: list[bytes] = []
        self.refuse = False
        self.closed = self.gone = False

    def fileno(self) -> int:
        return 7

    def read(self) -> bytes | None:
        if self.gone:
            raise DeviceGone("File descriptor in bad state")
        return self.to_read.popleft() if self.to_read else None

    def write(self, parts: Parts) -> bool:
        if not self.refuse:
            self.written.append(b"".join(parts))
        return not self.refuse

    def close(self) -> None:
        self.closed = True

    def take(self) -> list[bytes]:
        """The packets that came out since the last call."""
        packets = [packet for one in self.written for packet in as_the_kernel_would(one)]
        self.written.clear()
        return packets


@dataclass
class Batch:
    """One call to the sender of a plane."""

    packets: bytes
    segment_bytes: int
    endpoints: Endpoints

    def split(self) -> list[bytes]:
        return [
            self.packets[start : start + self.segment_bytes]
            for start in range(0, len(self.packets), self.segment_bytes)
        ]


class Sent:
    """Keeps what a plane sends."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.forgotten: list[Endpoints] = []
        self.dropped = 0

    def send_segments(self, packets: memoryview, segment_bytes: int, endpoints: Endpoints) -> None:
        self.batches.append(Batch(bytes(packets), segment_bytes, endpoints))

    def forget(self, endpoints: Endpoints) -> None:
        self.forgotten.append(endpoints)


@dataclass
class Side:
    """A plane, its device, and what it sends."""

    device: MemoryDevice = field(default_factory=MemoryDevice)
    loop: Loop = field(default_factory=Loop)
    transmitter: Sent = field(default_factory=Sent)
    moves: list[tuple[int, Address, int]] = field(default_factory=list)
    ends: list[tuple[int, str]] = field(default_factory=list)
    """Lifetimes that were over: SPI, and `soft` or `hard`."""
    now: float = 100.0
    on_event: Callable[[int], object] | None = None

    def __post_init__(self) -> None:
        self.plane = UserspacePlane(
            self.loop,
            self.device,
            self.transmitter,
            self,
            now=lambda: self.now,
            random=os.urandom,
        )

    @property
    def sent(self) -> list[Batch]:
        """What left since the last `seal`."""
        return self.transmitter.batches

    def remote_moved(self, spi_in: int, remote: Address, remote_port: int) -> None:
        self.moves.append((spi_in, remote, remote_port))
        if self.on_event is not None:
            self.on_event(spi_in)

    def expired(self, spi_in: int, *, hard: bool) -> None:
        self.ends.append((spi_in, "hard" if hard else "soft"))
        if self.on_event is not None:
            self.on_event(spi_in)

    def seal(self, *packets: bytes) -> list[bytes]:
        """The ESP packets for inner ones that the device brings."""
        self.device.to_read.extend(packets)
        while self.device.to_read:
            self.loop.readers[7]()
        sealed = [packet for batch in self.sent for packet in batch.split()]
        self.sent.clear()
        return sealed

    def open(self, *packets: bytes, remote: tuple[str, int] = CLIENT, udp: bool = True) -> list[bytes]:
        """What comes out of the device for ESP packets that arrive one by one."""
        for packet in packets:
            if packet:
                self.plane.receive_segments(memoryview(packet), len(packet), remote, udp)
        self.plane.flush()
        return self.device.take()

    def counters(self, spi: int) -> Counters:
        counters = self.plane.counters(spi)
        assert counters is not None
        return counters


def selectors(*networks: str, protocol: int = 0, ports: tuple[int, int] = (0, 65535)) -> tuple[TrafficSelector, ...]:
    return tuple(
        replace(
            TrafficSelector.from_network(ip_network(network)),
            protocol=protocol,
            start_port=ports[0],
            end_port=ports[1],
        )
        for network in networks
    )


def child_sa(
    suite: EspSuite = GCM,
    *,
    inside: tuple[TrafficSelector, ...] = selectors("10.0.0.0/8", "fd00::/8"),
    client: tuple[TrafficSelector, ...] = selectors(CLIENT_INNER, CLIENT_INNER_6),
    udp: bool = True,
    spis: tuple[int, int] = (GATEWAY_SPI, CLIENT_SPI),
    lineage: int = 0,
    lifetime: EspLifetime = UNLIMITED,
) -> ChildSa:
    """The gateway's half of a child SA with one client."""
    salt = 0 if suite.cipher is EspCipher.AES_CBC else 4
    mac_bytes = {2: 20, 12: 32, 13: 48, 14: 64}.get(suite.integrity.value, 0)
    first, second = (
        EspKeys(bytes([fill]) * (suite.key_bits // 8 + salt), bytes([fill + 1]) * mac_bytes) for fill in (10, 20)
    )
    endpoints = Endpoints(ip_address(GATEWAY[0]), GATEWAY[1], ip_address(CLIENT[0]), CLIENT[1], udp)
    return ChildSa(*spis, suite, first, second, endpoints, inside, client, 64, lineage or spis[0], lifetime)


def other_half(child: ChildSa) -> ChildSa:
    """The same child SA as the client has it."""
    ends = child.endpoints
    return replace(
        child,
        spi_in=child.spi_out,
        spi_out=child.spi_in,
        keys_in=child.keys_out,
        keys_out=child.keys_in,
        endpoints=Endpoints(ends.remote, ends.remote_port, ends.local, ends.local_port, ends.udp_encapsulation),
        local_selectors=child.remote_selectors,
        remote_selectors=child.local_selectors,
    )


def joined(child: ChildSa | None = None) -> tuple[Side, Side]:
    """Gateway and client with a child SA between them."""
    gateway, client = Side(), Side()
    sa = child or child_sa()
    gateway.plane.install(sa)
    client.plane.install(other_half(sa))
    return gateway, client
