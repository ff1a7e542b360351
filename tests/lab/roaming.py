"""A client with three links, of which it uses one at a time.

    client ── eth0,  198.51.100.2, 2001:db8:1::2 ──┐
           ── wifi,  203.0.113.2 ──────────────────┼─ internet ── gateway (as in `topology`)
           ── phone, 192.168.78.2 ── nat ──────────┘

What it leaves goes down, as when somebody walks out of the office.
"""

from __future__ import annotations

from tests.lab.namespaces import Namespace, default_route, link
from tests.lab.topology import CLIENT_IPV4, CLIENT_IPV6, CLIENT_NEXT_HOP_IPV6, NAT_IPV4, Site

WIFI_IPV4 = "203.0.113.2"
NEXT_HOPS = {"eth0": "198.51.100.1", "wifi": "203.0.113.1", "phone": "192.168.78.1"}
SEEN_AS = {"eth0": (CLIENT_IPV4, CLIENT_IPV6), "wifi": (WIFI_IPV4,), "phone": (NAT_IPV4,)}
"""The addresses that the gateway may see."""


class Roamer:
    """The client of the common network, with more links; `close` takes them away again."""

    def __init__(self, site: Site) -> None:
        self.namespace: Namespace = site.client
        self.uses = "eth0"
        link(
            site.client,
            site.internet,
            names=("wifi", "wifi"),
            first_addresses=(f"{WIFI_IPV4}/30",),
            second_addresses=("203.0.113.1/30",),
        )
        link(
            site.client,
            site.nat,
            names=("phone", "phone"),
            first_addresses=("192.168.78.2/24",),
            second_addresses=("192.168.78.1/24",),
        )
        for device in ("wifi", "phone"):
            site.client.ip("link", "set", device, "down")

    def move(self, device: str) -> tuple[str, ...]:
        """Use another link from now on; returns the addresses of which the gateway will see one."""
        client, old, self.uses = self.namespace, self.uses, device
        if old == device:
            return SEEN_AS[device]
        # The old one first: a client that tries IPv6 in between may find its routes gone with the link.
        client.ip("link", "set", old, "down")
        client.ip("link", "set", device, "up")
        client.ip("route", "replace", "default", "via", NEXT_HOPS[device])
        if device == "eth0":
            # With the link, its IPv6 address and route had gone.
            client.ip("address", "replace", f"{CLIENT_IPV6}/64", "dev", "eth0", "nodad")
            client.ip("-6", "route", "replace", "default", "via", CLIENT_NEXT_HOP_IPV6)
        return SEEN_AS[device]

    def lose_ipv4(self) -> str:
        """On eth0, only IPv6 is left; returns the address that the gateway will see."""
        self.namespace.ip("address", "delete", f"{CLIENT_IPV4}/30", "dev", "eth0")
        return CLIENT_IPV6

    def regain_ipv4(self) -> str:
        """On eth0, only IPv4 is left; returns the address that the gateway will see."""
        client = self.namespace
        client.ip("address", "replace", f"{CLIENT_IPV4}/30", "dev", "eth0")
        client.ip("-4", "route", "replace", "default", "via", NEXT_HOPS["eth0"])
        client.ip("address", "delete", f"{CLIENT_IPV6}/64", "dev", "eth0")
        return CLIENT_IPV4

    def close(self) -> None:
        """Back to eth0, with all its addresses."""
        client = self.namespace
        for device in ("wifi", "phone"):
            client.ip("link", "delete", device)
        client.ip("link", "set", "eth0", "up")
        client.ip("address", "replace", f"{CLIENT_IPV4}/30", "dev", "eth0")
        client.ip("address", "replace", f"{CLIENT_IPV6}/64", "dev", "eth0", "nodad")
        for version in ("-4", "-6"):
            client.ip(version, "route", "delete", "default", check=False)
        default_route(client, NEXT_HOPS["eth0"], CLIENT_NEXT_HOP_IPV6)
