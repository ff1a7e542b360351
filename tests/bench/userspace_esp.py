"""`python -m tests.bench.userspace_esp`: what each part of the userspace data plane costs a packet, in one process.

No device and no socket, so the figures are of our own code alone, and steady enough to compare two versions of it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address, ip_network

from gateway.dataplane.interface import ChildSa, Endpoints, EspCipher, EspIntegrity, EspKeys, EspSuite
from gateway.dataplane.userspace.child import Child
from gateway.dataplane.userspace.esp import MAX_OVERHEAD_BYTES, WRITE_SLACK_BYTES, make_opener, make_sealer
from gateway.dataplane.userspace.offload import TcpCoalescer
from gateway.dataplane.userspace.pipelines import Inbound, Outbound, Statistics
from gateway.dataplane.userspace.replay import ReplayWindow
from gateway.dataplane.userspace.router import Router
from gateway.dataplane.userspace.udp_batch import MAX_BATCH_BYTES, MAX_SEGMENTS
from gateway.ike.selectors import TrafficSelector
from tests.unit.gateway.dataplane.packets import Tcp

PACKETS = 44
"""Of 1400 octets in one batch: what a stream gives."""
SUITES = (
    EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.NONE, False),
    EspSuite(EspCipher.AES_GCM_16, 256, EspIntegrity.NONE, True),
    EspSuite(EspCipher.CHACHA20_POLY1305, 256, EspIntegrity.NONE, False),
    EspSuite(EspCipher.AES_CBC, 128, EspIntegrity.HMAC_SHA2_256_128, False),
)
_MAC_BYTES = {EspIntegrity.NONE: 0, EspIntegrity.HMAC_SHA2_256_128: 32}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one part."""

    part: str
    us_per_packet: float
    mbit_per_s: float
    """Of inner packets of 1400 octets, were this all there is to do."""


