"""The outer addresses of a datagram."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple


class Path(NamedTuple):
    """Local and remote address as text, with ports."""

    local: str
    local_port: int
    remote: str
    remote_port: int

    @property
    def ip_version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.remote else 4

    @property
    def remote_text(self) -> str:
        """`192.0.2.7:4500` or `[2001:db8::7]:4500`."""
        host = f"[{self.remote}]" if ":" in self.remote else self.remote
        return f"{host}:{self.remote_port}"


class EspPath(NamedTuple):
    """Where the packets of an IKE SA's child SAs go."""

    path: Path
    udp_encapsulation: bool
    peer_behind_nat: bool


def nat_detection_hash(spi_i: bytes, spi_r: bytes, address: str, port: int) -> bytes:
    """SHA-1 of SPIs, address and port (RFC 7296 section 2.23); not a security function there."""
    data = spi_i + spi_r + _packed(address) + port.to_bytes(2, "big")
    return hashlib.sha1(data, usedforsecurity=False).digest()


@lru_cache(maxsize=4096)
def _packed(address: str) -> bytes:
    return ip_address(address).packed
