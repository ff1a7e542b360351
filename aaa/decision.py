"""The access decision: one pure function over declarative rules.

What has to hold whatever the rules say (a known device that is not revoked, its owner enabled) comes first;
then the first rule whose conditions all hold decides; where none does, the answer is no.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aaa.interface import Address, Network
from core.settings import RuleSettings
from core.settings.values import EVERYTHING

SITE_METHOD = "psk"
"""By which the gateways of other sites prove themselves; no person and no device does."""
_SITE_PREFIX = "site:"
_AND = "+"

BUILT_IN = "built-in"
"""Named as the rule where the decision fell before the first rule or after the last."""

TRUSTED = "trusted"
UNMANAGED = "unmanaged"
"""The state of a device that is not in the inventory, whose user another CA vouches for."""
STATES = frozenset({TRUSTED, "quarantined", "revoked", UNMANAGED})


@dataclass(frozen=True, slots=True)
class Subject:
    """The person."""

    user_name: str
    groups: tuple[str, ...]
    disabled: bool


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """The machine."""

    id: str
    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Posture:
    """How the machine stands: its state in the inventory, and why."""

    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """How and where it asks."""

    method: str
    """`eap-mschapv2`, `eap-tls`, `eap-ttls`, `eap-peap`, `certificate`, or the last of these and one of the others,
    see `both_methods`."""
    gateway: str


def both_methods(first: str, second: str) -> str:
    """What two proofs in one sign-in are called: `certificate+eap-mschapv2`, the device's and then its user's."""
    return f"{first}{_AND}{second}"


def is_two_factors(method: str) -> bool:
    """Whether device and user proved themselves each."""
    return _AND in method


def site_user(name: str) -> str:
    """What a site peer is called where others have user and device names; no user and no device is called so."""
    return _SITE_PREFIX + name.removeprefix(_SITE_PREFIX)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. An empty condition holds for all, that of device states is an exception. Names are compared without
    regard to case.
    """

    name: str
    allows: bool
    users: frozenset[str]
    groups: frozenset[str]
    methods: frozenset[str]
    device_states: frozenset[str]
    """Empty for trusted ones where it allows, for all where it denies."""
    shared_devices: bool
    """With two factors, others than the device's owner may sign in on it."""
    gateways: frozenset[str]
    pool: str | None
    networks: tuple[Network, ...]
    dns: tuple[Address, ...]
    dns_domains: tuple[str, ...]
    devices_at_once: int | None
    session_lifetime_s: float
    reason: str

    @classmethod
    def from_settings(cls, settings: RuleSettings) -> Rule:
        """The rule as configured."""
        return cls(
            name=settings.name,
            allows=settings.effect == "allow",
            users=_folded(settings.users),
            groups=_folded(settings.groups),
            methods=frozenset(settings.methods),
            device_states=frozenset(settings.device_states),
            shared_devices=settings.device_users == "anyone",
            gateways=_folded(settings.gateways),
            pool=settings.pool,
            networks=EVERYTHING if settings.tunnel == "full" else settings.networks,
            dns=settings.dns,
            dns_domains=settings.dns_domains,
            devices_at_once=settings.devices_at_once,
            session_lifetime_s=settings.session_lifetime_s,
            reason=settings.reason,
        )

    def matches(self, subject: Subject, posture: Posture, context: Context, *, is_owner: bool = True) -> bool:
        """Whether every condition holds."""
        return (
            self._takes_user(subject)
            and self._takes_method(context.method)
            and self._takes_state(posture.state)
            and self._takes_gateway(context.gateway)
            and (is_owner or self.shared_devices or not self.allows)
        )

    def matches_site(self, user: str, gateway: str) -> bool:
        """Whether it is about this site peer: a rule that lets it in has to name the method, for none that is made
        for people lets a site in; a denying one need not.
        """
        return (
            self._takes_user(Subject(user, (), disabled=False))
            and (SITE_METHOD in self.methods or (not self.methods and not self.allows))
            and self._takes_gateway(gateway)
        )

    def missing_factor(self, subject: Subject, posture: Posture, context: Context, *, is_owner: bool) -> str | None:
        """The method that would have been let in, where the one that was used is just a part of it."""
        for method in sorted(self.methods) if self.allows else ():
            more = replace(context, method=method)
            is_part = is_two_factors(method) and context.method in method.split(_AND)
            if is_part and self.matches(subject, posture, more, is_owner=is_owner):
                return method
        return None

    def _takes_user(self, subject: Subject) -> bool:
        return (not self.users or subject.user_name.casefold() in self.users) and (
            not self.groups or not self.groups.isdisjoint(_folded(subject.groups))
        )

    def _takes_method(self, method: str) -> bool:
        """Whoever shows two proofs shows each of them; but what a rule denies, it has to name."""
        if not self.methods or method in self.methods:
            return True
        return self.allows and not self.methods.isdisjoint(method.split(_AND))

    def _takes_gateway(self, gateway: str) -> bool:
        return not self.gateways or gateway.casefold() in self.gateways

    def _takes_state(self, state: str) -> bool:
        """Without a word of states, a rule gives to trusted devices alone, and denies to all."""
        if not self.device_states:
            return state == TRUSTED or not self.allows
        return state in self.device_states


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, which rule said so, and one reason in the user's words."""

    allowed: bool
    rule: str
    code: str
    """`allowed`, or why not: `unknown-device`, `unknown-user`, `disabled-user`, `wrong-owner`, `revoked-device`,
    `unknown-device-state`, `quarantined-device`, `second-factor-missing`, `denied-by-rule`, `no-rule`."""
    reason: str
    pool: str | None = None
    networks: tuple[Network, ...] = ()
    dns: tuple[Address, ...] = ()
    dns_domains: tuple[str, ...] = ()
    devices_at_once: int | None = None
    """How many devices the user may have connected; None is the directory's own number."""
    session_lifetime_s: float = 0.0