def keys(suite: EspSuite) -> EspKeys:
    """Any keys that fit."""
    salt = 0 if suite.cipher is EspCipher.AES_CBC else 4
    return EspKeys(bytes(suite.key_bits // 8 + salt), bytes(_MAC_BYTES[suite.integrity]))


def child_sa(suite: EspSuite) -> ChildSa:
    """A child SA whose two directions have the same keys and SPI, so that it can open what it sealed."""
    endpoints = Endpoints(ip_address("192.0.2.1"), 4500, ip_address("198.51.100.2"), 4500, True)
    # Each side may send and receive as either, so that one packet fits both directions.
    both = tuple(TrafficSelector.from_network(ip_network(text)) for text in ("10.99.0.2/32", "10.1.0.0/24"))
    return ChildSa(0x1000, 0x1000, suite, keys(suite), keys(suite), endpoints, both, both, 1024, 1)


def stream() -> list[bytes]:
    """Packets of one TCP stream to a host behind the gateway."""
    return [segment.packet() for segment in Tcp(destination="10.1.0.10").stream([1348] * PACKETS)]


class Timer:
    """Runs a part for a while, several times, and keeps the best time: the others met something else that ran."""

    def __init__(self, seconds: float, rounds: int) -> None:
        self._seconds = seconds
        self._rounds = rounds
        self.costs: list[Cost] = []

    def measure(self, part: str, batch: Callable[[], object], packets: int = PACKETS) -> None:
        """Add the cost of a part, of which `batch` does `packets`."""
        batch()
        best = float("inf")
        for _ in range(self._rounds):
            count = 0
            start = time.perf_counter()
            while time.perf_counter() < start + self._seconds:
                batch()
                count += 1
            best = min(best, (time.perf_counter() - start) / count / packets)
        self.costs.append(Cost(part, best * 1e6, 1400 * 8 / best / 1e6))


def measure_cipher(timer: Timer, suite: EspSuite) -> None:
    """Seal and open alone."""
    packet = stream()[0]
    sealer = make_sealer(suite, keys(suite), 0x1000, os.urandom)
    opener = make_opener(suite, keys(suite), 0x1000)
    room = len(packet) + MAX_OVERHEAD_BYTES + WRITE_SLACK_BYTES
    sealed, scratch = memoryview(bytearray(room)), memoryview(bytearray(room))
    end = sealer.seal_into(packet, 4, sealed, 0)

    def seal() -> None:
        for _ in range(PACKETS):
            sealer.seal_into(packet, 4, scratch, 0)

    def unseal() -> None:
        for _ in range(PACKETS):
            opener.open_into(sealed, 0, end, 1, scratch, 0)

    timer.measure(f"seal {suite}", seal)
    timer.measure(f"open {suite}", unseal)


def measure_parts(timer: Timer) -> None:
    """Replay window, router, coalescer: each alone."""
    packets = stream()
    window = ReplayWindow(1024, esn=False)

    def replay() -> None:
        for _ in range(PACKETS):
            sequence = window.candidate(window.top + 1)
            assert sequence is not None
            window.mark(sequence)

    router = Router()
    router.add(Child(child_sa(SUITES[0]), os.urandom))

    def route() -> None:
        for packet in packets:
            router.route(packet)

    coalescer = TcpCoalescer(lambda parts: None)
    decrypted = b"".join(packets)
    arena = memoryview(bytearray(decrypted))

    def coalesce() -> None:
        arena[:] = decrypted  # what was joined is changed in place
        for start in range(0, len(arena), 1400):
            if not coalescer.continues(arena, start, start + 1400):
                coalescer.add(arena, start, start + 1400)
        coalescer.flush()

    timer.measure("replay window", replay)
    timer.measure("router", route)
    timer.measure("coalescer", coalesce)


def measure_pipelines(timer: Timer, suite: EspSuite) -> None:
    """All that is done between the device and the sockets: in batches, and packet by packet."""
    child = Child(child_sa(suite), os.urandom)
    router = Router()
    router.add(child)
    packets = stream()
    to_read: list[bytes] = []
    sent: list[tuple[bytes, int]] = []

    def read() -> bytes | None:
        return to_read.pop() if to_read else None

    outbound = Outbound(
        router,
        read,
        lambda batch, size, endpoints: sent.append((bytes(batch), size)),
        lambda child: None,
        Statistics(),
        MAX_SEGMENTS,
        MAX_BATCH_BYTES,
    )

    def pump() -> None:
        to_read.extend(reversed(packets))
        outbound.pump()
        sent.clear()

    timer.measure(f"outbound {suite}", pump)

    inbound = Inbound(
        {0x1000: child},
        lambda parts: True,
        lambda child, remote: None,
        lambda child: None,
        time.monotonic,
        Statistics(),
    )
    to_read.extend(reversed(packets))
    outbound.pump()
    [(batch, size)] = sent
    remote = ("198.51.100.2", 4500)
    view = memoryview(batch)

    def receive() -> None:
        child.window = ReplayWindow(1024, suite.esn, child.sealer.sequence - PACKETS)
        inbound.receive(view, size, remote, True)
        inbound.flush()

    timer.measure(f"inbound {suite}", receive)

    def receive_singly() -> None:
        child.window = ReplayWindow(1024, suite.esn, child.sealer.sequence - PACKETS)
        for start in range(0, len(view), size):
            inbound.receive(view[start : start + size], size, remote, True)
        inbound.flush()

    timer.measure(f"inbound one by one {suite}", receive_singly)
    assert child.failures == child.replays == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.userspace_esp", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the best counts (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    options = parser.parse_args(arguments)
    timer = Timer(options.seconds, options.rounds)
    for suite in SUITES:
        measure_cipher(timer, suite)
    measure_parts(timer)
    for suite in SUITES:
        measure_pipelines(timer, suite)
    if options.json:
        print(json.dumps([asdict(cost) for cost in timer.costs], indent=2))
        return 0
    print("us/packet   Mbit/s  (packets of 1400 octets; batches of 44 but for `one by one`)")
    for cost in timer.costs:
        print(f"{cost.us_per_packet:9.2f} {cost.mbit_per_s:8.0f}  {cost.part}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
