"""The EAP packet (RFC 3748 section 4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from aaa.eap.errors import MalformedPacket

HEADER_BYTES = 4
MAX_PACKET_BYTES = 0xFFFF
_HEADER = struct.Struct("!BBH")
_TYPED_HEADER = struct.Struct("!BBHB")


class EapCode(IntEnum):
    """RFC 3748 section 4."""

    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class EapType(IntEnum):
    """Types that Ostiary speaks, and others that clients ask for in a Nak (IANA "Method Types")."""

    IDENTITY = 1
    NOTIFICATION = 2
    NAK = 3
    MD5_CHALLENGE = 4
    OTP = 5
    GTC = 6
    TLS = 13
    LEAP = 17
    SIM = 18
    TTLS = 21
    AKA = 23
    PEAP = 25
    MSCHAPV2 = 26
    TLV = 33
    FAST = 43
    AKA_PRIME = 50
    PWD = 52
    TEAP = 55
    EXPANDED = 254


NO_TYPE = 0
"""Stands in `EapPacket.type` where the packet has none: Success and Failure."""


def type_name(eap_type: int) -> str:
    """`EAP-PEAP (25)`, for messages to the operator."""
    try:
        return f"EAP-{EapType(eap_type).name.replace('_', '-')} ({eap_type})"
    except ValueError:
        return f"EAP type {eap_type}"


@dataclass(frozen=True, slots=True)
class EapPacket:
    """One packet.

    Layout: code 1, identifier 1, length 2 (of all), and in Request and Response also type 1, type data.
    """

    code: EapCode
    identifier: int
    type: int
    """The number as it came, known or not; `NO_TYPE` in Success and Failure."""
    data: bytes
    """What follows the type."""

    @classmethod
    def parse(cls, packet: bytes) -> EapPacket:
        """Decode. IKE and RADIUS carry exact lengths, so that bytes behind the packet are an error, not padding.

        Raises:
            MalformedPacket: a length that does not fit, or a code that RFC 3748 does not have.
        """
        size = len(packet)
        if size < HEADER_BYTES:
            raise MalformedPacket("EAP packet too short")
        code, identifier, length = _HEADER.unpack_from(packet)
        if length != size:
            raise MalformedPacket("EAP length does not fit the packet")
        if code in (EapCode.REQUEST, EapCode.RESPONSE):
            if size == HEADER_BYTES:
                raise MalformedPacket("EAP packet without a type")
            return cls(EapCode(code), identifier, packet[4], packet[5:])
        if code in (EapCode.SUCCESS, EapCode.FAILURE):
            if size != HEADER_BYTES:
                raise MalformedPacket("EAP Success or Failure with data")
            return cls(EapCode(code), identifier, NO_TYPE, b"")
        raise MalformedPacket("unknown EAP code")

    def to_bytes(self) -> bytes:
        """Encode.

        Raises:
            MalformedPacket: the data is longer than the length field can say.
        """
        if self.code in (EapCode.SUCCESS, EapCode.FAILURE):
            return _HEADER.pack(self.code, self.identifier, HEADER_BYTES)
        return _typed(self.code, self.identifier, self.type, self.data)


def _typed(code: int, identifier: int, eap_type: int, data: bytes) -> bytes:
    length = 5 + len(data)
    if length > MAX_PACKET_BYTES:
        raise MalformedPacket("EAP packet too long")
    return _TYPED_HEADER.pack(code, identifier, length, eap_type) + data


def request(identifier: int, eap_type: int, data: bytes) -> bytes:
    """An EAP-Request.

    Raises:
        MalformedPacket: `data` is longer than a packet can be.
    """
    return _typed(EapCode.REQUEST, identifier, eap_type, data)


def response(identifier: int, eap_type: int, data: bytes) -> bytes:
    """An EAP-Response.

    Raises:
        MalformedPacket: `data` is longer than a packet can be.
    """
    return _typed(EapCode.RESPONSE, identifier, eap_type, data)


def success(identifier: int) -> bytes:
    """An EAP-Success; `identifier` is that of the response it answers (RFC 3748 section 4.2)."""
    return _HEADER.pack(EapCode.SUCCESS, identifier, HEADER_BYTES)


def failure(identifier: int) -> bytes:
    """An EAP-Failure; `identifier` is that of the response it answers (RFC 3748 section 4.2)."""
    return _HEADER.pack(EapCode.FAILURE, identifier, HEADER_BYTES)
