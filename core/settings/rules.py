"""The access rules: who gets in, and to what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from core.settings.section import Section
from core.settings.values import MOST_NETWORKS, DnsDomains, DnsServers, Network, Seconds

MOST_CLIENT_NETWORKS = 256
"""That one rule may name."""
_HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")

SignInMethod = Literal[
    "eap-mschapv2",
    "eap-tls",
    "eap-ttls",
    "eap-peap",
    "eap-radius",
    "certificate",
    "certificate+eap-mschapv2",
    "certificate+eap-tls",
    "certificate+eap-ttls",
    "certificate+eap-peap",
    "certificate+eap-radius",
    "psk",
]


class RuleSettings(Section):
    """One access rule; the first whose conditions all hold decides. An empty condition holds for all, but for that of
    `device_states`.
    """

    name: str = Field(min_length=1, max_length=64)
    effect: Literal["allow", "quarantine", "deny"] = "allow"
    """`quarantine` lets in as `allow` does, but to the networks that help somebody out of a quarantine."""
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    methods: tuple[SignInMethod, ...] = ()
    """`certificate+...` is both in one sign-in, the device's and then its user's; `psk` is for site peers, which no
    other rule lets in.
    """
    device_states: tuple[Literal["trusted", "quarantined", "unmanaged"], ...] = ()
    """Empty means trusted where the rule allows: what others are to have has to name them. A rule that puts into
    quarantine takes those that are there already as well, and one that denies holds for all. `unmanaged` is not in
    the inventory at all.
    """
    device_users: Literal["owner", "anyone"] = "owner"
    """Who may sign in on a device whose certificate comes before its user's proof."""
    gateways: tuple[str, ...] = ()
    from_networks: tuple[Network, ...] = Field((), max_length=MOST_CLIENT_NETWORKS)
    """Where the client is, by its outer address."""
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    hours: str | None = None
    """`08:00-18:30`; one that ends before it begins goes on into the next day. A session ends with them."""
    time_zone: str = "UTC"
    """Of days and hours, such as Europe/Berlin."""
    pool: str | None = None
    tunnel: Literal["full", "split"] | None = None
    """`full` reaches everything and takes no `networks`; `split` has to leave something out; without it, the
    networks say.
    """
    networks: tuple[Network, ...] = Field((), max_length=MOST_NETWORKS)
    """Subnets that the tunnel reaches; empty means the gateway's own list."""
    dns: DnsServers = ()
    """Empty means the gateway's own servers and domains."""
    dns_domains: DnsDomains = ()
    devices_at_once: int | None = Field(default=None, ge=1, le=100_000)
    """Instead of `aaa.devices_at_once`."""
    session_lifetime_s: Seconds = 12 * 3600.0
    reason: str = ""
    """Why the rule denies, or puts into quarantine; for the audit log."""

    @model_validator(mode="after")
    def _a_full_tunnel_has_no_networks(self) -> RuleSettings:
        if self.tunnel == "full" and self.networks:
            raise ValueError('tunnel = "full" reaches everything: leave networks out, or say tunnel = "split"')
        return self

    @model_validator(mode="after")
    def _a_quarantine_says_what_it_reaches(self) -> RuleSettings:
        lets_in = self.effect == "allow" and "quarantined" in self.device_states
        if (lets_in or self.effect == "quarantine") and not self.networks and self.tunnel != "full":
            # What is left out means the gateway's own list, which is the last thing to be meant here.
            raise ValueError('a rule for quarantined devices needs networks (tunnel = "full" means everything)')
        return self

    @field_validator("time_zone")
    @classmethod
    def _known_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("must be a time zone of this machine, such as UTC or Europe/Berlin") from None
        return name

    @field_validator("hours")
    @classmethod
    def _some_time(cls, hours: str | None) -> str | None:
        if hours is not None and not _HOURS.fullmatch(hours):
            raise ValueError("must be two times of day, such as 08:00-18:30")
        if hours is not None and hours[:5] == hours[6:]:
            raise ValueError("must begin and end at different times; leave hours out for all day")
        return hours


def check_rules(
    rules: Sequence[RuleSettings], pools: set[str], networks: Sequence[Network], *, has_dns: bool
) -> None:
    """See whether rules fit one another, and the gateway.

    Args:
        rules: in order.
        pools: the gateway's, by name.
        networks: those of the gateway, for rules without.
        has_dns: the gateway has name servers, for rules without.

    Raises:
        ValueError: they don't; the message names the rule.
    """
    names: set[str] = set()
    for rule in rules:
        if rule.name.casefold() in names:
            raise ValueError(f"two rules are called {rule.name!r}, and the audit log names them by that")
        names.add(rule.name.casefold())
        if rule.pool is not None and rule.pool not in pools:
            known = ", ".join(sorted(pools))
            raise ValueError(f"rule {rule.name!r} names pool {rule.pool!r}; the pools are: {known}")
        everything = next((network for network in rule.networks or networks if network.prefixlen == 0), None)
        if rule.tunnel == "split" and everything is not None:
            whose = "its" if rule.networks else "the gateway's"
            raise ValueError(f'rule {rule.name!r} has tunnel = "split", but {whose} networks have {everything}')
        if rule.dns_domains and not (rule.dns or has_dns):
            raise ValueError(f"rule {rule.name!r} has dns_domains, but neither it nor the gateway has dns")
