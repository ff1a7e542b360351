"""Work that must happen is a row, written in the transaction of the change that asks for it.

A queue only wakes a worker; a periodic sweep finds what is due. So no broker can lose work, and work is done
at least once: every handler is idempotent. Whoever does an item claims it first, which moves it out of sight
of the others for as long as the lease lasts; a worker that dies on it leaves it to the next sweep after that.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.clock import utc_now
from core.database import Base

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0
LEASE_S = 60.0
"""How long a claimed item is left to its claimant: longer than any handler takes."""
KEPT_S = 30 * 24 * 3600.0
"""How long an item that is done can still be looked at."""


class OutboxItem(Base):
    """One piece of work: `kind` names its handler, `payload` is what the handler needs (ids, no secrets)."""

    __tablename__ = "outbox_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    due_at: Mapped[datetime] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    done_at: Mapped[datetime | None] = mapped_column(index=True)
    last_error: Mapped[str] = mapped_column(String(1024), default="")


def add(session: Session, kind: str, payload: dict[str, Any], *, delay_s: float = 0.0) -> OutboxItem:
    """Ask for work in the caller's transaction.

    Args:
        session: the transaction of the change.
        kind: the name of the handler (entry-point group `ostiary.tasks`).
        payload: what the handler is called with: JSON values, ids rather than content, no secret.
        delay_s: when it becomes due; above zero where the caller tries at once itself and only wants the
            workers to step in if it dies.
    """
    now = utc_now()
    item = OutboxItem(
        kind=kind, payload=payload, created_at=now, due_at=now + timedelta(seconds=delay_s), done_at=None
    )
    session.add(item)
    session.flush()
    return item


def add_recurring(session: Session, kind: str, payload: dict[str, Any], interval_s: float) -> OutboxItem | None:
    """Ask for work that recurs, unless it waits already or was asked for less than an interval ago.

    The rows are the schedule: it outlives every process, and several workers do not do the work several times. Of
    what was done, none is kept but the last one.

    Args:
        session: the transaction.
        kind: the name of the handler.
        payload: what tells this work from other work of the kind; texts only.
        interval_s: from one beginning to the next.
    """
    same = [
        OutboxItem.kind == kind,
        *(OutboxItem.payload[key].as_string() == value for key, value in payload.items()),
    ]
    newest = session.scalar(select(OutboxItem).where(*same).order_by(OutboxItem.id.desc()).limit(1))
    if newest is not None:
        waits = newest.done_at is None
        if waits or newest.created_at > utc_now() - timedelta(seconds=interval_s):
            return None
        session.execute(delete(OutboxItem).where(*same, OutboxItem.done_at.is_not(None)))
    return add(session, kind, payload)


def due_ids(session: Session, *, limit: int = 100) -> list[int]:
    """Ids of the work that is due now, oldest first."""
    query = (
        select(OutboxItem.id)
        .where(OutboxItem.done_at.is_(None), OutboxItem.due_at <= utc_now())
        .order_by(OutboxItem.due_at)
        .limit(limit)
    )
    return list(session.scalars(query))


def claim(session: Session, item_id: int, *, lease_s: float = LEASE_S) -> OutboxItem | None:
    """Take an item that is due, so that no other worker does; None where it is not due or is taken.

    The caller commits, does the work, then calls `mark_done` or `mark_failed` in another transaction.
    """
    # The lock is a row lock on PostgreSQL; on SQLite the writing transaction itself makes the others wait.
    query = select(OutboxItem).where(
        OutboxItem.id == item_id, OutboxItem.done_at.is_(None), OutboxItem.due_at <= utc_now()
    )
    item = session.scalars(query.with_for_update().execution_options(populate_existing=True)).one_or_none()
    if item is not None:
        item.due_at = utc_now() + timedelta(seconds=lease_s)
    return item


def mark_done(session: Session, item_id: int) -> None:
    """The work is done and is never tried again."""
    item = session.get(OutboxItem, item_id)
    if item is not None and item.done_at is None:
        item.attempts += 1
        item.done_at = utc_now()
        item.last_error = ""


def mark_failed(session: Session, item_id: int, error: str) -> None:
    """The work failed; it is due again after a wait that doubles up to five minutes."""
    item = session.get(OutboxItem, item_id)
    if item is not None and item.done_at is None:
        item.attempts += 1
        wait_s = min(FIRST_RETRY_S * 2 ** min(item.attempts - 1, 16), LONGEST_RETRY_S)
        item.due_at = utc_now() + timedelta(seconds=wait_s)
        item.last_error = error[:1024]


def forget_done(session: Session) -> int:
    """Delete the items that were done long ago; return how many."""
    done = (
        delete(OutboxItem)
        .where(OutboxItem.done_at < utc_now() - timedelta(seconds=KEPT_S))
        .execution_options(synchronize_session=False)
    )
    return session.connection().execute(done).rowcount
