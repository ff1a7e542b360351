"""A second gateway of the same company: in a namespace of its own, on the first one's database.

    internet ── 203.0.113.66 ── gateway-2 ── 10.3.0.1 ── 10.3.0.10 ── inside (10.1.0.10 as well)

It has the same name to clients as the first one, another address, and pools of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.lab.namespaces import Lab, Namespace, default_route, link
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.topology import INSIDE_IPV4, INSIDE_IPV6, Site

SECOND_GATEWAY_IPV4 = "203.0.113.66"
SECOND_POOL = {"name": "staff", "ipv4": "10.98.0.0/24", "ipv6": "fd98::/112"}


def build_second_gateway(lab: Lab, site: Site) -> Namespace:
    """The namespace, with its way to the internet and to the host inside."""
    gateway = lab.namespace("gateway2", forwarding=True)
    link(
        gateway,
        site.internet,
        names=("outside", "gateway2"),
        first_addresses=(f"{SECOND_GATEWAY_IPV4}/30",),
        second_addresses=("203.0.113.65/30",),
    )
    default_route(gateway, "203.0.113.65")
    link(
        gateway,
        site.inside,
        names=("inside", "gateway2"),
        first_addresses=("10.3.0.1/24", "fd03::1/64"),
        second_addresses=("10.3.0.10/24", "fd03::10/64"),
    )
    gateway.ip("route", "add", f"{INSIDE_IPV4}/32", "via", "10.3.0.10")
    gateway.ip("-6", "route", "add", f"{INSIDE_IPV6}/128", "via", "fd03::10")
    site.inside.ip("route", "add", SECOND_POOL["ipv4"], "via", "10.3.0.1")
    site.inside.ip("-6", "route", "add", SECOND_POOL["ipv6"], "via", "fd03::1")
    return gateway


def second_ostiary(
    first: Ostiary, namespace: Namespace, directory: Path, settings: Mapping[str, TomlValue]
) -> Ostiary:
    """A gateway on the first one's database.

    Args:
        first: it has to have run, so that the database is there.
        namespace: of the second one.
        directory: for its configuration and logs.
        settings: of its section `gateway`, over the lab's own.
    """
    state = first.settings.state_dir
    return Ostiary(
        namespace,
        directory,
        settings={
            "database": {"url": f"sqlite:///{state / 'ostiary.db'}"},
            "secrets": {"key_file": str(state / "secret.key")},
            "gateway": {
                "name": "gateway-2",
                "public_addresses": [SECOND_GATEWAY_IPV4],
                "pools": [SECOND_POOL],
                **settings,
            },
        },
    )
