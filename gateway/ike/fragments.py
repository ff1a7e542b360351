"""IKE fragmentation (RFC 7383): reassembly of verified fragments, and the cut of long messages."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from gateway.ike.errors import InvalidSyntax

MAX_FRAGMENTS = 64
"""Windows has been met with 32 fragments of 580 bytes."""
MAX_REASSEMBLED_BYTES = 32_768
FRAGMENT_NUMBERS = struct.Struct("!HH")


class Fragment(NamedTuple):
    """A verified fragment, or the whole message, then with the datagram of the first fragment."""

    first_payload: int
    """Type of the first inner payload; in fragment 1 only."""
    plain: bytes
    datagram: bytes


class Incomplete(NamedTuple):
    """A message of which fragments are missing."""

    arrived: tuple[int, ...]
    """Their numbers, from 1 on."""
    total: int
    largest_bytes: int
    """What the largest of them carries, without headers."""


class Reassembly:
    """The fragments of one message. Only fragments whose ICV has verified are handed in."""

    __slots__ = ("_parts", "_size", "_total")

    def __init__(self) -> None:
        self._reset(0)

    def _reset(self, total: int) -> None:
        self._total, self._size = total, 0
        self._parts: dict[int, Fragment] = {}

    @property
    def incomplete(self) -> Incomplete | None:
        """What is there of a message that is not complete; None where nothing is."""
        if not self._parts:
            return None
        largest = max(len(part.plain) for part in self._parts.values())
        return Incomplete(tuple(sorted(self._parts)), self._total, largest)

    @staticmethod
    def check_numbers(number: int, total: int) -> None:
        """Raise InvalidSyntax on numbers that no honest sender makes."""
        if not 1 <= number <= total <= MAX_FRAGMENTS:
            raise InvalidSyntax("fragment numbers")

    def wants(self, number: int, total: int) -> bool:
        """Whether this fragment would add something, asked before it is decrypted.

        A larger total replaces the set: the sender found a smaller path MTU and cut anew (section 2.5.2).
        """
        return total > self._total or (total == self._total and number not in self._parts)

    def add(self, number: int, total: int, fragment: Fragment) -> Fragment | None:
        """Store one verified fragment that is wanted; return the whole message when all are there.

        Raises:
            InvalidSyntax: together they are too long.
        """
        if total > self._total:
            self._reset(total)
        self._size += len(fragment.plain)
        if self._size > MAX_REASSEMBLED_BYTES:
            self._reset(0)
            raise InvalidSyntax("reassembled message too long")
        self._parts[number] = fragment
        if len(self._parts) < total:
            return None
        plain = b"".join(self._parts[index].plain for index in range(1, total + 1))
        return self._parts[1]._replace(plain=plain)


def cut(plain: bytes, room_bytes: int, sealed_bytes: Callable[[int], int]) -> list[bytes]:
    """Cut inner payloads so that each sealed fragment body, with its numbers, fits in `room_bytes`.

    Raises:
        ValueError: the room is too small, or the message needs more than 64 fragments.
    """
    piece = room_bytes - FRAGMENT_NUMBERS.size
    while piece > 0 and sealed_bytes(piece) > room_bytes - FRAGMENT_NUMBERS.size:
        piece -= 1
    if piece <= 0 or len(plain) > piece * MAX_FRAGMENTS:
        raise ValueError("message does not fit in fragments")
    return [plain[offset : offset + piece] for offset in range(0, len(plain), piece)] or [b""]
