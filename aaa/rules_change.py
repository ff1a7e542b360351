"""The access rules have changed: who made what of it, and what becomes of the sessions that are up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from aaa import enforcement, sessions
from core import audit, jobs, outbox
from core.audit import Actor, AuditEvent
from core.runtime import Runtime
from core.settings import RuleSettings

APPLY = "aaa.rules"
"""The kind of outbox item that `apply` handles."""
TELL_AGAIN = "aaa.rules.again"
"""The kind of outbox item that `tell_again` handles."""
SETTLED_S = 15.0
"""After which every gateway has seen a changed file, and every session is entered that was decided before."""
CHANGED = "policy.change"
"""The audit event's action."""
LOOK_INTERVAL_S = 5.0
"""How often a worker looks; not sooner than its sweep."""
_RULES = TypeAdapter(tuple[RuleSettings, ...])


def apply(runtime: Runtime, payload: dict[str, Any]) -> None:
    """The outbox handler: where the rules are others than those of the last event, write the next one, and give each
    session what they now give it. Sessions that they allow no more end.

    Args:
        runtime: of this process.
        payload: not used.
    """
    del payload
    rules = runtime.rules.current()
    digest = hashlib.sha256(_RULES.dump_json(rules)).hexdigest()
    with runtime.database.transaction() as session:
        before = session.scalar(
            select(AuditEvent.detail).where(AuditEvent.action == CHANGED).order_by(AuditEvent.id.desc()).limit(1)
        )
        if before is not None and before["digest"] == digest:
            return
        detail = {"digest": digest, "rules": {rule.name: _digest(rule) for rule in rules}}
        reason = _difference(before["rules"], rules) if before is not None else "the rules at the beginning"
        audit.record(session, Actor("system", "worker"), CHANGED, "policy:rules", reason=reason, detail=detail)
        if before is None:
            # All sessions are such as these rules have made them.
            return
        outbox.add(session, TELL_AGAIN, {}, delay_s=SETTLED_S)
        ids = _ask_for_changes(session)
    for outbox_id in ids:
        jobs.wake(runtime.settings, outbox_id)


def tell_again(runtime: Runtime, payload: dict[str, Any]) -> None:
    """The outbox handler: once more, for sessions that a gateway has let in before it had seen the new rules.

    Args:
        runtime: of this process.
        payload: not used.
    """
    del payload
    with runtime.database.transaction() as session:
        ids = _ask_for_changes(session)
    for outbox_id in ids:
        jobs.wake(runtime.settings, outbox_id)


def _ask_for_changes(session: Session) -> list[int]:
    """For each session that is up, an item that gives it what the rules now give."""
    items = [
        outbox.add(
            session,
            enforcement.CHANGE,
            {"gateway": tunnel.gateway, "session_id": tunnel.id, "reason": "the access rules have changed"},
        )
        for tunnel in sessions.live_sessions(session)
    ]
    session.flush()
    return [item.id for item in items]


def _digest(rule: RuleSettings) -> str:
    """Enough of one to see that a rule is another."""
    return hashlib.sha256(rule.model_dump_json().encode()).hexdigest()[:16]


def _difference(before: Mapping[str, str], rules: Sequence[RuleSettings]) -> str:
    now = {rule.name: _digest(rule) for rule in rules}
    parts = {
        "new": [name for name in now if name not in before],
        "changed": [name for name in now if before.get(name, now[name]) != now[name]],
        "gone": [name for name in before if name not in now],
    }
    said = [f"{kind}: {', '.join(map(repr, names))}" for kind, names in parts.items() if names]
    return "; ".join(said) or "another order"
