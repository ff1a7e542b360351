"""The two directions of the userspace data plane: ESP to the device, and the device to ESP.

Both work on batches, because in Python the call costs more than the cipher; neither does any I/O of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from gateway.dataplane.interface import Endpoints
from gateway.dataplane.userspace.child import Child
from gateway.dataplane.userspace.esp import (
    MAX_OVERHEAD_BYTES,
    NEXT_HEADER_IPV4,
    NEXT_HEADER_IPV6,
    NEXT_HEADER_NONE,
    WRITE_SLACK_BYTES,
    EspRefused,
    SequenceExhausted,
)
from gateway.dataplane.userspace.offload import Parts, TcpCoalescer
from gateway.dataplane.userspace.packet import MalformedPacket
from gateway.dataplane.userspace.router import OutsideSelectors, Router

_SPI_AND_SEQUENCE = struct.Struct(">II")
_MIN_ESP_BYTES = 8 + 8 + 2 + 16
_VERSION_OF = {NEXT_HEADER_IPV4: 4, NEXT_HEADER_IPV6: 6}

_ARENA_BYTES = 512 << 10
"""Where decrypted packets lie until they are written: five full receive calls and more."""


@dataclass(slots=True)
class Statistics:
    """Drops that belong to no child SA, and how well batches fill. Packets, but for the writes and sends."""

    unknown_spi: int = 0
    malformed_esp: int = 0
    device_refused: int = 0
    exhausted: int = 0
    """Packets not sent since their SA has no sequence numbers left."""
    device_writes: int = 0
    sends: int = 0


class Inbound:
    """ESP packets in, inner packets to the device.

    Args:
        children: by inbound SPI; shared with the plane, which changes it.
        write: hands the parts of one packet to the device, False where it does not take it.
        moved: a peer's newest packet came from another address.
        due: a child SA reached a mark of its lifetime, or the peer began to use it.
        now: monotonic seconds.
    """

    def __init__(
        self,
        children: dict[int, Child],
        write: Callable[[Parts], bool],
        moved: Callable[[Child, tuple[str, int]], None],
        due: Callable[[Child], None],
        now: Callable[[], float],
        statistics: Statistics,
    ) -> None:
        self._children = children
        self._write_device = write
        self._moved = moved
        self._due = due
        self._now = now
        self._statistics = statistics
        self._coalescer = TcpCoalescer(self._write)
        self._arena = memoryview(bytearray(_ARENA_BYTES))
        self._used = 0
        self._latest: Child | None = None
        """Whose packets the coalescer saw last."""

    def _write(self, parts: Parts) -> None:
        self._statistics.device_writes += 1
        if not self._write_device(parts):
            self._statistics.device_refused += 1

    def receive(self, packets: memoryview, segment_bytes: int, remote: tuple[str, int], may_move: bool) -> None:
        """Open packets of one sender that lie one after the other. Whatever is wrong with one is counted, and the
        next is looked at.
        """
        total = len(packets)
        if self._used + total + WRITE_SLACK_BYTES > _ARENA_BYTES:
            self.flush()
            if total + WRITE_SLACK_BYTES > _ARENA_BYTES:
                self._statistics.malformed_esp += 1
                return
        start = 0
        while start < total:
            if min(segment_bytes, total - start) < _MIN_ESP_BYTES:
                self._statistics.malformed_esp += 1
                start += segment_bytes
                continue
            spi, _ = _SPI_AND_SEQUENCE.unpack_from(packets, start)
            child = self._children.get(spi)
            if child is None:
                self._statistics.unknown_spi += 1
                start += segment_bytes
                continue
            if child is not self._latest:
                self._coalescer.forget_latest()
                self._latest = child
            start = self._receive_for(child, packets, start, segment_bytes, remote if may_move else None)

    def _receive_for(
        self,
        child: Child,
        packets: memoryview,
        start: int,
        segment_bytes: int,
        may_move_to: tuple[str, int] | None,
    ) -> int:
        """Open packets from `start` on, up to the first that is not this child SA's; return where that starts."""
        total, own_spi = len(packets), child.sa.spi_in
        arena, used = self._arena, self._used
        window, open_into, continues = child.window, child.opener.open_into, self._coalescer.continues
        elsewhere = (
            may_move_to is not None and may_move_to != child.remote_name and child.comes_from_elsewhere(*may_move_to)
        )
        moved = False
        now = self._now()
        while start < total:
            begin, end = start, min(start + segment_bytes, total)
            if end - begin < _MIN_ESP_BYTES:
                break
            spi, low = _SPI_AND_SEQUENCE.unpack_from(packets, begin)
            if spi != own_spi:
                break
            start += segment_bytes
            sequence = window.candidate(low)
            if sequence is None:
                child.replays += 1
                continue
            try:
                inner, inner_end, next_header = open_into(packets, begin, end, sequence, arena, used)
            except EspRefused:
                child.failures += 1
                continue
            if elsewhere and sequence > window.top:
                moved = True
            window.mark(sequence)
            child.last_in_s = now
            if inner == inner_end or _VERSION_OF.get(next_header) != arena[inner] >> 4:
                if next_header != NEXT_HEADER_NONE:
                    child.failures += 1
                continue
            if not continues(arena, inner, inner_end):
                try:
                    inner_end = child.inbound.admit(arena, inner, inner_end)
                except (MalformedPacket, OutsideSelectors):
                    child.failures += 1
                    continue
                self._coalescer.add(arena, inner, inner_end)
            used = inner_end
            child.packets_in += 1
            child.bytes_in += inner_end - inner
        self._used = used
        if moved and may_move_to is not None:
            self._moved(child, may_move_to)
        if (
            child.packets_in >= child.packet_mark
            or child.bytes_in >= child.byte_mark
            or (child.waiting and child.last_in_s)
        ):
            self._due(child)
        return start

    def distrust(self) -> None:
        """What selectors allow has changed: the next packet of a flow is looked at like the first."""
        self._coalescer.forget_latest()

    def flush(self) -> None:
        """Write what was held back to be joined."""
        self._coalescer.flush()
        self._latest = None
        self._used = 0


