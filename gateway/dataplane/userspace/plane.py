"""The userspace data plane: child SAs, a TUN device, and the two pipelines between it and the gateway's sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from ipaddress import ip_address
from typing import Protocol

import structlog

from gateway.dataplane.interface import (
    Address,
    ChildSa,
    Counters,
    DataPlaneError,
    DataPlaneEvents,
    Endpoints,
)
from gateway.dataplane.userspace.child import Child, Timer
from gateway.dataplane.userspace.offload import Parts
from gateway.dataplane.userspace.pipelines import Inbound, Outbound, Statistics
from gateway.dataplane.userspace.router import Router
from gateway.dataplane.userspace.tun import DeviceGone
from gateway.dataplane.userspace.udp_batch import MAX_BATCH_BYTES, MAX_SEGMENTS
from gateway.ike.selectors import TrafficSelector

_log = structlog.get_logger(__name__)


class Transmitter(Protocol):
    """Sends ESP packets; `EspTransmitter` does from the gateway's sockets."""

    dropped: int
    """Packets that could not be sent."""

    def send_segments(self, packets: memoryview, segment_bytes: int, endpoints: Endpoints) -> None:
        """Send packets that lie one after the other, each as long as the number says but for a shorter last one."""

    def forget(self, endpoints: Endpoints) -> None:
        """Nothing is sent to these endpoints any more."""


class Loop(Protocol):
    """The event loop, as far as it is needed here."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> None:
        """Call back whenever the descriptor has something to read."""

    def remove_reader(self, fd: int, /) -> bool:
        """Stop that."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call back once, in so many seconds."""


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
        loop: where the device is watched, from now until `close`, and lifetimes run.
        device: the TUN device; closed with the plane.
        transmitter: where ESP packets leave.
        events: told after the plane itself has done what follows: a moved peer is sent to at its new address, a pair
            whose hard lifetime is over is stopped. Packets and bytes are looked at once a batch, so a limit may be
            passed by some hundred packets.
        description: why this data plane, one sentence for the operator.
        now: monotonic seconds.
        random: octets that no one can predict.
    """

    name = "userspace"

    def __init__(
        self,
        loop: Loop,
        device: Device,
        transmitter: Transmitter,
        events: DataPlaneEvents,
        *,
        description: str = "ESP in Python over a TUN device",
        now: Callable[[], float] = time.monotonic,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.description = description
        self._loop = loop
        self._device = device
        self._transmitter = transmitter
        self._events = events
        self._random = random
        self._children: dict[int, Child] = {}
        """All that were installed and not removed."""
        self._receiving: dict[int, Child] = {}
        """Those whose hard lifetime is not over."""
        self._router = Router()
        self._statistics = Statistics()
        self._inbound = Inbound(self._receiving, device.write, self._move_to_newest, self._due, now, self._statistics)
        self._outbound = Outbound(
            self._router,
            device.read,
            transmitter.send_segments,
            self._due,
            self._statistics,
            MAX_SEGMENTS,
            MAX_BATCH_BYTES,
        )
        self._closed = False
        loop.add_reader(device.fileno(), self._pump)

    def install(self, child: ChildSa, *, outbound: bool = True) -> None:
        """See `DataPlane`."""
        if child.spi_in in self._children:
            raise DataPlaneError(f"child SA {child.spi_in:08x} exists already")
        state = Child(child, self._random)
        self._children[child.spi_in] = self._receiving[child.spi_in] = state
        for after_s, hard in ((state.lifetime.soft_s, False), (state.lifetime.hard_s, True)):
            if after_s is not None:
                state.timers.append(self._loop.call_later(after_s, partial(self._expire, state, hard=hard)))
        if outbound:
            self._router.add(state)
        else:
            state.waiting = True

    def start_outbound(self, spi_in: int) -> None:
        """See `DataPlane`."""
        child = self._children.get(spi_in)
        if child is None or child.stopped:
            raise DataPlaneError(f"child SA {spi_in:08x} is gone")
        self._start_outbound(child)

    def restrict(self, spi_in: int, local_selectors: tuple[TrafficSelector, ...]) -> None:
        """See `DataPlane`; a pair that is not there carries nothing anyway."""
        child = self._children.get(spi_in)
        if child is not None:
            child.restrict(local_selectors)
            self._router.forget_flows()
            self._inbound.distrust()

    def remove(self, spi_in: int) -> Counters | None:
        """See `DataPlane`."""
        child = self._children.pop(spi_in, None)
        if child is None:
            return None
        self._stop(child)
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
        self._events.remote_moved(child.sa.spi_in, address, remote[1])

    def _due(self, child: Child) -> None:
        """The peer began to use a pair that we do not send on yet, or a mark of its lifetime is reached."""
        if child.stopped:
            return
        if child.waiting and child.last_in_s:
            self._start_outbound(child)
        if child.hard_limit_reached():
            self._expire(child, hard=True)
        elif max(child.packets_in, child.packets_out) >= child.packet_mark or (
            max(child.bytes_in, child.bytes_out) >= child.byte_mark
        ):
            self._expire(child, hard=False)

    def _expire(self, child: Child, *, hard: bool) -> None:
        if hard:
            self._stop(child)
        elif not child.tell_soft():
            return
        self._events.expired(child.sa.spi_in, hard=hard)

    def _start_outbound(self, child: Child) -> None:
        if child.waiting:
            child.waiting = False
            self._router.add(child)

    def _stop(self, child: Child) -> None:
        child.stop()
        self._receiving.pop(child.sa.spi_in, None)
        self._router.remove(child)

    def _change_endpoints(self, child: Child, endpoints: Endpoints) -> None:
        self._transmitter.forget(child.endpoints)
        child.move(endpoints)
