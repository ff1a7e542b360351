"""What a session's tunnel reaches, and which name servers its client is told: the decision's, else the gateway's."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from aaa.interface import Access
from core.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Reach:
    """The networks become traffic selectors and, for clients that ask, routes; all else is advice to the client."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    dns: tuple[IPv4Address | IPv6Address, ...]
    dns_domains: tuple[str, ...]
    """What the servers are asked for; empty for everything."""

    def has_family(self, version: int) -> bool:
        """Whether an address of this family is any use: 4 or 6.

        A client with an IPv6 address that leads nowhere tries it first, and waits; an Apple client installs wrong
        routes. So such an address is not given out.
        """
        return any(network.version == version for network in self.networks)


def reach_of(access: Access, settings: GatewaySettings) -> Reach:
    """Combine the decision with the gateway's settings.

    Name servers and domains belong together: a decision with servers of its own inherits no domains, so that a
    group can have all its questions answered inside.
    """
    return Reach(
        networks=access.networks or settings.networks,
        dns=access.dns or settings.dns,
        dns_domains=access.dns_domains or (() if access.dns else settings.dns_domains),
    )
