"""A child SA as IKE negotiates it; a data plane makes it carry packets."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.ike.keymat import ChildKeys
from gateway.ike.proposals import ChildSuite
from gateway.ike.selectors import TrafficSelector


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the shell gives to an authenticated peer: addresses of its own, what it reaches, and an inbound SPI."""

    virtual_ipv4: IPv4Address | None
    virtual_ipv6: IPv6Address | None
    networks: tuple[IPv4Network | IPv6Network, ...]
    dns: tuple[IPv4Address | IPv6Address, ...]
    spi_in: int
    dns_domains: tuple[str, ...] = ()
    """What the DNS servers are to be asked for, lower-case A-labels; empty for everything."""


@dataclass(frozen=True, slots=True)
class Child:
    """One pair of ESP SAs."""

    spi_in: int
    spi_out: int
    suite: ChildSuite
    keys: ChildKeys
    local_selectors: tuple[TrafficSelector, ...]
    """TSr: behind the gateway."""
    remote_selectors: tuple[TrafficSelector, ...]
    """TSi: the client's virtual addresses."""
