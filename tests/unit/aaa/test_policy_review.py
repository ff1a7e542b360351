from __future__ import annotations

from typing import Any

import pytest

from aaa.decision import Rule
from aaa.policy_review import review
from core.settings import RuleSettings

DIRECTORY: dict[str, Any] = {"users": {"alice", "bob"}, "groups": {"staff", "it"}, "gateways": {"gateway-1"}}
PLACE = "198.51.100.0/24"


def rule(name: str, **values: Any) -> Rule:
    return Rule.from_settings(RuleSettings.model_validate({"name": name, **values}))


def findings(*rules: Rule) -> list[str]:
    return list(review(rules, **DIRECTORY))


def test_nothing_is_said_of_rules_that_make_sense() -> None:
    assert (
        findings(
            rule("leavers", effect="deny", users=["Bob"]),
            rule("repair", device_states=["quarantined"], networks=["10.9.0.0/24"]),
            rule("it", groups=["IT"], methods=["eap-tls"], gateways=["gateway-1"], from_networks=[PLACE]),
            rule("office hours", hours="08:00-18:00"),
            rule("branch", users=["site:branch"], methods=["psk"]),
            rule("all"),
        )
        == []
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({}, {"users": ["alice"], "groups": ["it"], "gateways": ["gateway-1"], "from_networks": [PLACE]}),
        ({"groups": ["it", "staff"]}, {"groups": ["it"]}),
        ({"methods": ["eap-tls", "certificate"]}, {"methods": ["eap-tls"]}),
        ({"effect": "deny"}, {"methods": ["psk"]}),
        ({"effect": "deny"}, {"device_states": ["quarantined"], "tunnel": "full"}),
        ({"from_networks": ["198.51.0.0/16", "2001:db8::/32"]}, {"from_networks": [PLACE]}),
        ({"hours": "08:00-18:00"}, {"hours": "08:00-18:00", "users": ["alice"]}),
        ({"effect": "quarantine", "tunnel": "full"}, {"device_states": ["quarantined", "trusted"], "tunnel": "full"}),
        ({"device_users": "anyone"}, {}),
    ],
)
def test_a_rule_that_is_never_reached(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert "rule 'second' is never reached: 'first', before it, decides all that it would" in findings(
        rule("first", **first), rule("second", **second)
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"users": ["alice"]}, {}),
        ({"groups": ["it"]}, {"groups": ["it", "staff"]}),
        ({"groups": ["it"]}, {"users": ["alice"]}),
        ({}, {"methods": ["psk"]}),
        ({"methods": ["eap-tls"]}, {}),
        ({"effect": "deny", "methods": ["eap-tls"]}, {"methods": ["eap-tls"]}),
        ({}, {"device_states": ["quarantined"], "tunnel": "full"}),
        ({}, {"effect": "deny"}),
        ({"from_networks": [PLACE]}, {"from_networks": ["198.51.0.0/16"]}),
        ({"from_networks": [PLACE]}, {"from_networks": ["2001:db8::/32"]}),
        ({"hours": "08:00-18:00"}, {}),
        ({}, {"device_users": "anyone"}),
    ],
)
def test_a_rule_that_may_be_reached(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert not [found for found in findings(rule("first", **first), rule("second", **second)) if "never" in found]


def test_names_that_nobody_has() -> None:
    assert findings(
        rule("who", users=["alice", "mallory"]), rule("what", groups=["sales"]), rule("where", gateways=["gateway-9"])
    ) == [
        "rule 'who' names the user 'mallory', which nobody knows",
        "rule 'what' names the group 'sales', which nobody knows",
        "rule 'where' names the gateway 'gateway-9', which nobody knows",
    ]


def test_gateways_are_not_known_before_they_have_started() -> None:
    rules = [rule("where", gateways=["gateway-9"])]
    assert list(review(rules, users=(), groups=(), gateways=())) == []


def test_rules_that_let_nobody_in() -> None:
    assert findings(rule("out", effect="deny")) == ["no rule lets anybody in"]
    assert findings() == ["no rule lets anybody in"]
