"""The access rules have changed: who made what of it, and what becomes of the sessions that are up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import select

from aaa import enforcement, sessions
from core import audit, jobs, outbox
from core.audit import Actor, AuditEvent
from core.runtime import Runtime
from core.settings import RuleSettings

APPLY = "aaa.rules"
"""The kind of outbox item that `apply` handles."""
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
        # At the beginning all sessions are such as these rules have made them.
        tunnels = sessions.live_sessions(session) if before is not None else ()
        items = [
            outbox.add(
                session,
                enforcement.CHANGE,
                {"gateway": tunnel.gateway, "session_id": tunnel.id, "reason": "the access rules have changed"},
            )
            for tunnel in tunnels
        ]
        session.flush()
        ids = [item.id for item in items]
    for outbox_id in ids:
        jobs.wake(runtime.settings, outbox_id)


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
