"""The audit log: one event for each state-changing act, written in the transaction of the change, hash-chained.

Each row's hash covers its content and the hash of the row before it, so that a row that was changed, removed
or put between breaks the chain from there on (`verify_chain`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, LargeBinary, String, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.clock import utc_now
from core.database import Base
from core.errors import OstiaryError

GENESIS_HASH = bytes(32)
_BigId = BigInteger().with_variant(Integer, "sqlite")


class AuditError(OstiaryError):
    """The chain is broken; the message names the first bad event."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted: a person, a device, a job or the command line.

    `kind` is one of `user`, `device`, `job`, `cli`, `system`.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


SYSTEM = Actor("system", "ostiary")


@dataclass(frozen=True, slots=True)
class Entry:
    """An event to be written by `record_many`; the fields are those of `record`."""

    actor: Actor
    action: str
    target: str
    outcome: str = "success"
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    """When it happened, where it is written later than that."""


class AuditEvent(Base):
    """One event. Rows are only ever added."""

    __tablename__ = "audit_event"

    id: Mapped[int] = mapped_column(_BigId, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(320), index=True)
    action: Mapped[str] = mapped_column(String(64), index=True)
    target: Mapped[str] = mapped_column(String(320), index=True)
    outcome: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(1024), default="")
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class AuditHead(Base):
    """The newest id and hash, one row: locking it makes writers queue, so that the chain never forks."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[int] = mapped_column(ForeignKey("audit_event.id"), nullable=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


def record(
    session: Session,
    actor: Actor,
    action: str,
    target: str,
    *,
    outcome: str = "success",
    reason: str = "",
    detail: dict[str, Any] | None = None,
) -> AuditEvent:
    """Write one event in the caller's transaction.

    Args:
        session: the transaction that makes the change.
        actor: who acts.
        action: what, as `noun.verb` (`device.revoke`, `sign-in.refuse`).
        target: on what, as `kind:name` (`device:alice-laptop`).
        outcome: `success` or `refused` or `failed`.
        reason: why, in words for a person.
        detail: further facts, JSON values only, never a secret.
    """
    head = session.get(AuditHead, 1, with_for_update=True, populate_existing=True)
    if head is None:
        head = AuditHead(id=1, event_id=None, hash=GENESIS_HASH)
        session.add(head)
    event = AuditEvent(
        id=(head.event_id or 0) + 1,
        at=utc_now(),
        actor=str(actor)[:320],
        action=action,
        target=target[:320],
        outcome=outcome,
        reason=reason[:1024],
        detail=detail or {},
        previous_hash=head.hash,
    )
    event.hash = _event_hash(event)
    session.add(event)
    session.flush()
    head.event_id = event.id
    head.hash = event.hash
    session.flush()
    return event


def record_many(session: Session, entries: Sequence[Entry]) -> None:
    """Write events in the caller's transaction, in their order: the bulk form of `record`.

    A gateway under load signs in hundreds of clients a second; these few statements replace hundreds.
    """
    if not entries:
        return
    session.flush()
    connection = session.connection()
    head = connection.execute(
        select(AuditHead.event_id, AuditHead.hash).where(AuditHead.id == 1).with_for_update()
    ).first()
    last_id, previous = ((head.event_id or 0), head.hash) if head else (0, GENESIS_HASH)
    now = utc_now()
    rows = []
    for event_id, entry in enumerate(entries, start=last_id + 1):
        row = {
            "id": event_id,
            "at": entry.at or now,
            "actor": str(entry.actor)[:320],
            "action": entry.action,
            "target": entry.target[:320],
            "outcome": entry.outcome,
            "reason": entry.reason[:1024],
            "detail": entry.detail,
            "previous_hash": previous,
        }
        row["hash"] = previous = _content_hash(row)
        rows.append(row)
    connection.execute(insert(AuditEvent), rows)
    newest = {"event_id": rows[-1]["id"], "hash": previous}
    if head is None:
        connection.execute(insert(AuditHead), {"id": 1, **newest})
    else:
        connection.execute(update(AuditHead).where(AuditHead.id == 1), newest)


def verify_chain(session: Session) -> int:
    """Check every event's hash and link; return how many there are.

    Raises:
        AuditError: an event was changed, removed or put between.
    """
    previous, expected_id = GENESIS_HASH, 1
    for event in session.scalars(select(AuditEvent).order_by(AuditEvent.id).execution_options(yield_per=500)):
        if event.id != expected_id:
            raise AuditError(f"audit event {expected_id} is missing")
        if event.previous_hash != previous or _event_hash(event) != event.hash:
            raise AuditError(f"audit event {event.id} was changed")
        previous, expected_id = event.hash, expected_id + 1
    head = session.get(AuditHead, 1)
    if (head.hash if head else GENESIS_HASH) != previous:
        raise AuditError(f"audit events after {expected_id - 1} are missing")
    return expected_id - 1


def _event_hash(event: AuditEvent) -> bytes:
    return _content_hash({column: getattr(event, column) for column in _HASHED})


_HASHED = ("id", "at", "actor", "action", "target", "outcome", "reason", "detail", "previous_hash")


def _content_hash(row: dict[str, Any]) -> bytes:
    content = [
        row["id"],
        row["at"].isoformat(timespec="microseconds"),
        row["actor"],
        row["action"],
        row["target"],
        row["outcome"],
        row["reason"],
        row["detail"],
        row["previous_hash"].hex(),
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).digest()
