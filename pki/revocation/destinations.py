"""Which hosts may be asked. A URL in a certificate must not make the gateway a tool against what is behind it.

Public addresses may be asked; others only where the operator listed the host or the network. What is checked is
the address itself, and `pki.revocation.fetch` connects to the very address that was checked, so that a name can't
mean one thing to the check and another to the connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from pki.revocation.evidence import NotUsable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LONGEST_HOST = 253
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_TUNNELS = (IPv6Network("2001::/32"), IPv6Network("2002::/16"))
"""Teredo and 6to4, which lead on to an IPv4 address of the sender's choice."""
_NAT64 = IPv6Network("64:ff9b::/96")
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_SHARED = IPv4Network("100.64.0.0/10")
"""Of carriers, and of some companies' clouds (RFC 6598)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart."""

    tls: bool
    host: str
    """Lower case; an IPv6 address without its brackets."""
    port: int
    path: str
    """With the query, as it goes into the request line."""

    @property
    def address(self) -> Address | None:
        """Of a host that is written as an address."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def host_header(self) -> str:
        """The host, and the port where it is not the usual one (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = _DEFAULT_PORTS["https" if self.tls else "http"]
        return host if self.port == usual else f"{host}:{self.port}"


def parse_url(url: str) -> Target:
    """Take a URL apart.

    Raises:
        NotUsable: another scheme, no host or one that can't be, a user name, or characters that no URL has.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise NotUsable("the URL has characters that no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NotUsable("the URL can't be read") from None
    host = (parts.hostname or "").lower().removesuffix(".")
    if parts.scheme not in _DEFAULT_PORTS:
        raise NotUsable("the URL is neither http nor https")
    is_named = len(host) <= LONGEST_HOST and _HOST.fullmatch(host) is not None
    if not is_named or parts.username is not None or parts.password is not None:
        raise NotUsable("the URL names no host that could be asked")
    if port is None:
        port = _DEFAULT_PORTS[parts.scheme]
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", host, port, path)


class Destinations:
    """Where the answers of one authority may come from.

    Args:
        allowed: host names and networks that the operator listed.
        ports: that a URL may name.
        chosen: URLs that the operator chose; their hosts and ports count as listed.
        is_own: whether an address is the gateway's own, or one of its clients'.
    """

    def __init__(
        self,
        allowed: Iterable[str | Network],
        ports: Iterable[int],
        chosen: Iterable[str],
        is_own: Callable[[Address], bool],
    ) -> None:
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for entry in allowed:
            if isinstance(entry, str):
                self._hosts.add(entry)
            else:
                self._networks.append(entry)
        self._ports = set(ports)
        self._chosen_ports: set[tuple[str, int]] = set()
        self._is_own = is_own
        for target in map(parse_url, chosen):
            self._chosen_ports.add((target.host, target.port))
            if target.address is None:
                self._hosts.add(target.host)
            else:
                self._networks.append(ip_network(target.address))

    def check_port(self, target: Target) -> None:
        """Refuse a URL with a port that is not listed; raises NotUsable."""
        if target.port not in self._ports and (target.host, target.port) not in self._chosen_ports:
            raise NotUsable(f"port {target.port} is not in allowed_ports")

    def check_address(self, target: Target, address: Address) -> None:
        """Refuse an address that may not be asked.

        Args:
            target: what is asked for.
            address: what its host stands for, as a connection would use it.

        Raises:
            NotUsable: it is not a public one and not listed.
        """
        address = _plain(address)
        if any(address in network for network in self._networks):
            return
        if self._is_own(address):
            raise NotUsable(f"{target.host} is an address of this gateway's")
        if is_public(address):
            return
        # A name is trusted to lead inside, but not to this machine: whoever runs its DNS could choose any.
        if target.host in self._hosts and _is_inside(address):
            return
        raise NotUsable(f"{target.host} ({address}) is not a public address; see allowed_hosts")


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, for one host."""
    address = _plain(address)
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not address.is_reserved
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_UNICAST and address.is_global and not _is_tunnelled(address)


def _is_inside(address: Address) -> bool:
    """Whether this is an address of a company's own network, of some other machine."""
    if isinstance(address, IPv4Address) and (address in _THIS_NETWORK or address in _SHARED):
        return address in _SHARED
    return address.is_private and not (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address.is_reserved
        or _is_tunnelled(address)
    )


def _is_tunnelled(address: Address) -> bool:
    return any(address in tunnel for tunnel in _TUNNELS)


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one counts as what it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped if mapped is not None else address
