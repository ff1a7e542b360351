"""The audit log: one event for each state-changing act, written in the transaction of the change, hash-chained.

Each row's hash covers its content and the hash of the row before it, so that a row that was changed, removed
or put between breaks the chain from there on (`verify_chain`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, LargeBinary, String, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.clock import utc_now
from core.database import Base
from core.errors import OstiaryError
from core.text import storable

GENESIS_HASH = bytes(32)
DETAIL_LIMIT = 4096
"""Characters of one text in `detail`; the rest is cut."""
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
    """The newest id and hash, one row: locking it makes writers queue, so that the chain never forks.

    The first migration makes the row, for two writers that found none could not queue.
    """

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[int | None] = mapped_column(ForeignKey("audit_event.id"))
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
    """Write one event in the caller's transaction. What is too long is cut, what can't be stored is escaped.

    Args:
        session: the transaction that makes the change.
        actor: who acts.
        action: what, as `noun.verb` (`device.revoke`, `sign-in.refuse`).
        target: on what, as `kind:name` (`device:alice-laptop`).
        outcome: `success` or `refused` or `failed`.
        reason: why, in words for a person.
        detail: further facts, JSON values only, never a secret.

    Raises:
        TypeError, ValueError: `detail` is not JSON.
    """
    head = session.get(AuditHead, 1, with_for_update=True, populate_existing=True)
    if head is None:
        head = AuditHead(id=1, event_id=None, hash=GENESIS_HASH)
        session.add(head)
    row = _row(
        (head.event_id or 0) + 1, Entry(actor, action, target, outcome, reason, detail or {}), utc_now(), head.hash
    )
    event = AuditEvent(**row)
    session.add(event)
    head.event_id = event.id
    head.hash = event.hash
    session.flush()
    return event


# Built once: composing a statement costs more than running it.
_HEAD = select(AuditHead.event_id, AuditHead.hash).where(AuditHead.id == 1).with_for_update()
_APPEND = insert(AuditEvent)
_ADVANCE = update(AuditHead).where(AuditHead.id == 1)


def record_many(session: Session, entries: Sequence[Entry]) -> None:
    """Write events in the caller's transaction, in their order: the bulk form of `record`.

    A gateway under load signs in hundreds of clients a second; these few statements replace hundreds.
    """
    if not entries:
        return
    session.flush()
    connection = session.connection()
    head = connection.execute(_HEAD).first()
    last_id, previous = ((head.event_id or 0), head.hash) if head else (0, GENESIS_HASH)
    now = utc_now()
    rows = []
    for event_id, entry in enumerate(entries, start=last_id + 1):
        rows.append(_row(event_id, entry, now, previous))
        previous = rows[-1]["hash"]
    connection.execute(_APPEND, rows)
    newest = {"event_id": rows[-1]["id"], "hash": previous}
    if head is None:
        connection.execute(insert(AuditHead), {"id": 1, **newest})
    else:
        connection.execute(_ADVANCE, newest)


def recent_events(
    session: Session,
    *,
    action: str | None = None,
    actor: str | None = None,
    target: str | None = None,
    before_id: int | None = None,
    limit: int = 50,
) -> list[AuditEvent]:
    """The newest events, newest first.

    Args:
        session: to read from.
        action: only this one; with a trailing `*`, all that begin so. The same for `actor` and `target`.
        actor: as `kind:name`.
        target: as `kind:name`.
        before_id: only older ones, to turn the page.
        limit: how many at most.
    """
    query = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    for column, wanted in ((AuditEvent.action, action), (AuditEvent.actor, actor), (AuditEvent.target, target)):
        if wanted is None:
            continue
        if wanted.endswith("*"):
            query = query.where(column.startswith(wanted[:-1], autoescape=True))
        else:
            query = query.where(column == wanted)
    if before_id is not None:
        query = query.where(AuditEvent.id < before_id)
    return list(session.scalars(query))


def verify_chain(session: Session) -> int:
    """Check every event's hash and link; return how many there are.

    The chain needs no key, so it shows what was changed behind Ostiary's back, but whoever can write the
    database can also write a whole new chain: only a hash kept elsewhere (`newest_hash`) shows that.

    Raises:
        AuditError: an event was changed, removed or put between.
    """
    # Others write meanwhile, and on PostgreSQL each of these statements sees what was committed before it: the log
    # has to reach at least to where it reached before, and no further than to where it reaches afterwards.
    before_id, before_hash = _head(session)
    previous, expected_id = GENESIS_HASH, 1
    hash_at_before = GENESIS_HASH
    query = select(*(getattr(AuditEvent, column) for column in (*_HASHED, "hash"))).order_by(AuditEvent.id)
    with session.execute(query, execution_options={"yield_per": 1000}) as events:
        for event in events.mappings():
            if event["id"] != expected_id:
                raise AuditError(f"audit event {expected_id} is missing")
            if event["previous_hash"] != previous or _content_hash(event) != event["hash"]:
                raise AuditError(f"audit event {expected_id} was changed")
            previous, expected_id = event["hash"], expected_id + 1
            if event["id"] == before_id:
                hash_at_before = previous
    last_id = expected_id - 1
    if before_id > last_id:
        raise AuditError(f"audit events {expected_id} to {before_id} are missing")
    after_id, after_hash = _head(session)
    if hash_at_before != before_hash or last_id > after_id or (last_id == after_id and previous != after_hash):
        raise AuditError(f"audit events were put after {min(before_id, after_id)}")
    return last_id


def _head(session: Session) -> tuple[int, bytes]:
    """The newest id and hash, as of now."""
    head = session.execute(select(AuditHead.event_id, AuditHead.hash).where(AuditHead.id == 1)).first()
    return ((head.event_id or 0), head.hash) if head is not None else (0, GENESIS_HASH)


def newest_hash(session: Session) -> bytes:
    """The hash that stands for the whole log up to now."""
    return _head(session)[1]


_HASHED = ("id", "at", "actor", "action", "target", "outcome", "reason", "detail", "previous_hash")


def _row(event_id: int, entry: Entry, now: datetime, previous: bytes) -> dict[str, Any]:
    """The columns of an event, just as the database will give them back: the hash covers what is stored."""
    row: dict[str, Any] = {
        "id": event_id,
        "at": entry.at or now,
        "actor": storable(str(entry.actor), 320),
        "action": entry.action,
        "target": storable(entry.target, 320),
        "outcome": entry.outcome,
        "reason": storable(entry.reason, 1024),
        "detail": _plain(entry.detail) if entry.detail else {},
        "previous_hash": previous,
    }
    row["hash"] = _content_hash(row)
    return row


def _plain(detail: dict[str, Any]) -> dict[str, Any]:
    """A copy as JSON keeps it: keys are text, tuples are lists, each string can be stored."""
    plain: dict[str, Any] = json.loads(json.dumps(detail, allow_nan=False), object_hook=_storable_object)
    return plain


def _storable_object(mapping: dict[str, Any]) -> dict[str, Any]:
    return {storable(key, DETAIL_LIMIT): _storable_value(value) for key, value in mapping.items()}


def _storable_value(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value, DETAIL_LIMIT)
    return [_storable_value(item) for item in value] if isinstance(value, list) else value


def _content_hash(row: Mapping[Any, Any]) -> bytes:
    content = [
        row["id"],
        row["at"].astimezone(UTC).isoformat(timespec="microseconds"),
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
