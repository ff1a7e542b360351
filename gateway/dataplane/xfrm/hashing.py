"""How the kernel looks for the policy of a packet: by a hash, or along a list.

Of itself it hashes only policies between two single addresses. A client's are between its one address and whole
networks, so they would all lie in a list that is walked for each new one; at 4000 clients that took 20 ms. Told to
hash by the client's address alone, it finds and makes them at once, however many there are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gateway.dataplane.xfrm.netlink import MalformedNetlink, attribute, parse_attributes

_FLAGS = struct.Struct("=I")
_BITS = struct.Struct("=BB")
_IPV4_HTHRESH, _IPV6_HTHRESH = 3, 4
"""XFRMA_SPD_IPV4_HTHRESH and XFRMA_SPD_IPV6_HTHRESH."""


@dataclass(frozen=True, slots=True)
class HashThresholds:
    """Policies are hashed whose prefixes are at least so long: of the local side, of the remote side."""

    ipv4: tuple[int, int]
    ipv6: tuple[int, int]

    def to_bytes(self) -> bytes:
        """Body of NEWSPDINFO."""
        return (
            _FLAGS.pack(0)
            + attribute(_IPV4_HTHRESH, _BITS.pack(*self.ipv4))
            + attribute(_IPV6_HTHRESH, _BITS.pack(*self.ipv6))
        )

    @classmethod
    def parse(cls, body: bytes) -> HashThresholds:
        """Read the body of NEWSPDINFO.

        Raises:
            MalformedNetlink: cut off, or without the thresholds.
        """
        attributes = parse_attributes(body[_FLAGS.size :])
        found = [attributes.get(kind, b"") for kind in (_IPV4_HTHRESH, _IPV6_HTHRESH)]
        if any(len(raw) != _BITS.size for raw in found):
            raise MalformedNetlink("no hash thresholds")
        ipv4, ipv6 = map(_BITS.unpack, found)
        return cls(ipv4, ipv6)


KERNELS_OWN = HashThresholds((32, 32), (128, 128))
BY_REMOTE_ADDRESS = HashThresholds((0, 32), (0, 128))
REQUEST = _FLAGS.pack(0)
"""Body of GETSPDINFO."""
