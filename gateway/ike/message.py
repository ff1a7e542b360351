"""The IKE header (RFC 7296 section 3.1) and the chain of payloads behind it (section 3.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.ike.constants import IKE_HEADER_BYTES, IKE_VERSION, Flag, PayloadType
from gateway.ike.errors import InvalidSyntax, UnsupportedCriticalPayload
from gateway.ike.fragments import Fragment

MAX_PAYLOADS = 64
"""In one message. Windows sends some 20, a client with a long certificate chain some 30."""
MAX_MESSAGE_BYTES = 65_535

_HEADER = struct.Struct("!8s8sBBBBII")
_PAYLOAD_HEADER = struct.Struct("!BBH")
_CRITICAL = 0x80
_KNOWN_TYPES: frozenset[int] = frozenset(PayloadType)
_ENCRYPTED_TYPES: frozenset[int] = frozenset((PayloadType.SK, PayloadType.SKF))
_IKEV1_TYPES = range(1, 33)


class Header(NamedTuple):
    """The 28 bytes before the payloads."""

    spi_i: bytes
    spi_r: bytes
    next_payload: int
    version: int
    exchange: int
    flags: int
    message_id: int
    length: int

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Decode and check the length against the datagram.

        Raises:
            InvalidSyntax: shorter than a header, or a length that is not the datagram's.
        """
        if len(data) < IKE_HEADER_BYTES:
            raise InvalidSyntax("shorter than an IKE header")
        header = cls.of(data)
        if header.length != len(data):
            raise InvalidSyntax("IKE length is not the datagram's")
        return header

    @classmethod
    def of(cls, data: bytes) -> Header:
        """Decode a datagram that was checked already."""
        return cls._make(_HEADER.unpack_from(data))

    def to_bytes(self) -> bytes:
        """Encode."""
        return _HEADER.pack(*self)

    @property
    def is_response(self) -> bool:
        """The R flag."""
        return bool(self.flags & Flag.RESPONSE)

    @property
    def from_initiator(self) -> bool:
        """The I flag: sent by the original initiator of the IKE SA."""
        return bool(self.flags & Flag.INITIATOR)


@dataclass(slots=True)
class Payloads:
    """The payloads of one message by type, those of one type in order; bodies are parsed by whoever needs them.

    The order of different types means nothing (section 2.5).
    """

    bodies: dict[int, list[bytes]]
    whole: Fragment | None = None
    """The encrypted message that they came in, as if it had not been fragmented."""

    def first(self, payload_type: PayloadType) -> bytes | None:
        """The body of the first payload of a type, or None."""
        found = self.bodies.get(payload_type)
        return found[0] if found is not None else None

    def require(self, payload_type: PayloadType) -> bytes:
        """The body of the first payload of a type; raises InvalidSyntax where there is none."""
        found = self.bodies.get(payload_type)
        if found is None:
            raise InvalidSyntax(f"no {payload_type.name} payload")
        return found[0]

    def all(self, payload_type: PayloadType) -> Sequence[bytes]:
        """The bodies of all payloads of a type."""
        return self.bodies.get(payload_type, ())


def parse_payloads(first_type: int, data: bytes) -> Payloads:
    """Cut a chain into payloads; unknown ones that are not critical are left out.

    The chain must end with the data; an SK or SKF payload is always the last (its next-payload field names the
    first inner payload).

    Raises:
        InvalidSyntax: a length that does not fit, a payload of IKEv1, too many payloads, trailing bytes.
        UnsupportedCriticalPayload: an unknown payload with the critical bit.
    """
    bodies: dict[int, list[bytes]] = {}
    offset, end, payload_type, seen = 0, len(data), first_type, 0
    while payload_type:
        if end - offset < 4:
            raise InvalidSyntax("payload too short")
        next_type, critical, length = _PAYLOAD_HEADER.unpack_from(data, offset)
        if length < 4 or length > end - offset:
            raise InvalidSyntax("payload length")
        seen += 1
        if seen > MAX_PAYLOADS:
            raise InvalidSyntax("too many payloads")
        if payload_type in _KNOWN_TYPES:
            body = data[offset + 4 : offset + length]
            if payload_type in bodies:
                bodies[payload_type].append(body)
            else:
                bodies[payload_type] = [body]
        elif payload_type in _IKEV1_TYPES:
            raise InvalidSyntax("a payload of IKEv1")
        elif critical & _CRITICAL:
            raise UnsupportedCriticalPayload(payload_type)
        offset += length
        if payload_type in _ENCRYPTED_TYPES:
            break
        payload_type = next_type
    if offset != end:
        raise InvalidSyntax("bytes after the last payload")
    return Payloads(bodies)


def chain(payloads: Iterable[tuple[PayloadType, bytes]]) -> tuple[int, bytes]:
    """Encode bodies as a chain; return the first type and the bytes."""
    parts: list[bytes] = []
    following = 0
    for payload_type, body in reversed(list(payloads)):
        parts.append(body)
        parts.append(_PAYLOAD_HEADER.pack(following, 0, 4 + len(body)))
        following = payload_type
    parts.reverse()
    return following, b"".join(parts)


def clear_message(
    spi_i: bytes,
    spi_r: bytes,
    exchange: int,
    flags: int,
    message_id: int,
    payloads: Iterable[tuple[PayloadType, bytes]],
) -> bytes:
    """A whole message without encryption: IKE_SA_INIT, and notifies outside an SA."""
    first, body = chain(payloads)
    header = Header(spi_i, spi_r, first, IKE_VERSION, exchange, flags, message_id, IKE_HEADER_BYTES + len(body))
    return header.to_bytes() + body
