"""Many TCP segments in one write to the TUN device: the virtio-net header, and what Linux calls GRO.

The kernel works per packet, so handing over 40 segments of a flow as one 64 KB packet with "segment size 1360" on
it costs it, and us, about as much as one. It takes them apart again where a link needs that, which gives back the
packets that came in.

Header before each packet on the device (virtio specification 5.1.6, native byte order): flags 1, GSO type 1,
header length 2, segment size 2, checksum start 2, checksum offset 2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

Parts = list[bytes | memoryview]

VNET_HEADER = struct.Struct("=BBHHHH")
VNET_HEADER_BYTES = VNET_HEADER.size
NO_OFFLOAD = bytes(VNET_HEADER_BYTES)
NEEDS_CHECKSUM = 1
GSO_TCPV4 = 1
GSO_TCPV6 = 4
TCP_CHECKSUM_OFFSET = 16

MAX_PACKET_BYTES = 65535
MAX_SEGMENTS = 256
"""Enough for a full packet of the smallest segments worth the trouble; writev takes 1024 parts."""

_IPV4_BYTES, _IPV6_BYTES, _TCP_BYTES = 20, 40, 20
_TCP = 6
_MAY_HIDE_TCP = frozenset((_TCP, 0, 43, 44, 60))
"""TCP, or an IPv6 extension header in front of it: what may not overtake the segments that are held back."""
_DONT_FRAGMENT = 0x40
_ACK, _PSH = 0x10, 0x08
_MODULUS = 0xFFFF
"""Ones-complement addition is arithmetic modulo 65535, and dividing one long integer is the fastest sum there is."""


def ones_complement_sum(data: bytes | memoryview) -> int:
    """The sum of RFC 1071 over big-endian 16-bit words, not complemented; an odd octet counts as the high one."""
    number = int.from_bytes(data, "big")
    return (number << 8 if len(data) & 1 else number) % _MODULUS


class _Run:
    """Segments of one flow, in order, that will be one packet.

    All of a header but checksums is compared at once, as one integer: `expected` is what the next header must be,
    and `step` what each adds to it (sequence number, and identification where fragments could exist).
    """

    __slots__ = (
        "expected",
        "header_bytes",
        "key",
        "loose_mask",
        "mask",
        "packet_bytes",
        "parts",
        "payload_bytes",
        "proven",
        "room",
        "step",
        "tcp_offset",
    )

    def __init__(self, key: bytes, packet: memoryview, tcp_offset: int, header_bytes: int) -> None:
        self.key = key
        self.parts: Parts = [packet]
        self.packet_bytes = len(packet)
        self.header_bytes = header_bytes
        self.payload_bytes = self.packet_bytes - header_bytes
        self.tcp_offset = tcp_offset
        self.room = min(MAX_SEGMENTS, (MAX_PACKET_BYTES - header_bytes) // self.payload_bytes) - 1
        self.proven = False
        """Whether the checksums of the first packet were verified."""
        # An identification means nothing on a packet that can't be fragmented (RFC 6864).
        atomic = tcp_offset == _IPV6_BYTES or bool(packet[6] & _DONT_FRAGMENT)
        self.mask, self.loose_mask = _masks(tcp_offset, header_bytes, atomic)
        self.step = self.payload_bytes << 8 * (header_bytes - tcp_offset - 8)
        if not atomic:
            self.step += 1 << 8 * (header_bytes - 6)
        self.expected = (int.from_bytes(packet[:header_bytes], "big") & self.mask) + self.step


_mask_cache: dict[tuple[int, int, bool], tuple[int, int]] = {}


def _masks(tcp_offset: int, header_bytes: int, atomic: bool) -> tuple[int, int]:
    """What two headers of a run must have alike; and what a shorter or pushed last one must."""
    cached = _mask_cache.get((tcp_offset, header_bytes, atomic))
    if cached is not None:
        return cached
    mask = bytearray(b"\xff" * header_bytes)
    mask[tcp_offset + TCP_CHECKSUM_OFFSET : tcp_offset + TCP_CHECKSUM_OFFSET + 2] = b"\0\0"
    if tcp_offset == _IPV4_BYTES:
        mask[10:12] = b"\0\0"
        if atomic:
            mask[4:6] = b"\0\0"
    loose = bytearray(mask)
    length_at = 2 if tcp_offset == _IPV4_BYTES else 4
    loose[length_at : length_at + 2] = b"\0\0"
    loose[tcp_offset + 13] &= ~_PSH & 0xFF
    masks = int.from_bytes(mask, "big"), int.from_bytes(loose, "big")
    _mask_cache[(tcp_offset, header_bytes, atomic)] = masks
    return masks


class TcpCoalescer:
    """Joins consecutive TCP segments of a flow; everything else it passes on at once.

    Order within a flow is kept. Packets are given as places in a buffer that must stay as it is until `flush`.
    Only data segments with nothing but ACK set are joined, equal in every header field, and in order; the last may
    be shorter and pushed. So taking the result apart gives the packets that came in.

    TCP checksums are verified for the first packet of a run and then computed anew by whoever takes the packet
    apart: that the rest arrived as it left the peer's stack, the ESP integrity check has just shown.

    Args:
        write: takes the parts of one packet, the virtio-net header first.
    """

    __slots__ = ("_latest", "_runs", "_write")

    def __init__(self, write: Callable[[Parts], None]) -> None:
        self._write = write
        self._runs: dict[bytes, _Run] = {}
        self._latest: _Run | None = None

    def continues(self, data: memoryview, start: int, end: int) -> bool:
        """Take the packet if it is the next full segment of the run that grew last; else leave it and say False.

        A packet that is taken equals one that went through `add` in version, addresses, protocol and ports.
        """
        run = self._latest
        if run is None or end - start != run.packet_bytes or not run.room:
            return False
        payload_start = start + run.header_bytes
        if int.from_bytes(data[start:payload_start], "big") & run.mask != run.expected:
            return False
        run.expected += run.step
        run.room -= 1
        run.parts.append(data[payload_start:end])
        return True

    def forget_latest(self) -> None:
        """Let the next packet go through `add`: it is another peer's, whose addresses are not yet checked."""
        self._latest = None

    def add(self, data: memoryview, start: int, end: int) -> None:
        """Take one whole IP packet, its length checked against its header."""
        if data[start] == 0x45:
            tcp_offset, protocol = _IPV4_BYTES, data[start + 9]
            key_start, key_end = start + 12, start + 24
            fragment = bool(data[start + 6] & ~_DONT_FRAGMENT or data[start + 7])
        elif data[start] >> 4 == 6:
            tcp_offset, protocol = _IPV6_BYTES, data[start + 6]
            key_start, key_end = start + 8, start + 44
            fragment = False
        else:
            tcp_offset = protocol = key_start = key_end = 0
            fragment = True
        tcp = start + tcp_offset
        if protocol != _TCP or fragment or tcp + _TCP_BYTES > end:
            if fragment or protocol in _MAY_HIDE_TCP:
                self.flush()
            self._write([NO_OFFLOAD, data[start:end]])
            return
        key = bytes(data[key_start:key_end])
        header_bytes = tcp_offset + (data[tcp + 12] >> 4) * 4
        payload_bytes = end - start - header_bytes
        run = self._runs.get(key)
        if run is not None and self._joins(run, data, start, end, header_bytes, payload_bytes):
            return
        if run is not None:
            self._finish(run)
        if header_bytes >= tcp_offset + _TCP_BYTES and payload_bytes > 0 and data[tcp + 13] == _ACK:
            self._runs[key] = _Run(key, data[start:end], tcp_offset, header_bytes)
            self._latest = None
        else:
            self._write([NO_OFFLOAD, data[start:end]])

    def _joins(
        self, run: _Run, data: memoryview, start: int, end: int, header_bytes: int, payload_bytes: int
    ) -> bool:
        if header_bytes != run.header_bytes or not 0 < payload_bytes <= run.payload_bytes or not run.room:
            return False
        header = int.from_bytes(data[start : start + header_bytes], "big")
        if header & run.loose_mask != run.expected & run.loose_mask:
            return False
        if not run.proven:
            if not _checksums_hold(run):
                return False
            run.proven = True
        run.parts.append(data[start + header_bytes : end])
        run.expected += run.step
        run.room -= 1
        flags = data[start + run.tcp_offset + 13]
        if payload_bytes < run.payload_bytes or flags & _PSH:
            first = run.parts[0]
            assert isinstance(first, memoryview)  # noqa: S101 - _Run puts it there
            first[run.tcp_offset + 13] = flags
            self._finish(run)
        else:
            self._latest = run
        return True

    def flush(self) -> None:
        """Write what is held back."""
        for run in list(self._runs.values()):
            self._finish(run)

    def _finish(self, run: _Run) -> None:
        del self._runs[run.key]
        if self._latest is run:
            self._latest = None
        parts = run.parts
        if len(parts) == 1:
            self._write([NO_OFFLOAD, *parts])
            return
        first = parts[0]
        assert isinstance(first, memoryview)  # noqa: S101 - _Run puts it there
        length = sum(map(len, parts))
        tcp_offset = run.tcp_offset
        if tcp_offset == _IPV4_BYTES:
            gso_type, addresses = GSO_TCPV4, first[12:20]
            first[2:4] = length.to_bytes(2, "big")
            first[10:12] = b"\0\0"
            first[10:12] = (_MODULUS - ones_complement_sum(first[:_IPV4_BYTES])).to_bytes(2, "big")
        else:
            gso_type, addresses = GSO_TCPV6, first[8:40]
            first[4:6] = (length - _IPV6_BYTES).to_bytes(2, "big")
        # With NEEDS_CHECKSUM the field holds the sum of the pseudo header, and whoever needs it adds the rest.
        pseudo_header = (ones_complement_sum(addresses) + _TCP + length - tcp_offset) % _MODULUS
        checksum_at = tcp_offset + TCP_CHECKSUM_OFFSET
        first[checksum_at : checksum_at + 2] = pseudo_header.to_bytes(2, "big")
        header = VNET_HEADER.pack(
            NEEDS_CHECKSUM, gso_type, run.header_bytes, run.payload_bytes, tcp_offset, TCP_CHECKSUM_OFFSET
        )
        self._write([header, *parts])


def _checksums_hold(run: _Run) -> bool:
    """Whether IP and TCP checksum of the first packet are right."""
    packet = run.parts[0]
    tcp_offset = run.tcp_offset
    if tcp_offset == _IPV4_BYTES:
        if ones_complement_sum(packet[:_IPV4_BYTES]) != 0:
            return False
        addresses = packet[12:20]
    else:
        addresses = packet[8:40]
    pseudo_header = ones_complement_sum(addresses) + _TCP + len(packet) - tcp_offset
    return (pseudo_header + ones_complement_sum(packet[tcp_offset:])) % _MODULUS == 0