class Outbound:
    """Inner packets from the device in, batches of ESP packets out.

    Args:
        read: the next packet of the device, None when there is none.
        send: sends packets of one size that lie one after the other, the last may be shorter.
        due: a child SA reached a mark of its lifetime, or has no sequence numbers left.
        budget_packets: read at one go, so that the event loop comes to its other work.
    """

    def __init__(
        self,
        router: Router,
        read: Callable[[], bytes | None],
        send: Callable[[memoryview, int, Endpoints], None],
        due: Callable[[Child], None],
        statistics: Statistics,
        max_segments: int,
        max_batch_bytes: int,
        budget_packets: int = 128,
    ) -> None:
        self._router = router
        self._read = read
        self._send = send
        self._due = due
        self._statistics = statistics
        self._max_segments = max_segments
        self._max_batch_bytes = max_batch_bytes
        self._budget_packets = budget_packets
        self._arena = memoryview(bytearray(max_batch_bytes + 2 * (65_536 + MAX_OVERHEAD_BYTES)))

    def pump(self) -> None:
        """Read what the device has, up to the budget, and send it."""
        read, route = self._read, self._router.route
        queues: dict[Child, list[bytes]] = {}
        for _ in range(self._budget_packets):
            packet = read()
            if packet is None:
                break
            child = route(packet)
            if child is None:
                continue
            queue = queues.get(child)
            if queue is None:
                queues[child] = [packet]
            else:
                queue.append(packet)
        for child, packets in queues.items():
            if child.stopped:
                continue
            self._send_all(child, packets)
            if child.packets_out >= child.packet_mark or child.bytes_out >= child.byte_mark or child.exhausted:
                self._due(child)

    def _send_all(self, child: Child, packets: list[bytes]) -> None:
        """Seal the packets in order; each run of one size, with a shorter one to end it, is one batch."""
        arena, seal_into = self._arena, child.sealer.seal_into
        end = segment_bytes = count = 0
        inner_bytes = 0
        for number, packet in enumerate(packets):
            start = end
            try:
                end = seal_into(packet, NEXT_HEADER_IPV4 if packet[0] >> 4 == 4 else NEXT_HEADER_IPV6, arena, start)
            except SequenceExhausted:
                self._statistics.exhausted += len(packets) - number
                child.exhausted = True
                break
            inner_bytes += len(packet)
            child.packets_out += 1
            size = end - start
            if count and (size > segment_bytes or end > self._max_batch_bytes or count == self._max_segments):
                # It does not belong to the batch: send that, and begin the next one with this packet.
                self._send_batch(child, start, segment_bytes)
                arena[:size] = arena[start:end]
                end, count = size, 0
            if not count:
                segment_bytes = size
            count += 1
            if size < segment_bytes:
                self._send_batch(child, end, segment_bytes)
                end = count = 0
        if count:
            self._send_batch(child, end, segment_bytes)
        child.bytes_out += inner_bytes

    def _send_batch(self, child: Child, end: int, segment_bytes: int) -> None:
        self._statistics.sends += 1
        self._send(self._arena[:end], segment_bytes, child.endpoints)
