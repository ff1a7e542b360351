"""The one path by which a device or a session is thrown out, or has its access changed.

One transaction changes what is stored (device, certificates), writes the audit event and, for each gateway,
the row that asks for a Disconnect-Request, or for each session the one that asks for a CoA-Request. Then all
gateways are told at once, in parallel; those that do not answer are told again by the workers until they have.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from aaa import sessions, users
from aaa.access_rules import AccessRules, address_in
from aaa.backend.session_facts import SessionOf, session_facts
from aaa.decision import SITE_METHOD, Context, decide, decide_site
from aaa.dynamic_authorization import Change, NoAnswer, Peer, Selector, ask, control_secret_name
from aaa.models import Gateway, TunnelSession, User
from core import audit, jobs, outbox
from core.audit import Actor
from core.clock import utc_now
from core.errors import ConflictError, OstiaryError
from core.outbox import OutboxItem
from core.runtime import Runtime
from core.secrets import get_or_create_secret
from pki.devices import revoke_device_certificates
from posture import devices as inventory
from posture.models import Device

DISCONNECT = "aaa.disconnect"
"""The kind of outbox item that `deliver` handles."""
CHANGE = "aaa.change"
"""The kind of outbox item that `deliver_change` handles."""

_OWN_ATTEMPT_S = 5.0
"""The workers leave a new item alone for this long: whoever wrote it is telling the gateways right now."""
_MOST_THREADS = 64
_MOST_SESSIONS = 10_000
"""Of one device; a gateway lets it have a few."""


class NotDisconnected(OstiaryError):
    """A gateway has not confirmed yet that the sessions are gone, or changed."""


@dataclass(frozen=True, slots=True)
class GatewayAnswer:
    """What one gateway said to a request."""

    gateway: str
    acknowledged: bool
    """No session that was meant is left there. If not, the workers go on asking, where it can be asked."""
    sessions_ended: str
    """In the gateway's words; empty where it said nothing."""
    elapsed_ms: float
    """From the commit to the answer."""
    detail: str
    told: bool = True
    """False of a RADIUS client, which can't be: what it has of the device ends when it asks anew."""


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What a revocation, a disconnection or a change of state has done."""

    device_name: str
    certificates_revoked: int
    answers: list[GatewayAnswer]
    elapsed_ms: float
    """All of it, from the call to the last answer."""


@dataclass(frozen=True, slots=True)
class _Order:
    """One request to be sent, and the outbox item that stands for it."""

    outbox_id: int
    peer: Peer
    selector: Selector
    device_name: str
    change: Change | None = None
    """None ends the sessions."""


def revoke_device(runtime: Runtime, device_id: str, reason: str, actor: Actor) -> Enforcement:
    """Revoke a device: its certificates, its access code and its tunnels, on every gateway, now.

    A device that is revoked already is told to all gateways again.

    Args:
        runtime: of this process.
        device_id: the device.
        reason: why, in words for its user.
        actor: who does it.

    Raises:
        NotFoundError: there is no such device.
    """
    started = time.monotonic()
    with runtime.database.transaction() as session:
        device = inventory.get(session, device_id)
        # A session of it that is about to start is either refused, or written before and found by the request.
        session.refresh(device, with_for_update=True)
        revoked = revoke_device_certificates(session, device.id, reason, actor)
        if device.state == inventory.REVOKED:
            detail = {"device_id": device.id, "certificates_revoked": revoked}
            audit.record(session, actor, "device.disconnect", f"device:{device.name}", reason=reason, detail=detail)
        else:
            detail = {"certificates_revoked": revoked}
            inventory.set_state(session, device, inventory.REVOKED, reason, actor, detail=detail)
        orders = _orders(runtime, session, [device])
        untold = _untold(session, [device.id])
    return Enforcement(device.name, revoked, [*_carry_out(runtime, orders), *untold], _ms_since(started))


def change_device_state(runtime: Runtime, device_id: str, state: str, reason: str, actor: Actor) -> Enforcement:
    """Put a device into quarantine, or take it out: each of its sessions gets what the rules now give it, at once.

    A session that no rule allows any more ends.

    Args:
        runtime: of this process.
        device_id: the device.
        state: `trusted` or `quarantined`.
        reason: why, in words for its user.
        actor: who does it.

    Raises:
        NotFoundError: there is no such device.
        ConflictError: the device is revoked, which is final.
    """
    started = time.monotonic()
    with runtime.database.transaction() as session:
        device = inventory.get(session, device_id)
        # A session of it that is about to start decides again under this lock, or is among those found below.
        session.refresh(device, with_for_update=True)
        inventory.set_state(session, device, state, reason, actor)
        session.flush()
        orders = [
            _change_order(runtime, session, tunnel, gateway, reason)
            for tunnel in sessions.sessions_of_device(session, device.id, live_only=True, limit=_MOST_SESSIONS)
            if (gateway := session.get(Gateway, tunnel.gateway)) is not None
        ]
        untold = _untold(session, [device.id])
    return Enforcement(device.name, 0, [*_carry_out(runtime, orders), *untold], _ms_since(started))


def disconnect_session(runtime: Runtime, session_id: str, reason: str, actor: Actor) -> Enforcement:
    """End one session; its device may come back at once.

    Raises:
        NotFoundError: there is no such session.
        ConflictError: it has ended, or is not at a gateway of ours.
    """
    started = time.monotonic()
    with runtime.database.transaction() as session:
        tunnel = sessions.get_session(session, session_id)
        if tunnel.ended_at is not None:
            raise ConflictError(f"session {tunnel.id} has ended already")
        gateway = session.get(Gateway, tunnel.gateway)
        if gateway is None:
            raise ConflictError(
                f"the session is at the RADIUS client {tunnel.gateway}, which can't be told to end one",
                fix="end it there; revoked or disabled, nobody gets in again",
            )
        audit.record(
            session,
            actor,
            "session.disconnect",
            f"session:{tunnel.id}",
            reason=reason,
            detail={"device": tunnel.device_name, "user": tunnel.user_name, "gateway": tunnel.gateway},
        )
        payload = {"gateway": gateway.name, "session_id": tunnel.id}
        order = _order(runtime, session, gateway, payload, tunnel.device_name)
    return Enforcement(tunnel.device_name, 0, _carry_out(runtime, [order]), _ms_since(started))


def disable_user(
    runtime: Runtime, user_name: str, reason: str, actor: Actor, *, by_source: bool = False
) -> list[Enforcement]:
    """Disable a user and end the sessions of all the user's devices; one result for each device.

    The devices stay as they are: once the user is enabled again, they may come back. Among them are those that are
    not in the inventory, which another CA's certificate let in, as far as they are connected.

    Args:
        runtime: of this process.
        user_name: whom.
        reason: why, in words for the user.
        actor: who does it.
        by_source: the user has left the directory that he or she comes from, or is disabled there: the certificates
            of the devices are revoked as well.

    Raises:
        NotFoundError: there is no such user.
    """
    started = time.monotonic()
    with runtime.database.transaction() as session:
        user = users.get_user(session, user_name)
        # Locked, so that a session that is about to start is either refused or found by the request below.
        query = select(Device).where(Device.owner == user.name).order_by(Device.id).with_for_update()
        devices = session.scalars(query).all()
        users.set_disabled(session, user, True, actor, reason=reason, by_source=by_source)
        revoked = {
            device.id: revoke_device_certificates(session, device.id, reason, actor) if by_source else 0
            for device in devices
        }
        # A session without a known device begins under the lock of its user: from here on it is refused, or found.
        session.flush()
        unmanaged = _unmanaged_sessions(session, user, devices)
        orders = _orders(runtime, session, devices)
        for tunnel in unmanaged:
            gateway = session.get(Gateway, tunnel.gateway)
            if gateway is not None:
                payload = {"gateway": gateway.name, "session_id": tunnel.id}
                orders.append(_order(runtime, session, gateway, payload, tunnel.device_name))
        names = {device.name: revoked[device.id] for device in devices}
        ids = {device.name: device.id for device in devices}
        for tunnel in unmanaged:
            # Another CA's certificate let it in, which can't be revoked here.
            names.setdefault(tunnel.device_name, 0)
            ids.setdefault(tunnel.device_name, tunnel.device_id)
        untold = {name: _untold(session, [ids[name]]) for name in names}
    answers = _carry_out(runtime, orders)
    elapsed = _ms_since(started)
    return [
        Enforcement(
            name,
            certificates_revoked,
            [
                *(answer for answer, order in zip(answers, orders, strict=True) if order.device_name == name),
                *untold[name],
            ],
            elapsed,
        )
        for name, certificates_revoked in names.items()
    ]


def change_groups(
    runtime: Runtime, user_name: str, groups: Sequence[str], reason: str, actor: Actor
) -> list[GatewayAnswer]:
    """Give a user other groups: each session of the user's gets what the rules now give it, at once.

    A session that no rule allows any more ends.

    Args:
        runtime: of this process.
        user_name: whose.
        groups: all of them.
        reason: why, in words for the user.
        actor: who does it.

    Raises:
        NotFoundError: there is no such user.
    """
    with runtime.database.transaction() as session:
        user = users.get_user(session, user_name)
        # Locked as in `disable_user`: a session that is about to start is decided with the new groups, or found.
        session.scalars(select(Device).where(Device.owner == user.name).order_by(Device.id).with_for_update()).all()
        if not users.set_groups(session, user, groups, actor, reason=reason):
            return []
        session.flush()
        live = select(TunnelSession).where(TunnelSession.user_name == user.name, TunnelSession.ended_at.is_(None))
        orders = [
            _change_order(runtime, session, tunnel, gateway, reason)
            for tunnel in session.scalars(live.order_by(TunnelSession.id).limit(_MOST_SESSIONS))
            if (gateway := session.get(Gateway, tunnel.gateway)) is not None
        ]
    return _carry_out(runtime, orders)


def _unmanaged_sessions(session: Session, user: User, devices: Sequence[Device]) -> Sequence[TunnelSession]:
    """The user's live sessions on devices that are not in the inventory."""
    query = select(TunnelSession).where(
        TunnelSession.user_name == user.name,
        TunnelSession.ended_at.is_(None),
        TunnelSession.device_id.not_in([device.id for device in devices]),
    )
    return session.scalars(query.order_by(TunnelSession.id)).all()


