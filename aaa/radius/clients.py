"""The network access servers that may ask, by the addresses that they ask from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from aaa.interface import Network
from core.secrets import Secret

_Key = tuple[int, int, int]
"""Version, prefix length, network as a number."""


@dataclass(frozen=True, slots=True)
class RadiusClient:
    """One of them."""

    name: str
    networks: tuple[Network, ...]
    secret: Secret

    @property
    def is_one_machine(self) -> bool:
        """One address, or one of each version: what it says of itself holds for all that comes by this name."""
        versions = [network.version for network in self.networks]
        alone = all(network.prefixlen == network.max_prefixlen for network in self.networks)
        return alone and len(set(versions)) == len(versions)


class RadiusClients:
    """All of them; their networks have no address in common."""

    def __init__(self, clients: Iterable[RadiusClient]) -> None:
        self._by_network: dict[_Key, RadiusClient] = {}
        for client in clients:
            for network in client.networks:
                key = (network.version, network.prefixlen, int(network.network_address) >> _host_bits(network))
                self._by_network[key] = client
        self._lengths = sorted({key[:2] for key in self._by_network}, reverse=True)

    def find(self, host: str) -> RadiusClient | None:
        """Whose address it is."""
        try:
            address = ip_address(host)
        except ValueError:
            return None
        number = int(address)
        for version, length in self._lengths:
            if version == address.version:
                client = self._by_network.get((version, length, number >> (address.max_prefixlen - length)))
                if client is not None:
                    return client
        return None


def _host_bits(network: Network) -> int:
    return network.max_prefixlen - network.prefixlen
