"""Work that must happen is a row, written in the transaction of the change that asks for it.

A queue only wakes a worker; a periodic sweep finds what is due. So no broker can lose work, and work is done
at least once: every handler is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.clock import utc_now
from core.database import Base

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0


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


Handler = Callable[[dict[str, Any]], None]
"""Does the work, or raises: then it is tried again later."""


def add(session: Session, kind: str, payload: dict[str, Any]) -> OutboxItem:
    """Ask for work in the caller's transaction; it is due at once."""
    now = utc_now()
    item = OutboxItem(kind=kind, payload=payload, created_at=now, due_at=now, done_at=None)
    session.add(item)
    session.flush()
    return item


def due_ids(session: Session, *, limit: int = 100) -> list[int]:
    """Ids of the work that is due now, oldest first."""
    query = (
        select(OutboxItem.id)
        .where(OutboxItem.done_at.is_(None), OutboxItem.due_at <= utc_now())
        .order_by(OutboxItem.due_at)
        .limit(limit)
    )
    return list(session.scalars(query))


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
