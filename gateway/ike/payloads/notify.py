"""Notify payload (RFC 7296 section 3.10)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from gateway.ike.constants import FIRST_STATUS_NOTIFY, NotifyType, PayloadType
from gateway.ike.errors import InvalidSyntax

_HEADER = struct.Struct("!BBH")


class Notify(NamedTuple):
    """Protocol 1, SPI size 1, type 2, SPI, data."""

    type: int
    data: bytes = b""
    protocol: int = 0
    spi: bytes = b""

    @property
    def is_error(self) -> bool:
        """Types below 16384 report an error."""
        return self.type < FIRST_STATUS_NOTIFY

    @property
    def is_known_error(self) -> bool:
        """An error that we know: in a request all others are to be ignored (section 3.10.1)."""
        return self.type in _KNOWN_ERRORS

    @classmethod
    def parse(cls, body: bytes) -> Notify:
        """Decode; raises InvalidSyntax where the SPI does not fit."""
        if len(body) < 4:
            raise InvalidSyntax("notify too short")
        protocol, spi_size, notify_type = _HEADER.unpack_from(body)
        if spi_size > len(body) - 4:
            raise InvalidSyntax("SPI size in a notify")
        return cls(notify_type, bytes(body[4 + spi_size :]), protocol, bytes(body[4 : 4 + spi_size]))

    def to_bytes(self) -> bytes:
        """Encode."""
        return _HEADER.pack(self.protocol, len(self.spi), self.type) + self.spi + self.data

    def __str__(self) -> str:
        try:
            return NotifyType(self.type).name
        except ValueError:
            return f"notify {self.type}"


_KNOWN_ERRORS: frozenset[int] = frozenset(known for known in NotifyType if known < FIRST_STATUS_NOTIFY)


def notify_payload(notify: NotifyType, data: bytes = b"") -> tuple[PayloadType, bytes]:
    """A notify about the IKE SA itself, ready for a chain of payloads."""
    return PayloadType.NOTIFY, Notify(notify, data).to_bytes()