def deliver(runtime: Runtime, payload: Mapping[str, Any]) -> None:
    """The outbox handler: tell one gateway again, if there is still cause to.

    Raises:
        NotDisconnected: it has not confirmed; to be tried again.
    """
    with runtime.database.transaction() as session:
        gateway = session.get(Gateway, payload["gateway"])
        if gateway is None or not _still_called_for(session, payload):
            return
        peer = _peer(runtime, session, gateway)
    answer = _tell(peer, _selector(payload))
    if not answer.acknowledged:
        raise NotDisconnected(answer.detail)


def deliver_change(runtime: Runtime, payload: Mapping[str, Any]) -> None:
    """The outbox handler: give one session again what the rules give it by now, if it is still up.

    Raises:
        NotDisconnected: its gateway has not confirmed; to be tried again.
    """
    with runtime.database.transaction() as session:
        tunnel = session.get(TunnelSession, payload["session_id"])
        gateway = session.get(Gateway, payload["gateway"])
        if tunnel is None or tunnel.ended_at is not None or gateway is None:
            return
        peer, change = _peer(runtime, session, gateway), _change_now(runtime, session, tunnel, payload["reason"])
    answer = _tell(peer, Selector(session_id=tunnel.id), change)
    if not answer.acknowledged:
        raise NotDisconnected(answer.detail)


