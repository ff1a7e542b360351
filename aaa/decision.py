"""The access decision: one pure function over declarative rules.

What has to hold whatever the rules say (a known device that is not revoked, its owner enabled) comes first;
then the first rule whose conditions all hold decides; where none does, the answer is no.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aaa.interface import Address, Network
from core.settings import RuleSettings
from core.settings.values import EVERYTHING

BUILT_IN = "built-in"
"""Named as the rule where the decision fell before the first rule or after the last."""

UNMANAGED = "unmanaged"
"""The state of a device that is not in the inventory, whose user another CA vouches for."""
STATES = frozenset({"trusted", "quarantined", "revoked", UNMANAGED})


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
    """`eap-mschapv2`, `eap-tls` or `certificate`."""
    gateway: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; an empty condition holds for all. Names are compared without regard to case."""

    name: str
    allows: bool
    users: frozenset[str]
    groups: frozenset[str]
    methods: frozenset[str]
    device_states: frozenset[str]
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
            gateways=_folded(settings.gateways),
            pool=settings.pool,
            networks=EVERYTHING if settings.tunnel == "full" else settings.networks,
            dns=settings.dns,
            dns_domains=settings.dns_domains,
            devices_at_once=settings.devices_at_once,
            session_lifetime_s=settings.session_lifetime_s,
            reason=settings.reason,
        )

    def matches(self, subject: Subject, posture: Posture, context: Context) -> bool:
        """Whether every condition holds."""
        return (
            (not self.users or subject.user_name.casefold() in self.users)
            and (not self.groups or not self.groups.isdisjoint(_folded(subject.groups)))
            and (not self.methods or context.method in self.methods)
            and self._takes_state(posture.state)
            and (not self.gateways or context.gateway.casefold() in self.gateways)
        )

    def _takes_state(self, state: str) -> bool:
        """Nobody has looked at an unmanaged device: only a rule that names it lets it in."""
        if not self.device_states:
            return state != UNMANAGED
        return state in self.device_states


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, which rule said so, and one reason in the user's words."""

    allowed: bool
    rule: str
    code: str
    """`allowed`, or why not: `unknown-device`, `unknown-user`, `disabled-user`, `wrong-owner`, `revoked-device`,
    `unknown-device-state`, `quarantined-device`, `denied-by-rule`, `no-rule`."""
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
    if device.owner != subject.user_name:
        return _deny("wrong-owner", f"device {device.name} does not belong to {subject.user_name}")
    if posture is None or posture.state not in STATES:
        return _deny("unknown-device-state", f"it is not known whether device {device.name} can be trusted")
    if posture.state == "revoked":
        return _deny("revoked-device", _because(f"device {device.name} was revoked", posture.reason))
    rule = next((rule for rule in rules if rule.matches(subject, posture, context)), None)
    if rule is None:
        return _without_rule(device, posture)
    if not rule.allows:
        return _deny("denied-by-rule", rule.reason or f"the rule {rule.name!r} denies this sign-in", rule.name)
    return Decision(
        allowed=True,
        rule=rule.name,
        code="allowed",
        reason=f"device {device.name} of {subject.user_name} is {posture.state}, and rule {rule.name!r} allows it",
        pool=rule.pool,
        networks=rule.networks,
        dns=rule.dns,
        dns_domains=rule.dns_domains,
        devices_at_once=rule.devices_at_once,
        session_lifetime_s=rule.session_lifetime_s,
    )


def _without_rule(device: DeviceIdentity, posture: Posture) -> Decision:
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
