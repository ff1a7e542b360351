from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from aaa.interface import Access
from core.settings import GatewaySettings
from gateway.reach import reach_of

INSIDE, OTHER = IPv4Address("10.1.0.53"), IPv4Address("10.2.0.53")
GATEWAY = GatewaySettings(
    networks=(IPv4Network("10.1.0.0/16"), IPv6Network("fd01::/48")), dns=(INSIDE,), dns_domains=("corp.example",)
)
ACCESS = Access(
    user_name="alice",
    device_id="7",
    device_name="laptop",
    method="eap-tls",
    rule="staff",
    reason="",
    pool=None,
    networks=(),
    dns=(),
    session_lifetime_s=3600.0,
    interim_interval_s=60.0,
)


def test_a_decision_that_says_nothing_gets_what_the_gateway_has() -> None:
    reach = reach_of(ACCESS, GATEWAY)
    assert (reach.networks, reach.dns, reach.dns_domains) == (GATEWAY.networks, (INSIDE,), ("corp.example",))


@pytest.mark.parametrize(
    ("dns", "domains", "expected"),
    [
        ((OTHER,), ("lab.example",), ((OTHER,), ("lab.example",))),
        ((OTHER,), (), ((OTHER,), ())),
        ((), ("lab.example",), ((INSIDE,), ("lab.example",))),
    ],
)
def test_name_servers_and_domains_belong_together(
    dns: tuple[IPv4Address, ...], domains: tuple[str, ...], expected: tuple[tuple[IPv4Address, ...], tuple[str, ...]]
) -> None:
    reach = reach_of(replace(ACCESS, dns=dns, dns_domains=domains), GATEWAY)
    assert (reach.dns, reach.dns_domains) == expected


def test_a_family_without_a_network_is_no_use() -> None:
    only4 = reach_of(replace(ACCESS, networks=(IPv4Network("10.1.0.10/32"),)), GATEWAY)
    assert (only4.has_family(4), only4.has_family(6)) == (True, False)
    assert reach_of(ACCESS, GATEWAY).has_family(6)