def _untold(session: Session, device_ids: Sequence[str]) -> list[GatewayAnswer]:
    """For each RADIUS client at which one of these devices is connected, that it is not told."""
    query = select(TunnelSession.gateway).where(
        TunnelSession.device_id.in_(device_ids),
        TunnelSession.ended_at.is_(None),
        TunnelSession.gateway.not_in(select(Gateway.name)),
    )
    return [
        GatewayAnswer(name, False, "", 0.0, "a RADIUS client, which asks anew when the session's time is over", False)
        for name in session.scalars(query.distinct().order_by(TunnelSession.gateway))
    ]


def _change_order(runtime: Runtime, session: Session, tunnel: TunnelSession, gateway: Gateway, reason: str) -> _Order:
    payload = {"gateway": gateway.name, "session_id": tunnel.id, "reason": reason}
    item = outbox.add(session, CHANGE, payload, delay_s=_OWN_ATTEMPT_S)
    change = _change_now(runtime, session, tunnel, reason)
    return _Order(
        item.id, _peer(runtime, session, gateway), Selector(session_id=tunnel.id), tunnel.device_name, change
    )


def _change_now(runtime: Runtime, session: Session, tunnel: TunnelSession, reason: str) -> Change | None:
    """What the rules give a session now; None where they allow it no more."""
    rules = AccessRules(runtime.rules).current()
    context = Context(tunnel.method, tunnel.gateway, address_in(tunnel.remote_address), utc_now())
    if tunnel.method == SITE_METHOD:
        decision = decide_site(tunnel.user_name, context, rules)
    else:
        managed = session.get(Device, tunnel.device_id) is not None
        whose = SessionOf(tunnel.user_name, tunnel.device_id, tunnel.device_name, tunnel.method, managed=managed)
        (known,) = session_facts(session.connection(), [whose])
        decision = decide(known.subject, known.device, known.posture, context, rules)
    if not decision.allowed:
        return None
    age_s = (utc_now() - tunnel.started_at).total_seconds()
    left_s = max(1, round(decision.session_lifetime_s - age_s))
    return Change(decision.rule, decision.networks, left_s, reason)


