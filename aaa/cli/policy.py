"""`ostiary policy`: look through the access rules, and ask what they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click
from sqlalchemy.orm import Session

from aaa import sessions
from aaa import users as directory
from aaa.access_rules import AccessRules, address_in
from aaa.cli.output import emit_one
from aaa.decision import (
    BUILT_IN,
    SITE_METHOD,
    Context,
    Decision,
    DeviceIdentity,
    Posture,
    Rule,
    Subject,
    decide,
)
from aaa.policy_review import review
from core.cli import current_settings, emit, json_option, open_runtime
from core.clock import utc_now
from core.errors import OstiaryError
from core.settings import RuleSettings, Settings
from core.settings.live_rules import read_rules
from core.settings.rules import SignInMethod
from posture import devices as inventory

METHODS = tuple(method for method in get_args(SignInMethod) if method != SITE_METHOD)


@click.group()
def policy() -> None:
    """The access rules: who gets in, and to what."""


@policy.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@json_option
def check(file: Path | None, as_json: bool) -> None:
    """Look through the access rules: those in use, or FILE before it is put in place of aaa.rules_file.

    Ends with an error where they are not valid; what is valid but odd is only said.
    """
    settings = current_settings()
    file = file or settings.aaa.rules_file
    rules = read_rules(file, settings) if file is not None else settings.aaa.rules
    with open_runtime().database.reading() as session:
        people = directory.list_users(session)
        findings = list(
            review(
                [Rule.from_settings(rule) for rule in rules],
                users={user.name.casefold() for user in people},
                groups={group.casefold() for user in people for group in user.groups},
                gateways={gateway.name.casefold() for gateway in sessions.known_gateways(session)},
            )
        )
    if as_json:
        emit_one({"rules": [rule.model_dump(mode="json") for rule in rules], "findings": findings}, as_json)
        return
    emit([_summary(number, rule) for number, rule in enumerate(rules, 1)], as_json)
    click.echo("")
    for finding in findings:
        click.echo(f"!! {finding}")
    click.echo(f"{len(rules)} rules, valid" + (f"; {len(findings)} to look at" if findings else ""))


@policy.command()
@click.option("--user", "user_name", help="Who signs in; else the device's owner.")
@click.option("--device", "device_name", required=True, help="On what, by name or id.")
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True, help="By what proof.")
@click.option("--gateway", help="At which; else the one of these settings.")
@click.option("--address", help="From where, by the client's outer address.")
@click.option("--at", type=click.DateTime(["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]), help="When, UTC; else now.")
@json_option
def explain(
    user_name: str | None,
    device_name: str,
    method: str,
    gateway: str | None,
    address: str | None,
    at: datetime | None,
    as_json: bool,
) -> None:
    """Say what the rules decide for one sign-in, and why each of those before did not."""
    runtime = open_runtime()
    client = address_in(address) if address else None
    if address and client is None:
        raise OstiaryError(f"{address!r} is not an IP address", fix="such as 198.51.100.7 or 2001:db8::7")
    moment = at.replace(tzinfo=utc_now().tzinfo) if at is not None else utc_now()
    context = Context(method, gateway or runtime.settings.gateway.name, client, moment)
    with runtime.database.reading() as session:
        asked = _Asked.of(session, user_name, device_name)
    decision, steps = asked.explain(context, AccessRules(runtime.rules).current())
    if as_json:
        emit_one({**_facts(decision, runtime.settings), "steps": steps}, as_json)
        return
    where = f"from {client}" if client is not None else "from an address that is not known"
    click.echo(
        f"{asked.subject.user_name} on {asked.device.name} ({asked.posture.state}), by {method} at {context.gateway} "
        f"{where}, {moment:%a %Y-%m-%d %H:%M} UTC"
    )
    click.echo("")
    emit(steps, as_json)
    click.echo("")
    emit_one(_facts(decision, runtime.settings), as_json)


@dataclass(frozen=True, slots=True)
class _Asked:
    subject: Subject
    device: DeviceIdentity
    posture: Posture

    @classmethod
    def of(cls, session: Session, user_name: str | None, device_name: str) -> _Asked:
        device = inventory.find(session, device_name)
        user = directory.get_user(session, user_name or device.owner)
        return cls(
            Subject(user.name, tuple(user.groups), user.disabled),
            DeviceIdentity(device.id, device.name, device.owner),
            Posture(device.state, device.state_reason),
        )

    def explain(self, context: Context, rules: Sequence[Rule]) -> tuple[Decision, list[dict[str, Any]]]:
        decision = decide(self.subject, self.device, self.posture, context, rules)
        is_owner = self.device.owner == self.subject.user_name
        steps = []
        # What has to hold whatever the rules say is looked at before the first of them, which may be this one.
        asked = decide(self.subject, self.device, self.posture, context, [_DENIES_ALL]).rule != BUILT_IN
        for number, rule in enumerate(rules, 1):
            unmet = list(rule.unmet(self.subject, self.posture, context, is_owner=is_owner)) if asked else []
            answer = "not asked" if not asked else "no: " + "; ".join(unmet) if unmet else "decides"
            steps.append({"#": number, "rule": rule.name, "answer": answer})
            asked = asked and bool(unmet)
        return decision, steps


_DENIES_ALL = Rule.from_settings(RuleSettings(name="all", effect="deny"))


def _summary(number: int, rule: RuleSettings) -> Mapping[str, Any]:
    conditions = {
        "users": rule.users,
        "groups": rule.groups,
        "methods": rule.methods,
        "states": rule.device_states,
        "gateways": rule.gateways,
        "from": rule.from_networks,
        "days": rule.days,
        "hours": (rule.hours, rule.time_zone) if rule.hours else (),
    }
    said = "; ".join(f"{key} {' '.join(map(str, values))}" for key, values in conditions.items() if values)
    return {"#": number, "rule": rule.name, "effect": rule.effect, "for": said or "all"}


def _facts(decision: Decision, settings: Settings) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "decision": "allowed" if decision.allowed else "refused",
        "rule": decision.rule,
        "code": decision.code,
        "reason": decision.reason,
    }
    if decision.allowed:
        gateway = settings.gateway
        facts.update(
            pool=decision.pool or (gateway.pools[0].name if gateway.pools else ""),
            networks=[str(network) for network in decision.networks or gateway.networks],
            dns=[str(server) for server in decision.dns or gateway.dns],
            session_lifetime_s=round(decision.session_lifetime_s),
        )
    return facts
