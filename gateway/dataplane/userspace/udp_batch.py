"""Many ESP packets in one system call: UDP segmentation and receive offload on the gateway's sockets.

`sendmsg` with UDP_SEGMENT takes up to 64 packets of one size, the last may be shorter, and the kernel or the card
cuts them apart. With UDP_GRO on a socket, `recvmsg` gives packets of one sender and size joined, and says the size.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Protocol

from gateway.dataplane.interface import Endpoints

UDP_SEGMENT, UDP_GRO = 103, 104
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT = 10, 23, 0
_IP_PKTINFO = 8
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32

SOCKET_BUFFER_BYTES = 4 << 20
MAX_SEGMENTS = 64
"""UDP_MAX_SEGMENTS of the kernels before 6.9."""
MAX_BATCH_BYTES = 65_000
"""Below 65,507, the most that a UDP datagram, and so one call, can carry."""
_RECEIVE_BYTES = 65_536
_ANCILLARY_BYTES = 128

NON_ESP_MARKER = bytes(4)
_KEEPALIVE = 0xFF

_SEGMENT_SIZE = struct.Struct("=H")
_GRO_SIZE = struct.Struct("=i")
_PKTINFO_V4 = struct.Struct("=I4s4s")
_PKTINFO_V6 = struct.Struct("=16sI")

RemoteName = tuple[str, int]


class SegmentReceiver(Protocol):
    """Where ESP packets go; `UserspacePlane` is one."""

    def receive_segments(
        self, packets: memoryview, segment_bytes: int, remote: RemoteName, udp_encapsulated: bool
    ) -> None:
        """ESP packets of one sender, one after the other, each `segment_bytes` long but for a shorter last one."""

    def flush(self) -> None:
        """Nothing more is at hand: hand over what was held back to be joined."""


IkeReceiver = Callable[[bytes, str, RemoteName], None]
"""An IKE message without its non-ESP marker, the address that it came to, and who sent it."""


def prepare(sock: socket.socket) -> None:
    """Set a UDP or raw ESP socket up: non-blocking, deep buffers, the local address told with each packet, and no
    path MTU discovery, so that a packet that is too large is fragmented.
    """
    sock.setblocking(False)
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, SOCKET_BUFFER_BYTES)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _join_on_receive(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:  # a kernel before 5.0: packets come one by one
            raise


class NatTraversalReceiver:
    """Drains the UDP socket of port 4500: ESP to the data plane, IKE to the gateway (RFC 3948 section 2).

    It turns receive offload on, so nothing else may read the socket. Register `drain` with the event loop. It
    stops after `budget_packets`, so that ESP does not keep IKE, timers and the other sockets waiting; the loop
    calls again when more is there.
    """

    def __init__(
        self, sock: socket.socket, esp: SegmentReceiver, ike: IkeReceiver, budget_packets: int = 256
    ) -> None:
        _join_on_receive(sock)
        self._socket = sock
        self._esp = esp
        self._ike = ike
        self._budget_packets = budget_packets
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._buffers = [self._buffer]
        self._view = memoryview(self._buffer)

    def drain(self) -> None:
        """Read what is there, up to the budget. Raises nothing that a packet or the network can cause."""
        budget = self._budget_packets
        buffer = self._buffer
        receive = self._socket.recvmsg_into
        while budget > 0:
            try:
                size, ancillary, _, remote = receive(self._buffers, _ANCILLARY_BYTES)
            except OSError:
                # Nothing there, or an error of an earlier packet that the kernel reports late.
                break
            segment_bytes = size
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                    segment_bytes = _GRO_SIZE.unpack_from(data)[0] or size
            if size == 0:
                budget -= 1
                continue
            budget -= -(-size // segment_bytes)
            # Joined packets have one size but not one kind: IKE may sit between ESP. Marker and keepalive are looked
            # for in each; runs of ESP, nearly always all of it, go on together.
            run_start = 0
            for start in range(0, size, segment_bytes):
                end = min(start + segment_bytes, size)
                if end - start >= 4 and (buffer[start] or buffer[start : start + 4] != NON_ESP_MARKER):
                    continue
                if start > run_start:
                    self._esp.receive_segments(self._view[run_start:start], segment_bytes, remote, True)
                run_start = end
                if end - start > 4:
                    self._ike(bytes(self._view[start + 4 : end]), local_address(ancillary), remote[:2])
            if size > run_start:
                self._esp.receive_segments(self._view[run_start:size], segment_bytes, remote, True)
        self._esp.flush()


class RawEspReceiver:
    """Drains a raw socket of IP protocol 50: ESP that no NAT made us wrap in UDP."""

    def __init__(self, sock: socket.socket, esp: SegmentReceiver, budget_packets: int = 256) -> None:
        self._socket = sock
        self._esp = esp
        self._budget_packets = budget_packets
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._with_ip_header = sock.family == socket.AF_INET

    def drain(self) -> None:
        """Read what is there, up to the budget. Raises nothing that a packet or the network can cause."""
        for _ in range(self._budget_packets):
            try:
                size, remote = self._socket.recvfrom_into(self._buffer)
            except OSError:
                break
            start = (self._buffer[0] & 0x0F) * 4 if self._with_ip_header and size else 0
            if size > start:
                self._esp.receive_segments(self._view[start:size], size - start, (remote[0], 0), False)
        self._esp.flush()


def local_address(ancillary: list[tuple[int, int, bytes]]) -> str:
    """The address that a packet came to, from what `recvmsg` says beside it.

    Raises:
        ValueError: the socket is not `prepare`d.
    """
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    raise ValueError("the socket does not tell the address that a packet came to")


@lru_cache(maxsize=1024)
def from_address(local: str) -> list[tuple[int, int, bytes]]:
    """What `sendmsg` has to be given for a packet to leave from an address of ours; not to be changed."""
    address = ip_address(local)
    if address.version == 4:
        return [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO_V4.pack(0, address.packed, bytes(4)))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO_V6.pack(address.packed, 0))]


class _Path:
    """How to send to one pair of endpoints; made once, since the endpoints of a client seldom change."""

    __slots__ = ("address", "ancillary", "endpoints", "segmentation", "sock")

    def __init__(self, sock: socket.socket, endpoints: Endpoints) -> None:
        self.sock = sock
        self.endpoints = endpoints
        self.address = (str(endpoints.remote), endpoints.remote_port if endpoints.udp_encapsulation else 0)
        self.segmentation = endpoints.udp_encapsulation
        self.ancillary = from_address(str(endpoints.local))


class EspTransmitter:
    """Sends ESP packets, many at a time, from the address that the peer knows the gateway by.

    Args:
        socket_for: the socket of these endpoints' IP version: the one bound to their local port (4500) with UDP
            encapsulation, else a raw one of protocol 50; None where there is none.
    """

    _MAX_PATHS = 65_536

    def __init__(self, socket_for: Callable[[Endpoints], socket.socket | None]) -> None:
        self._socket_for = socket_for
        # By identity: hashing the addresses of endpoints takes longer than sending. The path holds its endpoints, so
        # none can be made with the identity of others.
        self._paths: dict[int, _Path] = {}
        self.dropped = 0
        """Packets that the kernel did not take: no buffer, no route, no socket."""

    def send(self, packet: bytes | memoryview, endpoints: Endpoints) -> None:
        """Send one ESP packet; one that can't be sent is counted, as if the network had lost it."""
        self.send_segments(memoryview(packet), len(packet), endpoints)

    def send_segments(self, packets: memoryview, segment_bytes: int, endpoints: Endpoints) -> None:
        """Send packets that lie one after the other, each `segment_bytes` long but for a shorter last one.

        At most MAX_SEGMENTS packets and MAX_BATCH_BYTES octets.
        """
        path = self._paths.get(id(endpoints))
        if path is None:
            sock = self._socket_for(endpoints)
            if sock is None:
                self.dropped += -(-len(packets) // segment_bytes)
                return
            if len(self._paths) >= self._MAX_PATHS:
                self._paths.clear()
            path = self._paths[id(endpoints)] = _Path(sock, endpoints)
        if path.segmentation and len(packets) > segment_bytes:
            segment = (socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(segment_bytes))
            try:
                path.sock.sendmsg([packets], [*path.ancillary, segment], 0, path.address)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EMSGSIZE, errno.EIO, errno.EOPNOTSUPP):
                    self.dropped += -(-len(packets) // segment_bytes)
                    return
                # The path's MTU is below a segment, or the kernel has no UDP_SEGMENT: the packets go one by one,
                # where the kernel may fragment them.
                path.segmentation = False
            else:
                return
        for start in range(0, len(packets), segment_bytes):
            try:
                path.sock.sendmsg([packets[start : start + segment_bytes]], path.ancillary, 0, path.address)
            except OSError:
                self.dropped += 1

    def forget(self, endpoints: Endpoints) -> None:
        """Drop what is remembered of endpoints that no SA uses any more."""
        self._paths.pop(id(endpoints), None)
