from __future__ import annotations

from typing import Any

import pytest

from core.settings import Settings
from gateway.client_checks import tunnel_checks

SPLIT = {"networks": ["10.1.0.0/16"], "dns": ["10.1.0.53"], "dns_domains": ["corp.example"]}


def findings(gateway: dict[str, Any], *rules: dict[str, Any]) -> list[str]:
    """What is said that is not all right."""
    settings = Settings.model_validate(
        {"gateway": gateway, "aaa": {"rules": [{"name": f"rule-{n}", **rule} for n, rule in enumerate(rules)]}}
    )
    checks = tunnel_checks(settings)
    assert all(check.ok is True or (check.ok is None and check.fix) for check in checks)
    return [check.message for check in checks if check.ok is None]


@pytest.mark.parametrize(
    ("gateway", "rule"),
    [
        ({}, {}),
        ({"dns": ["10.1.0.53"]}, {}),
        (SPLIT, {}),
        (SPLIT, {"tunnel": "full"}),
        (SPLIT, {"effect": "deny", "dns": ["192.0.2.53"]}),
        (SPLIT, {"gateways": ["gateway-2"], "dns": ["192.0.2.53"]}),
        ({"networks": ["10.1.0.0/16", "::/0"]}, {}),
        ({"networks": ["10.1.0.0/16", "fd01::/48"], "pools": [{"name": "four", "ipv4": "10.99.0.0/24"}]}, {}),
    ],
)
def test_what_fits(gateway: dict[str, Any], rule: dict[str, Any]) -> None:
    assert findings(gateway, rule) == []


def test_a_name_server_outside_the_tunnel() -> None:
    (message,) = findings(SPLIT, {}, {"dns": ["192.0.2.53"], "dns_domains": ["lab.example"]})
    assert message == "rule 'rule-1' tells clients the name server 192.0.2.53, but does not reach it"


def test_ipv6_in_part_is_no_use_to_apple() -> None:
    (message,) = findings({"networks": ["10.1.0.0/16", "fd01::/48"]}, {})
    assert message == "rule 'rule-0' gives IPv6 addresses for fd01::/48 only: Apple devices route that wrongly"


def test_name_servers_of_a_split_tunnel_need_domains() -> None:
    (message,) = findings({"networks": ["10.1.0.0/16"], "dns": ["10.1.0.53"]}, {})
    assert message == "rule 'rule-0' splits the tunnel: Apple devices use its name servers for no name"
    # Servers of its own, so the gateway's domains do not count.
    assert len(findings(SPLIT, {"dns": ["10.1.0.54"]})) == 1
