"""The sessions that the gateways account for: which are up, which were."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from aaa.models import Gateway, TunnelSession
from core.errors import NotFoundError


def live_sessions(session: Session) -> Sequence[TunnelSession]:
    """The sessions that are up, newest first."""
    return session.scalars(
        select(TunnelSession).where(TunnelSession.ended_at.is_(None)).order_by(TunnelSession.started_at.desc())
    ).all()


def sessions_of_device(
    session: Session, device_id: str, *, live_only: bool = False, limit: int = 100
) -> Sequence[TunnelSession]:
    """The sessions of one device, newest first."""
    query = select(TunnelSession).where(TunnelSession.device_id == device_id)
    if live_only:
        query = query.where(TunnelSession.ended_at.is_(None))
    return session.scalars(query.order_by(TunnelSession.started_at.desc()).limit(limit)).all()


def recent_sessions(session: Session, limit: int = 100, *, before: datetime | None = None) -> Sequence[TunnelSession]:
    """The newest sessions, up or ended; those that started before a time, to turn the page."""
    query = select(TunnelSession).order_by(TunnelSession.started_at.desc()).limit(limit)
    if before is not None:
        query = query.where(TunnelSession.started_at < before)
    return session.scalars(query).all()


def get_session(session: Session, session_id: str) -> TunnelSession:
    """The session with this id.

    Raises:
        NotFoundError: there is none.
    """
    found = session.get(TunnelSession, session_id)
    if found is None:
        raise NotFoundError(f"no session has the id {session_id[:64]!r}", fix="see `ostiary session list`")
    return found


def known_gateways(session: Session) -> Sequence[Gateway]:
    """The gateways that have reported here, by name."""
    return session.scalars(select(Gateway).order_by(Gateway.name)).all()
