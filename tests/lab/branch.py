"""Another site behind the lab's `client`, which is then its gateway.

branch 10.20.0.10, fd20::10 ── client ── internet ── gateway ── inside 10.1.0.10, fd01::10
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from tests.lab.namespaces import Lab, Namespace, default_route, link
from tests.lab.ostiary import TomlValue
from tests.lab.topology import INSIDE_IPV4, INSIDE_IPV6, Site

BRANCH_IPV4, BRANCH_IPV6 = "10.20.0.10", "fd20::10"
BRANCH_NETWORKS = ("10.20.0.0/24", "fd20::/64")
BRANCH_IDENTITY, PLANT_IDENTITY = "branch.example", "plant.example"
BRANCH_KEY, PLANT_KEY = secrets.token_hex(32), secrets.token_hex(32)
PINGS = 3


def build_branch(lab: Lab, site: Site) -> Namespace:
    """A host of the branch; `client` forwards for it from now on."""
    site.client.sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
    host = lab.namespace("branch")
    link(
        site.client,
        host,
        names=("branch", "eth0"),
        first_addresses=("10.20.0.1/24", "fd20::1/64"),
        second_addresses=(f"{BRANCH_IPV4}/24", f"{BRANCH_IPV6}/64"),
    )
    default_route(host, "10.20.0.1", "fd20::1")
    return host


def branch_settings(lab: Lab, **gateway: TomlValue) -> Mapping[str, Mapping[str, TomlValue]]:
    """A gateway that knows the branch, and has a rule for it; and a plant, for which it has none."""

    def peer(name: str, identity: str, networks: tuple[str, ...], key: str) -> TomlValue:
        file = lab.directory / f"{name}.key"
        file.write_text(key + "\n", encoding="ascii")
        file.chmod(0o600)
        return {"name": name, "identity": identity, "secret_file": str(file), "networks": list(networks)}

    sites = [
        peer("branch", BRANCH_IDENTITY, BRANCH_NETWORKS, BRANCH_KEY),
        peer("plant", PLANT_IDENTITY, ("10.30.0.0/24",), PLANT_KEY),
    ]
    rules: TomlValue = [{"name": "branches", "methods": ["psk"], "users": ["site:branch"]}, {"name": "devices"}]
    return {"gateway": {"site_peers": sites, **gateway}, "aaa": {"rules": rules}}


def carries(branch: Namespace, site: Site) -> bool:
    """Whether the networks of both sides reach each other, whoever begins."""
    there = all(branch.ping(address, count=PINGS) == PINGS for address in (INSIDE_IPV4, INSIDE_IPV6))
    return there and all(site.inside.ping(address, count=PINGS) == PINGS for address in (BRANCH_IPV4, BRANCH_IPV6))
