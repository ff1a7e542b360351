"""What is looked at before a RADIUS packet is decoded: lengths and counts. pyrad decodes what passes.

    0        1            2        4                 20
    | code 1 | identifier | length | authenticator   | attributes: type 1, length 1 (of all three), value ...

By itself pyrad cuts an attribute that runs past the packet's end, takes any number of attributes, and of several
Message-Authenticators checks one: all of that is refused here first (RFC 2865 section 3 and 5, RFC 3579 section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aaa.radius.constants import Attribute

MIN_PACKET_BYTES, MAX_PACKET_BYTES = 20, 4096
MAX_ATTRIBUTES = 128
"""The longest EAP packet that fits takes 17; the rest is for what NASes and proxies say besides."""
MAX_VALUE_BYTES = 253
_AUTHENTICATOR_ATTRIBUTE_BYTES = 18


class MalformedPacket(ValueError):
    """Not RADIUS, or more of it than is taken; the packet is dropped without an answer."""


def sound_packet(data: bytes, *, max_attributes: int = MAX_ATTRIBUTES) -> tuple[bytes, int]:
    """Check a datagram's lengths.

    Returns:
        The packet, without padding behind it, and how many Message-Authenticators it has: none or one.

    Raises:
        MalformedPacket: lengths that do not fit, too many attributes, a second Message-Authenticator.
    """
    if not MIN_PACKET_BYTES <= len(data) <= MAX_PACKET_BYTES:
        raise MalformedPacket("shorter than a header, or longer than RADIUS is")
    length = int.from_bytes(data[2:4], "big")
    if not MIN_PACKET_BYTES <= length <= len(data):
        raise MalformedPacket("a length that does not fit")
    packet = data[:length]
    authenticators = 0
    for count, (kind, size) in enumerate(_attributes(packet), 1):
        if count > max_attributes:
            raise MalformedPacket(f"more than {max_attributes} attributes")
        if kind == Attribute.MESSAGE_AUTHENTICATOR:
            authenticators += 1
            if size != _AUTHENTICATOR_ATTRIBUTE_BYTES:
                raise MalformedPacket("a Message-Authenticator of another length")
    if authenticators > 1:
        raise MalformedPacket("more than one Message-Authenticator")
    return packet, authenticators


def _attributes(packet: bytes) -> Iterator[tuple[int, int]]:
    """Type and length of each; a length below 2 would never come to an end."""
    at, end = MIN_PACKET_BYTES, len(packet)
    while at < end:
        if end - at < 2 or packet[at + 1] < 2 or packet[at + 1] > end - at:
            raise MalformedPacket("an attribute that does not fit")
        yield packet[at], packet[at + 1]
        at += packet[at + 1]


def split_value(value: bytes) -> list[bytes]:
    """A value in as many attributes as it needs; an empty one is one empty attribute (RFC 3579 section 3.1)."""
    return [value[at : at + MAX_VALUE_BYTES] for at in range(0, len(value), MAX_VALUE_BYTES)] or [b""]


def join_values(values: Sequence[bytes]) -> bytes:
    """The other way."""
    return b"".join(values)


def number_of(values: Sequence[bytes]) -> int | None:
    """The value of an attribute that is a number and there once; None where it is not."""
    return int.from_bytes(values[0], "big") if len(values) == 1 and len(values[0]) == 4 else None
