"""Fragments of TLS messages in EAP-TLS packets (RFC 5216 sections 2.1.5 and 3)."""

from __future__ import annotations

import struct

from aaa.eap.errors import LimitExceeded, MalformedPacket

LENGTH_INCLUDED = 0x80
MORE_FRAGMENTS = 0x40
START = 0x20
_KNOWN_FLAGS = LENGTH_INCLUDED | MORE_FRAGMENTS | START
"""The other bits are reserved, and ignored on receipt."""
_LENGTH = struct.Struct("!I")

ACKNOWLEDGEMENT = b"\x00"
"""Type data that carries nothing: the fragment arrived, or there is nothing more to say."""


def split_fragment(data: bytes) -> tuple[int, int | None, bytes]:
    """Flags, TLS message length where it is there, and TLS data of the type data of an EAP-TLS packet.

    Layout: flags 1, and where L is set TLS message length 4, then TLS data.

    Raises:
        MalformedPacket: too short for its flags.
    """
    if not data:
        raise MalformedPacket("EAP-TLS packet without flags")
    flags = data[0] & _KNOWN_FLAGS
    if not flags & LENGTH_INCLUDED:
        return flags, None, data[1:]
    if len(data) < 1 + _LENGTH.size:
        raise MalformedPacket("EAP-TLS packet too short for its TLS message length")
    return flags, _LENGTH.unpack_from(data, 1)[0], data[1 + _LENGTH.size :]


class Reassembler:
    """Puts the peer's TLS messages together.

    Args:
        max_bytes: how many bytes of TLS data are taken, of all messages of a conversation together.
    """

    __slots__ = ("_left", "_parts", "_received", "_total")

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._parts: list[bytes] = []
        self._received = 0
        self._total = 0

    def add(self, flags: int, total: int | None, data: bytes) -> bytes | None:
        """The whole message, or None where more fragments are to come and this one is to be acknowledged.

        Raises:
            MalformedPacket: fragments that don't add up to their message's length, or an empty one.
            LimitExceeded: more TLS data than `max_bytes`, or the announcement of it.
        """
        more = bool(flags & MORE_FRAGMENTS)
        if more and not data:
            raise MalformedPacket("empty TLS fragment")
        if not self._parts:
            if more and total is None:
                raise MalformedPacket("first TLS fragment without the length of the message")
            self._total = len(data) if total is None else total
            if self._total > self._left:
                raise LimitExceeded(f"TLS message of {self._total} bytes, {self._left} more are taken")
        elif total is not None and total != self._total:
            raise MalformedPacket("TLS fragments that contradict each other about their message's length")
        self._received += len(data)
        if self._received > self._total or (not more and self._received < self._total):
            raise MalformedPacket("TLS fragments that do not add up to the length of their message")
        self._parts.append(data)
        if more:
            if self._received == self._total:
                raise MalformedPacket("complete TLS message that announces more fragments")
            return None
        message = b"".join(self._parts)
        self._left -= len(message)
        self._parts = []
        self._received = 0
        return message


class Fragmenter:
    """Cuts a TLS message of ours into the type data of EAP-TLS packets.

    Args:
        message: all TLS records of one flight.
        fragment_bytes: how much of it a packet carries at most.
    """

    __slots__ = ("_fragment_bytes", "_message", "_offset")

    def __init__(self, message: bytes, fragment_bytes: int) -> None:
        self._message = message
        self._fragment_bytes = fragment_bytes
        self._offset = 0

    @property
    def done(self) -> bool:
        """Whether everything has been given out."""
        return self._offset >= len(self._message)

    def next(self) -> bytes:
        """The next fragment; the first of several says how long the message is."""
        start, self._offset = self._offset, self._offset + self._fragment_bytes
        part = self._message[start : self._offset]
        if self.done:
            return ACKNOWLEDGEMENT + part
        if start == 0:
            return bytes((LENGTH_INCLUDED | MORE_FRAGMENTS,)) + _LENGTH.pack(len(self._message)) + part
        return bytes((MORE_FRAGMENTS,)) + part
