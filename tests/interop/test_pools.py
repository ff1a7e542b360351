"""Two pools, chosen by the rule that decides: each group has addresses, networks and name servers of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

import pytest

from tests.interop.clients import Clients
from tests.lab.enrolment import Enrolment
from tests.lab.ostiary import Ostiary, TomlValue
from tests.lab.topology import INSIDE_IPV4, INSIDE_IPV6, Site

pytestmark = pytest.mark.interop

POOLS = [
    {"name": "staff", "ipv4": "10.99.0.0/24", "ipv6": "fd99::/112"},
    {"name": "guests", "ipv4": "10.98.0.0/28"},
]


@pytest.fixture(scope="module")
def gateway_settings() -> Mapping[str, Mapping[str, TomlValue]]:
    """Guests get the second pool, which has no IPv6."""
    return {
        "gateway": {"pools": POOLS, "dns": ["10.1.0.53"]},
        "aaa": {
            "interim_interval_s": 1.0,
            "sign_in_failures_per_minute": 1000,
            "rules": [
                {
                    "name": "guests",
                    "users": ["gwen"],
                    "pool": "guests",
                    "networks": [f"{INSIDE_IPV4}/32"],
                    "dns": ["10.1.0.54"],
                },
                {"name": "staff"},
            ],
        },
    }


def test_each_group_has_its_own(ostiary: Ostiary, site: Site, clients: Clients, enrolment: Enrolment) -> None:
    staff = clients.eap_mschapv2(site.client, enrolment.laptop("alice", "alice-pools"))
    result = staff.connect()
    assert IPv4Address(result.virtual_ipv4) in IPv4Network("10.99.0.0/24")
    assert staff.namespace.ping(INSIDE_IPV4) == 1
    assert staff.namespace.ping(INSIDE_IPV6) == 1
    assert name_servers(result.output) == {"10.1.0.53"}
    staff.stop()

    guest = clients.eap_mschapv2(site.client, enrolment.laptop("gwen", "gwen-pools"))
    result = guest.connect()
    assert IPv4Address(result.virtual_ipv4) in IPv4Network("10.98.0.0/28")
    assert re.search(r"virtual IP [0-9a-f]*:", result.output) is None
    [sa] = guest.list_sas()
    assert sa.remote_selectors == (f"{INSIDE_IPV4}/32",)
    assert guest.namespace.ping(INSIDE_IPV4) == 1
    assert name_servers(result.output) == {"10.1.0.54"}
    guest.stop()


def name_servers(output: str) -> set[str]:
    """Those that the client installed."""
    return set(re.findall(r"installing DNS server ([0-9.]+)", output))
