"""What the rules say about two proofs in one sign-in, and about site peers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aaa.decision import BUILT_IN, Context, Decision, DeviceIdentity, Posture, Rule, Subject, decide, decide_site
from core.settings import RuleSettings

ALICE = Subject("alice", ("staff",), disabled=False)
BOB = Subject("bob", ("staff",), disabled=False)
LAPTOP = DeviceIdentity("11111111-2222-4333-8444-555555555555", "alice-laptop", "alice")
TRUSTED = Posture("trusted")
BOTH = "certificate+eap-mschapv2"

AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
AT_SITE = Context("psk", "gateway-1", None, AT)


def rule(name: str = "rule", **values: Any) -> Rule:
    """A rule as configured."""
    return Rule.from_settings(RuleSettings.model_validate({"name": name, **values}))


def decided(
    *rules: Rule, method: str = BOTH, subject: Subject = ALICE, posture: Posture = TRUSTED, gateway: str = "gateway-1"
) -> Decision:
    """The decision about somebody on alice's laptop."""
    return decide(subject, LAPTOP, posture, Context(method, gateway, None, AT), rules)


class TestARuleThatAsksForBoth:
    DEMANDING = rule("two-factors", methods=[BOTH])

    def test_takes_both(self) -> None:
        decision = decided(self.DEMANDING)
        assert (decision.allowed, decision.rule) == (True, "two-factors")

    @pytest.mark.parametrize("method", ["certificate", "eap-mschapv2"])
    def test_takes_neither_alone(self, method: str) -> None:
        decision = decided(self.DEMANDING, method=method)
        assert (decision.allowed, decision.code, decision.rule) == (False, "second-factor-missing", BUILT_IN)
        assert decision.reason == f"the rule 'two-factors' asks for {BOTH}, and the client showed {method} alone"

    @pytest.mark.parametrize("method", ["eap-tls", "certificate+eap-tls"])
    def test_nor_another_second_one(self, method: str) -> None:
        assert decided(self.DEMANDING, method=method).code == "no-rule"

    def test_what_else_does_not_hold_is_not_blamed_on_the_factor(self) -> None:
        assert decided(rule(methods=[BOTH], users=["bob"]), method="certificate").code == "no-rule"
        assert decided(rule(methods=[BOTH], gateways=["other"]), method="certificate").code == "no-rule"
        quarantined = decided(self.DEMANDING, method="certificate", posture=Posture("quarantined"))
        assert quarantined.code == "quarantined-device"

    def test_a_rule_before_it_lets_one_factor_in_to_less(self) -> None:
        less = rule("one-factor", methods=["certificate"], networks=["10.9.0.0/24"])
        assert decided(self.DEMANDING, less, method="certificate").rule == "one-factor"
        assert decided(self.DEMANDING, less).rule == "two-factors"


class TestWhoShowsBothShowsEach:
    @pytest.mark.parametrize("methods", [[], ["certificate"], ["eap-mschapv2"], ["eap-tls", "certificate"], [BOTH]])
    def test_rules_that_ask_for_one_of_them_or_for_nothing(self, methods: list[str]) -> None:
        assert decided(rule(methods=methods)).allowed

    def test_but_not_those_that_ask_for_something_else(self) -> None:
        assert decided(rule(methods=["eap-tls"])).code == "no-rule"

    def test_a_rule_that_denies_has_to_name_both(self) -> None:
        """No password alone, but one after a certificate."""
        no_passwords = rule("no-passwords", effect="deny", methods=["eap-mschapv2"])
        assert decided(no_passwords, rule("all"), method="eap-mschapv2").code == "denied-by-rule"
        assert decided(no_passwords, rule("all")).allowed
        assert decided(rule(effect="deny", methods=[BOTH]), rule("all")).code == "denied-by-rule"
        assert decided(rule(effect="deny"), rule("all")).code == "denied-by-rule"


