"""What the gateway asks of a data plane, whether the kernel's ESP or the userspace one stands behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from gateway.ike.selectors import TrafficSelector

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class EspCipher(Enum):
    """Encryption of an ESP suite: the IANA transform id of IKEv2."""

    AES_CBC = 12
    AES_GCM_16 = 20
    CHACHA20_POLY1305 = 28


class EspIntegrity(Enum):
    """Integrity of an ESP suite: the IANA transform id of IKEv2; NONE with an AEAD."""

    NONE = 0
    HMAC_SHA1_96 = 2
    HMAC_SHA2_256_128 = 12
    HMAC_SHA2_384_192 = 13
    HMAC_SHA2_512_256 = 14


@dataclass(frozen=True, slots=True)
class EspSuite:
    """What both directions of a child SA are protected with."""

    cipher: EspCipher
    key_bits: int
    """128, 192 or 256, without the salt of an AEAD."""
    integrity: EspIntegrity
    esn: bool
    """64-bit sequence numbers (RFC 4303 section 2.2.1)."""

    def __str__(self) -> str:
        name = (
            self.cipher.name if self.cipher is EspCipher.CHACHA20_POLY1305 else f"{self.cipher.name}_{self.key_bits}"
        )
        if self.integrity is not EspIntegrity.NONE:
            name += f"/{self.integrity.name}"
        return name + ("/ESN" if self.esn else "")


@dataclass(frozen=True, slots=True)
class EspKeys:
    """Key material of one direction, as RFC 7296 section 2.17 cuts it; an AEAD's key ends with its 4-byte salt."""

    encryption: bytes = field(repr=False)
    integrity: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The outer addresses of an SA, as the gateway sees them."""

    local: Address
    local_port: int
    remote: Address
    remote_port: int
    udp_encapsulation: bool
    """ESP in UDP (RFC 3948); else plain ESP, IP protocol 50."""
    peer_behind_nat: bool = True
    """Whether the NAT may give the peer another address at any time, so that its newest packet says where it is. Of
    a peer without one a packet from elsewhere says nothing: who catches one can send it on (RFC 7296 section 2.23).
    """


@dataclass(frozen=True, slots=True)
class EspLifetime:
    """When a pair of ESP SAs has to be replaced (soft) and when it stops to work (hard), RFC 4301 section 4.4.2.1.

    Time runs from `install`; packets and bytes count for each direction alone, and None is no limit.
    """

    soft_s: float | None = None
    hard_s: float | None = None
    soft_packets: int | None = None
    hard_packets: int | None = None
    soft_bytes: int | None = None
    hard_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ChildSa:
    """A pair of ESP SAs, ready to carry packets."""

    spi_in: int
    """Chosen by us: what the peer's packets carry."""
    spi_out: int
    """Chosen by the peer."""
    suite: EspSuite
    keys_in: EspKeys
    keys_out: EspKeys
    endpoints: Endpoints
    local_selectors: tuple[TrafficSelector, ...]
    """Inner addresses behind the gateway."""
    remote_selectors: tuple[TrafficSelector, ...]
    """Inner addresses of the client: its virtual addresses."""
    replay_window_packets: int
    lineage: int
    """The same number, above 0, for all child SAs that follow one another by rekeying, and no others: in the kernel
    the reqid, which ties SAs to the policies that they share.
    """
    lifetime: EspLifetime = EspLifetime()


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one child SA; inner bytes, in is from the client."""

    bytes_in: int
    packets_in: int
    bytes_out: int
    packets_out: int
    last_in_s: float
    """Monotonic time of the last authentic packet of the peer; 0.0 where there was none."""
    replays: int
    """Packets dropped as replayed or too old."""
    failures: int
    """Packets that were not authentic, malformed, or outside the selectors."""


class DataPlaneError(Exception):
    """A child SA can't be installed; the message names the SA and the cause."""


class DataPlane(Protocol):
    """Carries the packets of all child SAs."""

    name: str
    """`kernel` or `userspace`."""
    description: str
    """One sentence for the operator: what was chosen and why."""

    def install(self, child: ChildSa, *, outbound: bool = True) -> None:
        """Start carrying packets.

        Args:
            child: the pair of SAs.
            outbound: False where the peer rekeyed and does not expect our packets on the new pair yet (RFC 7296
                section 2.8): the inbound SA works at once, the outbound one from `start_outbound` on, or from the
                first authentic packet that comes in on the new pair, where the data plane sees that first.

        Raises:
            DataPlaneError: it can't (an SPI that is in use, an algorithm that is missing); nothing was changed.
        """

    def start_outbound(self, spi_in: int) -> None:
        """Send on this pair from now on, no more on older ones of its lineage.

        Raises:
            DataPlaneError: it can't.
        """

    def restrict(self, spi_in: int, local_selectors: tuple[TrafficSelector, ...]) -> None:
        """From now on the pair carries no more than this, whatever was negotiated: both directions, at once.

        The selectors lie within those of `install`; none at all stops everything.

        Raises:
            DataPlaneError: it can't; the pair carries nothing any more, for access was to be taken away.
        """

    def remove(self, spi_in: int) -> Counters | None:
        """Stop at once, both directions; the last counters, None where there is no such SA."""

    def move(self, spi_in: int, endpoints: Endpoints) -> None:
        """Peer or gateway have another outer address now (NAT rebinding, MOBIKE): packets go there from now on.

        No packet that is on its way is lost by it, and the counters go on.

        Raises:
            DataPlaneError: it can't.
        """

    def counters(self, spi_in: int) -> Counters | None:
        """The counters now; None where there is no such SA."""

    def close(self) -> None:
        """Remove everything that was made: SAs, policies, addresses, routes, links."""


class DataPlaneEvents(Protocol):
    """What a data plane tells the gateway, on the event loop's thread."""

    def remote_moved(self, spi_in: int, remote: Address, remote_port: int) -> None:
        """Authentic packets of this SA now come from another address (NAT rebinding)."""

    def expired(self, spi_in: int, *, hard: bool) -> None:
        """A lifetime is over. Soft, once for a pair: it is to be rekeyed. Hard: the pair carries nothing any more;
        `remove` still has to be called, and returns the last counters.
        """
