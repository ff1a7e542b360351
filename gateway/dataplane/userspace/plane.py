"""The userspace data plane: child SAs, a TUN device, and the two pipelines between it and the gateway's sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from ipaddress import ip_address
from typing import Protocol

import structlog

from gateway.dataplane.interface import (
    Address,
    ChildSa,
    Counters,
    DataPlaneError,
    Endpoints,
    RemoteMoved,
)
from gateway.dataplane.userspace.child import Child
from gateway.dataplane.userspace.offload import Parts
from gateway.dataplane.userspace.pipelines import Inbound, Outbound, Statistics
from gateway.dataplane.userspace.router import Router
from gateway.dataplane.userspace.tun import DeviceGone
from gateway.dataplane.userspace.udp_batch import MAX_BATCH_BYTES, MAX_SEGMENTS

_log = structlog.get_logger(__name__)

_FIRST_SPI = 256
"""1 to 255 are reserved (RFC 4303 section 2.1)."""


class Transmitter(Protocol):
    """Sends ESP packets; `EspTransmitter` does from the gateway's sockets."""

    dropped: int
    """Packets that could not be sent."""

    def send_segments(self, packets: memoryview, segment_bytes: int, endpoints: Endpoints) -> None:
        """Send packets that lie one after the other, each as long as the number says but for a shorter last one."""

    def forget(self, endpoints: Endpoints) -> None:
        """Nothing is sent to these endpoints any more."""


class Watcher(Protocol):
    """The event loop, as far as it is needed here."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> None:
        """Call back whenever the descriptor has something to read."""

    def remove_reader(self, fd: int, /) -> bool:
        """Stop that."""


class Device(Protocol):
    """A TUN device, or what stands for one."""

    def fileno(self) -> int:
        """For the event loop."""

    def read(self) -> bytes | None:
        """The next inner packet, None when there is none; raises DeviceGone."""

    def write(self, parts: Parts) -> bool:
        """Take one inner packet, the virtio-net header first; False where that fails."""

    def close(self) -> None:
        """Remove the device."""


class UserspacePlane:
    """Implements `gateway.dataplane.interface.DataPlane`.

    Hand it received ESP with `receive_segments` and `flush`, as the receivers of `udp_batch` do. No packet makes it
    raise: what can't be used is counted and dropped.

    Args:
        loop: where the device is watched, from now until `close`.
        device: the TUN device; closed with the plane.
        transmitter: where ESP packets leave.
        remote_moved: told after the plane itself has begun to send to the new address.
        description: why this data plane, one sentence for the operator.
        now: monotonic seconds.
        random: octets that no one can predict.
    """

    name = "userspace"

    def __init__(
        self,
        loop: Watcher,
        device: Device,
        transmitter: Transmitter,
        remote_moved: RemoteMoved,
        *,
        description: str = "ESP in Python over a TUN device",
        now: Callable[[], float] = time.monotonic,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.description = description
        self._loop = loop
        self._device = device
        self._transmitter = transmitter
        self._remote_moved = remote_moved
        self._random = random
        self._children: dict[int, Child] = {}
        self._reserved: set[int] = set()
        self._router = Router()
        self._statistics = Statistics()
        self._inbound = Inbound(self._children, device.write, self._move_to_newest, now, self._statistics)
        self._outbound = Outbound(
            self._router,
            device.read,
            transmitter.send_segments,
            self._statistics,
            MAX_SEGMENTS,
            MAX_BATCH_BYTES,
        )
        self._closed = False
        loop.add_reader(device.fileno(), self._pump)

    def allocate_spi(self) -> int:
        """See `DataPlane`."""
        while True:
            spi = int.from_bytes(self._random(4), "big")
            if spi >= _FIRST_SPI and spi not in self._children and spi not in self._reserved:
                self._reserved.add(spi)
                return spi

    def install(self, child: ChildSa) -> None:
        """See `DataPlane`."""
        if child.spi_in in self._children:
            raise DataPlaneError(f"child SA {child.spi_in:08x} exists already")
        state = Child(child, self._random)
        self._reserved.discard(child.spi_in)
        self._children[child.spi_in] = state
        self._router.add(state)

    def remove(self, spi_in: int) -> Counters | None:
        """See `DataPlane`."""
        self._reserved.discard(spi_in)
        child = self._children.pop(spi_in, None)
        if child is None:
            return None
        self._router.remove(child)
        self._transmitter.forget(child.endpoints)
        return child.counters()

    def counters(self, spi_in: int) -> Counters | None:
        """See `DataPlane`."""
        child = self._children.get(spi_in)
        return None if child is None else child.counters()

    def move(self, spi_in: int, endpoints: Endpoints) -> None:
        """See `DataPlane`."""
        child = self._children.get(spi_in)
        if child is not None:
            self._change_endpoints(child, endpoints)

    def statistics(self) -> dict[str, int]:
        """Drops that belong to no child SA, and calls made; for the operator and tests."""
        return {
            **asdict(self._statistics),
            "no_route": self._router.no_route,
            "refused": self._router.refused,
            "not_sent": self._transmitter.dropped,
        }

    def receive_segments(
        self, packets: memoryview, segment_bytes: int, remote: tuple[str, int], udp_encapsulated: bool
    ) -> None:
        """ESP packets of one sender that lie one after the other, each `segment_bytes` long but for a shorter last.

        Args:
            packets: from the SPI on, no UDP or IP header.
            segment_bytes: above 0.
            remote: as the socket names the sender; of more than two elements, the first two count.
            udp_encapsulated: whether they came in UDP.
        """
        if not self._closed:
            self._inbound.receive(packets, segment_bytes, remote[:2], udp_encapsulated)

    def flush(self) -> None:
        """Hand to the device what waits for more of its kind; call it when no more packets are at hand."""
        if not self._closed:
            self._inbound.flush()

    def close(self) -> None:
        """See `DataPlane`."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._device.fileno())
        for spi_in in list(self._children):
            self.remove(spi_in)
        self._device.close()

    def _pump(self) -> None:
        try:
            self._outbound.pump()
        except DeviceGone as error:
            # The loop would call again at once, for ever.
            self._loop.remove_reader(self._device.fileno())
            _log.critical(
                "the TUN device is gone; no client can be reached until the gateway restarts", error=str(error)
            )

    def _move_to_newest(self, child: Child, remote: tuple[str, int]) -> None:
        """RFC 7296 section 2.23: reply to where the last authentic packet came from."""
        if not (child.endpoints.udp_encapsulation and child.endpoints.peer_behind_nat):
            return
        address: Address = ip_address(remote[0])
        self._change_endpoints(child, replace(child.endpoints, remote=address, remote_port=remote[1]))
        self._remote_moved(child.sa.spi_in, address, remote[1])

    def _change_endpoints(self, child: Child, endpoints: Endpoints) -> None:
        self._transmitter.forget(child.endpoints)
        child.move(endpoints)
