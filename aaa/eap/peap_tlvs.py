"""The TLVs of PEAP version 0 ([MS-PEAP] section 2.2.8.1): the result of the inner method, and the proof that the same
peer is at both ends of the tunnel.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum

from aaa.eap.errors import LimitExceeded, MalformedPacket

MAX_TLVS = 8
NONCE_BYTES = 32

_HEADER = struct.Struct("!HH")
_MANDATORY = 0x8000
_TYPE_MASK = 0x3FFF
_RESULT = struct.Struct("!H")
_BINDING = struct.Struct("!BBBB32s20s")
_PEAP_TYPE = b"\x19"
_TEMPORARY_KEY_BYTES = 40
_MAC_KEY_BYTES = 20
_INNER_KEY_BYTES = 32
_COMPOUND_LABEL = b"Inner Methods Compound Keys"
# With the zero byte of a C string, other than the one before: so Windows has it, and everyone after it.
_SESSION_LABEL = b"Session Key Generating Function\0"


class TlvType(IntEnum):
    """Those that are understood."""

    RESULT = 3
    CRYPTOBINDING = 12


class Result(IntEnum):
    """[MS-PEAP] section 2.2.8.1.2."""

    SUCCESS = 1
    FAILURE = 2


class Subtype(IntEnum):
    """Of the Cryptobinding TLV."""

    REQUEST = 0
    RESPONSE = 1


@dataclass(frozen=True, slots=True)
class Tlv:
    """Layout: M 1 bit, reserved 1 bit, type 14 bits, length 2, value."""

    type: int
    value: bytes
    mandatory: bool = False

    def to_bytes(self) -> bytes:
        """Encode."""
        return _HEADER.pack(self.type | (_MANDATORY if self.mandatory else 0), len(self.value)) + self.value


def parse_tlvs(data: bytes) -> list[Tlv]:
    """Decode all of them.

    Raises:
        MalformedPacket: a length that does not fit.
        LimitExceeded: more than `MAX_TLVS`.
    """
    tlvs: list[Tlv] = []
    at = 0
    while at < len(data):
        if len(tlvs) == MAX_TLVS:
            raise LimitExceeded(f"more than {MAX_TLVS} PEAP TLVs")
        if len(data) - at < _HEADER.size:
            raise MalformedPacket("PEAP TLV cut off in its header")
        kind, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if length > len(data) - at:
            raise MalformedPacket("PEAP TLV with a length that does not fit")
        tlvs.append(Tlv(kind & _TYPE_MASK, data[at : at + length], bool(kind & _MANDATORY)))
        at += length
    return tlvs


def result_tlv(result: Result) -> Tlv:
    """The Result TLV."""
    return Tlv(TlvType.RESULT, _RESULT.pack(result), mandatory=True)


def parse_result(value: bytes) -> Result:
    """The value of a Result TLV.

    Raises:
        MalformedPacket: neither success nor failure.
    """
    if len(value) != _RESULT.size:
        raise MalformedPacket("PEAP result of a wrong length")
    try:
        return Result(_RESULT.unpack(value)[0])
    except ValueError:
        raise MalformedPacket("PEAP result that is neither success nor failure") from None


@dataclass(frozen=True, slots=True)
class CompoundKeys:
    """Made of the tunnel's key and that of the method inside ([MS-PEAP] section 3.1.5.5.2)."""

    mac_key: bytes
    """20 bytes, the CMK."""
    msk: bytes
    """64 bytes, for the sign-in as a whole."""

    @classmethod
    def derive(cls, tunnel_key_material: bytes, inner_msk: bytes) -> CompoundKeys:
        """The keys.

        Args:
            tunnel_key_material: what TLS exported; its first 40 bytes count.
            inner_msk: of the method inside; empty where it makes none.
        """
        inner = inner_msk[:_INNER_KEY_BYTES].ljust(_INNER_KEY_BYTES, b"\0")
        material = _prf_plus(
            tunnel_key_material[:_TEMPORARY_KEY_BYTES],
            _COMPOUND_LABEL + inner,
            _TEMPORARY_KEY_BYTES + _MAC_KEY_BYTES,
        )
        temporary, mac_key = material[:_TEMPORARY_KEY_BYTES], material[_TEMPORARY_KEY_BYTES:]
        return cls(mac_key, _prf_plus(temporary, _SESSION_LABEL, 128)[:64])

    def binding(self, subtype: Subtype, nonce: bytes) -> Tlv:
        """The Cryptobinding TLV of version 0."""
        unsigned = Tlv(TlvType.CRYPTOBINDING, _BINDING.pack(0, 0, 0, subtype, nonce, bytes(_MAC_KEY_BYTES)))
        mac = hmac.digest(self.mac_key, unsigned.to_bytes() + _PEAP_TYPE, hashlib.sha1)
        return Tlv(TlvType.CRYPTOBINDING, _BINDING.pack(0, 0, 0, subtype, nonce, mac))

    def is_bound(self, tlv: Tlv, subtype: Subtype) -> bool:
        """Whether this TLV was made with the same keys.

        Raises:
            MalformedPacket: its length does not fit.
        """
        if len(tlv.value) != _BINDING.size:
            raise MalformedPacket("PEAP cryptobinding of a wrong length")
        nonce = _BINDING.unpack(tlv.value)[4]
        return hmac.compare_digest(self.binding(subtype, nonce).value, tlv.value)


def _prf_plus(key: bytes, seed: bytes, size: int) -> bytes:
    """PRF+ ([MS-PEAP] section 3.1.5.5.2.2): Tn = HMAC-SHA1(K, Tn-1 | S | n 00 00), where T0 is empty."""
    made, block, count = b"", b"", 0
    while len(made) < size:
        count += 1
        block = hmac.digest(key, block + seed + bytes((count, 0, 0)), hashlib.sha1)
        made += block
    return made[:size]
