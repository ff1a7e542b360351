from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aaa.access_hours import AccessHours
from aaa.decision import BUILT_IN, Context, Decision, DeviceIdentity, Posture, Rule, Subject, decide
from core.settings import RuleSettings

ALICE = Subject("alice", ("staff",), disabled=False)
LAPTOP = DeviceIdentity("11111111-2222-4333-8444-555555555555", "alice-laptop", "alice")
TRUSTED = Posture("trusted")
AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
HERE = Context("eap-tls", "gateway-1", ip_address("198.51.100.7"), AT)


def _rule(name: str = "rule", **values: Any) -> Rule:
    return Rule.from_settings(RuleSettings.model_validate({"name": name, **values}))


def _decide(*rules: Rule, subject: Subject = ALICE, posture: Posture = TRUSTED, context: Context = HERE) -> Decision:
    return decide(subject, LAPTOP, posture, context, rules)


def test_the_rule_that_matches_gives_what_it_says() -> None:
    decision = _decide(
        _rule("others", users=["bob"]),
        _rule(
            "staff",
            groups=["staff"],
            pool="staff",
            networks=["10.1.0.0/16"],
            dns=["10.1.0.53"],
            dns_domains=["corp.example"],
            devices_at_once=2,
            session_lifetime_s=60.0,
        ),
        _rule("all"),
    )
    assert decision == Decision(
        allowed=True,
        rule="staff",
        code="allowed",
        reason="device alice-laptop of alice is trusted, and rule 'staff' allows it",
        pool="staff",
        networks=(ip_network("10.1.0.0/16"),),
        dns=(ip_address("10.1.0.53"),),
        dns_domains=("corp.example",),
        devices_at_once=2,
        session_lifetime_s=60.0,
    )


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ({}, True),
        ({"users": ["ALICE"]}, True),
        ({"users": ["bob"]}, False),
        ({"groups": ["Staff", "it"]}, True),
        ({"groups": ["it"]}, False),
        ({"methods": ["eap-tls"]}, True),
        ({"methods": ["eap-mschapv2", "certificate"]}, False),
        ({"gateways": ["GATEWAY-1"]}, True),
        ({"gateways": ["gateway-2"]}, False),
        ({"device_states": ["quarantined"], "tunnel": "full"}, False),
        ({"device_states": []}, True),
        ({"users": ["alice"], "groups": ["it"]}, False),
    ],
)
def test_each_condition(condition: dict[str, Any], matches: bool) -> None:
    decision = _decide(_rule(**condition))
    assert (decision.allowed, decision.code) == ((True, "allowed") if matches else (False, "no-rule"))


def test_a_rule_that_denies_says_so_in_its_words() -> None:
    decision = _decide(_rule("night", effect="deny", reason="the network is closed at night"), _rule("all"))
    assert (decision.allowed, decision.rule, decision.code) == (False, "night", "denied-by-rule")
    assert decision.reason == "the network is closed at night"
    assert _decide(_rule("night", effect="deny")).reason == "the rule 'night' denies this sign-in"


@pytest.mark.parametrize(
    ("subject", "device", "posture", "code", "reason"),
    [
        (ALICE, None, TRUSTED, "unknown-device", "not enrolled"),
        (None, LAPTOP, TRUSTED, "unknown-user", "not in the directory"),
        (replace(ALICE, disabled=True), LAPTOP, TRUSTED, "disabled-user", "alice is disabled"),
        (replace(ALICE, user_name="bob"), LAPTOP, TRUSTED, "wrong-owner", "does not belong to bob"),
        (ALICE, LAPTOP, None, "unknown-device-state", "not known"),
        (ALICE, LAPTOP, Posture("TRUSTED"), "unknown-device-state", "not known"),
        (ALICE, LAPTOP, Posture("revoked", "stolen"), "revoked-device", "was revoked: stolen"),
        (ALICE, LAPTOP, Posture("revoked"), "revoked-device", "alice-laptop was revoked"),
    ],
)
def test_what_no_rule_can_allow(
    subject: Subject | None, device: DeviceIdentity | None, posture: Posture | None, code: str, reason: str
) -> None:
    decision = decide(subject, device, posture, HERE, [_rule(device_states=[])])
    assert (decision.allowed, decision.rule, decision.code) == (False, BUILT_IN, code)
    assert reason in decision.reason