class TestWhoseDeviceItIs:
    def test_by_default_its_owners_alone(self) -> None:
        decision = decided(rule("staff"), subject=BOB)
        assert (decision.allowed, decision.code, decision.rule) == (False, "wrong-owner", BUILT_IN)
        assert decision.reason == "device alice-laptop belongs to alice, and no rule lets bob use it"

    def test_a_rule_may_share_it(self) -> None:
        decision = decided(rule("kiosks", device_users="anyone"), subject=BOB)
        assert decision.allowed
        assert decision.reason == (
            "device alice-laptop of alice, with bob on it, is trusted, and rule 'kiosks' allows it"
        )

    def test_the_rest_of_the_rule_is_about_who_signs_in(self) -> None:
        assert not decided(rule(device_users="anyone", users=["alice"]), subject=BOB).allowed
        assert decided(rule(device_users="anyone", users=["bob"]), subject=BOB).allowed

    def test_sharing_needs_both_proofs(self) -> None:
        for method in ("certificate", "eap-mschapv2", "eap-tls"):
            assert decided(rule(device_users="anyone"), subject=BOB, method=method).code == "wrong-owner"

    def test_a_denying_rule_is_about_whoever_it_is(self) -> None:
        denied = decided(rule(effect="deny", users=["bob"]), rule(device_users="anyone"), subject=BOB)
        assert denied.code == "denied-by-rule"

    def test_a_rule_for_owners_does_not_hide_one_that_shares(self) -> None:
        assert decided(rule("owners"), rule("kiosks", device_users="anyone"), subject=BOB).rule == "kiosks"

    @pytest.mark.parametrize(
        ("subject", "posture", "code"),
        [
            (replace(BOB, disabled=True), TRUSTED, "disabled-user"),
            (BOB, Posture("revoked", "stolen"), "revoked-device"),
            (BOB, Posture("lost"), "unknown-device-state"),
        ],
    )
    def test_sharing_changes_nothing_else(self, subject: Subject, posture: Posture, code: str) -> None:
        assert decided(rule(device_users="anyone"), subject=subject, posture=posture).code == code


class TestSites:
    @pytest.mark.parametrize(
        ("values", "code"),
        [
            ({"methods": ["psk"]}, "allowed"),
            ({"methods": ["psk", "certificate"]}, "allowed"),
            ({"methods": ["psk"], "users": ["SITE:Branch"]}, "allowed"),
            ({"methods": ["psk"], "device_states": ["quarantined"], "tunnel": "full"}, "allowed"),
            ({"methods": ["psk"], "users": ["site:other"]}, "no-rule"),
            ({"methods": ["psk"], "users": ["branch"]}, "no-rule"),
            ({"methods": ["psk"], "groups": ["staff"]}, "no-rule"),
            ({"methods": ["psk"], "gateways": ["gateway-2"]}, "no-rule"),
            ({}, "no-rule"),
            ({"methods": ["certificate"]}, "no-rule"),
            ({"effect": "deny"}, "denied-by-rule"),
            ({"effect": "deny", "methods": ["psk"]}, "denied-by-rule"),
            ({"effect": "deny", "methods": ["certificate"]}, "no-rule"),
        ],
    )
    def test_only_a_rule_made_for_them_lets_them_in(self, values: dict[str, Any], code: str) -> None:
        assert decide_site("branch", AT_SITE, [rule(**values)]).code == code

    def test_the_rule_gives_what_it_says(self) -> None:
        decision = decide_site(
            "branch", AT_SITE, [rule("people"), rule("sites", methods=["psk"], session_lifetime_s=60.0)]
        )
        assert (decision.rule, decision.session_lifetime_s) == ("sites", 60.0)
        assert decision.reason == "site:branch has its pre-shared key, and rule 'sites' allows it"

    def test_the_name_is_the_same_with_its_prefix(self) -> None:
        rules = [rule("sites", methods=["psk"], users=["site:branch"])]
        assert decide_site("site:branch", AT_SITE, rules).rule == "sites"

    def test_the_rule_for_sites_lets_no_person_in(self) -> None:
        assert decided(rule(methods=["psk"]), method="certificate").code == "no-rule"
        assert decided(rule(methods=["psk"]), method=BOTH).code == "no-rule"