def decide(
    subject: Subject | None,
    device: DeviceIdentity | None,
    posture: Posture | None,
    context: Context,
    rules: Sequence[Rule],
) -> Decision:
    """Decide one sign-in. Whatever is missing or unknown denies.

    Args:
        subject: the person, None where the directory knows none.
        device: the machine, None where the inventory knows none.
        posture: how the machine stands, None where that is not known.
        context: how and where it asks.
        rules: in order; the first that matches decides.
    """
    if device is None:
        return _deny("unknown-device", "this device is not enrolled")
    if subject is None:
        return _deny("unknown-user", f"the owner of device {device.name} is not in the directory")
    if subject.disabled:
        return _deny("disabled-user", f"the account of {subject.user_name} is disabled")
    is_owner = device.owner == subject.user_name
    if not is_owner and not is_two_factors(context.method):
        return _deny("wrong-owner", f"device {device.name} does not belong to {subject.user_name}")
    if posture is None or posture.state not in STATES:
        return _deny("unknown-device-state", f"it is not known whether device {device.name} can be trusted")
    if posture.state == "revoked":
        return _deny("revoked-device", _because(f"device {device.name} was revoked", posture.reason))
    rule = next((rule for rule in rules if rule.matches(subject, posture, context, is_owner=is_owner)), None)
    if rule is None:
        return _without_rule(subject, device, posture, context, rules)
    if not rule.allows:
        return _deny("denied-by-rule", rule.reason or f"the rule {rule.name!r} denies this sign-in", rule.name)
    whose = f"of {subject.user_name}" if is_owner else f"of {device.owner}, with {subject.user_name} on it,"
    return _allow(rule, f"device {device.name} {whose} is {posture.state}, and rule {rule.name!r} allows it")


def decide_site(name: str, gateway: str, rules: Sequence[Rule]) -> Decision:
    """Decide on the gateway of another site that has its pre-shared key.

    Args:
        name: by which the settings call it, with or without `site:`.
        gateway: which it asks.
        rules: in order; the first that matches decides. Those that are made for people let no site in.
    """
    user = site_user(name)
    rule = next((rule for rule in rules if rule.matches_site(user, gateway)), None)
    if rule is None:
        return _deny("no-rule", f"no access rule names the method {SITE_METHOD} and allows {user}")
    if not rule.allows:
        return _deny("denied-by-rule", rule.reason or f"the rule {rule.name!r} denies this sign-in", rule.name)
    return _allow(rule, f"{user} has its pre-shared key, and rule {rule.name!r} allows it")


def _allow(rule: Rule, reason: str) -> Decision:
    return Decision(
        allowed=True,
        rule=rule.name,
        code="allowed",
        reason=reason,
        pool=rule.pool,
        networks=rule.networks,
        dns=rule.dns,
        dns_domains=rule.dns_domains,
        devices_at_once=rule.devices_at_once,
        session_lifetime_s=rule.session_lifetime_s,
    )


def _without_rule(
    subject: Subject, device: DeviceIdentity, posture: Posture, context: Context, rules: Sequence[Rule]
) -> Decision:
    """The nearest miss makes the best reason."""
    is_owner = device.owner == subject.user_name
    for rule in rules:
        method = rule.missing_factor(subject, posture, context, is_owner=is_owner)
        if method is not None:
            return _deny(
                "second-factor-missing",
                f"the rule {rule.name!r} asks for {method}, and the client showed {context.method} alone",
            )
    if not is_owner and any(rule.allows and rule.matches(subject, posture, context) for rule in rules):
        return _deny(
            "wrong-owner",
            f"device {device.name} belongs to {device.owner}, and no rule lets {subject.user_name} use it",
        )
    if posture.state == "quarantined":
        return _deny("quarantined-device", _because(f"device {device.name} is in quarantine", posture.reason))
    if posture.state == UNMANAGED:
        return _deny("unknown-device", "the certificate names no device of the inventory, and no rule allows that")
    return _deny("no-rule", "no access rule allows this sign-in")


def _because(fact: str, reason: str) -> str:
    return f"{fact}: {reason}" if reason else fact


def _deny(code: str, reason: str, rule: str = BUILT_IN) -> Decision:
    return Decision(allowed=False, rule=rule, code=code, reason=reason)


def _folded(names: Sequence[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in names)