def test_a_full_tunnel_reaches_everything_whatever_the_gateway_reaches() -> None:
    assert _decide(_rule(tunnel="full")).networks == (ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert _decide(_rule(tunnel="split", networks=["10.1.0.0/16"])).networks == (ip_network("10.1.0.0/16"),)
    assert _decide(_rule(tunnel="split")).networks == ()


def test_quarantine_is_told_with_its_reason_unless_a_rule_takes_it() -> None:
    posture = Posture("quarantined", "disk encryption is off")
    decision = _decide(_rule("trusted-only"), posture=posture)
    assert (decision.allowed, decision.code) == (False, "quarantined-device")
    assert decision.reason == "device alice-laptop is in quarantine: disk encryption is off"
    repair = _rule("repair", device_states=["quarantined"], networks=["10.9.0.0/24"])
    allowed = _decide(_rule("trusted-only"), repair, posture=posture)
    assert (allowed.allowed, allowed.rule, allowed.networks) == (True, "repair", (ip_network("10.9.0.0/24"),))


class TestCircumstances:
    @pytest.mark.parametrize(
        ("address", "allowed"),
        [
            ("198.51.100.7", True),
            ("2001:db8::7", True),
            ("203.0.113.7", False),
            ("2001:db9::7", False),
            (None, False),
        ],
    )
    def test_where_the_client_is(self, address: str | None, allowed: bool) -> None:
        office = _rule("office", from_networks=["198.51.100.0/24", "2001:db8::/32"])
        context = replace(HERE, address=ip_address(address) if address else None)
        assert _decide(office, context=context).allowed is allowed

    def test_what_is_denied_to_a_place_is_denied_where_the_place_is_not_known(self) -> None:
        rules = _rule("not from there", effect="deny", from_networks=["203.0.113.0/24"]), _rule("all")
        assert _decide(*rules).rule == "all"
        assert _decide(*rules, context=replace(HERE, address=ip_address("203.0.113.7"))).code == "denied-by-rule"
        assert _decide(*rules, context=replace(HERE, address=None)).code == "denied-by-rule"

    def test_a_session_ends_with_the_hours_that_let_it_in(self) -> None:
        rule = _rule("office hours", hours="08:00-18:00", days=["tue"], time_zone="Europe/Berlin")
        assert _decide(rule).session_lifetime_s == 7.5 * 3600
        assert _decide(rule, context=replace(HERE, at=AT + timedelta(hours=8))).code == "no-rule"

    def test_quarantine_by_a_rule(self) -> None:
        rule = _rule(
            "abroad",
            effect="quarantine",
            from_networks=["198.51.100.0/24"],
            networks=["10.9.0.0/24"],
            reason="call the help desk before you travel",
        )
        decision = _decide(rule, _rule("all"))
        assert (decision.allowed, decision.rule, decision.networks) == (True, "abroad", (ip_network("10.9.0.0/24"),))
        assert decision.reason == (
            "device alice-laptop of alice is trusted, and rule 'abroad' puts it into quarantine: "
            "call the help desk before you travel"
        )
        assert _decide(rule, posture=Posture("quarantined")).rule == "abroad"
        assert not _decide(rule, posture=Posture("unmanaged")).allowed

    def test_each_condition_that_does_not_hold_is_named(self) -> None:
        rule = _rule(
            "nobody",
            users=["bob"],
            groups=["it"],
            methods=["certificate"],
            device_states=["unmanaged"],
            gateways=["gateway-2"],
            from_networks=["203.0.113.0/24"],
            days=["sat", "sun"],
            hours="22:00-06:00",
        )
        assert list(rule.unmet(ALICE, TRUSTED, HERE, is_owner=False)) == [
            "alice is not among users",
            "alice is in none of the groups",
            "eap-tls is not among methods",
            "the device's state, trusted, is not among device_states",
            "the device is not one of alice, and device_users is owner",
            "gateway-1 is not among gateways",
            "198.51.100.7 is in none of from_networks",
            "2026-11-24 09:30 UTC is not within its days and hours (sat, sun 22:00-06:00 UTC)",
        ]


# --- properties ---------------------------------------------------------------------------------------------

_names = st.sampled_from(["alice", "bob", "carol"])
_groups = st.sampled_from(["staff", "it", "guests"])
_methods = st.sampled_from(["eap-mschapv2", "eap-tls", "certificate", "certificate+eap-tls"])
_gateways = st.sampled_from(["gateway-1", "gateway-2"])
_states = st.sampled_from(["trusted", "quarantined", "unmanaged", "revoked", "", "unknown", "Trusted"])


_days = st.frozensets(st.integers(0, 6))


def _some(values: st.SearchStrategy[str]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(values, max_size=2)


_rules = st.lists(
    st.builds(
        Rule,
        name=st.uuids().map(str),
        allows=st.booleans(),
        users=_some(_names),
        groups=_some(_groups),
        methods=_some(_methods),
        # Also states that the settings refuse: whatever a rule says, a revoked device stays out.
        device_states=_some(_states),
        gateways=_some(_gateways),
        from_networks=st.lists(st.sampled_from([ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")])).map(
            tuple
        ),
        hours=st.none() | st.builds(AccessHours, _days, st.times(), st.times(), st.just(ZoneInfo("Europe/Berlin"))),
        pool=st.none(),
        networks=st.just(()),
        dns=st.just(()),
        session_lifetime_s=st.just(1.0),
        reason=st.just(""),
    ),
    max_size=5,
)
_subjects = st.none() | st.builds(Subject, _names, st.lists(_groups, max_size=2).map(tuple), st.booleans())
_devices = st.none() | st.builds(DeviceIdentity, st.uuids().map(str), st.just("laptop"), _names)
_postures = st.none() | st.builds(Posture, _states)
_contexts = st.builds(
    Context,
    _methods,
    _gateways,
    st.none() | st.sampled_from([ip_address("198.51.100.7"), ip_address("203.0.113.7"), ip_address("2001:db8::7")]),
    st.integers(1_600_000_000, 2_200_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)


@given(_subjects, _devices, _postures, _contexts, _rules)
def test_yes_needs_everything(
    subject: Subject | None,
    device: DeviceIdentity | None,
    posture: Posture | None,
    context: Context,
    rules: list[Rule],
) -> None:
    decision = decide(subject, device, posture, context, rules)
    assert decision.reason
    assert decision.rule
    assert (decision.code == "allowed") is decision.allowed
    if not decision.allowed:
        return
    assert subject is not None
    assert device is not None
    assert posture is not None
    assert not subject.disabled
    assert posture.state in {"trusted", "quarantined", "unmanaged"}
    (rule,) = [rule for rule in rules if rule.name == decision.rule]
    assert rule.allows
    is_owner = device.owner == subject.user_name
    assert is_owner or (rule.shared_devices and context.method == "certificate+eap-tls")
    earlier = rules[: rules.index(rule)]
    assert not any(other.matches(subject, posture, context, is_owner=is_owner) for other in earlier)


@given(_subjects, _devices, _postures, _contexts)
def test_without_rules_nobody_enters(
    subject: Subject | None, device: DeviceIdentity | None, posture: Posture | None, context: Context
) -> None:
    assert not decide(subject, device, posture, context, []).allowed


@given(_devices, _contexts, _rules, st.sampled_from(["revoked", "", "unknown"]))
def test_no_rule_lets_a_revoked_or_unknown_state_in(
    device: DeviceIdentity | None, context: Context, rules: list[Rule], state: str
) -> None:
    assert not decide(ALICE, device, Posture(state), context, rules).allowed


@given(_contexts, _rules, st.sampled_from(["quarantined", "unmanaged"]))
def test_only_a_rule_that_names_the_state_lets_in_what_is_not_healthy(
    context: Context, rules: list[Rule], state: str
) -> None:
    decision = decide(ALICE, LAPTOP, Posture(state), context, rules)
    if decision.allowed:
        (rule,) = (rule for rule in rules if rule.name == decision.rule)
        assert state in rule.device_states or (state == "quarantined" and rule.quarantines)


@given(_contexts, _rules)
def test_a_rule_for_all_put_first_decides_alone(context: Context, rules: list[Rule]) -> None:
    for effect, allowed in (("deny", False), ("allow", True)):
        first = _rule("first", effect=effect, device_states=[])
        decision = decide(ALICE, LAPTOP, TRUSTED, context, [first, *rules])
        assert (decision.allowed, decision.rule) == (allowed, "first")


@given(_contexts, _rules)
def test_a_rule_put_last_changes_nothing_that_was_decided(context: Context, rules: list[Rule]) -> None:
    before = decide(ALICE, LAPTOP, TRUSTED, context, rules)
    after = decide(ALICE, LAPTOP, TRUSTED, context, [*rules, _rule("last", device_states=[])])
    undecided = before.code in ("no-rule", "second-factor-missing")
    assert after.rule == "last" if undecided else after == before


UNMANAGED = Posture("unmanaged")


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["unmanaged"], "allowed"),
        (["trusted", "unmanaged"], "allowed"),
        (["trusted"], "unknown-device"),
        (["trusted", "quarantined"], "unknown-device"),
        ([], "unknown-device"),
    ],
)
def test_an_unmanaged_device_gets_in_only_by_a_rule_that_names_it(states: list[str], code: str) -> None:
    rule = _rule("partners", device_states=states, networks=["10.9.0.0/24"])
    assert _decide(rule, posture=UNMANAGED).code == code


@pytest.mark.parametrize("given", [{}, {"device_states": []}, {"device_states": ["trusted"]}])
@pytest.mark.parametrize("state", ["quarantined", "unmanaged"])
def test_what_is_for_healthy_devices_needs_no_word_of_the_others(given: dict[str, Any], state: str) -> None:
    rule = _rule("all", **given)
    assert _decide(rule, posture=TRUSTED).allowed
    assert not _decide(rule, posture=Posture(state)).allowed


@pytest.mark.parametrize("given", [{}, {"device_states": []}])
@pytest.mark.parametrize("state", ["trusted", "quarantined", "unmanaged"])
def test_who_is_denied_is_not_let_in_by_a_worse_device(given: dict[str, Any], state: str) -> None:
    deny = _rule("left-the-company", effect="deny", users=["alice"], **given)
    others = _rule("others", device_states=["trusted", "quarantined", "unmanaged"], networks=["10.9.0.0/24"])
    assert _decide(deny, others, posture=Posture(state)).code == "denied-by-rule"


def test_a_rule_may_deny_unmanaged_devices() -> None:
    deny = _rule("no-strangers", effect="deny", device_states=["unmanaged"])
    allow = _rule("partners", device_states=["unmanaged"])
    assert _decide(deny, allow, posture=UNMANAGED).code == "denied-by-rule"
    assert _decide(deny, allow, posture=UNMANAGED, subject=replace(ALICE, disabled=True)).code == "disabled-user"
