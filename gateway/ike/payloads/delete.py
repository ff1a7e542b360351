"""Delete payload (RFC 7296 section 3.11)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gateway.ike.constants import ProtocolId
from gateway.ike.errors import InvalidSyntax

MAX_SPIS = 64
_HEADER = struct.Struct("!BBH")


@dataclass(frozen=True, slots=True)
class Delete:
    """Protocol 1, SPI size 1, count 2, SPIs. Deleting the IKE SA itself names no SPI."""

    protocol: int
    spis: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> Delete:
        """Decode; raises InvalidSyntax where size times count is not what follows."""
        if len(body) < 4:
            raise InvalidSyntax("delete too short")
        protocol, spi_size, count = _HEADER.unpack_from(body)
        if count > MAX_SPIS or spi_size * count != len(body) - 4 or (count and not spi_size):
            raise InvalidSyntax("SPIs in a delete")
        if spi_size != (0 if protocol == ProtocolId.IKE else 4):
            raise InvalidSyntax("SPI size in a delete")
        spis = tuple(bytes(body[4 + i * spi_size : 4 + (i + 1) * spi_size]) for i in range(count))
        return cls(protocol, spis)

    def to_bytes(self) -> bytes:
        """Encode."""
        spi_size = 0 if self.protocol == ProtocolId.IKE else 4
        return _HEADER.pack(self.protocol, spi_size, len(self.spis)) + b"".join(self.spis)
