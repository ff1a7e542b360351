"""A child SA as IKE negotiates it; a data plane makes it carry packets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from gateway.ike.keymat import ChildKeys
from gateway.ike.proposals import ChildSuite
from gateway.ike.selectors import ANYTHING, TrafficSelector


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the shell gives to an authenticated peer: addresses or networks of its own, and what it reaches."""

    virtual_ipv4: IPv4Address | None
    virtual_ipv6: IPv6Address | None
    networks: tuple[IPv4Network | IPv6Network, ...]
    dns: tuple[IPv4Address | IPv6Address, ...]
    lineage: int = 0
    """Of the first child SA, whenever that is made; 0 for one of its own. A client that signs in anew before it lets
    go of its old SA has both with the same addresses, so the two child SAs must be one lineage to the data plane.
    """
    dns_domains: tuple[str, ...] = ()
    """What the DNS servers are to be asked for, lower-case A-labels; empty for everything."""
    peer_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Of a site peer: the networks behind it, instead of virtual addresses."""
    session_lifetime_s: float = 0.0
    """After which the peer has to authenticate anew (RFC 4478); 0 where it is not to be told."""

    @property
    def has_addresses(self) -> bool:
        """Whether there is anything for a child SA to be from."""
        return self.virtual_ipv4 is not None or self.virtual_ipv6 is not None or bool(self.peer_networks)


class Wish(NamedTuple):
    """The selectors that a peer asked for with a child SA, before they were narrowed to what it is assigned."""

    remote: tuple[TrafficSelector, ...] = ANYTHING
    """Its own side."""
    local: tuple[TrafficSelector, ...] = ANYTHING
    """Behind the gateway."""


EVERYTHING = Wish()


class ChildState(Enum):
    """Where a child SA stands."""

    ESTABLISHED = "established"
    REKEYING = "rekeying"
    """Our request for one that takes its place is out."""
    DELETING = "deleting"
    """Our Delete is out, or about to be."""
    DELETED = "deleted"
    """Gone for the peer; kept a moment for its packets that are still on their way."""


@dataclass(slots=True)
class Child:
    """One pair of ESP SAs."""

    spi_in: int
    spi_out: int
    suite: ChildSuite
    keys: ChildKeys
    local_selectors: tuple[TrafficSelector, ...]
    """Behind the gateway."""
    remote_selectors: tuple[TrafficSelector, ...]
    """The client's virtual addresses."""
    lineage: int
    """The same number for all child SAs that follow one another."""
    wish: Wish = EVERYTHING
    """The peer's, now or with one before it: when it may reach more, it is to have so much of that."""
    initiated: bool = False
    """The exchange that made it was ours: then the initiator's direction of the keys is our outbound one."""
    confirmed: bool = True
    """The peer is known to have it, and not to delete it. Of one that we made as the peer asked, or that crossed with
    one of the peer's, it shows when the peer deletes what it replaces.
    """
    state: ChildState = ChildState.ESTABLISHED
    replaced_by: int | None = None
    """Inbound SPI of the child SA that was made to take its place."""

    @property
    def is_live(self) -> bool:
        """Neither deleted nor about to be, nor replaced."""
        return self.state in (ChildState.ESTABLISHED, ChildState.REKEYING) and self.replaced_by is None
