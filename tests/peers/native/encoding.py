"""Wire structures of IKEv2 from numbers, with the layout of RFC 7296 section 3 in front of one; for tests only."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address

IKE, ESP = 1, 3
ENCR, PRF, INTEG, KE, ESN = 1, 2, 3, 4, 5

SA, KEY_EXCHANGE, IDI, IDR, CERT, CERTREQ, AUTH, NONCE = 33, 34, 35, 36, 37, 38, 39, 40
NOTIFY, VENDOR_ID, TSI, TSR, CP = 41, 43, 44, 45, 47

ID_IPV4, ID_FQDN, ID_RFC822, ID_DN = 1, 2, 3, 9

Payload = tuple[int, bytes]
"""Type and body."""
Transform = tuple[int, int, int]
"""Type, id and key length in bits, 0 where the attribute is absent."""


def proposal(number: int, protocol: int, transforms: Sequence[Transform], spi: bytes = b"") -> bytes:
    """One proposal, its "last" mark left at 2; `sa` sets the last one's."""
    encoded = []
    for position, (kind, identifier, bits) in enumerate(transforms):
        attribute = struct.pack("!HH", 0x800E, bits) if bits else b""
        more = 0 if position == len(transforms) - 1 else 3
        encoded.append(struct.pack("!BBHBBH", more, 0, 8 + len(attribute), kind, 0, identifier) + attribute)
    body = spi + b"".join(encoded)
    return struct.pack("!BBHBBBB", 2, 0, 8 + len(body), number, protocol, len(spi), len(transforms)) + body


def sa(*proposals: bytes) -> bytes:
    """The body of an SA payload."""
    return b"".join(proposals[:-1]) + b"\0" + proposals[-1][1:]


def key_exchange(group: int, public: bytes) -> bytes:
    """The body of a KE payload."""
    return struct.pack("!HH", group, 0) + public


def notify(kind: int, data: bytes = b"") -> Payload:
    """A notify of the IKE SA, protocol and SPI left empty."""
    return NOTIFY, struct.pack("!BBH", 0, 0, kind) + data


def identification(kind: int, data: bytes) -> bytes:
    """The body of an IDi or IDr payload."""
    return bytes((kind, 0, 0, 0)) + data


def configuration_request(*attributes: int | tuple[int, bytes]) -> Payload:
    """A CFG_REQUEST; an attribute without a value is empty."""
    pairs = [(one, b"") if isinstance(one, int) else one for one in attributes]
    return CP, b"\1\0\0\0" + b"".join(struct.pack("!HH", kind, len(value)) + value for kind, value in pairs)


def selectors(*ranges: tuple[bytes, bytes]) -> bytes:
    """The body of a TS payload: ranges of addresses, all protocols and ports."""
    encoded = b""
    for start, end in ranges:
        kind = 7 if len(start) == 4 else 8
        encoded += struct.pack("!BBHHH", kind, 0, 8 + len(start) + len(end), 0, 0xFFFF) + start + end
    return bytes((len(ranges), 0, 0, 0)) + encoded


ALL_IPV4 = (bytes(4), b"\xff" * 4)
ALL_IPV6 = (bytes(16), b"\xff" * 16)


def certificate(der: bytes) -> Payload:
    """An X.509 certificate."""
    return CERT, b"\4" + der


def certificate_request(hashes: Sequence[bytes]) -> Payload:
    """The authorities that the client knows."""
    return CERTREQ, b"\4" + b"".join(hashes)


def address(text: str) -> bytes:
    """An IPv4 address."""
    return IPv4Address(text).packed


def message(spi_i: bytes, payloads: Sequence[Payload]) -> bytes:
    """An IKE_SA_INIT request."""
    body = b""
    kinds = [kind for kind, _ in payloads] + [0]
    for position, (_, content) in enumerate(payloads):
        body += struct.pack("!BBH", kinds[position + 1], 0, 4 + len(content)) + content
    return spi_i + bytes(8) + struct.pack("!BBBBII", kinds[0], 0x20, 34, 0x08, 0, 28 + len(body)) + body
