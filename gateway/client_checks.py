"""What `ostiary check` says about the tunnels that rules give: what some clients would make of them.

Nothing here stops a gateway from starting: an installation without Apple devices may have what they can't use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from core.checks import Check
from core.settings import RuleSettings, Settings
from core.settings.values import EVERYTHING
from gateway.reach import Reach

NAME = "gateway: tunnels"


@dataclass(frozen=True, slots=True)
class _Tunnel:
    """What one rule gives."""

    rule: str
    reach: Reach
    has_ipv6: bool
    """Its clients get an IPv6 address."""

    def reaches(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether a packet to it goes into the tunnel."""
        return any(address.version == network.version and address in network for network in self.reach.networks)

    @property
    def is_split(self) -> bool:
        """Whether something is left out."""
        return not all(network in self.reach.networks for network in EVERYTHING)


def tunnel_checks(settings: Settings) -> list[Check]:
    """One finding for each thing that does not fit, or the one that all fits."""
    found = [check for tunnel in _tunnels(settings) for check in _judge(tunnel)]
    return found or [Check(NAME, True, "routes, addresses and name servers fit together")]


def _judge(tunnel: _Tunnel) -> Iterator[Check]:
    reach, rule = tunnel.reach, tunnel.rule
    for server in reach.dns:
        if not tunnel.reaches(server):
            fix = f"put {server} into the networks, or name another server"
            yield Check(
                NAME, None, f"rule {rule!r} tells clients the name server {server}, but does not reach it", fix
            )
    if tunnel.has_ipv6 and reach.has_family(6) and EVERYTHING[1] not in reach.networks:
        networks = ", ".join(str(network) for network in reach.networks if network.version == 6)
        fix = "give the rule a pool without ipv6, or ::/0 among its networks; fine without Apple devices"
        yield Check(
            NAME,
            None,
            f"rule {rule!r} gives IPv6 addresses for {networks} only: Apple devices route that wrongly",
            fix,
        )
    if tunnel.is_split and reach.dns and not reach.dns_domains:
        fix = "name the inside domains in dns_domains; fine without Apple devices"
        yield Check(
            NAME, None, f"rule {rule!r} splits the tunnel: Apple devices use its name servers for no name", fix
        )


def _tunnels(settings: Settings) -> Iterator[_Tunnel]:
    gateway = settings.gateway
    pools = {pool.name: pool for pool in gateway.pools}
    for rule in settings.aaa.rules:
        if rule.effect != "allow" or (rule.gateways and gateway.name not in rule.gateways):
            continue
        pool = pools.get(rule.pool) if rule.pool is not None else next(iter(pools.values()), None)
        yield _Tunnel(rule.name, _reach(rule, settings), pool is not None and pool.ipv6 is not None)


def _reach(rule: RuleSettings, settings: Settings) -> Reach:
    """As `reach_of` has it for the decision that the rule makes."""
    gateway = settings.gateway
    return Reach(
        networks=EVERYTHING if rule.tunnel == "full" else rule.networks or gateway.networks,
        dns=rule.dns or gateway.dns,
        dns_domains=rule.dns_domains or (() if rule.dns else gateway.dns_domains),
    )