def _orders(runtime: Runtime, session: Session, devices: Sequence[Device]) -> list[_Order]:
    return [
        _order(runtime, session, gateway, {"gateway": gateway.name, "device_id": device.id}, device.name)
        for device in devices
        for gateway in sessions.known_gateways(session)
    ]


def _order(runtime: Runtime, session: Session, gateway: Gateway, payload: dict[str, Any], device_name: str) -> _Order:
    item = outbox.add(session, DISCONNECT, payload, delay_s=_OWN_ATTEMPT_S)
    return _Order(item.id, _peer(runtime, session, gateway), _selector(payload), device_name)


def _peer(runtime: Runtime, session: Session, gateway: Gateway) -> Peer:
    secret = get_or_create_secret(session, runtime.box, control_secret_name(gateway.name))
    return Peer(gateway.name, gateway.control_address, gateway.control_port, secret)


def _selector(payload: Mapping[str, Any]) -> Selector:
    return Selector(device_id=payload.get("device_id"), session_id=payload.get("session_id"))


def _still_called_for(session: Session, payload: Mapping[str, Any]) -> bool:
    """A request that comes late must not hit a session that came into being rightfully since."""
    if "session_id" in payload:
        tunnel = session.get(TunnelSession, payload["session_id"])
        return tunnel is not None and tunnel.ended_at is None
    device = session.get(Device, payload["device_id"])
    if device is None or device.state == inventory.REVOKED:
        return True
    owner = session.get(User, device.owner)
    return owner is None or owner.disabled


def _carry_out(runtime: Runtime, orders: Sequence[_Order]) -> list[GatewayAnswer]:
    """Tell all gateways at the same time, then write down who answered."""
    if not orders:
        return []
    if len(orders) == 1:
        answers = [_tell(orders[0].peer, orders[0].selector, orders[0].change)]
    else:
        with ThreadPoolExecutor(min(len(orders), _MOST_THREADS), thread_name_prefix="disconnect") as threads:
            answers = list(threads.map(lambda order: _tell(order.peer, order.selector, order.change), orders))
    silent = []
    with runtime.database.transaction() as session:
        for order, answer in zip(orders, answers, strict=True):
            if answer.acknowledged:
                outbox.mark_done(session, order.outbox_id)
                continue
            outbox.mark_failed(session, order.outbox_id, answer.detail)
            item = session.get(OutboxItem, order.outbox_id)
            if item is not None and item.done_at is None:
                # A worker is woken below and need not wait for its first attempt.
                item.due_at = utc_now()
                silent.append(item.id)
    for outbox_id in silent:
        jobs.wake(runtime.settings, outbox_id)
    return answers


def _tell(peer: Peer, selector: Selector, change: Change | None = None) -> GatewayAnswer:
    started = time.monotonic()
    try:
        answer = ask(peer, selector, change)
    except NoAnswer as error:
        return GatewayAnswer(peer.name, False, "", _ms_since(started), error.message)
    elapsed = _ms_since(started)
    if answer.acknowledged:
        return GatewayAnswer(peer.name, True, answer.text, elapsed, "acknowledged")
    if answer.settled:
        return GatewayAnswer(peer.name, True, answer.text, elapsed, "no such session there")
    cause = f"Error-Cause {answer.error_cause}" if answer.error_cause is not None else "no Error-Cause"
    detail = f"gateway {peer.name} refused: {cause}" + (f", {answer.text}" if answer.text else "")
    return GatewayAnswer(peer.name, False, "", elapsed, detail)


def _ms_since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)
