"""The values that settings are made of: numbers, addresses, networks, domains, and how many of them there may be."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from typing import Annotated

from pydantic import BeforeValidator, Field

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ip_address(value)
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address, such as 192.0.2.1 or 2001:db8::1") from None


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 network, such as 10.0.0.0/8 or 2001:db8::/32") from None
    if network.network_address != ip_interface(value).ip:
        raise ValueError(f"must be a network, not an address in one; {network} is the network")
    return network


# Checked in front of the union, which would otherwise complain twice, once for each member.
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(_address)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


MOST_NETWORKS = 32
"""Of one tunnel: a TS payload of ours carries no more selectors."""
EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
"""What a full tunnel reaches."""
MOST_DNS_SERVERS, MOST_DNS_DOMAINS = 8, 16
"""Of one tunnel: with the networks, they fit into one CP payload of at most 64 attributes."""
_LONGEST_DOMAIN = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def _domain(value: object) -> object:
    """Lower case, without the final dot, as it goes to clients (RFC 8598 section 4.1)."""
    if not isinstance(value, str):
        return value
    name = value.lower().removesuffix(".")
    if not name.isascii():
        raise ValueError("must be written with A-labels, such as xn--mnchen-3ya.example")
    if len(name) > _LONGEST_DOMAIN or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("must be a domain name, such as corp.example.com")
    return name


DnsServers = Annotated[tuple[Address, ...], Field(max_length=MOST_DNS_SERVERS)]
DnsDomains = Annotated[tuple[Annotated[str, BeforeValidator(_domain)], ...], Field(max_length=MOST_DNS_DOMAINS)]
HostName = Annotated[str, BeforeValidator(_domain)]


def _host_or_address(value: object) -> object:
    if not isinstance(value, str):
        return value
    numeric = ":" in value or value.replace(".", "").isdigit()
    return str(_address(value)) if numeric else _domain(value)


HostOrAddress = Annotated[str, BeforeValidator(_host_or_address)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s#]*)?$", max_length=1024)]


def _host_or_network(value: object) -> object:
    if not isinstance(value, str):
        return value
    numeric = ":" in value or "/" in value or value.replace(".", "").isdigit()
    return _network(value) if numeric else _domain(value)


HostOrNetwork = Annotated[IPv4Network | IPv6Network | str, BeforeValidator(_host_or_network)]
"""A host by its name, or a network; a single address is a network too."""
