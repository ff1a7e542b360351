"""The attribute-value pairs inside an EAP-TTLS tunnel (RFC 5281 section 10)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from aaa.eap.errors import LimitExceeded, MalformedPacket

MAX_AVPS = 32
"""In one message; a sign-in needs three, and one more for each piece of an EAP packet."""

_HEADER = struct.Struct("!II")
"""AVP Code, then AVP Flags in the highest byte and AVP Length in the rest."""
_VENDOR = struct.Struct("!I")
_VENDOR_SPECIFIC = 0x80
_MANDATORY = 0x40
_LENGTH_MASK = 0xFFFFFF
_ALIGNMENT = 4
MICROSOFT = 311


class AvpCode(IntEnum):
    """Those that are understood: of RADIUS."""

    USER_NAME = 1
    USER_PASSWORD = 2
    CHAP_PASSWORD = 3
    CHAP_CHALLENGE = 60
    EAP_MESSAGE = 79


class MicrosoftCode(IntEnum):
    """Those that are understood: of vendor 311 (RFC 2548)."""

    MS_CHAP_RESPONSE = 1
    MS_CHAP_CHALLENGE = 11
    MS_CHAP2_RESPONSE = 25
    MS_CHAP2_SUCCESS = 26


@dataclass(frozen=True, slots=True)
class Avp:
    """One of them.

    Layout: AVP Code 4, AVP Flags 1, AVP Length 3 (of header and data), with flag V Vendor-ID 4, data, and zeros up
    to a multiple of 4.
    """

    code: int
    data: bytes = field(repr=False)
    """It may be a password."""
    vendor: int = 0
    mandatory: bool = True
    """Whoever does not understand it must refuse the sign-in."""

    def to_bytes(self) -> bytes:
        """Encode, with its padding."""
        vendor = _VENDOR.pack(self.vendor) if self.vendor else b""
        flags = (_VENDOR_SPECIFIC if self.vendor else 0) | (_MANDATORY if self.mandatory else 0)
        length = _HEADER.size + len(vendor) + len(self.data)
        return _HEADER.pack(self.code, flags << 24 | length) + vendor + self.data + bytes(-length % _ALIGNMENT)


def parse_avps(data: bytes) -> list[Avp]:
    """Decode all of them. What the padding holds is ignored; that of the last may be left out.

    Raises:
        MalformedPacket: a length that does not fit, or padding that is cut off.
        LimitExceeded: more than `MAX_AVPS`.
    """
    avps: list[Avp] = []
    at = 0
    while at < len(data):
        if len(avps) == MAX_AVPS:
            raise LimitExceeded(f"more than {MAX_AVPS} AVPs inside the tunnel")
        if len(data) - at < _HEADER.size:
            raise MalformedPacket("AVP cut off in its header")
        code, flags_and_length = _HEADER.unpack_from(data, at)
        flags, length = flags_and_length >> 24, flags_and_length & _LENGTH_MASK
        header, vendor = _HEADER.size, 0
        if flags & _VENDOR_SPECIFIC:
            header += _VENDOR.size
        if length < header or length > len(data) - at:
            raise MalformedPacket(f"AVP {code} with a length of {length} that does not fit")
        if flags & _VENDOR_SPECIFIC:
            (vendor,) = _VENDOR.unpack_from(data, at + _HEADER.size)
        avps.append(Avp(code, data[at + header : at + length], vendor, bool(flags & _MANDATORY)))
        at += length
        padding = -length % _ALIGNMENT
        if at < len(data):
            if len(data) - at < padding:
                raise MalformedPacket(f"padding of AVP {code} cut off")
            at += padding
    return avps


def avps_to_bytes(avps: Iterable[Avp]) -> bytes:
    """Encode all of them."""
    return b"".join(avp.to_bytes() for avp in avps)
