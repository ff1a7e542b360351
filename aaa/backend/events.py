"""The audit events of sign-ins: `sign-in.accept` and `sign-in.refuse`, each with its reason."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aaa.backend.identity import shown
from aaa.backend.spraying import WINDOW_S
from aaa.interface import Access, Refusal, SignInContext
from core.audit import Actor, Entry

BY_RADIUS = "eap-radius"
"""The method of those for whom a RADIUS server of the company vouches."""
_LONGEST_FACT = 1024
"""Of what the gateway adds, such as the proposals of a client."""


def accepted(context: SignInContext, access: Access, revocation: str = "", *, by_ticket: bool = False) -> Entry:
    """A device was let in.

    Args:
        context: the circumstances.
        access: who it is, and what it gets.
        revocation: what another CA says of its certificate.
        by_ticket: it came back to a session, and proved no more than that.
    """
    detail = _circumstances(context)
    detail.update(
        method=access.method, rule=access.rule, code="allowed", user=access.user_name, device_id=access.device_id
    )
    if access.certificate_serial:
        detail["certificate"] = access.certificate_serial
    if access.certificate_authority:
        by_radius = access.method == BY_RADIUS
        detail["radius_server" if by_radius else "certificate_authority"] = access.certificate_authority
    if by_ticket:
        detail["by_ticket"] = True
    if revocation:
        detail["revocation"] = revocation[:_LONGEST_FACT]
    return Entry(
        Actor("device", access.device_name),
        "sign-in.accept",
        f"gateway:{context.gateway}",
        reason=access.reason,
        detail=detail,
    )


def refused(
    context: SignInContext,
    refusal: Refusal,
    *,
    identity: str,
    device_name: str | None = None,
    method: str = "",
    rule: str = "",
    detail: dict[str, str] | None = None,
    at: datetime | None = None,
) -> Entry:
    """Someone was not let in.

    Args:
        context: the circumstances.
        refusal: code and reason.
        identity: what the peer called itself; the actor, where no device is known.
        device_name: the device that it proved to be.
        method: how it tried.
        rule: the rule that refused it, where one did.
        detail: further facts.
        at: when, where that is not the time of writing.
    """
    facts = _circumstances(context)
    facts["code"] = refusal.code
    if method:
        facts["method"] = method
    if rule:
        facts["rule"] = rule
    name = shown(identity)
    if device_name and name:
        facts["identity"] = name
    facts.update({shown(key): shown(value, _LONGEST_FACT) for key, value in (detail or {}).items()})
    return Entry(
        Actor("device", device_name) if device_name else Actor("user", name or shown(context.ike_identity)),
        "sign-in.refuse",
        f"gateway:{context.gateway}",
        outcome="refused",
        reason=refusal.reason,
        detail=facts,
        at=at,
    )


def password_spraying(context: SignInContext, users: int, addresses: int, at: datetime) -> Entry:
    """Passwords are guessed for many users.

    Args:
        context: of the last guess.
        users: how many were tried.
        addresses: from how many, as far as they are counted.
        at: when.
    """
    minutes = round(WINDOW_S / 60)
    return Entry(
        Actor("system", "aaa"),
        "alert.password-spraying",
        f"gateway:{context.gateway}",
        reason=f"wrong passwords for {users} users within {minutes} minutes, from {addresses} addresses",
        detail={"users": users, "addresses": addresses, "last_address": context.remote_address},
        at=at,
    )


def _circumstances(context: SignInContext) -> dict[str, Any]:
    return {
        "sign_in_id": context.sign_in_id,
        "gateway": context.gateway,
        "remote_address": context.remote_address,
        "ike_identity": shown(context.ike_identity),
        "client": shown(context.client),
    }
