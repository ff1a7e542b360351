"""Netlink's own framing (linux/netlink.h): messages, attributes, acknowledgements. Bytes in, bytes out.

A message: length 4 (with this header), type 2, flags 2, sequence number 4, port 4, body, padded to 4 octets.
An attribute: length 2 (with this header), type 2, value, padded to 4 octets. All in the byte order of the machine.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x01, 0x04, 0x10
NLM_F_DUMP, NLM_F_REPLACE = 0x300, 0x100
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP = 1, 2
NETLINK_CAP_ACK, NETLINK_EXT_ACK = 10, 11
NLMSGERR_ATTR_MSG = 1

HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")
_KIND_MASK = 0x3FFF
"""Without the flags for nested attributes and network byte order."""
_MAX_TEXT_BYTES = 512


class MalformedNetlink(Exception):
    """The kernel's answer is not one that can be read."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, without its header's length and port."""

    kind: int
    flags: int
    sequence: int
    body: bytes

    def to_bytes(self) -> bytes:
        """Encode, padded."""
        size = HEADER.size + len(self.body)
        return HEADER.pack(size, self.kind, self.flags, self.sequence, 0) + self.body + bytes(-size % 4)


def parse_messages(data: bytes) -> list[Message]:
    """All messages of one datagram.

    Raises:
        MalformedNetlink: a length that does not fit.
    """
    messages, offset = [], 0
    while offset < len(data):
        if len(data) - offset < HEADER.size:
            raise MalformedNetlink("message header cut off")
        size, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if not HEADER.size <= size <= len(data) - offset:
            raise MalformedNetlink("message length")
        messages.append(Message(kind, flags, sequence, data[offset + HEADER.size : offset + size]))
        offset += (size + 3) & ~3
    return messages


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type; of several of a type, the last.

    Raises:
        MalformedNetlink: a length that does not fit.
    """
    found, offset = {}, 0
    while offset < len(data):
        if len(data) - offset < _ATTRIBUTE.size:
            raise MalformedNetlink("attribute header cut off")
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not _ATTRIBUTE.size <= size <= len(data) - offset:
            raise MalformedNetlink("attribute length")
        found[kind & _KIND_MASK] = data[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an NLMSG_ERROR message says."""

    code: int
    """An errno, 0 for success."""
    text: str
    """The kernel's own words, where it has some (extended acknowledgement)."""


def parse_verdict(message: Message) -> Verdict:
    """Read an NLMSG_ERROR: code 4, header of the request 16, its body unless capped, then attributes.

    Raises:
        MalformedNetlink: cut off, or a positive code.
    """
    body = message.body
    if len(body) < _CODE.size + HEADER.size:
        raise MalformedNetlink("acknowledgement too short")
    (code,) = _CODE.unpack_from(body)
    if code > 0:
        raise MalformedNetlink("acknowledgement with a positive code")
    text = ""
    if message.flags & NLM_F_ACK_TLVS:
        start = _CODE.size + HEADER.size
        if code and not message.flags & NLM_F_CAPPED:
            request_bytes = HEADER.unpack_from(body, _CODE.size)[0]
            start = _CODE.size + ((max(request_bytes, HEADER.size) + 3) & ~3)
        raw = parse_attributes(body[start:]).get(NLMSGERR_ATTR_MSG, b"")
        text = raw[:_MAX_TEXT_BYTES].split(b"\0")[0].decode("ascii", "replace")
    return Verdict(-code, text)
