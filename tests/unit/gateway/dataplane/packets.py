"""Inner packets for tests, with right checksums, written from the RFCs and not with the code under test."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

ACK, PSH, FIN = 0x10, 0x08, 0x01
DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000


def checksum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)):
        total += word
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    identification: int = 7,
    fragment: int = DONT_FRAGMENT,
    options: bytes = b"",
    extensions: bytes = b"",
    tos: int = 0,
    ttl: int = 64,
) -> bytes:
    """An IPv4 or IPv6 packet.

    Args:
        fragment: flags and offset of an IPv4 header.
        options: of an IPv4 header, a multiple of four octets.
        extensions: of an IPv6 packet, starting with the header that `protocol` names.
    """
    first, second = ip_address(source), ip_address(destination)
    if isinstance(first, IPv6Address):
        body = extensions + payload
        return (
            struct.pack("!IHBB", 6 << 28 | tos << 20, len(body), protocol, ttl) + first.packed + second.packed + body
        )
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        tos,
        20 + len(options) + len(payload),
        identification,
        fragment,
        ttl,
        protocol,
        0,
        first.packed,
        second.packed,
    )
    header += options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def udp(source: str, destination: str, ports: tuple[int, int], data: bytes = b"data") -> bytes:
    """A UDP packet without checksum."""
    return ip(source, destination, 17, struct.pack("!HHHH", *ports, 8 + len(data), 0) + data)


def icmp_echo(source: str, destination: str, data: bytes = b"ping") -> bytes:
    """An echo request of ICMP."""
    body = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + data
    return ip(source, destination, 1, body[:2] + struct.pack("!H", checksum(body)) + body[4:])


@dataclass(frozen=True)
class Tcp:
    """A TCP segment in IP; `packet()` gives its octets."""

    source: str = "10.99.0.2"
    destination: str = "10.1.0.10"
    source_port: int = 40000
    destination_port: int = 443
    sequence: int = 1000
    acknowledgement: int = 5000
    flags: int = ACK
    window: int = 512
    options: bytes = b"\1\1\x08\x0a\0\0\0\1\0\0\0\2"
    payload: bytes = b""
    identification: int = 100
    fragment: int = DONT_FRAGMENT
    tos: int = 0
    ttl: int = 64
    bad_checksum: bool = False

    def packet(self) -> bytes:
        """The octets."""
        addresses = ip_address(self.source).packed + ip_address(self.destination).packed
        segment = (
            struct.pack(
                "!HHIIBBHHH",
                self.source_port,
                self.destination_port,
                self.sequence % (1 << 32),
                self.acknowledgement,
                (20 + len(self.options)) // 4 << 4,
                self.flags,
                self.window,
                0,
                0,
            )
            + self.options
            + self.payload
        )
        if isinstance(ip_address(self.source), IPv4Address):
            pseudo = addresses + struct.pack("!BBH", 0, 6, len(segment))
        else:
            pseudo = addresses + struct.pack("!II", len(segment), 6)
        value = checksum(pseudo + segment) ^ (0x5555 if self.bad_checksum else 0)
        segment = segment[:16] + struct.pack("!H", value) + segment[18:]
        return ip(
            self.source,
            self.destination,
            6,
            segment,
            identification=self.identification % (1 << 16),
            fragment=self.fragment,
            tos=self.tos,
            ttl=self.ttl,
        )

    def stream(self, sizes: list[int]) -> list[Tcp]:
        """This segment and its successors, with payloads of these sizes."""
        result = []
        sequence, identification = self.sequence, self.identification
        for size in sizes:
            payload = bytes((sequence + index) % 251 for index in range(size))
            result.append(replace(self, sequence=sequence, identification=identification, payload=payload))
            sequence += size
            identification += 1
        return result


VNET = struct.Struct("=BBHHHH")


def as_the_kernel_would(written: bytes) -> list[bytes]:
    """The packets that one write to a TUN device stands for: segmentation offload done in the plainest way.

    For a packet without offload, that packet. For a large one: each segment gets the header, its own length,
    sequence number and identification, PSH only at the end, and checksums computed from nothing.
    """
    flags, kind, header_bytes, segment_bytes, start, offset = VNET.unpack_from(written)
    packet = written[VNET.size :]
    if kind == 0:
        assert (flags, header_bytes, segment_bytes, start, offset) == (0, 0, 0, 0, 0)
        return [packet]
    assert flags == 1
    assert offset == 16
    ipv4 = packet[0] >> 4 == 4
    assert (kind, start) == ((1, 20) if ipv4 else (4, 40))
    assert header_bytes == start + (packet[start + 12] >> 4) * 4
    if ipv4:
        assert struct.unpack_from("!H", packet, 2)[0] == len(packet)
        assert checksum(packet[:20]) == 0
    else:
        assert struct.unpack_from("!H", packet, 4)[0] == len(packet) - 40
    addresses = packet[12:20] if ipv4 else packet[8:40]
    # The field holds the sum of the pseudo header, not complemented.
    pseudo = checksum(addresses + struct.pack("!II", len(packet) - start, 6)) ^ 0xFFFF
    assert struct.unpack_from("!H", packet, start + 16)[0] % 0xFFFF == pseudo % 0xFFFF

    payload = packet[header_bytes:]
    assert len(payload) > segment_bytes
    segments = []
    for number, position in enumerate(range(0, len(payload), segment_bytes)):
        piece = payload[position : position + segment_bytes]
        last = position + segment_bytes >= len(payload)
        header = bytearray(packet[:header_bytes])
        (sequence,) = struct.unpack_from("!I", header, start + 4)
        struct.pack_into("!I", header, start + 4, (sequence + position) % (1 << 32))
        if not last:
            header[start + 13] &= ~(PSH | FIN) & 0xFF
        if ipv4:
            (identification,) = struct.unpack_from("!H", header, 4)
            struct.pack_into("!HH", header, 2, header_bytes + len(piece), (identification + number) % (1 << 16))
            header[10:12] = b"\0\0"
            struct.pack_into("!H", header, 10, checksum(bytes(header[:20])))
        else:
            struct.pack_into("!H", header, 4, header_bytes - 40 + len(piece))
        header[start + 16 : start + 18] = b"\0\0"
        tcp = bytes(header[start:]) + piece
        struct.pack_into("!H", header, start + 16, checksum(addresses + struct.pack("!II", len(tcp), 6) + tcp))
        segments.append(bytes(header) + piece)
    return segments
