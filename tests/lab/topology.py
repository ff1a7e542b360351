"""The one network that the interop tests and the demo play in.

    client ── 198.51.100.2, 2001:db8:1::2 ──────┐
                                                │
    home ── 192.168.77.2 ── nat 198.51.100.6 ───┤
                                                ├─ internet ── 192.0.2.1, 2001:db8::1 ── gateway ── inside
    narrow ── 198.51.100.10, MTU 1280,          │                                  10.1.0.1 │ 10.1.0.10
              no IP fragments pass ─────────────┘                                   fd01::1 │ fd01::10

`client` has a plain path, `home` sits behind an nftables masquerade that picks ports at random, `narrow` behind a
link of 1280 bytes and a router that drops IP fragments. `inside` is a host of the company: it knows the way back to
the virtual addresses only through the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.namespaces import Lab, Namespace, default_route, drop_ip_fragments, link, masquerade

GATEWAY_IPV4 = "192.0.2.1"
GATEWAY_IPV6 = "2001:db8::1"
CLIENT_IPV4 = "198.51.100.2"
CLIENT_IPV6 = "2001:db8:1::2"
CLIENT_NEXT_HOP_IPV6 = "2001:db8:1::1"
NAT_IPV4 = "198.51.100.6"
NAT_NEXT_HOP = "198.51.100.5"
NARROW_IPV4 = "198.51.100.10"
INSIDE_IPV4 = "10.1.0.10"
INSIDE_IPV6 = "fd01::10"
INSIDE_NETWORKS = ("10.1.0.0/24", "fd01::/64")
GATEWAY_INSIDE_IPV4 = "10.1.0.1"
GATEWAY_INSIDE_IPV6 = "fd01::1"


@dataclass(frozen=True, slots=True)
class Site:
    """The namespaces of the picture above."""

    client: Namespace
    home: Namespace
    nat: Namespace
    narrow: Namespace
    internet: Namespace
    gateway: Namespace
    inside: Namespace


def forget_nat_mappings(site: Site) -> None:
    """What a rebooting home router does: its masquerade forgets every mapping when its outer link goes down."""
    site.nat.ip("link", "set", "outside", "down")
    site.nat.ip("link", "set", "outside", "up")
    default_route(site.nat, NAT_NEXT_HOP)


def build_site(lab: Lab) -> Site:
    """Build the picture above."""
    internet = lab.namespace("internet", forwarding=True)
    gateway = lab.namespace("gateway", forwarding=True)
    link(
        gateway,
        internet,
        names=("outside", "gateway"),
        first_addresses=(f"{GATEWAY_IPV4}/24", f"{GATEWAY_IPV6}/64"),
        second_addresses=("192.0.2.254/24", "2001:db8::fe/64"),
    )
    default_route(gateway, "192.0.2.254", "2001:db8::fe")
    inside = lab.namespace("inside")
    link(
        gateway,
        inside,
        names=("inside", "eth0"),
        first_addresses=(f"{GATEWAY_INSIDE_IPV4}/24", f"{GATEWAY_INSIDE_IPV6}/64"),
        second_addresses=(f"{INSIDE_IPV4}/24", f"{INSIDE_IPV6}/64"),
    )
    default_route(inside, GATEWAY_INSIDE_IPV4, GATEWAY_INSIDE_IPV6)

    client = lab.namespace("client")
    link(
        client,
        internet,
        names=("eth0", "client"),
        first_addresses=(f"{CLIENT_IPV4}/30", f"{CLIENT_IPV6}/64"),
        second_addresses=("198.51.100.1/30", f"{CLIENT_NEXT_HOP_IPV6}/64"),
    )
    default_route(client, "198.51.100.1", CLIENT_NEXT_HOP_IPV6)

    nat = lab.namespace("nat", forwarding=True)
    link(
        nat,
        internet,
        names=("outside", "nat"),
        first_addresses=(f"{NAT_IPV4}/30",),
        second_addresses=(f"{NAT_NEXT_HOP}/30",),
    )
    default_route(nat, NAT_NEXT_HOP)
    masquerade(nat, "outside")
    home = lab.namespace("home")
    link(
        home,
        nat,
        names=("eth0", "inside"),
        first_addresses=("192.168.77.2/24",),
        second_addresses=("192.168.77.1/24",),
    )
    default_route(home, "192.168.77.1")

    cellar = lab.namespace("cellar", forwarding=True)
    link(
        cellar,
        internet,
        names=("outside", "cellar"),
        first_addresses=("198.51.100.14/30",),
        second_addresses=("198.51.100.13/30",),
        mtu_bytes=1280,
    )
    default_route(cellar, "198.51.100.13")
    internet.ip("route", "add", "198.51.100.8/30", "via", "198.51.100.14")
    drop_ip_fragments(cellar)
    narrow = lab.namespace("narrow")
    link(
        narrow,
        cellar,
        names=("eth0", "narrow"),
        first_addresses=(f"{NARROW_IPV4}/30",),
        second_addresses=("198.51.100.9/30",),
        mtu_bytes=1280,
    )
    default_route(narrow, "198.51.100.9")
    return Site(client, home, nat, narrow, internet, gateway, inside)
